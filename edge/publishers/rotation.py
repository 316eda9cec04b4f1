"""What a stream says of itself, told again and again to readers that nobody sees come: one message at a time."""

from edge.wire.messages import HelloMessage, LabelsMessage

__all__ = ["Rotation"]

_PERIOD_S = 1.0  # between repetitions
_PATIENCE_S = 5.0  # the same while there is always something newer to send
_NEWS_PATIENCE_S = 0.1  # what was not told yet waits no longer than this


class Rotation:
    """HELLO and LABELS in turn: each once as soon as there is time, then about one a second. Not locked."""

    def __init__(self) -> None:
        self._messages: dict[int, HelloMessage | LabelsMessage] = {}  # by first class id; HELLO is -1
        self._untold: list[int] = []
        self._turn = 0
        self._t_told = float("-inf")

    def put(self, message: HelloMessage | LabelsMessage) -> None:
        """Take a message in place of the one it replaces; one that says nothing new changes nothing."""
        key = message.first if isinstance(message, LabelsMessage) else -1
        if self._messages.get(key) == message:
            return
        hello = self._messages.get(-1)
        if isinstance(message, HelloMessage) and hello is not None and hello.model_id != message.model_id:
            self._messages.clear()  # the labels of another model
            self._untold.clear()
        self._messages[key] = message
        if key not in self._untold:
            self._untold.append(key)
            self._untold.sort()

    def restart(self) -> None:
        """Count all as not told yet: there may be somebody else now."""
        self._untold = sorted(self._messages)

    def wait_s(self, now_s: float, idle: bool) -> float:
        """Return how long after now_s (CLOCK_MONOTONIC) the next message is due, infinity when there is none.

        idle: whether nothing newer has to wait for it.
        """
        if not self._messages:
            return float("inf")
        idle_s, busy_s = (0.0, _NEWS_PATIENCE_S) if self._untold else (_PERIOD_S, _PATIENCE_S)
        return max(0.0, self._t_told + (idle_s if idle else busy_s) - now_s)

    def take(self, now_s: float) -> HelloMessage | LabelsMessage:
        """Return the message whose turn it is; only where wait_s() is finite."""
        self._t_told = now_s
        if self._untold:
            return self._messages[self._untold.pop(0)]
        keys = sorted(self._messages)
        self._turn = (self._turn + 1) % len(keys)
        return self._messages[keys[self._turn]]
