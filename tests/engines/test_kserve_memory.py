"""Shared memory for a server on this machine: placed, seen by others, and cleared after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.engines.kserve_memory import Region, is_this_machine, left_behind
from edge.tensor import TensorSpec

SPECS = [TensorSpec("a", (1, 3), np.dtype(np.uint8)), TensorSpec("b", (2, 2), np.dtype(np.float32))]

if not Path("/dev/shm").is_dir():
    pytest.skip("there is no /dev/shm", allow_module_level=True)


def test_a_region_is_a_file_that_others_see():
    region = Region(SPECS)
    path = Path("/dev/shm") / region.name
    assert region.offsets == [0, 64]
    assert region.nbytes == path.stat().st_size == 128
    assert path.stat().st_mode & 0o777 == 0o600
    region.arrays[0][...] = 7
    region.arrays[1][...] = [[1, 2], [3, 4]]
    there = path.read_bytes()
    assert there[:3] == b"\x07\x07\x07"
    assert np.frombuffer(there, np.float32, 4, 64).tolist() == [1, 2, 3, 4]
    for array in region.arrays:
        assert array.flags.writeable
        assert array.flags.c_contiguous
    region.close()
    region.close()
    assert not path.exists()
    assert region.arrays[0].tolist() == [[7, 7, 7]], "the memory lasts as long as its views"


def test_too_little_memory_is_an_error_and_leaves_nothing():
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(OSError):
        Region([TensorSpec("huge", (1 << 50,), np.dtype(np.uint8))])
    own = {name for name in set(os.listdir("/dev/shm")) - before if name.startswith(f"harrier-kserve-{os.getpid()}-")}
    assert own == set()


def test_what_a_killed_process_left_is_taken_away_and_nothing_else():
    mine = Region(SPECS)
    code = (
        "import numpy as np, time\n"
        "from edge.engines.kserve_memory import Region\n"
        "from edge.tensor import TensorSpec\n"
        "region = Region([TensorSpec('a', (4,), np.dtype(np.uint8))])\n"
        "print(region.name, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        name = child.stdout.readline().strip()
        assert name.startswith("harrier-kserve-")
        assert name not in left_behind()
        assert (Path("/dev/shm") / name).exists()
        child.send_signal(signal.SIGKILL)
    left_behind()  # here, or in another test at the same time
    assert not (Path("/dev/shm") / name).exists()
    assert (Path("/dev/shm") / mine.name).exists()
    mine.close()


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("127.9.9.9", True),
        ("192.0.2.1", False),
        ("no.such.host.invalid", False),
    ],
)
def test_this_machine_is_known_by_its_addresses(host, own):
    assert is_this_machine(host) == own
