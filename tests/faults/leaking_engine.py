"""An engine of another distribution that keeps 3 MB of every frame for ever; its files are those of the null engine."""

from pathlib import Path

import numpy as np

from edge.engines.null import NullEngine


class LeakingEngine(NullEngine):
    def __init__(self, path, options):
        super().__init__(path, options)
        self._hoard = []

    def run(self):
        self._hoard.append(np.ones(3_000_000, np.uint8))


def install(folder: Path) -> None:
    """Make this module a distribution in a folder, for PYTHONPATH."""
    (folder / "leaking_engine.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    info = folder / "leaking_engine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaking-engine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[edge.engines]\nleaking = leaking_engine:LeakingEngine\n")
