"""Detections as a ROS 2 topic, with rclpy where ROS is sourced, and without ROS over DDS or Zenoh."""

import logging
import os
import re
from importlib import import_module

from edge.errors import ConfigError, EdgeError, MissingBackendError
from edge.publishers import ros2_cdr
from edge.publishers.base import options_of
from edge.publishers.ros2_types import Backend, Ros2Options, Topic
from edge.publishers.threaded import ThreadedPublisher
from edge.uri import Uri
from edge.wire import jsonl
from edge.wire.building import restamped
from edge.wire.messages import (
    ClassificationMessage,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    Message,
    RegionMessage,
    StatusMessage,
)

__all__ = ["Ros2Publisher", "open_backend"]

log = logging.getLogger("harrier")

_BACKENDS = {
    "rclpy": ("edge.publishers.ros2_rclpy", "RclpyBackend", "source /opt/ros/DISTRO/setup.bash"),
    "cyclonedds": ("edge.publishers.ros2_cyclonedds", "CycloneBackend", "pip install 'harrier-edge[ros2]'"),
    "zenoh": ("edge.publishers.ros2_zenoh", "ZenohBackend", "pip install 'harrier-edge[zenoh]'"),
}
_FRAME = "camera"
_EVENTS = 64  # that wait for a slow subscriber
_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", re.ASCII)


class Ros2Publisher(ThreadedPublisher):
    """`ros2://topic`: vision_msgs/Detection2DArray (of a classifier: Classification) on that topic.

    Changes of state go to `topic/status`, where late subscribers get the last, signs of life to `topic/heartbeat`,
    events of regions to `topic/region`: all std_msgs/String with the JSON message. Where a mounted camera is given,
    vision_msgs/Detection3DArray goes to `topic/positions`.
    `detections` where no topic is named.
    Raises: ConfigError for a wrong URI, MissingBackendError when there is no way to ROS here, PublishError when it
    cannot be opened.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check names and options.

        Raises: ConfigError.
        """
        options = options_of(uri, Ros2Options)
        _topic_name(uri)
        if options.format:
            raise ConfigError(f"{uri.safe_text}: ROS messages have one format", "leave out format=")
        if not re.fullmatch(r"[A-Za-z_]\w*", options.node, re.ASCII):
            raise ConfigError(f"'{options.node}' cannot be the name of a ROS node", "use letters, digits and _")
        _domain(options)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        options = options_of(uri, Ros2Options)
        name = _topic_name(uri)
        backend = open_backend(options, _domain(options))
        super().__init__(f"ros2:/{name} ({backend.address})", "json")
        self.format = "cdr"
        self._backend = backend
        self._given_frame_id, self._numbers = options.frame_id, options.class_id == "number"
        self._frame_id, self._base_frame_id = options.frame_id or _FRAME, ""
        self._detections = Topic(name, "vision_msgs/msg/Detection2DArray")
        self._positions = Topic(f"{name}/positions", "vision_msgs/msg/Detection3DArray")
        self._classes = Topic(name, "vision_msgs/msg/Classification")
        self._status = Topic(f"{name}/status", "std_msgs/msg/String", latched=True)
        self._heartbeat = Topic(f"{name}/heartbeat", "std_msgs/msg/String")
        self._region = Topic(f"{name}/region", "std_msgs/msg/String", depth=_EVENTS)
        try:
            backend.announce(self._status)
            backend.announce(self._heartbeat)
        except EdgeError:
            backend.close()
            raise
        self.begin()

    def write(self, message: Message) -> bool:
        """Publish one message; HELLO and LABELS have no place in ROS, but HELLO names the frames.

        Raises: PublishError.
        """
        message = restamped(message)
        if isinstance(message, DetectionsMessage):
            cdr = ros2_cdr.detection_array(message, self._frame_id, self._numbers)
            self._backend.publish(self._detections, cdr)
            if self._base_frame_id:
                cdr = ros2_cdr.position_array(message, self._base_frame_id, self._numbers)
                self._backend.publish(self._positions, cdr)
        elif isinstance(message, ClassificationMessage):
            cdr = ros2_cdr.classification(message, self._frame_id, self._numbers)
            self._backend.publish(self._classes, cdr)
        elif isinstance(message, StatusMessage):
            self._say(self._status, message)
        elif isinstance(message, HeartbeatMessage):
            self._say(self._heartbeat, message)
        elif isinstance(message, RegionMessage):
            self._say(self._region, message)
        else:
            if isinstance(message, HelloMessage):
                self._frame_id = self._given_frame_id or message.frame_id or _FRAME
                self._base_frame_id = message.base_frame_id
            return False
        return True

    def _say(self, topic: Topic, message: Message) -> None:
        """Publish a message as JSON. Raises: PublishError."""
        self._backend.publish(topic, ros2_cdr.text(jsonl.encode(message).decode().rstrip("\n")))

    def look(self) -> str:
        """Return what keeps ROS away just now."""
        return self._backend.trouble()

    def shut(self) -> None:
        """Take the topics back."""
        self._backend.close()


def open_backend(options: Ros2Options, domain: int) -> Backend:
    """Return the way to ROS that was asked for, or the first there is: rclpy, Cyclone DDS, Zenoh.

    Raises: MissingBackendError when there is none, ConfigError or PublishError when it cannot be opened.
    """
    wanted = list(_BACKENDS) if options.backend == "auto" else [options.backend]
    if options.backend == "auto" and (options.network not in ("", "auto") or options.connect):
        wanted = ["zenoh"] if options.connect else ["cyclonedds"]  # rclpy takes neither
    missing = []
    for name in wanted:
        module, kind, cure = _BACKENDS[name]
        try:
            backend = getattr(import_module(module), kind)(options, domain)
        except ImportError as exc:  # not installed, or built for another Python: rclpy says so like that
            missing.append(f"{name}: {exc}".splitlines()[0])
            continue
        log.info("ros2: %s%s", backend.address, f" ({'; '.join(missing)})" if missing else "")
        return backend
    cure = _BACKENDS[wanted[0]][2] if len(wanted) == 1 else "source ROS, or pip install 'harrier-edge[ros2]'"
    raise MissingBackendError(f"there is no way to ROS 2 here ({'; '.join(missing)})", cure)


def _topic_name(uri: Uri) -> str:
    name = uri.rest.strip("/") or "detections"
    if not _NAME.fullmatch(name) or "__" in name:
        raise ConfigError(f"'{name}' cannot be a ROS topic", "write ros2://detections")
    return f"/{name}"


def _domain(options: Ros2Options) -> int:
    if options.domain is not None:
        return options.domain
    text = os.environ.get("ROS_DOMAIN_ID", "").strip() or "0"
    if not text.isdecimal() or int(text) > 232:
        raise ConfigError(f"ROS_DOMAIN_ID={text} is no domain", "set a number from 0 to 232")
    return int(text)
