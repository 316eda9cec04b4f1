"""The receiving side: messages from a Harrier publisher, as an iterator and as `harrier listen`."""

import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

from edge.errors import ConfigError, EdgeError, PublishError, SourceTimeoutError, WireError
from edge.structs import did_you_mean
from edge.uri import Uri, parse_uri
from edge.wire.jsonl import Message, decode, encode

__all__ = ["line_of", "listen", "print_messages"]

_RETRY_S = 0.1
_MAX_LINE_BYTES = 1 << 20


def listen(address: str, timeout_s: float = 10.0, every: bool = False) -> Iterator[Message]:
    """Yield messages from `tcp://host:port` (connects, waiting for the publisher) or `udp://[host]:port` (binds).

    A thread empties the socket: whoever is slow gets the newest result and never a backlog, and every change of
    state. every=True yields all that arrives instead, however old it gets. Ends when the publisher hangs up.
    Raises: SourceTimeoutError when nobody answers or nothing arrives within `timeout_s`, WireError for other bytes.
    """
    uri = parse_uri(address)
    readers = {"tcp": _tcp_lines, "udp": _udp_lines}
    if uri.scheme not in readers:
        raise ConfigError(f"cannot listen to '{uri.scheme}'", did_you_mean(uri.scheme, list(readers)))
    lines = readers[uri.scheme](uri, timeout_s)
    return (decode(line) for line in lines) if every else _newest(lines)


def _newest(lines: Iterator[bytes]) -> Iterator[Message]:
    changed = threading.Condition()
    waiting: deque[Message] = deque()
    end: list[BaseException | None] = []

    def receive() -> None:
        error: BaseException | None = None
        try:
            for line in lines:
                message = decode(line)
                with changed:
                    stale = None if message.kind == "status" else _result_in(waiting)
                    if stale is not None:
                        waiting.remove(stale)
                    waiting.append(message)
                    changed.notify()
        except EdgeError as exc:
            error = exc
        with changed:
            end.append(error)
            changed.notify()

    threading.Thread(target=receive, name="listen", daemon=True).start()
    while True:
        with changed:
            changed.wait_for(lambda: waiting or end)
            if not waiting:
                break
            message = waiting.popleft()
        yield message
    if end[0] is not None:
        raise end[0]


def _result_in(waiting: deque[Message]) -> Message | None:
    return next((message for message in waiting if message.kind != "status"), None)


def print_messages(address: str, count: int | None, as_json: bool, timeout_s: float) -> None:
    """Print messages to standard output, one line each, until `count` of them or the end.

    Raises: SourceTimeoutError when the publisher hung up before `count` messages came.
    """
    received = 0
    for message in listen(address, timeout_s):
        line = encode(message).decode() if as_json else line_of(message) + "\n"
        sys.stdout.write(line)
        sys.stdout.flush()
        received += 1
        if received == count:
            return
    if count is not None:
        raise SourceTimeoutError(
            f"the publisher hung up after {received} of {count} messages", "check that it is still running"
        )


def line_of(message: Message) -> str:
    """Return one readable line for a message; characters a terminal would act on are replaced."""
    text = _line(message)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _line(message: Message) -> str:
    head = f"{message.source} #{message.seq}"
    if message.kind == "status":
        return f"{head}  {message.state}  {message.reason or ''}".rstrip()
    records = message.detections if message.detections is not None else message.classes or []
    parts = []
    for record in records:
        where = "" if record.box is None else " at " + ",".join(f"{v:.0f}" for v in record.box)
        parts.append(f"{record.label} {record.score:.2f}{where}")
    age = message.age_ms or 0.0
    return f"{head}  age {age:.1f} ms  " + ("; ".join(parts) or "nothing")


def _tcp_lines(uri: Uri, timeout_s: float) -> Iterator[bytes]:
    host, port = uri.host_port()
    with _connect(host or "127.0.0.1", port, timeout_s) as sock:
        sock.settimeout(timeout_s)
        pending = bytearray()
        while True:
            try:
                block = sock.recv(65536)
            except TimeoutError as exc:
                raise _silent(uri, timeout_s) from exc
            except OSError:
                return  # a publisher that is killed resets the connection: that is hanging up too
            if not block:
                return
            pending += block
            *lines, rest = pending.split(b"\n")
            pending = bytearray(rest)
            yield from (bytes(line) for line in lines if line)
            if len(pending) > _MAX_LINE_BYTES:
                raise WireError("a line of over 1 MB arrived", "check that the sender is harrier run")


def _connect(host: str, port: int, timeout_s: float) -> socket.socket:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return socket.create_connection((host, port), timeout=timeout_s)
        except (OSError, UnicodeError) as exc:
            if isinstance(exc, socket.gaierror | UnicodeError) or time.monotonic() + _RETRY_S > deadline:
                raise SourceTimeoutError(
                    f"nobody answers at {host}:{port} ({exc})",
                    "start harrier run there first",
                ) from exc
            time.sleep(_RETRY_S)


def _udp_lines(uri: Uri, timeout_s: float) -> Iterator[bytes]:
    host, port = uri.host_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((host, port))
        except OSError as exc:
            raise PublishError(f"cannot listen on {uri.safe_text} ({exc.strerror})", "choose another port") from exc
        sock.settimeout(timeout_s)
        while True:
            try:
                yield sock.recv(65535)
            except TimeoutError as exc:
                raise _silent(uri, timeout_s) from exc


def _silent(uri: Uri, timeout_s: float) -> SourceTimeoutError:
    return SourceTimeoutError(f"nothing came from {uri.safe_text} for {timeout_s:g} s", "check that the sender runs")
