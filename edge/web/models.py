"""Which models a run could go on with: targets of its bundle, installed models, and those pulled from the catalogue."""

from typing import Any

import msgspec

from edge import catalogue, slots
from edge.config import EngineSection, RunConfig
from edge.errors import ConfigError
from edge.pipeline import Pipeline
from edge.structs import did_you_mean

__all__ = ["check_choice", "choices"]


def choices(pipeline: Pipeline) -> dict[str, Any]:
    """Return what runs and what could; it reads the disk, so from a thread that may wait.

    accuracy: the manifest's own figure for a target, where it has one. notes: such as why targets were passed over.
    """
    model = pipeline.model
    folder = model.path if model.path.is_dir() else model.path.parent
    accuracy = model.manifest.accuracy
    return {
        "model": model.name,
        "reference": pipeline.config.model,
        "target": model.target,
        "notes": model.notes,
        "targets": [
            {
                "name": name,
                "file": target.file,
                "here": (folder / target.file).is_file(),
                "accuracy": value if isinstance(value := accuracy.get(name), int | float) else None,
            }
            for name, target in model.manifest.targets.items()
        ],
        "installed": [
            {"name": name, "versions": slots.versions(name)} for name in _installed() if slots.current(name) is not None
        ],
        "catalogue": _pulled(),
    }


def check_choice(pipeline: Pipeline, model: str | None, target: str | None) -> RunConfig:
    """Return the configuration in which another target or model runs.

    Only what `choices` lists may be named: a request is not to have any file of this machine opened.
    Raises: ConfigError for another name, or for what runs already.
    """
    config, lineup = pipeline.config, pipeline.lineup
    known = [*_installed(), *_pulled()]
    engine = config.engine
    if model is not None and model != config.model:
        if model not in known:
            raise ConfigError(f"there is no installed model '{model}'", did_you_mean(model, known))
        # targets are names of one bundle
        engine = msgspec.structs.replace(engine, target=target, fallback=[])
        return msgspec.structs.replace(config, model=model, labels=None, engine=engine)
    if target is None:
        raise ConfigError("neither another model nor a target is named", 'send {"target": NAME} or {"model": NAME}')
    targets = list(lineup.model.manifest.targets)
    if target not in (*targets, "auto"):
        raise ConfigError(f"the bundle has no target '{target}'", did_you_mean(target, [*targets, "auto"]))
    if target == lineup.members[0].target and target == lineup.active.target:
        raise ConfigError(f"target '{target}' runs already", "choose another one")
    return msgspec.structs.replace(config, engine=_with_target(engine, target))


def _with_target(engine: EngineSection, target: str) -> EngineSection:
    fallback = [name for name in engine.fallback if name != target]
    return msgspec.structs.replace(engine, target=target, fallback=fallback)


def _installed() -> list[str]:
    folder = catalogue.home() / "installed"
    return sorted(path.name for path in folder.glob("*") if slots.current(path.name) is not None)


def _pulled() -> list[str]:
    return [name for name, entry in sorted(catalogue.entries().items()) if entry.kind == "model" and _is_here(name)]


def _is_here(name: str) -> bool:
    return catalogue.installed(name) is not None
