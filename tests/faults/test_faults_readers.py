"""Readers by the thousand, readers that send rubbish, that never read, and more than there are descriptors for."""

import contextlib
import random
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from broken_runs import Camera, Reader, Run, null_bundle, running, wait_for

CONFIG = 'model = "{model}"\nsource = "{source}"\npublish = {publish}\n'
FLOOD_S = 2.0
CALLERS = 4


def config_of(folder: Path, publish: str = '["tcp://127.0.0.1:0"]') -> str:
    return CONFIG.format(model=null_bundle(folder / "bundle"), source=Camera(folder).uri(), publish=publish)


def caller(address: tuple[str, int], seed: int, end_s: float, counts: list[int], period_s: float) -> None:
    """Connect again and again, say nothing, rubbish or half a message, and go, politely or not."""
    own = random.Random(seed)
    next_s = time.monotonic()
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError), socket.create_connection(address, 1) as one:
            counts[0] += 1
            if own.random() < 0.3:  # a reset instead of an end
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            one.sendall(own.randbytes(own.choice([0, 0, 3, 300])))
        next_s = max(next_s + period_s, time.monotonic() - 0.1)
        time.sleep(max(0.0, next_s - time.monotonic()))


def threads_and_fds(run: Run) -> tuple[int, int]:
    process = Path(f"/proc/{run.process.pid}")
    return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))


def test_a_flood_of_callers_disturbs_neither_loop_nor_readers(tmp_path, measured):
    """Promise: no result is lost to a reader that reads, none waits for another; afterwards all is as before."""
    with running(tmp_path, config_of(tmp_path)) as run, Reader(run.address) as reader:
        reader.result()
        host, port = run.address.removeprefix("tcp://").split(":")
        before = threads_and_fds(run)
        silent = [socket.create_connection((host, int(port))) for _ in range(20)]  # never read
        calm = reader.results(0.5)
        counts, end_s = [0], time.monotonic() + FLOOD_S
        callers = [
            threading.Thread(target=caller, args=((host, int(port)), seed, end_s, counts, CALLERS / 1000))
            for seed in range(CALLERS)
        ]
        for one in callers:
            one.start()
        flooded = reader.results(FLOOD_S)
        for one in callers:
            one.join()
        for one in silent:
            one.close()
        wait_for(lambda: threads_and_fds(run) == before, "all descriptors given back")
        healthy_s = time.monotonic()
        reader.result()
        measured(
            calls_per_s=counts[0] / FLOOD_S,
            results_per_s=[round(len(calm) / 0.5, 1), round(len(flooded) / FLOOD_S, 1)],
            recovery_s=time.monotonic() - healthy_s,
        )
        assert counts[0] > 50 * FLOOD_S
        assert len(flooded) > 10 * FLOOD_S
        assert max(message.age_ms for _, message in flooded) < 2000


@pytest.mark.parametrize("scheme", ["tcp", "unix", "ws"])
def test_more_callers_than_descriptors_are_told_and_wait(tmp_path, measured, scheme):
    """Promise: out of descriptors nobody new is served, which is told; those who are there are, and then the others."""
    if scheme == "ws":
        pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra web)")
    publish = {"tcp": "tcp://127.0.0.1:0", "ws": "ws://127.0.0.1:0", "unix": f"unix://{tmp_path}/s"}[scheme]
    config = config_of(tmp_path, f'["{publish}"]')
    if scheme == "ws":  # it keeps none back
        config = re.sub('source = ".*"', 'source = "synthetic://?fps=100&size=64x48"', config)
    with running(tmp_path, config, before=["prlimit", "--nofile=80:80"]) as run:
        run.says("publishing to ")
        address = run.log.partition("publishing to ")[2].split()[0]
        with Reader(address) as reader:
            reader.result()
            held = [call(address) for _ in range(100)]
            run.says("no new reader can connect")
            assert len(reader.results(0.5)) > 10
            if scheme != "ws":  # a camera that is plugged in again finds room
                camera = Camera(tmp_path)
                camera.tell("gone")
                run.says("lost (the camera was unplugged)")
                camera.tell("ok")
                reader.result(lambda message: message.t_capture_local_ns > time.monotonic_ns() - 5e8)
            for one in held:
                one.close()
            begin = time.monotonic()
            with Reader(address) as late:
                late.result()
                measured(recovery_s=time.monotonic() - begin)
            run.says("works again")


def call(address: str) -> socket.socket:
    """Connect and do nothing."""
    where = address.partition("://")[2].rstrip("/")
    one = socket.socket(socket.AF_INET if ":" in where else socket.AF_UNIX)
    one.settimeout(0.2)
    host, _, port = where.partition(":")
    with contextlib.suppress(OSError):
        one.connect((host, int(port)) if port else where)
    return one
