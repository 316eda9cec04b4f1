"""`import edge` is cheap, and nothing heavy is loaded before it is used."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "numpy",
    "cv2",
    "msgspec",
    "onnxruntime",
    "ai_edge_litert",
    "tflite_runtime",
    "tensorflow",
    "aiohttp",
}


def loaded_by(statement: str) -> tuple[float, set[str]]:
    """Milliseconds a statement takes in a fresh interpreter, and the top-level modules it leaves loaded."""
    script = (
        "import json, sys, time\n"
        "start = time.perf_counter()\n"
        f"{statement}\n"
        "took = time.perf_counter() - start\n"
        "print(json.dumps([took * 1e3, sorted({name.split('.')[0] for name in sys.modules})]))\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    took, names = json.loads(out.stdout.splitlines()[-1])
    return took, set(names)


def test_import_edge_takes_under_150_ms_and_loads_no_engine():
    runs = [loaded_by("import edge") for _ in range(5)]
    assert not runs[0][1] & HEAVY
    assert min(took for took, _ in runs) < 150


def test_the_command_line_parses_without_numpy():
    _, names = loaded_by("from edge.cli import _parser; _parser().parse_args(['run', '--model', 'face'])")
    assert not names & HEAVY


@pytest.mark.parametrize("name", ["edge.pipeline", "edge.run", "edge.client", "edge.inspection"])
def test_the_upper_floors_load_no_engine(name):
    _, names = loaded_by(f"import {name}")
    assert not names & (HEAVY - {"numpy", "cv2", "msgspec"})
