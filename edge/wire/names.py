"""What numbers of the binary format stand for, as HELLO and LABELS have told it."""

from edge.wire.messages import HelloMessage, LabelsMessage, Message

__all__ = ["Names"]

_MOST = 64  # sources or models; who speaks of more is not a Harrier


class Names:
    """Names of the sources, models and classes heard of on one connection; numbers while they are not known."""

    def __init__(self) -> None:
        self._sources: dict[int, str] = {}
        self._models: dict[int, str] = {}
        self._labels: dict[int, dict[int, str]] = {}

    def source(self, source_id: int) -> str:
        """Return the source's name."""
        return self._sources.get(source_id) or f"source-{source_id:04x}"

    def model(self, model_id: int) -> str:
        """Return the model's name."""
        return self._models.get(model_id) or f"model-{model_id:08x}"

    def labels(self, model_id: int) -> dict[int, str]:
        """Return what is known of a model's classes, class id to name."""
        return self._labels.get(model_id) or {}

    def learn(self, message: Message, source_id: int) -> None:
        """Take what a HELLO or LABELS tells; other messages tell nothing."""
        if isinstance(message, HelloMessage) and len(self._sources) < _MOST:
            self._sources[source_id] = message.source
            if len(self._models) < _MOST:
                self._models[message.model_id] = message.model
        elif isinstance(message, LabelsMessage) and (message.model_id in self._labels or len(self._labels) < _MOST):
            known = self._labels.setdefault(message.model_id, {})
            known.update(enumerate(message.labels, message.first))
