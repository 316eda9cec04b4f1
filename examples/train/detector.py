"""A small anchor-free detector in Keras, trained on digits on cards scattered over real pictures, and what int8 costs.

    python examples/train/detector.py --backgrounds PICTURES          any folder of photos; smooth noise without
    python examples/train/detector.py --digits FILE.npz               other things: images (N, H, W) uint8, labels (N,)

Every box is known by construction, since the cards are laid there by the recipe itself. The head is YOLOX's (Ge et
al., 2021): boxes, objectness and scores apart, at strides 8, 16 and 32, so that the converter knows it.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import msgspec
import numpy as np
from scattered import SIDE, Scene, backgrounds, digits, scenes
from shell import harrier, messages_of, new_folder, run_and_listen, summary, write_picture, write_pictures

from convert.quiet import quiet
from edge.draw import annotate

with quiet():  # TensorFlow greets at length
    import keras
    from keras import layers, ops

STRIDES = (8, 16, 32)
LARGEST = (40, 80, SIDE)  # px, of the objects that a stride's cells are to find: fine cells tell digits better
BATCH, CALIBRATED = 16, 100
SHOWN = 8, 4  # pictures across and down


def main() -> None:
    """Make pictures, train, convert, measure, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backgrounds", type=Path, help="folder of pictures")
    parser.add_argument("--digits", type=Path, help="an .npz of small pictures (scikit-learn's handwritten digits)")
    parser.add_argument("--pictures", type=int, default=1500, help="to train on in an epoch, new ones each time (1500)")
    parser.add_argument("--tested", type=int, default=200, help="to measure on (200)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("detector-out"), help="folder to write")
    arguments = parser.parse_args()
    out = new_folder(arguments.out)
    learnt, unseen, names = digits(arguments.digits)
    behind, behind_unseen = backgrounds(arguments.backgrounds)
    rng = np.random.default_rng(0)
    (out / "labels.txt").write_text("\n".join(names) + "\n")
    makers = (scenes(rng, arguments.pictures, learnt, behind) for _ in range(arguments.epochs))
    train(makers, arguments.epochs * arguments.pictures, len(names), out / "detector.keras")
    images = [scene.image for scene in scenes(rng, CALIBRATED, learnt, behind)]
    calibration = write_pictures(out / "calibration", np.stack(images))
    evaluation = write_coco(out / "validation", scenes(rng, arguments.tested, unseen, behind_unseen), names)
    harrier(
        *("convert", out / "detector.keras", "--to", "tflite", "--precision", "fp32,fp16,int8"),
        *("--labels", out / "labels.txt", "--calibration", calibration, "--eval", evaluation),
        *("--max-drop", "0.02", "--keep-failing", "--out", out / "bundle"),
        may_fail_gate=True,  # the summary tells; a lesson is no failure
    )
    harrier("eval", out / "bundle", evaluation, "--target", "tflite-int8", "--grid", out / "mistakes.png")
    show(out / "bundle", evaluation.parent / "images", out / "detections.png")
    heard = run_and_listen(out / "bundle", f"images://{out / 'validation' / 'images'}?fps=20&loop=yes", 5)
    summary(out / "bundle", {"messages another process received": str(len(heard))})
    print(f"detections  {out / 'detections.png'}\nmistakes    {out / 'mistakes.png'}")


def write_coco(folder: Path, made: list[Scene], names: list[str]) -> Path:
    """Write the pictures and FOLDER/instances.json, whose boxes are left, top, width, height in px."""
    write_pictures(folder / "images", np.stack([scene.image for scene in made]))
    coco = {
        "images": [{"id": i, "file_name": f"{i:05d}.png", "width": SIDE, "height": SIDE} for i in range(len(made))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [],
    }
    for image, scene in enumerate(made):
        for (x1, y1, x2, y2), label in zip(scene.xyxy.tolist(), scene.labels.tolist(), strict=True):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            entry = {"id": len(coco["annotations"]) + 1, "image_id": image, "category_id": label, "iscrowd": 0}
            coco["annotations"].append(entry | box)
    path = folder / "instances.json"
    path.write_text(json.dumps(coco))
    return path


def show(bundle: Path, pictures: Path, path: Path) -> None:
    """Write the first pictures, with what int8 sees in them, as one."""
    shown = []
    for message in messages_of(bundle, "tflite-int8", pictures)[: SHOWN[0] * SHOWN[1]]:
        image = cv2.resize(cv2.imread(str(pictures / message.ref)), None, fx=2, fy=2)
        found = [msgspec.structs.replace(r, box=tuple(2 * v for v in r.box)) for r in message.detections]
        annotate(image, msgspec.structs.replace(message, detections=found), caption=False)
        shown.append(image)
    rows = [np.hstack(shown[i : i + SHOWN[0]]) for i in range(0, len(shown) - SHOWN[0] + 1, SHOWN[0])]
    write_picture(path, np.vstack(rows))


def train(epochs: Iterable[list[Scene]], pictures: int, classes: int, path: Path) -> None:
    """Train on the scenes of each epoch, `pictures` in all, and save the network, the scores as probabilities."""
    keras.utils.set_random_seed(1)
    image, boxes, objectness, scores = network(classes)
    trained = keras.Model(image, layers.Concatenate()([boxes, objectness, scores]))
    rate = keras.optimizers.schedules.CosineDecay(6e-3, pictures // BATCH)
    trained.compile(keras.optimizers.Adam(rate), loss)
    for made in epochs:
        truth = np.stack([cells_of(scene, classes) for scene in made])
        trained.fit(np.stack([scene.image for scene in made]), truth, batch_size=BATCH, verbose=2)
    outputs = {
        "boxes": boxes,
        "objectness": layers.Activation("sigmoid", name="objectness_probability")(objectness),
        "scores": layers.Activation("sigmoid", name="scores_probability")(scores),
    }
    keras.Model(image, outputs).save(path)


def network(classes: int) -> list[keras.KerasTensor]:
    """Return the input and the raw outputs: (N, 4) boxes, (N, 1) objectness and (N, classes) scores, as logits."""

    def conv(x: keras.KerasTensor, channels: int, stride: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(channels, 3, stride, "same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = conv(conv(x, 16, 2), 32, 2)
    heads: list[list[keras.KerasTensor]] = []
    for channels in (48, 64, 64):
        x = conv(conv(x, channels, 2), channels)
        neck = conv(x, 48)
        parts = [layers.Conv2D(4, 1)(neck), layers.Conv2D(1, 1, bias_initializer=keras.initializers.Constant(-4))(neck)]
        parts.append(layers.Conv2D(classes, 1)(neck))
        heads.append([layers.Reshape((-1, part.shape[-1]))(part) for part in parts])
    return [image, *(layers.Concatenate(axis=1)(list(parts)) for parts in zip(*heads, strict=True))]


def cells_of(scene: Scene, classes: int) -> np.ndarray:
    """Return what each cell is to say, (N, 4 + 1 + classes) float32: that of an object's centre stands for it.

    A box is its centre in cells from the cell's corner, and the logarithm of its size in cells.
    """
    grids = [np.zeros((SIDE // s, SIDE // s, 5 + classes), np.float32) for s in STRIDES]
    for (x1, y1, x2, y2), label in zip(scene.xyxy, scene.labels, strict=True):
        width, height = x2 - x1, y2 - y1
        level = next(i for i, most in enumerate(LARGEST) if max(width, height) <= most)
        x, y = (x1 + x2) / 2 / STRIDES[level], (y1 + y2) / 2 / STRIDES[level]
        cell = grids[level][int(y), int(x)]
        cell[:] = 0
        cell[:5] = x % 1, y % 1, np.log(width / STRIDES[level]), np.log(height / STRIDES[level]), 1
        cell[5 + label] = 1
    return np.concatenate([grid.reshape(-1, 5 + classes) for grid in grids])


def loss(truth: keras.KerasTensor, found: keras.KerasTensor) -> keras.KerasTensor:
    """Return objectness of all cells, and of those with an object the scores and 1 - IoU of the boxes, an object."""
    positive = truth[..., 4]
    count = ops.maximum(ops.sum(positive), 1.0)
    entropy = ops.binary_crossentropy(truth[..., 4:], found[..., 4:], from_logits=True)
    low = [b[..., :2] - ops.exp(ops.clip(b[..., 2:4], -4, 4)) / 2 for b in (truth, found)]
    high = [b[..., :2] + ops.exp(ops.clip(b[..., 2:4], -4, 4)) / 2 for b in (truth, found)]
    sides = ops.maximum(ops.minimum(*high) - ops.maximum(*low), 0.0)
    shared = sides[..., 0] * sides[..., 1]
    areas = [ops.prod(last - first, axis=-1) for first, last in zip(low, high, strict=True)]
    overlap = shared / (areas[0] + areas[1] - shared + 1e-6)
    apart = ops.sum(ops.abs(truth[..., :4] - found[..., :4]), axis=-1)  # where boxes do not overlap, IoU says nothing
    cell = ops.sum(entropy[..., 1:], axis=-1) + 3 * (1 - overlap) + 0.3 * apart
    return (ops.sum(entropy[..., 0]) + ops.sum(positive * cell)) / count


if __name__ == "__main__":
    main()
