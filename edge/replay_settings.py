"""The settings a recording carries: read beside its messages, taken for a comparison, and held against others."""

from collections.abc import Iterator
from typing import Any

import msgspec

from edge.config import RunConfig, Thresholds, TrackingSection
from edge.errors import ConfigError
from edge.recording import Recorded, Recording
from edge.run_settings import METADATA, RunSettings, settings_from

__all__ = ["differences", "settings_text", "with_recorded", "with_settings"]


def with_settings(recording: Recording) -> Iterator[tuple[Recorded, RunSettings | None]]:
    """Yield every message with the settings in force then, the same object while they are the same.

    None: the recording is older than they are, or says what this version cannot read.
    Raises: ConfigError for a file that cannot be read.
    """
    read: dict[str, str] | None = None
    settings: RunSettings | None = None
    for recorded in recording:
        metadata = recording.metadata.get(METADATA)
        if metadata is not read and metadata is not None:
            read = metadata
            try:
                settings = settings_from(metadata)
            except ConfigError:
                settings = None
        yield recorded, settings


def with_recorded(config: RunConfig, settings: RunSettings) -> RunConfig:
    """Return a copy with the recorded settings; a score in config stays, what was the model's own is left to it."""
    taken: dict[str, object] = dict.fromkeys(settings.of_model)
    if config.thresholds.score is not None:
        taken["score"] = config.thresholds.score
    thresholds = msgspec.structs.replace(settings.thresholds, **taken)
    return msgspec.structs.replace(config, thresholds=thresholds, tracking=settings.tracking, region=settings.region)


def differences(then: RunSettings, now: RunSettings) -> str:
    """Return in one line what was recorded with other settings than it is compared with, "" where they are the same."""
    old_parts, new_parts = _parts(then), _parts(now)
    said = []
    for part in {**old_parts, **new_parts}:
        old, new = old_parts.get(part), new_parts.get(part)
        if old is None or new is None:
            said.append(f"{part} {_kind(old)}, compared with {_kind(new)}")
            continue
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                name = f"{part}.{key}" if part else key
                said.append(f"{name} {_text(old.get(key))}, compared with {_text(new.get(key))}")
    return f"recorded with {'; '.join(said)}" if said else ""


def settings_text(settings: RunSettings) -> str:
    """Return in one line what is worth knowing of settings: all that is not as it is by itself."""
    usual = {"": Thresholds(), "tracking": TrackingSection()}
    said = []
    for part, table in _parts(settings).items():
        default = msgspec.to_builtins(usual[part]) if part in usual else table
        values = [
            f"{key} {_text(value)}" + (" (the model's)" if not part and key in settings.of_model else "")
            for key, value in table.items()
            if value != default.get(key)
        ]
        said.append(", ".join([f"{part} {_kind(table)}", *values] if part else values))
    return "; ".join(said)


def _parts(settings: RunSettings) -> dict[str, dict[str, Any]]:
    tables = settings.tables
    regions = {f"region {region['name']}": region for region in tables.pop("region", [])}
    return {"": tables.pop("thresholds"), **tables, **regions}


def _kind(table: dict[str, Any] | None) -> str:
    return str(table.get("tracker") or table.get("kind")) if table else "none"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
