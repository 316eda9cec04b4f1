"""Log lines: text with the journal's priorities, JSON objects that always parse, and the option that chooses."""

import json
import logging
import os
import subprocess
import sys

import pytest

from edge.log_lines import JsonLines, TextLines

NULL = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'


def record(level: int, text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("harrier", level, "", 1, text, args, None)


@pytest.mark.parametrize(
    ("level", "mark"), [(logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.ERROR, "<3>"), (25, "<6>")]
)
def test_the_journal_is_told_the_priority_of_every_line(level, mark):
    said = TextLines(journal=True).format(record(level, "one\ntwo %s", 2))
    assert said == f"{mark}harrier: one\n{mark}two 2"
    assert TextLines().format(record(level, "one")) == "harrier: one"
    assert JsonLines(journal=True).format(record(level, "one")).startswith(mark + "{")


def test_json_has_what_the_line_is_made_of():
    told = json.loads(JsonLines().format(record(logging.WARNING, "target %s failed %d times", "tflite", 3)))
    assert told.pop("t").endswith("+00:00")
    assert told == {
        "level": "warning",
        "logger": "harrier",
        "event": "target %s failed %d times",
        "values": ["tflite", 3],
        "message": "target tflite failed 3 times",
    }


def test_json_stays_json_whatever_is_told():
    odd = ('a\n"b"\x00\udcff', float("nan"), None, ValueError("x"), b"\xff")
    line = JsonLines().format(record(logging.INFO, "%s %s %s %s %s", *odd))
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line, parse_constant=pytest.fail)["values"] == [odd[0], "nan", None, "x", "b'\\xff'"]
    by_name = logging.LogRecord("other", logging.INFO, "", 1, "%(a)s", ({"a": 1},), None)
    assert json.loads(JsonLines().format(by_name))["values"] == [1]
    try:
        raise OSError("no")
    except OSError:
        failed = logging.LogRecord("other", logging.ERROR, "", 1, "it failed", (), sys.exc_info())
    assert json.loads(JsonLines().format(failed))["exception"].endswith("OSError: no")


def harrier(tmp_path, *words: str, journal: bool = False) -> tuple[int, list[str]]:
    """Run the command with standard error in a file, which may pass for the journal; return its lines."""
    path = tmp_path / "stderr"
    with path.open("w") as out:
        status = os.fstat(out.fileno())
        stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else {}
        done = subprocess.run(
            [sys.executable, "-m", "edge", *words], stderr=out, env={**os.environ, **stream}, timeout=60
        )
    return done.returncode, path.read_text().splitlines()


def test_a_run_with_json_lines_says_nothing_else(tmp_path):
    (tmp_path / "m.null").write_text(NULL)
    run = ["run", "--model", str(tmp_path / "m.null"), "--publish", f"file://{tmp_path}/out.jsonl", "--source"]
    status, lines = harrier(tmp_path, "--log", "json", *run, "synthetic://?size=64x64&fps=50&frames=5")
    told = [json.loads(line) for line in lines]
    assert status == 0
    assert [line["event"] for line in told if line["event"].startswith("publishing")] == ["publishing to %s"]
    status, lines = harrier(tmp_path, "--log", "json", *run, "nothing://here")
    assert status == 2
    assert json.loads(lines[-1])["level"] == "error"


def test_in_the_journal_an_error_has_its_priority(tmp_path):
    status, lines = harrier(tmp_path, "run", "--model", "no-such-model", "--source", "synthetic://", journal=True)
    assert status == 3
    assert lines[-1].startswith("<3>harrier: there is no model 'no-such-model'")
