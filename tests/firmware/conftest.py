"""The C library built for the host, once a session."""

import ctypes
from collections.abc import Callable

import pytest
from controller import FIRMWARE, HERE, STRICT, Controller, build, tool


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Controller]:
    """Buffer size in bytes -> the library built for it, with every undefined behaviour fatal."""
    made: dict[int, Controller] = {}
    folder = tmp_path_factory.mktemp("libharrier")

    def of(buffer_bytes: int) -> Controller:
        if buffer_bytes not in made:
            path = folder / f"libharrier-{buffer_bytes}.so"
            checked = ("-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-shared", "-fPIC")
            sources = (FIRMWARE / "harrier.c", HERE / "harness.c")
            size = f"-DHARRIER_BUFFER_BYTES={buffer_bytes}"
            build(tool("gcc", "gcc"), *STRICT, *checked, size, "-I", FIRMWARE, *sources, "-o", path)
            made[buffer_bytes] = Controller(ctypes.CDLL(str(path)))
        made[buffer_bytes].restart()
        return made[buffer_bytes]

    return of


@pytest.fixture
def big(libraries: Callable[[int], Controller]) -> Controller:
    """With room for every message there is, like the reader in Python."""
    return libraries(8192)


@pytest.fixture
def small(libraries: Callable[[int], Controller]) -> Controller:
    """With the buffers a controller has."""
    return libraries(256)
