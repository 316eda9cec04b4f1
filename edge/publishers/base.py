"""The contract every publisher keeps."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from edge.frame import Frame
from edge.registry import resolve
from edge.run_settings import RunSettings
from edge.timings import StageTimings
from edge.uri import Uri
from edge.wire.messages import ClassificationMessage, DetectionsMessage, Message

__all__ = ["Publisher", "PublisherBase", "PublisherOptions", "Viewer", "options_of"]

Options = TypeVar("Options", bound="PublisherOptions")


class PublisherOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options every publisher takes: the wire format, by its name in the registry; "" for the publisher's own."""

    format: str = ""


def options_of(uri: Uri, options: type[Options]) -> Options:
    """Return the URI's options.

    Raises: ConfigError for an unknown option, a wrong value, or a format that does not exist.
    """
    found = uri.options(options)
    if found.format:
        resolve("formats", found.format)
    return found


class Viewer(Protocol):
    """Is shown the picture behind a result. wants_frames: whether now; looked at after every result."""

    wants_frames: bool

    def show(self, frame: Frame, message: DetectionsMessage | ClassificationMessage) -> None:
        """Take the picture behind a result that was just sent; returns at once and never raises.

        The frame is the source's and only lent for this call: who keeps it copies it.
        """


class Publisher(Viewer, Protocol):
    """Brings messages to its readers: every change of state, and the newest of everything else.

    Built from a Uri; raises PublishError when it cannot start (port in use, unwritable file), and whatever
    `check` raises. It encodes when it sends, with `restamped`, so that ages are those of sending.
    address: where readers find it, with the real port where port 0 was asked for. format: what it encodes with.
    sent and dropped count messages (per reader where there are several). failure: what is wrong just now, or "";
    a publisher goes on trying. reader_gone: the only reader it will ever have has hung up (a closed pipe).
    command: "start" or "stop" where a reader that may do so asked for it; the loop takes it and sets "" again.
    timings: the loop's stage times, None where there is no loop. settings: gives those in force, the same object while
    they are the same, None where nobody says; for the loop's thread.
    """

    address: str
    format: str
    sent: int
    dropped: int
    failure: str
    reader_gone: bool
    command: str
    timings: StageTimings | None
    settings: Callable[[], RunSettings] | None

    @staticmethod
    def check(uri: Uri) -> None:
        """Raise the ConfigError that a wrong URI deserves, without starting anything."""

    def send(self, message: Message) -> None:
        """Hand over one message; returns at once and never raises, whatever the readers do.

        HELLO and LABELS are also what a reader that comes later is told first, with the last STATUS. A publisher
        passes over kinds that its readers have no use for. Messages are shared: nobody changes one.
        """

    def trigger(self, reason: str) -> None:
        """Keep what was seen around now; does nothing where nothing is recorded. From any thread, as `record`."""

    def record(self, on: bool) -> None:
        """Begin or end to record all that is seen; does nothing where nothing is recorded."""

    def close(self, drain_s: float = 0.5) -> None:
        """Give readers up to `drain_s` to take what is pending, then stop; calling it twice is allowed."""


class PublisherBase:
    """What all publishers have: the attributes of the contract, and the encoder of their format.

    Raises: ConfigError for a format that does not exist.
    """

    def __init__(self, address: str, format: str) -> None:
        self.address = address
        self.format = format
        self.encode = resolve("formats", format)
        self.sent = 0
        self.dropped = 0
        self.failure = ""
        self.reader_gone = False
        self.command = ""
        self.wants_frames = False
        self.timings: StageTimings | None = None
        self.settings: Callable[[], RunSettings] | None = None

    def show(self, frame: Frame, message: DetectionsMessage | ClassificationMessage) -> None:
        """Take the picture behind a result; what never sets wants_frames is never asked."""

    def trigger(self, reason: str) -> None:
        """Keep what was seen around now: nothing is recorded here."""

    def record(self, on: bool) -> None:
        """Begin or end to record: nothing is recorded here."""
