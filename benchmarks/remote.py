"""A KServe v2 engine's round trip to a real Triton core on this machine, by protocol, in one interleaved run.

The server's model computes nothing and has YOLOX-Nano's tensors, so that what is measured is the way there and back.
HARRIER_TRITON_PYTHON names a Python with nvidia-pytriton and onnxruntime.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edge.config import EngineSection
from edge.engines.base import Engine
from edge.registry import resolve
from edge.uri import parse_uri

ROUNDS, WARM_UP, START_S, ATTEMPTS = 300, 20, 120, 3
JSON_EVERY = 10  # it is a hundred times slower
SERVER = Path(__file__).parents[1] / "tests" / "engines" / "triton_server.py"
TOKEN = "for-the-bench"
WAYS = {
    "http": ("http", "shared_memory=off"),
    "http, shared memory": ("http", "shared_memory=system&token_header=triton-access-token"),
    "grpc": ("grpc", "shared_memory=off"),
    "grpc, shared memory": (
        "grpc",
        "shared_memory=system&token_header=triton-grpc-protocol-triton-access-token",
    ),
    "http, JSON": ("http", "shared_memory=off&encoding=json"),
}


def measure() -> bool:
    """Print p50 and p99 of each way; return whether shared memory is no slower than sending the tensors."""
    python, shared = os.environ.get("HARRIER_TRITON_PYTHON"), os.environ.get("HARRIER_SHARED")
    if not python or not shared:
        print("HARRIER_TRITON_PYTHON or HARRIER_SHARED is not set: remote inference is not measured")
        return True
    with tempfile.TemporaryDirectory() as folder:
        ports = _free_ports()
        server = _start(python, f"{shared}/models/yolox_nano.onnx", Path(folder), ports)
        try:
            took_ms = _interleaved({"http": ports[0], "grpc": ports[1]})
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # asked to end, it leaves half of its processes behind
            server.wait()
    print(f"\n2.08 MB there, 1.21 MB back, on one machine: ms a frame, {ROUNDS} rounds")
    print(f"  {'':<22}{'p50':>8}{'p99':>8}")
    for way, values in took_ms.items():
        print(f"  {way:<22}{np.percentile(values, 50):8.2f}{np.percentile(values, 99):8.2f}")
    kept = all(
        np.median(took_ms[f"{protocol}, shared memory"]) <= np.median(took_ms[protocol])
        for protocol in ("http", "grpc")
    )
    print(f"  shared memory is no slower: {'kept' if kept else 'MISSED'}")
    return kept


def _interleaved(ports: dict[str, int]) -> dict[str, list[float]]:
    engines: dict[str, Engine] = {}
    for way, (protocol, options) in WAYS.items():
        uri = parse_uri(f"kserve+{protocol}://127.0.0.1:{ports[protocol]}/idle?token={TOKEN}&{options}")
        engines[way] = resolve("engines", uri.scheme)(uri, EngineSection(deadline_ms=60_000))
        engines[way].inputs[0][...] = np.random.default_rng(0).random(engines[way].inputs[0].shape)
    took_ms: dict[str, list[float]] = {way: [] for way in WAYS}
    for i in range(WARM_UP + ROUNDS):
        for way, engine in engines.items():
            if "JSON" in way and i % JSON_EVERY:
                continue
            start = time.perf_counter()
            engine.run()
            if i >= WARM_UP:
                took_ms[way].append((time.perf_counter() - start) * 1e3)
    for engine in engines.values():
        engine.close()
    return took_ms


def _start(python: str, onnx: str, folder: Path, ports: list[int]) -> subprocess.Popen:
    library = [python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"]
    found = subprocess.run(library, capture_output=True, text=True, check=True).stdout.strip()
    deadline = time.monotonic() + START_S
    for attempt in range(ATTEMPTS):  # now and then one of its parts begins before the other
        workspace = folder / str(attempt)
        server = subprocess.Popen(
            [python, str(SERVER), onnx, str(workspace), TOKEN, *map(str, ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LD_LIBRARY_PATH": found},
            start_new_session=True,
        )
        while server.poll() is None and time.monotonic() < deadline:
            if (workspace / "ready").exists():
                return server
            time.sleep(0.1)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    sys.exit("Triton did not start")


def _free_ports() -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
