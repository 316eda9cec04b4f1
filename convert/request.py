"""What a conversion is asked for: the formats, the precisions of each, and the files that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.precisions import PRECISIONS
from edge.errors import ConfigError
from edge.structs import did_you_mean

__all__ = ["DEFAULT_MAX_DROP", "ConvertRequest", "Job", "plan", "shares_ranges"]

# what TensorRT builds each precision from
_ONNX_OF = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "best": "int8"}

# what needs pictures to calibrate with
_CALIBRATED = {"int8", "int8-io", "uint8-io", "int16x8", "mixed", "best"}


@dataclass(frozen=True, slots=True)
class Job:
    """One file to make: its name in the manifest, its format and precision."""

    form: str
    precision: str

    @property
    def name(self) -> str:
        """The target's name in the manifest."""
        return f"{self.form}-{self.precision}"

    @property
    def calibrated(self) -> bool:
        """Whether making it needs activation ranges."""
        return self.precision in _CALIBRATED


DEFAULT_MAX_DROP = 0.01
"""Of mAP50-95 or top-1: what `harrier convert --eval` allows a target to lose where --max-drop is not given."""


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """Everything `harrier convert` was told. settings: dotted manifest keys and their values.

    max_drop: the greatest loss of mAP or top-1 a target may have; None: nothing is refused.
    search_s: seconds for the sensitivity search, None for its default. split_outputs, equalized: see LoadOptions.
    ranges: a file of ranges for every format. allow_grey: grey pictures will do for a model that takes colour.
    """

    model: str
    out: Path
    formats: tuple[str, ...] = ("tflite",)
    precisions: tuple[str, ...] = ("fp32",)
    calibration: str | None = None
    evaluation: Path | None = None
    evaluation_images: Path | None = None
    max_drop: float | None = None
    keep_failing: bool = False
    allow_few: bool = False
    labels: str | None = None
    size_wh: tuple[int, int] | None = None
    state_dict: Path | None = None
    settings: Mapping[str, Any] | None = None
    observer: str | None = None
    search_s: float | None = None
    split_outputs: bool = True
    equalized: bool = False
    allow_grey: bool = False
    ranges: Path | None = None
    threads: int = 2
    compute_capabilities: tuple[str, ...] = ()
    workspace_mib: int | None = None
    remote: str | None = None
    force: bool = False


def plan(formats: Sequence[str], precisions: Sequence[str]) -> list[Job]:
    """Return the files to make, each once, what others are made from first.

    Raises: ConfigError for an unknown format or precision, or a precision none of the formats has.
    """
    for form in formats:
        if form not in PRECISIONS:
            raise ConfigError(f"there is no format '{form}'", did_you_mean(form, list(PRECISIONS)))
    known = sorted({precision for form in formats for precision in PRECISIONS[form]})
    for precision in precisions:
        if precision not in known:
            raise ConfigError(f"{', '.join(formats)} has no precision '{precision}'", did_you_mean(precision, known))
    asked = {(form, precision) for form in formats for precision in precisions if precision in PRECISIONS[form]}
    for form in formats:
        if not any(form == asked_form for asked_form, _ in asked):
            raise ConfigError(
                f"{form} has none of the precisions {', '.join(precisions)}", f"it has {', '.join(PRECISIONS[form])}"
            )
    needed = {("onnx", _ONNX_OF[precision]) for form, precision in asked if form == "tensorrt"}
    needed |= {("onnx", "fp32") for form, _ in asked if form in ("onnx", "tensorrt")}
    needed |= {("tflite", "fp32") for form, _ in asked if form in ("tflite", "edgetpu")}
    needed |= {("tflite", precision) for form, precision in asked if form == "edgetpu"}
    order = [(form, precision) for form, names in PRECISIONS.items() for precision in names]
    return [Job(*pair) for pair in order if pair in asked | needed]


def shares_ranges(request: ConvertRequest) -> bool:
    """Return whether the request has int8 files of TFLite and of ONNX, which then have the same ranges.

    int16x8 has ranges of its own. Raises: ConfigError as `plan`.
    """
    jobs = plan(request.formats, request.precisions)
    return {"tflite", "onnx"} <= {job.form for job in jobs if job.calibrated and job.precision != "int16x8"}
