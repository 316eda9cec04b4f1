"""Framed messages over a serial line, never more than one of them ahead of the wire."""

import math
import os
import select
import termios
import threading
import time
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
import serial

from edge.errors import ConfigError, EdgeError, PublishError, WireError
from edge.publishers.access import ListenOptions
from edge.publishers.base import PublisherBase, PublisherOptions, options_of
from edge.publishers.fitting import fitted
from edge.publishers.line import Line, Mixed
from edge.publishers.rotation import Rotation
from edge.publishers.serial_port import check_port, open_port, port_path, read_some
from edge.publishers.session import Channel
from edge.uri import Uri
from edge.wire.framing import framed
from edge.wire.messages import RESULT_KINDS, HelloMessage, LabelsMessage, Message

__all__ = ["SerialOptions", "SerialPublisher"]

_MOST_BYTES = {"binary": 256, "json": 1024}
_GREETING_BYTES = 200
_RETRY_S, _RETRY_MAX_S = 0.25, 4.0
_CREDIT_HOLDS_S = 5.0
_REST_S = 0.25
_HEAR_S = 0.05
_LOOK_MS = 50


class SerialOptions(PublisherOptions, kw_only=True):
    """Options of `serial://`.

    max_bytes: of one result before framing; None: 256, for JSON 1024. rtscts: flow control by wire. write_timeout_s:
    how long the line may take nothing. control: what the other end's CONTROL may change: nothing, what it gets, or
    also whether the run runs.
    """

    baud: Annotated[int, msgspec.Meta(ge=300, le=20_000_000)] = 115_200
    max_bytes: Annotated[int, msgspec.Meta(ge=64, le=8192)] | None = None
    rtscts: bool = False
    write_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    control: Literal["off", "view", "all"] | bool = "off"  # in a URI `off` reads as False


class SerialPublisher(PublisherBase):
    """`serial:///dev/ttyTHS1?baud=921600`: the newest result whenever the line can take one, and never a backlog.

    HELLO and LABELS are told at the start and then in turn while the line is idle, for the other end may start later.
    It may ask CLOCK and give CREDIT, and CONTROL where the options allow it. A port that is missing, forbidden, busy
    or unplugged is tried again. Raises: ConfigError for what no retry mends.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check the options, and that the port is there, without opening it.

        Raises: ConfigError, or PublishError when the port is missing or forbidden.
        """
        _options(uri)
        check_port(port_path(uri))

    def __init__(self, uri: Uri) -> None:
        self._options = _options(uri)
        self._path = port_path(uri)
        super().__init__(f"serial://{self._path}", self._options.format or "binary")
        self._max_bytes = self._options.max_bytes or _MOST_BYTES.get(self.format, 256)
        self._channel = Channel(ListenOptions(control=self._options.control), self._frame)
        self._session = self._channel.open(self.address)
        self._rotation = Rotation()
        self._line = Line(self._options.baud)
        self._changed = threading.Condition()
        self._lost: EdgeError | None = None  # what the listening thread met
        self._hearing = self._asked = self._torn = False
        self._unfit = ""
        self._not_understood = 0
        self._t_heard_s = self._t_result_s = float("-inf")
        self._gap_s = 0.0
        self._deadline_s: float | None = None
        port = self._open()
        self._thread = threading.Thread(target=self._run, args=(port,), name=f"publish {self.address}", daemon=True)
        self._thread.start()

    @property
    def refused(self) -> int:
        """Messages from the other end that were not understood or not obeyed."""
        return self._not_understood + self._channel.refused

    def send(self, message: Message) -> None:
        """Hand over one message; the newest result waits for its turn on the line."""
        with self._changed:
            if isinstance(message, HelloMessage | LabelsMessage):
                self._rotation.put(message)
            else:
                if message.kind in RESULT_KINDS:
                    now = time.monotonic()
                    self._gap_s, self._t_result_s = now - self._t_result_s, now
                self._session.put(self._channel.put(message))
                self.dropped = self._channel.dropped
            self._changed.notify()

    def close(self, drain_s: float = 0.5) -> None:
        """Send what waits for at most `drain_s`, then close the port."""
        with self._changed:
            if self._deadline_s is None:
                self._deadline_s = time.monotonic() + drain_s
            self._changed.notify()
        self._thread.join(drain_s + 1.0)

    def _frame(self, message: Message) -> bytes:
        try:
            payload = fitted(self.encode, message, self._max_bytes)
        except WireError as exc:
            self._unfit = self.failure = str(exc)
            raise
        if message.kind in RESULT_KINDS:
            self._unfit = ""
        return framed(payload, self.format != "json", serial=True)

    def _open(self) -> serial.Serial | None:
        """The port, or None and `failure`. Raises: ConfigError for what no retry mends."""
        try:
            port = open_port(self._path, self._options.baud, self._options.rtscts)
        except PublishError as exc:
            self.failure = str(exc)
            return None
        self.failure = ""
        return port

    def _run(self, port: serial.Serial | None) -> None:
        wait_s = _RETRY_S
        try:
            while port is not None or self._deadline_s is None:
                if port is None:
                    with self._changed:
                        self._changed.wait_for(lambda: self._deadline_s is not None, wait_s)
                    wait_s = min(2 * wait_s, _RETRY_MAX_S)
                    port = None if self._deadline_s is not None else self._open()
                    if port is not None:
                        self._begin_anew()
                    continue
                wait_s = _RETRY_S
                try:
                    self._serve(port)
                except (EdgeError, OSError, termios.error) as exc:
                    self.failure = str(exc) if isinstance(exc, EdgeError) else f"{self._path} was unplugged ({exc})"
                finally:
                    _let_go(port)
                port = None
        except ConfigError as exc:  # something else is plugged in now
            self.failure = str(exc)
        except Exception as exc:  # a defect: the loop goes on, and the run says that nobody is served
            self.failure = f"stopped serving ({exc!r}): report this as a defect"

    def _begin_anew(self) -> None:
        """Whoever is there now is told what it must know, and nothing that waited while nobody was there."""
        with self._changed:
            self._line, self._lost, self._asked, self._torn = Line(self._options.baud), None, False, True
            self._channel.missed(int(self._session.pending))
            self.dropped = self._channel.dropped
            self._channel.close(self._session)
            self._session = self._channel.open(self.address)  # with the last change of state
            self._rotation.restart()

    def _serve(self, port: serial.Serial) -> None:
        """Write and listen until told to close. Raises: EdgeError or OSError when the port is gone."""
        self._hearing = True
        ears = threading.Thread(target=self._hear, args=(port,), name=f"hear {self.address}", daemon=True)
        ears.start()
        try:
            while (frame := self._next(port)) is not None:
                self._write(port, frame)
        finally:
            self._hearing = False
            ears.join()

    def _next(self, port: serial.Serial) -> bytes | None:
        """Wait until the line can take a frame and there is one; None to close. Raises: as _serve."""
        with self._changed:
            while True:
                if self._lost is not None:
                    raise self._lost
                now, held, pending = time.monotonic(), port.out_waiting, self._session.pending
                closing = self._deadline_s is not None
                wait_s = self._line.wait_s(now, held, exactly=self._asked or closing)
                if self._deadline_s is not None and (now > self._deadline_s or not (pending or wait_s > 0)):
                    return None
                if wait_s <= 0:
                    if self._line.in_flight and not held:
                        self._line.in_flight, self.failure = False, self._unfit
                    if (frame := self._choose(now, pending)) is not None:
                        return frame
                    wait_s = self._rest_s(now)
                elif held and now > self._line.free_at_s + self._options.write_timeout_s:
                    self._throw_away(port)
                self._changed.wait(wait_s)

    def _choose(self, now: float, pending: bool) -> bytes | None:
        """What goes on the line now, by what there is and whose turn it is."""
        if self._session.credits == 0 and now - self._t_heard_s > _CREDIT_HOLDS_S:
            self._session.credits = None  # whoever gave credit is gone: on a line nobody hangs up
        if not self._asked and self._rotation.wait_s(now, self._idle(now, pending)) <= 0:
            return self._frame(self._rotation.take(now))
        self._asked = False
        frame = self._session.take()
        self.dropped = self._channel.dropped
        return frame

    def _idle(self, now: float, pending: bool) -> bool:
        """Whether a greeting would hold up nothing, going by when results came."""
        since_s, needed_s = now - self._t_result_s, _GREETING_BYTES * self._line.byte_s
        return not pending and (since_s + needed_s < self._gap_s or since_s > max(2 * self._gap_s, needed_s))

    def _rest_s(self, now: float) -> float:
        due = self._session.due_ns
        until_due_s = _REST_S if due is None else due / 1e9 - now
        return max(0.001, min(_REST_S, until_due_s, self._rotation.wait_s(now, idle=True) or 0.01))

    def _write(self, port: serial.Serial, frame: bytes) -> None:
        """Write one frame to the driver. Raises: OSError when the port is gone."""
        torn = b"\n" if self._torn and self.format == "json" else b""  # COBS frames begin with their delimiter
        view, start = memoryview(torn + frame), time.monotonic()
        poller = select.poll()
        poller.register(port.fileno(), select.POLLOUT)
        while True:
            with suppress(BlockingIOError, InterruptedError):
                view = view[os.write(port.fileno(), view) :]
            if not view:
                break
            poller.poll(_LOOK_MS)
            now = time.monotonic()
            if now > min(start + self._options.write_timeout_s, self._deadline_s or math.inf):
                with self._changed:
                    self._torn = True
                    self._throw_away(port)
                return
        with self._changed:
            self._torn = False
            self._line.wrote(len(torn) + len(frame), start)
            self.sent += 1

    def _throw_away(self, port: serial.Serial) -> None:
        """Throw away what the line does not take: it is old by now."""
        termios.tcflush(port.fileno(), termios.TCOFLUSH)
        self._line.emptied()
        self._channel.missed(1)
        self.dropped = self._channel.dropped
        cure = "check CTS of the other end, or leave out rtscts" if self._options.rtscts else "check that it reads"
        self.failure = f"{self._path} took nothing for {self._options.write_timeout_s:g} s: {cure}"

    def _hear(self, port: serial.Serial) -> None:
        """Take what the other end says, in a thread of its own so that questions for the time are stamped at once."""
        heard = Mixed()
        while self._hearing:
            try:
                payloads = heard.feed(read_some(port, _HEAR_S))
            except EdgeError as exc:
                with self._changed:
                    self._lost = exc
                    self._changed.notify()
                return
            if not payloads:
                continue
            with self._changed:
                for payload in payloads:
                    self._session.receive(payload)
                    self._not_understood += bool(self._session.ended)
                    self._session.ended = ""  # nobody can be hung up
                self._asked, self._t_heard_s = True, time.monotonic()
                self.command, self._channel.command = self._channel.command or self.command, ""
                self._changed.notify()


def _let_go(port: serial.Serial) -> None:
    with suppress(OSError, termios.error):
        if port.out_waiting:  # else closing waits until it is out, up to half a minute
            termios.tcflush(port.fileno(), termios.TCOFLUSH)
    with suppress(OSError):
        port.close()


def _options(uri: Uri) -> SerialOptions:
    options = options_of(uri, SerialOptions)
    if options.control is True:
        raise ConfigError("control=on does not say how much", "write control=view or control=all")
    return options
