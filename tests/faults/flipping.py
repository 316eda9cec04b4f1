"""Flips bits of a bundle and gives it to harrier, again and again, in one process: flipping.py BUNDLE WORK SEED COUNT.

Tells a JSON line for each: which file, what was run, its exit code and what it said on standard error.
"""

import io
import json
import random
import shutil
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from edge.cli import main

SOURCE = "synthetic://?fps=0&frames=2&size=64x48"


def commands_for(bundle: Path, work: Path) -> list[list[str]]:
    return [
        ["--quiet", "run", "--model", str(bundle), "--source", SOURCE, "--publish", f"file://{work}/out.jsonl"],
        ["--quiet", "model", "install", str(bundle), "--name", "flipped"],
        ["--quiet", "inspect", str(bundle), "--golden"],
    ]


def told(command: list[str]) -> tuple[int, str]:
    """Exit code and standard error; -1 and the traceback for what main() lets through."""
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        try:
            code = main(command)
        except SystemExit as exc:
            code = int(exc.code or 0)
        except BaseException:
            return -1, traceback.format_exc()
    return code, said.getvalue()


def flip(path: Path, own: random.Random) -> None:
    """One bit, or a cut, or a hole of zeros."""
    data = bytearray(path.read_bytes())
    how = own.random()
    at = own.randrange(len(data))
    if how < 0.8:
        data[at] ^= 1 << own.randrange(8)
    elif how < 0.9:
        del data[at:]
    else:
        data[at : at + 64] = bytes(min(64, len(data) - at))
    path.write_bytes(data)


def work_through(bundle: Path, work: Path, seed: int, count: int) -> None:
    own = random.Random(seed)
    files = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    for number in range(count):
        name = files[number % len(files)]
        copy = work / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle, copy)
        before = (copy / name).read_bytes()
        flip(copy / name, own)
        if (copy / name).read_bytes() == before:
            continue
        commands = commands_for(copy, work)
        command = commands[own.randrange(len(commands))]
        code, said = told(command)
        print(json.dumps({"file": str(name), "command": command[1], "code": code, "said": said}), flush=True)


if __name__ == "__main__":
    work_through(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
