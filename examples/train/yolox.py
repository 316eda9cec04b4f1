"""YOLOX-Nano, as its authors publish it, to every format the converter writes, with what each costs in mAP.

    python examples/train/yolox.py yolox_nano.onnx --calibration FRAMES --eval val/instances.json

TensorRT is built by whatever TensorRT is installed; without one the summary says so, and the ONNX files that
`harrier build` needs on the board are in the bundle. The same holds for the Edge TPU's compiler.
"""

import argparse
from pathlib import Path

from shell import harrier, new_folder, summary


def main() -> None:
    """Convert, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="YOLOX.onnx", help="any size of YOLOX, exported to ONNX")
    parser.add_argument("--calibration", required=True, help="frames of the robot's camera: folder, video or COCO JSON")
    parser.add_argument("--eval", type=Path, help="COCO instances.json of other pictures")
    parser.add_argument("--to", default="tflite,onnx,tensorrt,edgetpu", help="formats (all)")
    parser.add_argument("--precision", default="fp32,fp16,dynamic,int8,int8-io", help="of each format, what it has")
    parser.add_argument("--observer", help="how ranges are chosen (harrier convert tries them all)")
    parser.add_argument("--max-drop", default="0.03", help="most mAP a target may lose to be in the bundle (0.03)")
    parser.add_argument("--out", type=Path, default=Path("yolox-out"), help="folder to write")
    arguments = parser.parse_args()
    out = new_folder(arguments.out)
    harrier(
        *("convert", arguments.model, "--to", arguments.to, "--precision", arguments.precision),
        *("--calibration", arguments.calibration, "--out", out / "bundle"),
        *(("--observer", arguments.observer) if arguments.observer else ()),
        *(("--eval", arguments.eval, "--max-drop", arguments.max_drop) if arguments.eval else ()),
        may_fail_gate=True,  # what loses more is left out, and the summary tells
    )
    summary(out / "bundle")


if __name__ == "__main__":
    main()
