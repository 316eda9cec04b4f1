"""Fixtures that say why they skip: shared test material, the catalogue; and the option --unit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from slow import SLOW

from edge import catalogue as catalogue_module
from edge.errors import CatalogueError

MODEL_FILES = ("yolox_nano.onnx", "FastestDet.onnx", "mobilenet_v2_1.0_224_quant.tflite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--unit", action="store_true", help="leave out what tests/slow.py names")


def pytest_configure() -> None:
    """Ctrl-C is pressed in tests; a shell has what it starts in the background ignore that, and so all below it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    own = collection_path.relative_to(Path(__file__).parent).as_posix()
    return True if config.getoption("--unit") and own in SLOW else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest goes first, so that no core waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_recipes.py")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared test material; unset means skip, set but incomplete means fail."""
    folder = os.environ.get("HARRIER_SHARED")
    if not folder:
        pytest.skip("HARRIER_SHARED is not set: no shared models and pictures")
    root = Path(folder)
    missing = [name for name in MODEL_FILES if not (root / "models" / name).is_file()]
    missing += [] if (root / "data" / "coco-val80" / "instances.json").is_file() else ["data/coco-val80"]
    if missing:
        pytest.fail(f"HARRIER_SHARED is set, but lacks {', '.join(missing)}")
    return root


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Pull a catalogue entry once (into the user's own cache) and return its folder."""

    def pull(name: str) -> Path:
        try:
            return catalogue_module.pull(name, None)
        except CatalogueError as exc:
            if "cannot reach" in exc.cause or "received nothing" in exc.cause:
                pytest.skip(f"the catalogue cannot be reached: {exc}")
            raise

    return pull
