"""What made a run's results beside its model, as a recording carries it: thresholds, tracking and regions.

Source, publishers, page and camera file are no part of it: they are of one machine, and may hold passwords.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from edge.config import RunConfig, Thresholds, TrackingSection
from edge.errors import ConfigError
from edge.geometry_config import RegionSection
from edge.manifest import DecoderSection
from edge.structs import as_struct, toml_tables
from edge.toml_text import toml_text

__all__ = ["METADATA", "RunSettings", "metadata_of", "settings_from", "settings_in_force"]

METADATA = "harrier.settings"
"""The name of the record in a recording."""

_FORMAT = "1"
_WHERE = "harrier.settings in the recording"


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings in force, none of the thresholds open.

    of_model: the thresholds that no configuration gave, so that they are the model's own. fits: how often decoding,
    tracking and regions were made anew in this run; tracks began anew with it.
    """

    model: str
    target: str
    thresholds: Thresholds
    of_model: tuple[str, ...] = ()
    tracking: TrackingSection | None = None
    region: list[RegionSection] = []
    fits: int = 0

    @property
    def tables(self) -> dict[str, Any]:
        """[thresholds], [tracking] and [[region]], as in a configuration."""
        found: dict[str, Any] = {"thresholds": _table(self.thresholds)}
        if self.tracking:
            found["tracking"] = _table(self.tracking)
        if self.region:
            found["region"] = [_table(region) for region in self.region]
        return found


def settings_in_force(
    config: RunConfig, decoder: DecoderSection, model: str = "", target: str = "", fits: int = 0
) -> RunSettings:
    """Return what a configuration means for a model with this section in its manifest."""
    own = {"score": decoder.score_threshold, "iou": decoder.iou_threshold, "nms": decoder.nms}
    of_model = tuple(name for name in own if getattr(config.thresholds, name) is None)
    return RunSettings(
        model=model,
        target=target.partition("://")[0],  # of a server, whose address is nobody's business
        thresholds=msgspec.structs.replace(config.thresholds, **{name: own[name] for name in of_model}),
        of_model=of_model,
        tracking=config.tracking,
        region=config.region,
        fits=fits,
    )


def metadata_of(settings: RunSettings) -> dict[str, str]:
    """Return the values of the record: `settings` is TOML that a configuration may hold."""
    return {
        "format": _FORMAT,
        "model": settings.model,
        "target": settings.target,
        "of_model": " ".join(settings.of_model),
        "fits": str(settings.fits),
        "settings": toml_text(settings.tables),
    }


def settings_from(metadata: Mapping[str, str]) -> RunSettings:
    """Return what `metadata_of` was given.

    Raises: ConfigError for values that are none, or of another version.
    """
    found = metadata.get("format", "")
    if found != _FORMAT:
        raise ConfigError(f"{_WHERE} is of format '{found}', this version knows {_FORMAT}", "update Harrier")
    tables = toml_tables(metadata.get("settings", ""), _WHERE)
    values = {name: metadata.get(name, "") for name in ("model", "target")}
    of_model, fits = metadata.get("of_model", "").split(), metadata.get("fits", "0")
    return as_struct({**tables, **values, "of_model": of_model, "fits": fits}, RunSettings, _WHERE, strict=False)


def _table(section: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(section).items() if value is not None}
