"""Whole frames: BGR picture in, detections out, beside MediaPipe, OpenCV DNN, raw ONNX Runtime and raw LiteRT.

Each contestant has an engine of its own: one that two of them shared would be in the caches twice as often as ours.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import cv2
import mediapipe as mp
import numpy as np
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter
from interleaved import show, take_turns

from edge import catalogue
from edge.config import EngineSection, RunConfig
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.testing import MemorySource

THREADS = int(os.environ.get("HARRIER_PEERS_THREADS", "2"))
ROUNDS = 400
SIZE = 416


def main() -> None:
    """Measure faces, and YOLOX where its file is."""
    photo = catalogue.pull("astronaut") / catalogue.entries()["astronaut"].file
    faces(cv2.resize(cv2.imread(str(photo)), (1280, 720)))
    shared = os.environ.get("HARRIER_SHARED")
    if shared:
        yolox(Path(shared))
    else:
        print("HARRIER_SHARED is not set: YOLOX-Nano is not measured")
    bundle = os.environ.get("HARRIER_PEERS_BUNDLE")  # `harrier convert yolox_nano.onnx --out BUNDLE`
    if shared and bundle:
        yolox_litert(Path(shared), Path(bundle))
    else:
        print("HARRIER_PEERS_BUNDLE is not set: YOLOX-Nano in LiteRT is not measured")


def harrier(model: str, frames: list[np.ndarray]) -> Pipeline:
    """The pipeline of the robot, without a publisher."""
    config = RunConfig(engine=EngineSection(threads=THREADS))
    return Pipeline(MemorySource(frames), open_model(model, config.engine), [], config)


def faces(frame: np.ndarray) -> None:
    """MediaPipe's own face detection and its own model file, beside ours on the same file."""
    model = Path(mp.__file__).parent / "modules/face_detection/face_detection_short_range.tflite"
    pipeline = harrier(str(model), [frame])
    detector = mp.solutions.face_detection.FaceDetection(model_selection=0, min_detection_confidence=0.5)
    interpreter = Interpreter(str(model), num_threads=THREADS)
    interpreter.allocate_tensors()
    times = take_turns(
        {
            "Harrier": lambda i: pipeline.step(),
            "MediaPipe FaceDetection": lambda i: detector.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)),
            "LiteRT alone (no pre- and post-processing)": lambda i: interpreter.invoke(),
        },
        ROUNDS,
    )
    show(f"face detection, 1280x720, {model.name}", times, "Harrier")


def yolox(shared: Path) -> None:
    """YOLOX-Nano on real pictures as a camera would give them, 640x480."""
    model = str(shared / "models/yolox_nano.onnx")
    frames = camera_frames(shared)
    pipeline = harrier(model, frames)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    # as in Harrier: idle threads that spin would take the cores of whoever's turn it is
    options.add_session_config_entry("session.force_spinning_stop", "1")
    alone, plain = (ort.InferenceSession(model, options) for _ in range(2))
    cv2.setNumThreads(THREADS)
    network = cv2.dnn.readNetFromONNX(model)
    prepared = [letterbox(frame) for frame in frames]  # the engine alone gets the same frames, made ready before

    check_same(pipeline, lambda i: detections(plain.run(None, {"images": prepared[i]})[0][0]), len(frames))

    def opencv(i: int) -> object:
        network.setInput(letterbox(frames[i % len(frames)]))
        return detections(network.forward()[0])

    contestants = {
        "Harrier": lambda i: pipeline.step(),
        "ONNX Runtime alone (no pre- and post-)": lambda i: alone.run(None, {"images": prepared[i % len(frames)]}),
        "ONNX Runtime + plain numpy": lambda i: detections(
            plain.run(None, {"images": letterbox(frames[i % len(frames)])})[0][0]
        ),
        "OpenCV DNN + plain numpy": opencv,
    }
    show_turns("YOLOX-Nano 416", contestants)


def yolox_litert(shared: Path, bundle: Path) -> None:
    """YOLOX-Nano's float TFLite file, beside LiteRT alone and LiteRT with plain numpy."""
    frames = camera_frames(shared)
    config = RunConfig(engine=EngineSection(target="tflite-fp32", threads=THREADS))
    model = open_model(str(bundle), config.engine)
    pipeline = Pipeline(MemorySource(frames), model, [], config)
    single, whole = (Interpreter(str(model.file), num_threads=THREADS) for _ in range(2))
    for interpreter in (single, whole):
        interpreter.allocate_tensors()
    image = single.get_input_details()[0]["index"]
    outputs = {detail["shape"][-1]: detail["index"] for detail in single.get_output_details()}
    prepared = [np.ascontiguousarray(letterbox(frame).transpose(0, 2, 3, 1)) for frame in frames]

    def alone(i: int) -> None:
        single.set_tensor(image, prepared[i % len(frames)])
        single.invoke()

    def plain(i: int) -> list[tuple]:
        whole.set_tensor(image, letterbox(frames[i % len(frames)]).transpose(0, 2, 3, 1))
        whole.invoke()
        parts = [whole.get_tensor(outputs[width])[0] for width in (4, 1, 80)]
        return detections(np.concatenate(parts, axis=1))

    check_same(pipeline, plain, len(frames))
    contestants = {
        "Harrier": lambda i: pipeline.step(),
        "LiteRT alone (no pre- and post-)": alone,
        "LiteRT + plain numpy": plain,
    }
    show_turns("YOLOX-Nano 416 in LiteRT", contestants)


def show_turns(title: str, contestants: dict[str, Callable[[int], object]]) -> None:
    """Measure turns of one picture and of all twenty."""
    for turn in (1, 20):
        show(f"{title}, 640x480, turns of {turn}", take_turns(contestants, ROUNDS, turn=turn), "Harrier")


def camera_frames(shared: Path) -> list[np.ndarray]:
    """Twenty real pictures, (480, 640, 3) uint8 BGR."""
    listed = sorted((shared / "data/coco-val80/images").glob("*.jpg"))[:20]
    return [cv2.resize(cv2.imread(str(path)), (640, 480)) for path in listed]


def check_same(pipeline: Pipeline, other: Callable[[int], list[tuple]], count: int) -> None:
    """Stop unless both find the same number of objects of each class in every picture: else times mean nothing."""
    for i in range(count):
        pipeline.step()
        ours = sorted(pipeline.result.class_ids[: pipeline.result.count].tolist())
        theirs = sorted(int(found[2]) for found in other(i))
        if abs(len(ours) - len(theirs)) > 1:  # one may stand on the threshold: the resized pixels differ by a rounding
            sys.exit(f"picture {i}: Harrier finds {ours}, the plain way {theirs}")


def letterbox(image: np.ndarray) -> np.ndarray:
    """The obvious way: resize, paste on a canvas, transpose, convert."""
    ratio = min(SIZE / image.shape[0], SIZE / image.shape[1])
    resized = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
    canvas = np.full((SIZE, SIZE, 3), 114, np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32)


_CELLS = np.concatenate(
    [
        np.stack([*np.meshgrid(np.arange(SIZE // s), np.arange(SIZE // s)), np.full((SIZE // s, SIZE // s), s)], -1)
        .reshape(-1, 3)
        .astype(np.float32)
        for s in (8, 16, 32)
    ]
)


def detections(rows: np.ndarray) -> list[tuple]:
    """The obvious way: decode everything, then threshold, then NMS per class."""
    centers = (rows[:, :2] + _CELLS[:, :2]) * _CELLS[:, 2:]
    sizes = np.exp(rows[:, 2:4]) * _CELLS[:, 2:]
    scores = rows[:, 4:5] * rows[:, 5:]
    classes = scores.argmax(axis=1)
    best = scores.max(axis=1)
    keep = best >= 0.25
    boxes = np.concatenate([centers - sizes / 2, sizes], axis=1)[keep]
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), best[keep].tolist(), classes[keep].tolist(), 0.25, 0.5)
    return [(boxes[k], best[keep][k], classes[keep][k]) for k in kept]


if __name__ == "__main__":
    sys.exit(main())
