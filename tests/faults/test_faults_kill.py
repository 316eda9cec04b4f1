"""kill -9 of a run and an installation at 200 random moments: what was acknowledged is there, the next start works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

KILLING = Path(__file__).with_name("killing.py")
KILLS = 100  # in each of two processes


@pytest.fixture
def seeds() -> tuple[int, int]:
    return 1, 2


def test_kill_9_at_200_random_moments(tmp_path, seeds, measured):
    """Promise: every acknowledged line and record can be read, models are whole, the next start needs nobody's help."""
    processes = []
    for seed in seeds:
        work = tmp_path / str(seed)
        work.mkdir()
        command = [sys.executable, str(KILLING), str(work), str(seed), str(KILLS)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    rows = []
    for process in processes:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error[-3000:]
        rows += [json.loads(line) for line in out.splitlines()]
    kills = [row for row in rows if "alive_s" in row]
    starts = [seconds for row in rows for seconds in row.get("starts_s", [])]
    assert len(kills) == len(seeds) * KILLS
    writing = [row for row in kills if row["lines"] and row["records"]]
    measured(kills=len(kills), while_writing=len(writing), acknowledged=sum(r["lines"] + r["records"] for r in kills),
             longest_next_start_s=max(starts))  # fmt: skip
    assert len(writing) > len(kills) / 3
