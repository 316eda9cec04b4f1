"""What is in a recording: its topics, its results and who gave them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, WireError
from edge.recording import Recorded, Recording
from edge.replay_settings import settings_text, with_settings
from edge.run_settings import METADATA, RunSettings, settings_from
from edge.wire import jsonl
from edge.wire.messages import ClassificationMessage, DetectionsMessage, HelloMessage

__all__ = ["Survey", "result_in", "survey", "survey_text"]

_SHOWN = 5  # settings of one recording
_RESULTS = ("harrier.Detections", "harrier.Classification")


@dataclass(slots=True)
class Survey:
    """topics: messages by (topic, schema). models: results by model name. least_score: of what was detected, else 1.

    gaps: numbers missing between two results, so frames that were dropped. tracked: whether anything has a track.
    settings: those in force, each with the results it made, as they followed each other; None where none is known.
    unread: why settings that are there cannot be read.
    """

    path: Path
    topics: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    results: int = 0
    gaps: int = 0
    least_score: float = 1.0
    tracked: bool = False
    duration_s: float = 0.0
    cut: str = ""
    damaged: int = 0
    settings: list[tuple[RunSettings | None, int]] = field(default_factory=list)
    unread: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "recording": str(self.path),
            "duration_s": round(self.duration_s, 3),
            "topics": [{"topic": t, "schema": s, "messages": n} for (t, s), n in sorted(self.topics.items())],
            "models": dict(self.models),
            "results": self.results,
            "dropped_frames": self.gaps,
            "cut": self.cut,
            "damaged_chunks": self.damaged,
            "settings": [
                {"results": count, "model": one.model, "target": one.target, **one.tables}
                for one, count in self.settings
                if one
            ],
        }


def result_in(recorded: Recorded) -> DetectionsMessage | ClassificationMessage | HelloMessage | None:
    """Return the result or greeting that a message of a recording holds, None where it is another one."""
    if recorded.schema not in (*_RESULTS, "harrier.Hello"):
        return None
    try:
        message = jsonl.decode(recorded.data)
    except WireError:  # of another version; it is counted as one without a result
        return None
    return message if isinstance(message, DetectionsMessage | ClassificationMessage | HelloMessage) else None


def survey(path: Path) -> Survey:
    """Return what is in a recording.

    Raises: ConfigError for a file that cannot be read or is no recording.
    """
    found = Survey(path)
    recording = Recording(path)
    first_ns = last_ns = 0
    seq: int | None = None
    for recorded, settings in with_settings(recording):
        found.topics[recorded.topic, recorded.schema] += 1
        first_ns = min(first_ns or recorded.t_log_ns, recorded.t_log_ns)
        last_ns = max(last_ns, recorded.t_log_ns)
        message = result_in(recorded)
        if message is None or isinstance(message, HelloMessage):
            continue
        found.results += 1
        _count(found, settings)
        found.models[message.model] += 1
        found.gaps += max(0, message.seq - seq - 1) if seq is not None else 0
        seq = message.seq
        for record in message.detections if isinstance(message, DetectionsMessage) else ():
            found.tracked |= record.track_id is not None
            if not record.unseen_ms:
                found.least_score = min(found.least_score, record.score)
    found.duration_s = (last_ns - first_ns) / 1e9
    found.cut, found.damaged = recording.cut, recording.damaged
    if any(settings is None for settings, _ in found.settings) and METADATA in recording.metadata:
        try:
            settings_from(recording.metadata[METADATA])
        except ConfigError as exc:
            found.unread = exc.cause
    return found


def _count(found: Survey, settings: RunSettings | None) -> None:
    """Count a result under the settings that made it."""
    before, count = found.settings[-1] if found.settings else (None, 0)
    if count and settings == before:
        found.settings[-1] = before, count + 1
    else:
        found.settings.append((settings, 1))


def survey_text(found: Survey) -> str:
    """Return a survey for people."""
    lines = [f"{found.path}: {found.duration_s:.1f} s"]
    width = max((len(topic) for topic, _ in found.topics), default=0)
    lines += [f"  {topic:<{width}} {count:>8}  {schema}" for (topic, schema), count in sorted(found.topics.items())]
    for model, count in found.models.items():
        lines.append(f"{count} results of {model}, {found.gaps} frames dropped between them")
    known = [(settings, count) for settings, count in found.settings if settings]
    for settings, count in known[:_SHOWN]:
        of = f" of {count} results" if len(found.settings) > 1 else ""
        lines.append(f"settings{of} ({settings.target}): {settings_text(settings)}")
    if len(known) > _SHOWN:
        lines.append(f"and {len(known) - _SHOWN} more settings")
    if found.unread:
        lines.append(found.unread)
    if found.cut:
        lines.append("it has no end, as after a crash: what is listed was whole")
    if found.damaged:
        lines.append(f"{found.damaged} damaged chunks were passed over")
    return "\n".join(lines)
