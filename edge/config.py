"""The TOML file of `harrier run`. Command-line options override it."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.errors import ConfigError
from edge.geometry_config import GeometrySection, RegionSection
from edge.manifest import NmsMethod
from edge.structs import as_struct, read_toml

__all__ = [
    "EngineSection",
    "RunConfig",
    "Thresholds",
    "TrackingSection",
    "UpdateSection",
    "WebSection",
    "WireSection",
    "read_config",
    "require_no_boxes",
    "with_thresholds",
]

Unit = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class EngineSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[engine]: what runs the model.

    target: which target of the bundle; "auto" for the best that runs here; kserve+grpc://HOST:PORT/MODEL or
    kserve+http://... for a server; absent: the first that runs here. threads: default all cores up to 4. providers:
    ONNX Runtime's. device: which of several accelerators: an Edge TPU as "usb:0", "pci:1", "0" or a bus path such as
    "2-1.4", a CUDA device by number. preprocess: where pixels become the input tensor, on the CPU or on the GPU.
    rebuild: "auto" builds a TensorRT engine again, from the ONNX in the bundle, where the file does not fit this board.

    isolate: the engine runs in a process of its own. python: with this interpreter (implies isolate). Within
    deadline_ms an inference answers or its process is ended and started again; start_s bounds a start, memory_mb the
    process's memory. fallback: targets that take over, in this order, while an earlier one does not run; after
    max_failures in a row it is left alone for retry_s, then for longer and longer.
    """

    target: str | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    providers: list[str] = msgspec.field(default_factory=lambda: ["CPUExecutionProvider"])
    device: str = ""
    preprocess: Literal["cpu", "gpu"] = "cpu"
    rebuild: Literal["auto", "never"] = "never"
    isolate: bool = False
    python: str | None = None
    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=60_000)] = 1000.0
    start_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    memory_mb: Positive | None = None
    fallback: list[str] = []
    max_failures: Positive = 3
    retry_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0


class Thresholds(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[thresholds]: what is kept. Absent ones come from the model's manifest.

    nms: hard, linear or gaussian (soft-NMS; sigma is the gaussian's), or weighted.
    max_candidates bounds what enters NMS, best first; max_detections and max_per_class what leaves it.
    """

    score: Unit | None = None
    iou: Unit | None = None
    class_agnostic: bool = False
    max_candidates: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000
    max_detections: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 100
    max_per_class: Positive | None = None
    nms: NmsMethod | None = None
    sigma: Annotated[float, msgspec.Meta(gt=0)] = 0.5


class TrackingSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[tracking]: which boxes are the same object as before; without this table nothing is tracked.

    tracker: bytetrack, iou, or one of another distribution. Detections from low_score on keep a track going,
    those from high_score on (default: the score of [thresholds]) count as seen, those from new_score on (default:
    high_score) begin one. min_iou: least overlap, times score, with where the track is expected; weak_min_iou: least
    overlap of those under high_score; reach: how far off, in sizes of the box, what overlaps nothing may be found.
    A track is published from the min_hits-th frame in a row on, goes on being published at its expected place for
    coast_s without being seen, and is kept for max_lost_s. class_aware: boxes of different classes are different
    objects. smooth: publish the filtered box and keypoints, not those detected.
    """

    tracker: str = "bytetrack"
    low_score: Unit = 0.1
    high_score: Unit | None = None
    new_score: Unit | None = None
    min_iou: Unit = 0.2
    weak_min_iou: Unit = 0.5
    reach: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0
    min_hits: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    coast_s: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.1
    max_lost_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.5
    max_tracks: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    class_aware: bool = True
    smooth: bool = True


class WireSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[wire]: what readers are told. ttl_ms: a result older than this must not be acted on.

    heartbeat_ms: how often the loop says that it is alive, whether frames come or not.
    """

    ttl_ms: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 500
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=10, le=10_000)] = 250


class UpdateSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[update]: how a newly installed version of the model comes into a run that goes on.

    It sees shadow_frames frames beside the one that runs, and must agree with it on min_agreement of what either finds
    (0 to 1). After the swap it is watched for watch_s, and taken back when it fails in that time.
    """

    shadow_frames: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 100
    min_agreement: Unit = 0.2
    watch_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 30.0


class WebSection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[web]: the live page, /healthz and /metrics at http://HOST:PORT; without this table nothing listens.

    token: what a browser or a program must show, and what anybody needs who is to change something from another
    machine. cert, key: PEM files for TLS. insecure: listen on other addresses than loopback without token or TLS.
    names: other names under which this machine is asked for. control: whether the page may change anything.
    snapshots: a folder for them; without it they are downloaded. Pictures are shown at picture_hz at most, at most
    picture_width px wide, to max_viewers.
    """

    listen: str = "127.0.0.1:8080"
    token: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False
    names: list[str] = []
    control: bool = True
    snapshots: str = ""
    picture_hz: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    picture_width: Annotated[int, msgspec.Meta(ge=64, le=3840)] = 800
    max_viewers: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16


class RunConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file. model: a bundle, a model file or a catalogue name. source and publish: URIs.

    labels: a text file with one class name a line, for a bare model file that carries none.

    frame_timeout_s: how long a step waits for a frame before it says so and tries again.
    """

    model: str | None = None
    labels: str | None = None
    source: str | None = None
    publish: list[str] = []
    frame_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0
    engine: EngineSection = msgspec.field(default_factory=EngineSection)
    thresholds: Thresholds = msgspec.field(default_factory=Thresholds)
    tracking: TrackingSection | None = None
    geometry: GeometrySection = msgspec.field(default_factory=GeometrySection)
    region: list[RegionSection] = []
    wire: WireSection = msgspec.field(default_factory=WireSection)
    update: UpdateSection = msgspec.field(default_factory=UpdateSection)
    web: WebSection | None = None


def read_config(path: Path) -> RunConfig:
    """Return the configuration in a TOML file.

    Raises: ConfigError naming the file and the key.
    """
    return as_struct(read_toml(path), RunConfig, str(path))


def require_no_boxes(config: RunConfig, model: str) -> None:
    """Check that nothing asks for the boxes of `model`, which names classes.

    Raises: ConfigError.
    """
    if config.tracking or config.geometry.camera or config.region:
        cure = "remove [tracking], [geometry] and [[region]]"
        raise ConfigError(f"{model} names classes and finds no boxes to track or place", cure)


def with_thresholds(config: RunConfig, score: float | None, iou: float | None) -> RunConfig:
    """Return a copy with other thresholds (0 to 1; None: as before); a tracker's high score then follows the score."""
    given = {name: value for name, value in (("score", score), ("iou", iou)) if value is not None}
    tracking = config.tracking
    if tracking and score is not None:
        tracking = msgspec.structs.replace(tracking, high_score=None)
    thresholds = msgspec.structs.replace(config.thresholds, **given)
    return msgspec.structs.replace(config, thresholds=thresholds, tracking=tracking)
