"""The parts of `harrier doctor`: commands that hang, checks that fail, drivers that answer, trees that hold garbage."""

import ast
import errno
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from recorded_boards import BOARDS, NAMES, board_tree, python_facts, shown, write_tree

from edge.doctor import v4l2
from edge.doctor.devices import group_cure, holders, may_use
from edge.doctor.examination import CHECKS, examine
from edge.doctor.finding import ok
from edge.doctor.interpreter_probe import facts
from edge.doctor.interpreters import _PROBE, SYSTEM_PYTHON, interpreter, own_interpreter
from edge.doctor.machine import COMMANDS, Machine
from edge.doctor.packages import python_findings, video_findings
from edge.doctor.serial_ports import console_on
from edge.doctor.services import clock_findings
from edge.doctor.usb import streams_that_fit


def ids(findings) -> dict[str, str]:
    return {f.id: f.level for f in findings}


# commands


def test_a_command_that_hangs_is_ended_with_all_it_started():
    start = time.monotonic()
    said = Machine().run(["sh", "-c", "echo begun; sleep 53.0731 & sleep 53.0731"], 0.3)
    assert time.monotonic() - start < 10
    assert (said.text, said.code) == ("", None)
    assert b"sleep\x0053.0731\0" not in [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]


def test_what_a_command_prints_and_how_it_ends_is_told():
    machine = Machine()
    assert machine.run(["sh", "-c", "echo out; echo err >&2"]).text == "out"
    failed = machine.run(["sh", "-c", "echo wrong >&2; exit 3"])
    assert (failed.text, failed.code) == ("wrong", 3)
    assert machine.run(["sh", "-c", "kill -ILL $$"]).code == -4
    assert machine.run(["no-such-program-here"]) is None
    assert machine.tool(["sh", "-c", "echo wrong >&2; exit 3"]) is None


def test_a_command_is_asked_once(tmp_path):
    machine, count = Machine(), tmp_path / "count"
    for _ in range(3):
        machine.run(["sh", "-c", f"echo x >> '{count}'"])
    assert count.read_text() == "x\n"


def test_a_recorded_command_tells_its_exit_code(tmp_path):
    machine = write_tree({"commands": {"a /b": "fine", "c": "[exit 3]\ninactive", "d": "[exit timeout]\n"}}, tmp_path)
    assert (tmp_path / COMMANDS / "a %2Fb").is_file()
    assert machine.run(["a", "/b"]).text == "fine"
    assert machine.run(["c"]).code == 3
    assert machine.run(["d"]).code is None
    assert machine.run(["e"]) is None


def test_the_kernels_clock_is_read_here():
    status, maximum_error_s = Machine().kernel_clock()
    assert status >= 0
    assert 0 <= maximum_error_s <= 1e6


# the examination


def test_a_check_that_fails_is_a_note_and_what_it_found_before_stays(tmp_path):
    def broken_findings(machine):
        yield ok("board.model", "a", "b")
        raise ValueError("this\nis broken")

    def sound_findings(machine):
        yield ok("disk.free", "/", "c")

    found = examine(Machine(tmp_path), [broken_findings, sound_findings])
    assert [f.id for f in found] == ["board.model", "doctor.check", "disk.free"]
    assert found[1].level == "note"
    assert found[1].subject == "broken"
    assert "ValueError: this" in found[1].found


def test_a_check_that_hangs_holds_up_nothing(tmp_path):
    release = threading.Event()

    def hanging_findings(machine):
        yield ok("board.model", "a", "b")
        release.wait(60)

    start = time.monotonic()
    found = examine(Machine(tmp_path), [hanging_findings, lambda machine: [ok("disk.free", "/", "c")]], 0.3)
    release.set()
    assert time.monotonic() - start < 10
    assert [(f.id, f.subject) for f in found] == [("board.model", "a"), ("doctor.check", "hanging"), ("disk.free", "/")]


GARBAGE = {
    "empty": b"",
    "binary": bytes(range(256)) * 8,
    "minus": b"-1\n",
    "huge": b"9" * 5000,
    "words": b"a = b : c, d\n<>\n" * 50,
    "nan": b"nan\n",
    "braces": b'{"version": [[]], "packages": 3}\n',
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_files_hold_no_check_fails(name, garbage, tmp_path):
    machine = board_tree(name, tmp_path)
    keep = (
        ()
        if garbage == "braces"
        else ("model", "compatible", "nv_tegra_release", "idVendor", "idProduct", "busnum", "devnum")
    )
    for path in [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]:
        if path.name not in keep:
            path.write_bytes(GARBAGE[garbage])
    found = examine(machine)
    assert [f.found for f in found if f.id == "doctor.check"] == []
    assert len(found) > 10


@pytest.mark.parametrize("name", NAMES)
def test_folders_in_the_place_of_files_break_nothing(name, tmp_path):
    machine = board_tree(name, tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]:
        path.unlink()
        path.mkdir()
    assert [f.found for f in examine(machine) if f.id == "doctor.check"] == []


def test_this_machine_is_examined():
    start = time.monotonic()
    found = examine(Machine())
    assert time.monotonic() - start < 60
    assert [f for f in found if f.id == "doctor.check"] == []
    assert {"board.model", "python.version", "disk.free", "memory.free"} <= ids(found).keys()
    for finding in found:
        assert finding.level == "ok" or finding.why or finding.cure


# interpreters and packages


def test_this_interpreter_is_told_as_it_is():
    own = own_interpreter(Machine())
    assert own.version == sys.version_info[:3]
    assert {"numpy", "msgspec", "pytest"} <= own.modules
    assert own.packages["msgspec"]
    assert own.opencv["version"]
    assert own.opencv["build"]["gstreamer"]
    assert own.venv == (sys.prefix != sys.base_prefix)


def test_the_probe_imports_nothing_heavy_for_its_first_line():
    script = "import sys\nfrom edge.doctor.interpreter_probe import facts\nfacts()\nprint(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert not [name for name in ("numpy", "cv2", "tensorrt", "msgspec") if f"'{name}'" in said]
    assert facts()["bits"] == 64


@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="there is no /usr/bin/python3 here")
def test_another_interpreter_is_asked_in_a_process_of_its_own():
    system = interpreter(Machine(), SYSTEM_PYTHON)
    assert system.version >= (3, 6)
    assert Path(system.executable).name.startswith("python3")


OLD_PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python"))


@pytest.mark.skipif(not OLD_PYTHONS, reason="there is no Python 3.6 to 3.9 under ~/.pyenv here")
def test_the_oldest_interpreters_answer_too():
    for python in OLD_PYTHONS:
        assert f"/{interpreter(Machine(), str(python)).version_text}/" in str(python)


def test_the_probe_has_the_syntax_of_python_3_6():
    ast.parse(_PROBE.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_no_interpreter_at_all_is_none(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)
    assert interpreter(Machine(), str(tmp_path / "missing")) is None
    assert interpreter(Machine(), str(script)) is None


def test_opencv_that_ends_the_process_is_a_problem_with_the_nanos_cure(tmp_path):
    board = {"pythons": {"python": python_facts(opencv={"error": "the process was ended by SIGILL"})}}
    (finding,) = [f for f in video_findings(write_tree(board, tmp_path)) if f.id == "video.opencv"]
    assert finding.level == "problem"
    assert finding.cure.startswith("export OPENBLAS_CORETYPE=ARMV8")


def test_a_probe_that_dies_within_opencv_still_tells_the_rest(tmp_path):
    board = {"pythons": {"python": python_facts()}}
    machine = write_tree(board, tmp_path)
    (file,) = (tmp_path / COMMANDS).iterdir()
    first = file.read_text().splitlines()[0]
    file.write_text(f"[exit -4]\n{first}\n")
    own = own_interpreter(machine)
    assert own.version == (3, 12, 3)
    assert own.opencv == {"error": "the process was ended by SIGILL"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"version": [3, 9, 2]}, [("python.version", "problem", "uv venv --python 3.11")]),
        ({"version": [3, 14, 0]}, [("python.version", "warning", "uv venv --python 3.13")]),
        ({"libc": "musl"}, [("python.wheels", "problem", "use a system or image with glibc")]),
        ({"libc": "glibc 2.26"}, [("python.wheels", "problem", "install a later system")]),
        ({"libc": "glibc 2.27"}, []),
        ({"machine": "riscv64"}, [("python.wheels", "problem", "use a board")]),
        (
            {"venv": False, "externally_managed": True},
            [("python.venv", "note", "python3 -m venv --system-site-packages")],
        ),
        (
            {"packages": {"numpy": "2.0.0", "opencv-python": "4.10"}},
            [("python.packages", "problem", "pip install ai-edge-litert msgspec")],
        ),
        (
            {"packages": {"numpy": "2.0.0", "opencv-python": "4.10", "msgspec": "0.18", "tflite-runtime": "2.14.0"}},
            [("python.tflite", "warning", "pip install ai-edge-litert")],
        ),
        (
            {"packages": {"numpy": "1.26.4", "opencv-python": "4.10", "msgspec": "0.18", "tflite-runtime": "2.14.0"}},
            [],
        ),
    ],
)
def test_what_does_not_fit_the_platform_is_found(changes, expected, tmp_path):
    found = shown(python_findings(write_tree({"pythons": {"python": python_facts(**changes)}}, tmp_path)))
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (*_, cure), (*_, begins) in zip(found, expected, strict=True):
        assert cure.startswith(begins)


# devices

LISTING = """
crw-rw---- 1 root video    81,   0 Mar  1 10:00 video0
crw------- 1 root root     81,   1 Mar  1 10:00 video1
crw-rw-rw- 1 root video    81,   2 Mar  1 10:00 video2
crw-rw----+ 1 root video   81,   3 Mar  1 10:00 video3
crw------- 1 me   me       81,   4 Mar  1 10:00 video4
"""


@pytest.mark.parametrize(
    ("groups", "allowed"),
    [("1000(me)", ["video2", "video3", "video4"]), ("1000(me),44(video)", ["video0", "video2", "video3", "video4"])],
)
def test_rights_are_those_of_owner_group_others_and_access_lists(groups, allowed, tmp_path):
    said = {"ls -l /dev": LISTING, "id": f"uid=1000(me) gid=1000(me) groups={groups}"}
    machine = write_tree({"commands": said}, tmp_path)
    assert [f"video{n}" for n in range(5) if may_use(machine, f"/dev/video{n}")] == allowed


def test_the_cure_for_missing_rights_fits_the_device(tmp_path):
    said = {"ls -l /dev": LISTING, "id": "uid=1000(me) gid=1000(me) groups=1000(me)", "id -nG me": "me"}
    machine = write_tree({"commands": said}, tmp_path / "a")
    assert group_cure(machine, "/dev/video0", "video").startswith("sudo usermod -aG video $USER")
    assert group_cure(machine, "/dev/video1", "video").startswith("sudo chgrp video /dev/video1 && sudo chmod g+rw")
    later = write_tree({"commands": {**said, "id -nG me": "me video"}}, tmp_path / "b")
    assert group_cure(later, "/dev/video0", "video").startswith("log in again")


def test_who_holds_a_device_is_found_on_this_machine():
    with subprocess.Popen(["sleep", "30"], stdin=subprocess.PIPE, stdout=open("/dev/full", "w")) as child:
        try:
            assert (child.pid, "sleep") in holders(Machine(), "/dev/full")
        finally:
            child.kill()


def test_a_console_is_where_its_getty_waits_and_nowhere_else(tmp_path):
    board = {
        "files": {"proc/800/comm": "agetty\n", "proc/800/cmdline": "/sbin/agetty\0-L\x00115200\0ttyTHS0\0vt220\0"},
        "commands": {"systemctl is-enabled nvgetty": "enabled"},
    }
    machine = write_tree(board, tmp_path)
    assert console_on(machine, "/dev/ttyTHS0") == "nvgetty"
    assert console_on(machine, "/dev/ttyTHS1") == ""
    assert console_on(machine, "/dev/ttyUSB0") == ""


@pytest.mark.parametrize(
    ("speed_mbps", "width", "height", "fits"),
    [(480, 640, 480, 1), (480, 320, 240, 8), (480, 1280, 720, 0), (5000, 640, 480, 21), (5000, 1920, 1080, 3)],
)
def test_how_many_uncompressed_streams_fit(speed_mbps, width, height, fits):
    assert streams_that_fit(speed_mbps, width * height * 2 * 30) == fits


def a_camera(formats: dict[str, dict[tuple[int, int], list[tuple[int, int]]]]):
    """A driver's answers to the three questions, in the kernel's structures; times as (seconds, parts)."""
    codes = list(formats)

    def ioctl(fd: int, request: int, argument: bytearray) -> int:
        (index,) = struct.unpack_from("=I", argument, 0)
        try:
            if request == v4l2._ENUM_FMT:
                if struct.unpack_from("=I", argument, 4)[0] != 1:
                    raise IndexError
                struct.pack_into("=4s", argument, 44, codes[index].encode())
                return 0
            sizes = formats[bytes(argument[4:8]).decode()]
            if request == v4l2._ENUM_FRAMESIZES:
                struct.pack_into("=3I", argument, 8, 1, *list(sizes)[index])
            else:
                size = struct.unpack_from("=2I", argument, 8)
                struct.pack_into("=3I", argument, 16, 1, *sizes[size][index])
        except IndexError:
            raise OSError(errno.EINVAL, "Invalid argument") from None
        return 0

    return ioctl


def test_a_driver_is_asked_for_formats_sizes_and_rates():
    said = {"YUYV": {(640, 480): [(1, 15), (1, 30)], (320, 240): []}, "MJPG": {(1280, 720): [(2, 119)]}}
    found = list(v4l2._asked(3, a_camera(said)))
    assert found == [
        v4l2.CameraFormat("YUYV", 640, 480, 30.0),
        v4l2.CameraFormat("YUYV", 320, 240, 0.0),
        v4l2.CameraFormat("MJPG", 1280, 720, 59.5),
    ]


def test_a_driver_that_never_ends_its_lists_is_left():
    def endless(fd: int, request: int, argument: bytearray) -> int:
        return 0

    assert len(list(v4l2._asked(3, endless))) <= 2 * 64


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ({"timedatectl show": "NTPSynchronized=yes"}, []),
        ({"adjtimex": "status 8193 maxerror 900"}, []),
        ({"adjtimex": "status 64 maxerror 16000000"}, [("clock.sync", "warning")]),
        ({"timedatectl show": "NTP=no\nNTPSynchronized=no"}, [("clock.sync", "warning")]),
        ({}, [("clock.sync", "note")]),
        ({"date +%s": "0", "timedatectl show": "NTPSynchronized=yes"}, [("clock.time", "problem")]),
    ],
)
def test_the_clock(commands, expected, tmp_path):
    assert [row[:2] for row in shown(clock_findings(write_tree({"commands": commands}, tmp_path)))] == expected


def test_a_ptp_or_chrony_clock_counts_as_the_kernel_says(tmp_path):
    board = {"commands": {"adjtimex": "status 8193 maxerror 120", "timedatectl show": "NTP=no\nNTPSynchronized=no"}}
    (finding,) = clock_findings(write_tree(board, tmp_path))
    assert finding.found == "synchronised, off by 0 ms at most"


def test_every_recorded_board_is_listed_with_how_it_was_made():
    assert "Made by\nhand" in (BOARDS / "README.md").read_text()
    assert len(NAMES) >= 8
    assert len(CHECKS) == len(set(CHECKS))
