"""YOLOX-Nano and FastestDet through `harrier convert`: mAP on coco-val80, size and time of every file.

About twenty minutes. Everything is chosen on coco-calib80; coco-val80 is only reported, with the settings of the
reference figures (score 0.001, NMS 0.65 per class, 100 a picture).
"""

import os
import resource
import tempfile
import time
from pathlib import Path

from convert.fidelity import compare_latency
from convert.request import ConvertRequest
from convert.run import convert
from edge.bundle import MANIFEST_NAME
from edge.config import Thresholds
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.evaluate import evaluate
from edge.evaluation.runner import RunSettings
from edge.manifest import read_manifest

FLOATS = ("fp32", "fp16", "dynamic")
BOTH = ("tflite", "onnx")
TFLITE = (*FLOATS, "int8", "int8-io", "uint8-io", "int16x8")
MOST_DROP = {  # mAP50-95 of YOLOX-Nano
    "tflite-fp32": 0.003,
    "tflite-fp16": 0.003,
    "tflite-dynamic": 0.003,
    "tflite-int8": 0.0567,  # to 0.25
    "tflite-mixed": 0.012,
    "onnx-mixed": 0.012,
}
MOST_TIME = 1.15  # of the mixed TFLite file, times that of the all-int8 one
MOST_SECONDS, MOST_BYTES = 180, 6e9  # for all TFLite precisions of YOLOX-Nano


def measure() -> bool:
    """Print the tables; return whether every target was kept."""
    shared = os.environ.get("HARRIER_SHARED")
    if not shared:
        print("HARRIER_SHARED is not set: quantization is not measured")
        return True
    root, kept = Path(shared), []
    with tempfile.TemporaryDirectory(prefix="harrier-bench-") as name:
        folder = Path(name)
        started = time.monotonic()
        converted(root, "yolox_nano", folder / "all", ("tflite",), TFLITE)
        seconds, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"\nall TFLite precisions: {seconds:.0f} s (target {MOST_SECONDS}), {peak / 1e9:.1f} GB (target 6)")
        kept += [seconds <= MOST_SECONDS, peak <= MOST_BYTES]
        bundle = converted(root, "yolox_nano", folder / "yolox", BOTH, (*FLOATS, "int8", "mixed"))
        kept.append(report(bundle, root, MOST_DROP, 0.65))
        bundle = converted(root, "FastestDet", folder / "fastest", BOTH, (*FLOATS, "int8"))
        report(bundle, root, {}, None)
        bundle = converted(root, "FastestDet", folder / "plain", BOTH, ("int8",), "min-max")
        print("\nFastestDet with min-max ranges, for comparison:")
        report(bundle, root, {}, None)
    return all(kept)


def converted(
    root: Path,
    model: str,
    out: Path,
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    observer: str | None = None,
) -> Path:
    """Convert one of the shared models, calibrated on coco-calib80, and return the bundle."""
    request = ConvertRequest(
        model=str(root / f"models/{model}.onnx"),
        out=out,
        formats=formats,
        precisions=precisions,
        calibration=str(root / "data/coco-calib80/images"),
        observer=observer,
        search_s=300.0,
    )
    convert(request)
    return out


def report(bundle: Path, root: Path, most_drop: dict[str, float], iou: float | None) -> bool:
    """Print mAP, size and interleaved times of every target; return whether the drops are within their limits."""
    targets = read_manifest(bundle / MANIFEST_NAME).targets
    files = {name: bundle / target.file for name, target in targets.items()}
    times = {
        threads: dict(zip(files, compare_latency(list(files.values()), threads, 40), strict=True)) for threads in (1, 2)
    }
    dataset = read_dataset(root / "data/coco-val80/instances.json", None, None)
    thresholds = Thresholds(max_candidates=10_000, iou=iou)
    found = {}
    for name in files:
        settings = RunSettings(str(bundle), name, thresholds=thresholds, threads=2)
        found[name] = evaluate(dataset, [settings], None, 200).report["models"][0]["figures"]["map"]
    reference = found.get("onnx-fp32", next(iter(found.values())))["value"]
    kept = True
    print(f"\n{'target':<16}{'mAP':>8}{'95 %':>18}{'drop':>9}{'MB':>7}{'t1 ms':>8}{'t2 ms':>8}")
    for name, figure in found.items():
        drop = reference - figure["value"]
        within = abs(drop) <= most_drop[name] if name in most_drop else True
        kept &= within
        row = f"{name:<16}{figure['value']:>8.4f}{figure['low']:>9.3f} to {figure['high']:.3f}{drop:>9.4f}"
        row += f"{files[name].stat().st_size / 1e6:>7.2f}{times[1][name]:>8.2f}{times[2][name]:>8.2f}"
        print(row + ("" if within else f"  MISSED: {most_drop[name]}"))
    if "tflite-mixed" in files and "tflite-int8" in files:
        shares = [times[threads]["tflite-mixed"] / times[threads]["tflite-int8"] for threads in (1, 2)]
        print("mixed beside int8: " + ", ".join(f"{s:.2f}" for s in shares) + f" times the time, target {MOST_TIME}")
        kept &= max(shares) <= MOST_TIME
    return kept
