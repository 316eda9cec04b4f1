"""Disks that are full, come back, are read-only; and a home that cannot be written."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_runs import PATIENCE_S, Camera, Reader, Run, null_bundle, running, wait_for

from edge.wire.jsonl import decode

CONFIG = 'model = "{model}"\nsource = "{source}"\npublish = {publish}\n'


def mounted(place: Path, size: str) -> bool:
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path, request) -> Iterator[Path]:
    """A disk of 4 MB, or of another size."""
    if not mounted(tmp_path / "disk", getattr(request, "param", "4m")):
        pytest.skip("mounting a small disk needs root")
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


def fill(place: Path) -> Path:
    """Leave no byte free."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65536, 4096, 64, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def config_of(folder: Path, publish: list[str], model: str = "") -> str:
    model = model or str(null_bundle(folder / "bundle"))
    return CONFIG.format(model=model, source=Camera(folder).uri(), publish=json.dumps(["tcp://127.0.0.1:0", *publish]))


def numbers_in(path: Path) -> list[int]:
    """Of the results in a file of lines, all of which must be whole but one that a full disk cut."""
    found, torn = [], 0
    for line in path.read_bytes().splitlines():
        try:
            message = decode(line)
        except Exception:
            torn += 1
            continue
        if message.kind == "classification":
            found.append(message.seq)
    assert torn <= 1
    return found


def has_mcap() -> bool:
    try:
        import foxglove_schemas_protobuf  # noqa: F401
        import mcap  # noqa: F401
    except ImportError:
        return False
    return True


def test_a_full_disk_costs_the_lines_of_that_time(tmp_path, disk, measured):
    """Promise: readers are served as before, it is told once, what was written stays readable, and writing goes on by

    itself when there is room. Lost are the lines of the time without room, of which one is torn; a recording loses
    nothing that its memory holds.
    """
    results, recordings = disk / "results.jsonl", disk / "recordings"
    publish = [f"file://{results}"]
    if has_mcap():
        publish.append(f"mcap://{recordings}?pictures=none&min_free_mb=0&total_mb=0&flush_s=0.1&sync=off")
    said = "No space left on device"
    with running(tmp_path, config_of(tmp_path, publish)) as run, Reader(run.address) as reader:
        wait_for(lambda: results.exists() and len(numbers_in(results)) > 20, "lines")
        filler = fill(disk)
        run.says(said, len(publish))
        before = len(numbers_in(results))
        served = [message.seq for _, message in reader.results(0.5)]
        assert len(served) > 10
        told = run.log.count(said)
        filler.unlink()
        recovery_s = wait_for(lambda: len(numbers_in(results)) > before + 5, "new lines")
        run.says("works again", len(publish))
        measured(recovery_s=recovery_s, told=told)
        assert told <= 2 * len(publish)
    numbers = numbers_in(results)
    assert numbers == sorted(set(numbers))
    if has_mcap():
        recorded = recorded_in(recordings)
        assert recorded == sorted(set(recorded))
        assert not set(numbers + served) - set(recorded), "what came while the disk was full waited in memory"


def recorded_in(folder: Path, schema: str = "harrier.Classification") -> list[int]:
    from edge.recording import Recording

    files = [path for path in sorted(folder.glob("*.mcap")) if path.stat().st_size]  # one may just have been made
    return [one.sequence for path in files for one in Recording(path) if one.schema == schema]


@pytest.mark.parametrize("disk", ["16m"], indirect=True)
@pytest.mark.skipif(not has_mcap(), reason="the record extra is not installed")
def test_a_disk_that_fills_as_a_file_rotates_costs_nothing_that_memory_holds(tmp_path, disk):
    """Promise: files end and begin when there is room again, and no message is lost between them.

    More waits for each look at the disk than a file takes, so that the first thing without room is a file's end.
    """
    recordings, figures = disk / "recordings", tmp_path / "stats.json"
    options = "pictures=png&max_mb=1&total_mb=0&min_free_mb=0&flush_s=2&sync=off"
    config = config_of(tmp_path, [f"mcap://{recordings}?{options}"])
    with running(tmp_path, config, arguments=["--stats", str(figures)]) as run:
        wait_for(lambda: recorded_in(recordings), "records")
        filler = fill(disk)
        run.says("No space left on device")
        filler.unlink()
        wait_for(lambda: len(list(recordings.glob("*.mcap"))) > 1, "a second file")
    results, pictures = recorded_in(recordings), recorded_in(recordings, "foxglove.CompressedImage")
    assert results == sorted(set(results))
    assert recorded_in(recordings, "foxglove.ImageAnnotations") == results
    publishers = json.loads(figures.read_text())["publishers"]
    dropped = next(one["dropped"] for one in publishers if one["address"] == str(recordings))
    assert len(pictures) + dropped == len(results), "each result has its picture but those that were too many at once"


@pytest.fixture
def failing_disk(tmp_path) -> Iterator[Path]:
    """An ext4 of 8 MB in a file."""
    image, place = tmp_path / "image", tmp_path / "failing"
    image.write_bytes(bytes(8_000_000))
    place.mkdir()
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("a disk that fails needs root and mkfs.ext4")
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True).returncode == 0
    if not made or subprocess.run(["mount", "-o", "loop", image, place], capture_output=True).returncode:
        pytest.skip("this machine has no loop devices")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_the_kernel_makes_read_only_costs_what_would_be_written_from_then_on(
    tmp_path, failing_disk, measured
):
    """Promise: readers are served as before, it is told, the run stays; what was written before can be read."""
    results = failing_disk / "results.jsonl"
    publish = [f"file://{results}"]
    if has_mcap():
        publish.append(f"mcap://{failing_disk}/recordings?pictures=none&min_free_mb=0&total_mb=0&flush_s=0.1&sync=on")
    with running(tmp_path, config_of(tmp_path, publish)) as run, Reader(run.address) as reader:
        wait_for(lambda: results.exists() and len(numbers_in(results)) > 20, "lines")
        if has_mcap():
            wait_for(lambda: recorded_in(failing_disk / "recordings")[20:], "records")
        before = len(numbers_in(results))
        begin = time.monotonic()
        subprocess.run(["mount", "-o", "remount,abort", failing_disk], check=True)  # as after an I/O error
        run.says("Read-only file system")
        measured(told_s=time.monotonic() - begin)
        assert len(reader.results(0.5)) > 10
        assert len(numbers_in(results)) >= before
        if has_mcap():
            assert len(recorded_in(failing_disk / "recordings")) > 20


def test_a_disk_that_is_read_only_from_the_start_is_refused_in_one_line(tmp_path, disk):
    """Promise: the start ends with what cannot be written and what to do, not with a traceback."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for publish in (f"file://{disk}/results.jsonl", f"mcap://{disk}/recordings"):
        if publish.startswith("mcap") and not has_mcap():
            continue
        run = Run(tmp_path, config_of(tmp_path / publish[:4], [publish]))
        assert run.process.wait(PATIENCE_S) == 4
        assert run.log.splitlines()[-1].startswith(("harrier: cannot write ", "harrier: cannot make the folder "))
        assert "Traceback" not in run.log


def test_models_on_a_read_only_disk_run_and_are_not_updated(tmp_path, disk, measured):
    """Promise: an installed model runs from a home that cannot be written; installing says so in one line."""
    home = {"HARRIER_HOME": str(disk)}
    for fill_, code in ((0.5, 0), (0.6, 0)):
        bundle = null_bundle(tmp_path / f"bundle-{fill_}", fill_)
        assert install(bundle, home).returncode == code
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    refused = install(null_bundle(tmp_path / "bundle-0.7", 0.7), home)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"harrier: cannot install into {disk}/installed/front (Read-only")
    config = config_of(tmp_path, [], "front") + "[update]\nwatch_s = 0.3\n"
    with running(tmp_path, config, **home) as run, Reader(run.address) as reader:
        reader.result(lambda message: message.classes[0].score > 0.59)
        run.says("update: it cannot be noted that front has proved itself (Read-only file system)")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert install(tmp_path / "bundle-0.7", home).returncode == 0
        reader.result(lambda message: message.classes[0].score > 0.69)


def install(bundle: Path, home: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "edge", "model", "install", str(bundle)]
    return subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True)


def test_figures_that_cannot_be_written_at_the_end_are_told(tmp_path, disk):
    """Promise: --stats on a full disk ends in one line and exit code 2, after all readers were told that it is over."""
    fill(disk)
    run = Run(tmp_path, config_of(tmp_path, []), ["--frames", "20", "--stats", str(disk / "stats.json")])
    assert run.process.wait(PATIENCE_S) == 2
    assert "cannot write" in run.log.splitlines()[-1]
    assert "Traceback" not in run.log
    assert not (disk / "stats.json").exists()
