"""The receiving side: `edge.connect` for programs, `edge.listen` for a plain loop, and what `harrier listen` prints."""

import sys
from collections.abc import Iterator, Sequence

from edge.connection import DEFAULT_KINDS, READER_KINDS, Connection
from edge.errors import ConfigError, MissingBackendError, SourceTimeoutError
from edge.links.base import Link
from edge.registry import resolve
from edge.uri import Uri, parse_uri
from edge.wire.jsonl import encode
from edge.wire.messages import (
    ClassificationMessage,
    DetectionRecord,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    LabelsMessage,
    Message,
    RegionMessage,
    ResultMessage,
    StatusMessage,
)

__all__ = ["Connection", "Told", "connect", "line_of", "listen", "print_messages"]

_DID = {"enter": "entered", "leave": "left", "cross": "crossed", "dwell": "stays"}

Told = DetectionsMessage | ClassificationMessage | StatusMessage | RegionMessage


def connect(
    address: str,
    *,
    kinds: Sequence[str] = DEFAULT_KINDS,
    every: bool = False,
    token: str = "",
    credit: bool = False,
    reconnect: bool = True,
    timeout_s: float = 10.0,
) -> Connection:
    """Return a connection to the publisher at a URI such as `tcp://host:port`; it connects in the background.

    kinds: which messages to read (heartbeat, hello and labels can be had too); the rest is used all the same.
    every: all messages in order, however old they get, instead of the newest. token: what the publisher asks for.
    It may stand in the address, too, as it does in the publisher's (?token=).
    credit: ask for one result at a time, for lines that are slower than the results. reconnect: whether to try again
    when nobody answers or the publisher hangs up. timeout_s: a connection silent for so long is given up.
    Raises: ConfigError for a wrong address or kind, MissingBackendError for a transport that is not installed.
    """
    uri = parse_uri(address)
    token = token or uri.query.pop("token", "")
    return Connection(
        _link(uri),
        uri.safe_text,
        kinds=kinds,
        every=every,
        token=token,
        credit=credit,
        reconnect=reconnect,
        timeout_s=timeout_s,
    )


def listen(address: str, timeout_s: float = 10.0, every: bool = False) -> Iterator[Told]:
    """Yield results, changes of state and events of regions until the publisher hangs up; `connect` can do more.

    Whoever is slow gets the newest result and never a backlog, and every change of state and event; every=True yields
    all that arrives instead, however old it gets. Waits for the publisher to come up.
    Raises: SourceTimeoutError when nobody answers or nothing arrives within `timeout_s`, ConfigError for a wrong
    address, WireError where something else than Harrier answers.
    """
    uri = parse_uri(address)
    return _told(_link(uri), uri.safe_text, timeout_s, every)


def _told(link: Link, name: str, timeout_s: float, every: bool) -> Iterator[Told]:
    with Connection(link, name, every=every, reconnect=False, timeout_s=timeout_s) as connection:
        for message in connection:
            if isinstance(message, Told):
                yield message


def _link(uri: Uri) -> Link:
    try:
        made: Link = resolve("links", uri.scheme)(uri)
    except MissingBackendError:
        raise
    except ConfigError as exc:
        if exc.cause.startswith("there is no link"):
            raise ConfigError(f"cannot listen to '{uri.scheme}'", exc.cure) from exc
        raise
    return made


def print_messages(
    address: str,
    count: int | None = None,
    as_json: bool = False,
    timeout_s: float = 10.0,
    all_kinds: bool = False,
    token: str = "",
    reconnect: bool = False,
) -> None:
    """Print messages to standard output, one line each, until `count` of them or the end.

    Raises: SourceTimeoutError when the publisher hung up before `count` messages came.
    """
    received = 0
    kinds = READER_KINDS if all_kinds else DEFAULT_KINDS
    with connect(address, kinds=kinds, token=token, reconnect=reconnect, timeout_s=timeout_s) as connection:
        for message in connection:
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
    flags = f"  [{' '.join(message.flags)}]" if message.flags else ""
    return f"{message.source} #{message.seq}  {_what(message)}{flags}".rstrip()


def _what(message: Message) -> str:
    if isinstance(message, DetectionsMessage | ClassificationMessage):
        records = message.detections if isinstance(message, DetectionsMessage) else message.classes
        expired = "  EXPIRED" if message.expired() else ""
        return f"age {_age(message)}{expired}  {'; '.join(map(_seen, records)) or 'nothing'}"
    if isinstance(message, StatusMessage):
        return "  ".join(word for word in (message.state, message.engine, message.reason) if word)
    if isinstance(message, RegionMessage):
        return _happened(message)
    if isinstance(message, HeartbeatMessage):
        newest = "none yet" if message.newest_age_ms is None else f"{message.newest_age_ms:.0f} ms old"
        return f"heartbeat  {message.state}, newest result {newest}, up {message.uptime_ms / 1000:.1f} s"
    if isinstance(message, HelloMessage):
        size = "x".join(map(str, message.frame))
        return f"hello  {message.software}, model {message.model}, {size} px, time to live {message.ttl_ms} ms"
    if isinstance(message, LabelsMessage):
        return f"labels {message.first} to {message.first + len(message.labels) - 1}  {', '.join(message.labels)}"
    return message.kind


def _happened(message: RegionMessage) -> str:
    parts = [f"{message.region}: {message.label} #{message.track_id} {_DID[message.event]}"]
    if message.direction:
        parts.append(message.direction.replace("_", " "))
    if message.dwell_ms is not None:
        parts.append(f"{'for' if message.event == 'dwell' else 'after'} {message.dwell_ms / 1000:.1f} s")
    parts += ["(lost)"] * message.lost + ([] if message.inside is None else [f"{message.inside} inside"])
    return f"{' '.join(parts)}, age {_age(message)}"


def _age(message: ResultMessage | RegionMessage) -> str:
    """Age at this moment: with its error where the clocks were compared, else the least it can be."""
    age = f"{message.age_now_ms():.1f} ms"
    if message.clock_error_ms is not None:
        return f"{age} ±{message.clock_error_ms:.1f}"
    placed = message.t_event_local_ns if isinstance(message, RegionMessage) else message.t_capture_local_ns
    return age if placed is None else f"{age} or more"


def _seen(record: DetectionRecord) -> str:
    where = "" if record.box is None else " at " + ",".join(f"{v:.0f}" for v in record.box)
    track = "" if record.track_id is None else f" #{record.track_id}"
    distance = "" if record.range_m is None else f" {record.range_m:.2f} m"
    return f"{record.label}{track} {record.score:.2f}{where}{distance}"
