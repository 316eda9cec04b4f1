"""The one table of everything pluggable. A new plug is one file and one row."""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from edge.errors import ConfigError, MissingBackendError
from edge.structs import did_you_mean

__all__ = ["PLUGS", "Plug", "names", "resolve"]


@dataclass(frozen=True, slots=True)
class Plug:
    """Where a plug lives, which extra it needs, which modules that extra brings, and what else it needs."""

    target: str
    extra: str = ""
    modules: tuple[str, ...] = ()
    needs: str = ""


PLUGS: dict[str, dict[str, Plug]] = {
    "sources": {  # by URI scheme
        "v4l2": Plug("edge.sources.opencv:V4l2Source", needs="a camera at /dev/videoN"),
        "file": Plug("edge.sources.opencv:FileSource"),
        "rtsp": Plug("edge.sources.opencv:RtspSource"),
        "images": Plug("edge.sources.images:ImagesSource"),
        "gst": Plug("edge.sources.gstreamer:GstSource", needs="gst-launch-1.0"),
        "csi": Plug("edge.sources.gstreamer:CsiSource", needs="a Jetson with a CSI camera"),
        "replay": Plug("edge.sources.replay:ReplaySource", "record", ("mcap",)),
        "synthetic": Plug("edge.sources.synthetic:SyntheticSource"),
    },
    "engines": {  # by file suffix
        "tflite": Plug("edge.engines.litert:LiteRtEngine"),
        "onnx": Plug("edge.engines.onnxruntime:OnnxRuntimeEngine", "onnx", ("onnxruntime",)),
        "engine": Plug("edge.engines.tensorrt_engine:TensorRtEngine", needs="an NVIDIA GPU"),
        "plan": Plug("edge.engines.tensorrt_engine:TensorRtEngine", needs="an NVIDIA GPU"),
        "null": Plug("edge.engines.null:NullEngine"),
        "kserve+grpc": Plug("edge.engines.kserve_grpc:grpc_engine", "kserve", ("tritonclient", "grpc"), "a server"),
        "kserve+http": Plug("edge.engines.kserve_http:http_engine", needs="a server"),
    },
    "decoders": {  # by the manifest's family
        "classification": Plug("edge.decoders.classification:ClassificationDecoder"),
        "ssd_postprocess": Plug("edge.decoders.ssd_postprocess:SsdPostprocessDecoder"),
        "ssd_anchors": Plug("edge.decoders.ssd_anchors:SsdAnchorsDecoder"),
        "yolo": Plug("edge.decoders.yolo:YoloDecoder"),
        "yolox": Plug("edge.decoders.yolox:YoloxDecoder"),
        "nanodet": Plug("edge.decoders.nanodet:NanodetDecoder"),
        "fastestdet": Plug("edge.decoders.fastestdet:FastestdetDecoder"),
        "detr": Plug("edge.decoders.detr:DetrDecoder"),
    },
    "trackers": {  # by [tracking] tracker
        "bytetrack": Plug("edge.tracking.bytetrack:ByteTracker"),
        "iou": Plug("edge.tracking.iou:IouTracker"),
    },
    "publishers": {  # by URI scheme
        "stdout": Plug("edge.publishers.stream:StdoutPublisher"),
        "file": Plug("edge.publishers.stream:FilePublisher"),
        "tcp": Plug("edge.publishers.tcp:TcpPublisher"),
        "unix": Plug("edge.publishers.unix:UnixPublisher"),
        "udp": Plug("edge.publishers.udp:UdpPublisher"),
        "serial": Plug("edge.publishers.serial:SerialPublisher", "serial", ("serial",), "a serial port"),
        "ws": Plug("edge.publishers.websocket:WebSocketPublisher", "web", ("aiohttp",)),
        "mqtt": Plug("edge.publishers.mqtt:MqttPublisher", "mqtt", ("paho",), "an MQTT broker"),
        "mqtts": Plug("edge.publishers.mqtt:MqttPublisher", "mqtt", ("paho",), "an MQTT broker"),
        "zenoh": Plug("edge.publishers.zenoh:ZenohPublisher", "zenoh", ("zenoh",)),
        "ros2": Plug("edge.publishers.ros2:Ros2Publisher", "ros2", ("cyclonedds",)),
        "mcap": Plug(
            "edge.publishers.mcap:McapPublisher",
            "record",
            ("mcap", "mcap_protobuf", "foxglove_schemas_protobuf", "google"),
        ),
        "mavlink": Plug("edge.publishers.mavlink:MavlinkPublisher", "mavlink", ("pymavlink", "serial"), "an autopilot"),
    },
    "links": {  # the reader's end, by URI scheme
        "tcp": Plug("edge.links.tcp:TcpLink"),
        "unix": Plug("edge.links.unix:UnixLink"),
        "udp": Plug("edge.links.udp:UdpLink"),
        "serial": Plug("edge.links.serial:SerialLink", "serial", ("serial",), "a serial port"),
        "ws": Plug("edge.links.websocket:WebSocketLink", "web", ("aiohttp",)),
        "wss": Plug("edge.links.websocket:WebSocketLink", "web", ("aiohttp",)),
        "mqtt": Plug("edge.links.mqtt:MqttLink", "mqtt", ("paho",), "an MQTT broker"),
        "mqtts": Plug("edge.links.mqtt:MqttLink", "mqtt", ("paho",), "an MQTT broker"),
        "zenoh": Plug("edge.links.zenoh:ZenohLink", "zenoh", ("zenoh",)),
    },
    "signatures": {  # of bundles, by the tool that makes them
        "minisign": Plug("edge.signatures:check_signature", "sign", ("cryptography",)),
    },
    "pages": {"live": Plug("edge.web.server:LivePage", "web", ("aiohttp",))},  # what [web] opens
    "formats": {  # by a publisher's ?format=
        "json": Plug("edge.wire.jsonl:encode"),
        "binary": Plug("edge.wire.encoder:encode"),
    },
}


def names(group: str) -> list[str]:
    """Return the built-in names of a group, in the table's order."""
    return list(PLUGS[group])


def resolve(group: str, name: str) -> Any:
    """Return the class or function behind a name, importing only its module.

    Names that are not built in are looked for among the entry points of the group `edge.<group>`.
    Raises: ConfigError for an unknown name or one that two distributions claim,
    MissingBackendError when the plug's extra is not installed. Any other ImportError passes through.
    """
    plug = PLUGS[group].get(name)
    if plug is None:
        return _third_party(group, name)
    module, _, attribute = plug.target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.partition(".")[0] in plug.modules:
            raise MissingBackendError(
                f"{name} needs {exc.name}, which is not installed",
                f"pip install 'harrier-edge[{plug.extra}]'",
            ) from exc
        raise


def _third_party(group: str, name: str) -> Any:
    found = [point for point in entry_points(group=f"edge.{group}") if point.name == name]
    if len(found) > 1:
        owners = " and ".join(sorted(point.value for point in found))
        raise ConfigError(f"{group[:-1]} '{name}' is claimed by {owners}", "uninstall one of them")
    if not found:
        raise ConfigError(f"there is no {group[:-1]} '{name}'", did_you_mean(name, names(group)))
    return found[0].load()
