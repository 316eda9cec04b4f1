"""What was measured goes to HARRIER_FAULTS_REPORT, a file of JSON lines, where that is set: see docs/reliability.md."""

import json
import os
from collections.abc import Callable

import pytest


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note figures of a test."""

    def note(**figures: object) -> None:
        if path := os.environ.get("HARRIER_FAULTS_REPORT"):
            rounded = {name: round(n, 3) if isinstance(n, float) else n for name, n in figures.items()}
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"test": request.node.name, **rounded}) + "\n")

    return note
