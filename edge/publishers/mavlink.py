"""MAVLink to an autopilot or ground station, over UDP or a serial port."""

import logging
import math
import re
import socket
import time
from collections.abc import Callable
from typing import Annotated, Protocol

import msgspec
from pymavlink.dialects.v20 import common

from edge.errors import ConfigError, EdgeError, PublishError
from edge.publishers.base import PublisherOptions, options_of
from edge.publishers.mavlink_messages import (
    CameraView,
    choose_target,
    landing_target,
    obstacle_distance,
    tracking_status,
)
from edge.publishers.serial_port import open_port
from edge.publishers.threaded import ThreadedPublisher
from edge.structs import did_you_mean
from edge.uri import Uri
from edge.wire.building import restamped
from edge.wire.messages import DetectionsMessage, HeartbeatMessage, LabelsMessage, Message, StatusMessage

__all__ = ["MavlinkPublisher"]

log = logging.getLogger("harrier")

_HEARTBEAT_S = 1.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.2, 5.0
_MESSAGES = ("tracking", "landing", "obstacle")
_TAKEN = ("detections", "heartbeat", "status")
Byte = Annotated[int, msgspec.Meta(ge=1, le=255)]
Metres = Annotated[float, msgspec.Meta(gt=0, le=655)]


class _Options(PublisherOptions):
    """send: which messages, comma separated. target: label or class number. fov: horizontal, degrees."""

    send: str = "tracking"
    target: str = ""
    score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    fov: Annotated[float, msgspec.Meta(gt=0, lt=180)] | None = None
    nearest: Metres = 0.2
    farthest: Metres = 50.0
    system: Byte = 1
    component: Byte = common.MAV_COMP_ID_ONBOARD_COMPUTER
    baud: Annotated[int, msgspec.Meta(ge=300)] = 57600


class MavlinkPublisher(ThreadedPublisher):
    """`mavlink://HOST:PORT` sends by UDP, `mavlink:///dev/ttyACM0?baud=57600` by a serial port.

    Options: send=tracking,landing,obstacle  target=person  score=0.5  fov=62 (horizontal, degrees)
    nearest=0.2 farthest=50 (m)  system=1  component=191.
    HEARTBEAT follows the loop, at 1 Hz: when the loop hangs, it stops. A result past its time to live is not sent as a
    target.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check address and options.

        Raises: ConfigError.
        """
        options = options_of(uri, _Options)
        if options.format:
            raise ConfigError(f"{uri.safe_text}: MAVLink has a format of its own", "leave format= out")
        unknown = set(options.send.split(",")) - set(_MESSAGES)
        if unknown:
            raise ConfigError(f"MAVLink cannot send '{min(unknown)}'", f"choose of {', '.join(_MESSAGES)}")
        if options.fov is None and {"landing", "obstacle"} & set(options.send.split(",")):
            raise ConfigError("landing and obstacle need angles", "add fov=DEGREES, the camera's horizontal view")
        if options.nearest >= options.farthest:
            raise ConfigError("nearest= is not less than farthest=", "give both in metres")
        if not uri.rest.startswith("/"):
            host, port = _host_port(uri)
            if not host or not port:
                raise ConfigError(f"{uri.safe_text} names nobody to send to", "write mavlink://127.0.0.1:14550")

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        options = options_of(uri, _Options)
        super().__init__(f"mavlink://{uri.rest}", "json")
        self._options = options
        self._open = _serial_opener(uri.rest, options.baud) if uri.rest.startswith("/") else _udp_opener(uri)
        self._kinds = options.send.split(",")
        self._view = CameraView(None if options.fov is None else math.radians(options.fov))
        self._link = common.MAVLink(None, srcSystem=options.system, srcComponent=options.component)
        self._port: _Port | None = None
        self._why = ""  # there is no port
        self._backoff_s, self._t_open = _FIRST_BACKOFF_S, -math.inf
        self._track_id: int | None = None
        self._labels: list[str] = []
        self._state = common.MAV_STATE_BOOT
        self._t_beat = -math.inf
        self.begin()

    def look(self) -> str:
        """Open the port where there is none, from time to time; return why that fails, or ""."""
        if self._port is not None:
            return ""
        if time.monotonic() >= self._t_open:
            try:
                self._port, self._why = self._open(), ""
                self._backoff_s, self._t_beat = _FIRST_BACKOFF_S, -math.inf
            except EdgeError as exc:
                self._why = str(exc)
                self._t_open = time.monotonic() + self._backoff_s
                self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
        return self._why

    def write(self, message: Message) -> bool:
        """Send what MAVLink has of a message; greetings have no place in it.

        Raises: PublishError when there is no port, or it fails.
        """
        if isinstance(message, LabelsMessage):
            self._look_for_target(message)
        if message.kind not in _TAKEN:
            return False
        if self.look() or self._port is None:
            raise PublishError(self._why, "it is tried again")
        packets = self._packets(restamped(message))
        try:
            for packet in packets:
                self._port.write(packet.pack(self._link))
                self._link.seq = (self._link.seq + 1) & 0xFF
        except OSError as exc:
            self.shut()
            raise PublishError(f"cannot send to {self.address} ({exc})", "check that the autopilot is there") from exc
        return bool(packets)

    def shut(self) -> None:
        """Close the port."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def _look_for_target(self, message: LabelsMessage) -> None:
        """Say once that the model knows no such target: else nothing would ever be tracked, without a word."""
        self._labels[message.first : message.first + len(message.labels)] = message.labels
        target = self._options.target
        if not target or target.isdigit() or len(self._labels) < message.total or target in self._labels:
            return
        log.warning("%s: the model has no class '%s': %s", self.address, target, did_you_mean(target, self._labels))
        self._labels = []

    def _packets(self, message: Message) -> list[common.MAVLink_message]:
        found = []
        if isinstance(message, StatusMessage | HeartbeatMessage):
            active = message.state == "streaming" and "stale" not in message.flags
            self._state = common.MAV_STATE_ACTIVE if active else common.MAV_STATE_CRITICAL
            if message.state in ("closed", "ended"):
                self._state = common.MAV_STATE_POWEROFF
        now = time.monotonic()
        if now - self._t_beat >= _HEARTBEAT_S or isinstance(message, StatusMessage):
            self._t_beat = now
            kind, none = common.MAV_TYPE_ONBOARD_CONTROLLER, common.MAV_AUTOPILOT_INVALID
            found.append(self._link.heartbeat_encode(kind, none, 0, 0, self._state))
        if isinstance(message, DetectionsMessage):
            found += self._result(message)
        return found

    def _result(self, message: DetectionsMessage) -> list[common.MAVLink_message]:
        options = self._options
        fresh = message.age_ms <= message.ttl_ms or not message.ttl_ms
        target = choose_target(message, options.target, options.score, self._track_id) if fresh else None
        self._track_id = target.track_id if target else None
        found: list[common.MAVLink_message | None] = []
        if "tracking" in self._kinds:
            found.append(tracking_status(self._link, target, message.frame))
        if "landing" in self._kinds and target:
            found.append(landing_target(self._link, message, target, self._view))
        if "obstacle" in self._kinds and fresh:
            records = [record for record in message.detections if record.score >= options.score]
            limits_m = (options.nearest, options.farthest)
            found.append(obstacle_distance(self._link, message, self._view, records, limits_m))
        return [packet for packet in found if packet is not None]


class _Port(Protocol):
    def write(self, data: bytes, /) -> object: ...

    def close(self) -> None: ...


class _UdpPort:
    """A datagram a write."""

    def __init__(self, family: int, address: tuple) -> None:
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.connect(address)

    def write(self, data: bytes) -> None:
        """Send; nobody listening there yet is no failure of ours."""
        try:
            self._socket.send(data)
        except ConnectionRefusedError:
            pass

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _host_port(uri: Uri) -> tuple[str, int]:
    """As other tools write it, too: udpout:host:port."""
    text = re.sub(r"^(udp|udpout):", "", uri.rest)
    return Uri(uri.text, uri.scheme, text, {}).host_port()


def _udp_opener(uri: Uri) -> Callable[[], _Port]:
    host, port = _host_port(uri)

    def open_udp() -> _UdpPort:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            return _UdpPort(found[0], found[4])
        except (OSError, UnicodeError) as exc:
            raise PublishError(f"cannot send to {host}:{port} ({exc})", "give an address in reach") from exc

    return open_udp


def _serial_opener(path: str, baud: int) -> Callable[[], _Port]:
    def open_serial() -> _Port:
        port = open_port(path, baud)
        port.write_timeout = 0.5
        return port

    return open_serial
