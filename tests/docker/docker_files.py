"""docker/ as the tests see it: Dockerfiles as instructions, and the scripts that images carry as modules."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker"
DOCKERFILES = sorted(FOLDER.glob("Dockerfile*"))


class Instruction(NamedTuple):
    """One instruction: its word in capitals, and the rest with continued lines joined."""

    word: str
    rest: str


def instructions(path: Path) -> list[Instruction]:
    """Return the instructions of a Dockerfile, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def rests(path: Path, word: str) -> list[str]:
    """Return what follows each instruction of this kind."""
    return [found.rest for found in instructions(path) if found.word == word]


def arguments(path: Path) -> dict[str, str]:
    """Return the ARGs that have a default."""
    return dict(rest.split("=", 1) for rest in rests(path, "ARG") if "=" in rest)


def script(name: str) -> ModuleType:
    """Load docker/NAME.py, which is of no package."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
