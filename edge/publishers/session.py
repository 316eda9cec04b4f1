"""One reader's side of a conversation, without a socket: what it may have, what it asks, what goes to it now.

The transport (TCP, Unix, WebSocket) brings whole messages in and takes whole payloads out; all calls come from its
one thread. A publisher makes one `Channel` and, for each reader that connects, `Channel.open()`:

    item = channel.put(message)                        # once a message
    for session in list(channel.sessions.values()):    # then for each reader
        session.put(item)
        ... while (payload := session.take()) is not None: write it; no take() while one is still being written
    session.put_back()         # what was taken last, if nothing of it could be written: a newer one may replace it
    session.receive(payload)   # what the reader sent; then take() again: there may be an answer
    session.due_ns             # call take() again at this time (clock ns), whatever happens; None: no need
    session.ended              # look after take() and receive(): why to hang up, or ""; then channel.close(session)
"""

import hmac
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.errors import WireError
from edge.publishers.access import ListenOptions
from edge.publishers.item import Item
from edge.publishers.outbox import Outbox
from edge.wire import decoder, jsonl
from edge.wire.messages import (
    KEPT_KINDS,
    RESULT_KINDS,
    ClockMessage,
    ControlMessage,
    CreditMessage,
    HelloMessage,
    Message,
)

__all__ = ["Channel", "ClientCounts", "Session"]

_TOKEN_WITHIN_NS = 2_000_000_000
_LEAST_RATE_HZ = 0.001
_MOST_CREDITS = 65535
_MOST_QUESTIONS = 8


class ClientCounts(msgspec.Struct, frozen=True):
    """A reader, the messages handed to its connection, and the results it missed because newer ones came."""

    address: str
    sent: int
    dropped: int


class Channel:
    """What one publisher tells all its readers, and what they have in common.

    encode: from a message to what the transport writes, framing included. clock: monotonic ns.
    sent and dropped are sums over all readers there ever were. command: "start" or "stop" when a reader that may do
    so asked for it; the publisher takes it. refused counts CONTROL messages that were not allowed.
    """

    def __init__(
        self, options: ListenOptions, encode: Callable[[Message], bytes], clock: Callable[[], int] = monotonic_ns
    ) -> None:
        self.options = options
        self.encode = encode
        self.clock = clock
        self.sessions: dict[int, Session] = {}
        self.sent = 0
        self.dropped = 0
        self.refused = 0
        self.command: Literal["", "start", "stop"] = ""
        self._greeting: dict[tuple[str, int], Item] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether as many readers are connected as may be."""
        return len(self.sessions) >= self.options.max_clients

    @property
    def clients(self) -> list[ClientCounts]:
        """The readers connected now; may be asked from any thread."""
        return [ClientCounts(s.address, s.sent, s.dropped) for s in list(self.sessions.values())]

    def put(self, message: Message) -> Item:
        """Return the message as the sessions take it; kept kinds are also told to whoever connects later."""
        item = Item(message, self.encode, self.clock)
        if message.kind in KEPT_KINDS:
            # whoever comes is told HELLO and LABELS of the model there is now, not of one before it
            if message.kind == "hello":
                self._greeting = {key: old for key, old in self._greeting.items() if key[0] == "status"}
            self._greeting[message.kind, getattr(message, "first", 0)] = item
        return item

    def open(self, address: str) -> "Session":
        """Return the session of a reader that has just connected, with what it is told first waiting in it."""
        self._count += 1
        session = self.sessions[self._count] = Session(self, self._count, address)
        for item in sorted(self._greeting.values(), key=lambda item: item.kind == "status"):  # names come first
            session.put(item)
        return session

    def close(self, session: "Session") -> None:
        """Forget a reader that is gone; calling it twice is allowed."""
        self.sessions.pop(session.number, None)

    def missed(self, results: int) -> None:
        """Count results that were replaced before any reader could have them."""
        for session in self.sessions.values():
            session.dropped += results
        self.dropped += results * len(self.sessions)


class Session:
    """One reader: see the module's text for how it is used, and `Channel.open` for how to have one.

    ended: why to hang up, or "". sent, dropped: see ClientCounts. credits: None until the reader speaks of them.
    trusted: it has shown its token, or needs none.
    """

    def __init__(self, channel: Channel, number: int, address: str) -> None:
        self.number = number
        self.address = address
        self.sent = 0
        self.dropped = 0
        self.ended = ""
        self.credits: int | None = None
        self._channel = channel
        self._outbox: Outbox[Item] = Outbox()
        self._taken: Item | tuple[int, int] | None = None
        self._plain = True  # neither credits nor a rate
        self._questions: deque[tuple[int, int]] = deque(maxlen=_MOST_QUESTIONS)
        self._kinds: frozenset[str] = frozenset()
        self._class_ids: frozenset[int] = frozenset()
        self._period_ns = 0
        self._next_result_ns = 0
        now = channel.clock()
        self.trusted = not channel.options.token
        self._token_by_ns = now + _TOKEN_WITHIN_NS
        self._allowance = float(channel.options.max_messages_hz)  # a leaky bucket that holds one second's worth
        self._allowance_ns = now

    @property
    def pending(self) -> bool:
        """Whether `take` would give something now."""
        return bool(self._questions) or (self.trusted and self._outbox.has(self._may_have_result()))

    @property
    def due_ns(self) -> int | None:
        """When `take` is to be called even if nothing happens: at the end of patience, or when a result may go."""
        if not self.trusted:
            return self._token_by_ns
        if self._period_ns and self.credits != 0 and self._outbox:
            return self._next_result_ns
        return None

    def put(self, item: Item) -> None:
        """Let a message wait for this reader, in place of an older one of its kind."""
        if (self._kinds and item.kind not in self._kinds) or not item.concerns(self._class_ids):
            return
        before = self._outbox.dropped
        self._outbox.put(item.kind, item)
        if self._outbox.dropped != before:
            self._drop(self._outbox.dropped - before)

    def take(self) -> bytes | None:
        """Return what goes to this reader next, or None while there is nothing or it may not have it yet."""
        if self._questions:
            self._taken = self._questions.popleft()
            self._count(1)
            return self._answer(*self._taken)
        if not self.trusted:
            if self._channel.clock() >= self._token_by_ns:
                self.ended = self.ended or "it gave no token in time"
            return None
        if not self._outbox:
            return None
        while (taken := self._outbox.take(self._may_have_result())) is not None:
            kind, item = taken
            payload = item.payload(self._class_ids)
            if not payload:  # too large for its format
                self._drop(1)
                continue
            self._taken = item
            if kind in RESULT_KINDS and not self._plain:
                self._spend()
            self._count(1)
            return payload
        return None

    def put_back(self) -> None:
        """Undo the last `take`, of which nothing was written; call it before anything else is put."""
        taken, self._taken = self._taken, None
        if isinstance(taken, Item):
            self._outbox.put_back(taken.kind, taken)
            if taken.kind in RESULT_KINDS and not self._plain:
                self.credits = None if self.credits is None else self.credits + 1
                self._next_result_ns -= self._period_ns
        elif taken:
            self._questions.appendleft(taken)
        self._count(-1 if taken else 0)

    def receive(self, payload: bytes) -> None:
        """Take one message of the reader, JSON or binary without framing; sets `ended` for what no reader should send.

        An answer, if there is one, is what `take` returns next.
        """
        if self.ended or not self.allow(1):
            return
        if len(payload) > self._channel.options.max_message_bytes:
            self.ended = f"it sent a message of more than {self._channel.options.max_message_bytes} bytes"
            return
        try:
            message = jsonl.decode(payload) if payload[:1] == b"{" else decoder.decode(payload)
            self._obey(message)
        except WireError as exc:
            self.ended = f"it sent what is no message: {exc.cause}"

    def allow(self, messages: int) -> bool:
        """Count something that costs as much as so many messages; sets `ended` when the reader sends too much."""
        now, most = self._channel.clock(), self._channel.options.max_messages_hz
        self._allowance = min(most, self._allowance + (now - self._allowance_ns) * most / 1e9) - messages
        self._allowance_ns = now
        if self._allowance < 0:
            self.ended = self.ended or f"it sent more than {most} messages a second"
        return not self.ended

    def _obey(self, message: Message) -> None:
        """Do what a reader's message asks. Raises: WireError for a number that cannot be meant."""
        if isinstance(message, HelloMessage):
            self._check_token(message.token)
        elif not self.trusted:
            return
        elif isinstance(message, ClockMessage):
            if not 0 <= message.t_request_ns < 1 << 64:
                raise WireError(f"a time of {message.t_request_ns} ns", "send Unix ns")
            if not message.reply:
                self._questions.append((message.t_request_ns, self._unix_ns()))
        elif isinstance(message, CreditMessage):
            if message.results < 0:
                raise WireError(f"a credit of {message.results} results", "send 1 or more")
            self._plain = False
            self.credits = min((self.credits or 0) + message.results, _MOST_CREDITS)
        elif isinstance(message, ControlMessage):
            self._control(message)

    def _check_token(self, token: str) -> None:
        wanted = self._channel.options.token
        if not self.trusted:
            self.trusted = hmac.compare_digest(token.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))
            if not self.trusted:
                self.ended = "its token is wrong"

    def _control(self, message: ControlMessage) -> None:
        allowed = self._channel.options.control
        self._channel.refused += allowed not in ("view", "all") or (message.command != "" and allowed != "all")
        if allowed not in ("view", "all"):
            return
        self._kinds = frozenset(message.kinds)
        self._class_ids = frozenset(message.class_ids)
        self._period_ns = int(1e9 / max(message.max_rate_hz, _LEAST_RATE_HZ)) if message.max_rate_hz > 0 else 0
        self._next_result_ns = 0
        self._plain = self.credits is None and not self._period_ns
        waiting, self._outbox = self._outbox, Outbox()
        while (taken := waiting.take()) is not None:
            self.put(taken[1])
        if message.command and allowed == "all":
            self._channel.command = message.command

    def _may_have_result(self) -> bool:
        if self._plain:
            return True
        return self.credits != 0 and (not self._period_ns or self._channel.clock() >= self._next_result_ns)

    def _spend(self) -> None:
        if self.credits is not None:
            self.credits -= 1
        if self._period_ns:
            # from the time it was due, so that 10 Hz of 30 stay 10 Hz; a reader that was away does not catch up
            now, due = self._channel.clock(), self._next_result_ns + self._period_ns
            self._next_result_ns = due if due > now else now + self._period_ns

    def _answer(self, t_request_ns: int, t_receive_ns: int) -> bytes:
        now = self._unix_ns()
        reply = ClockMessage(reply=True, t_request_ns=t_request_ns, t_receive_ns=t_receive_ns, t_reply_ns=now)
        return self._channel.encode(reply)

    def _unix_ns(self) -> int:
        return unix_ns_from_monotonic_ns(self._channel.clock())

    def _count(self, messages: int) -> None:
        self.sent += messages
        self._channel.sent += messages

    def _drop(self, results: int) -> None:
        self.dropped += results
        self._channel.dropped += results
