"""The command as its user types it: what it prints, and what it says and returns when something is wrong."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.wire.jsonl import decode

HARRIER = [sys.executable, "-m", "edge"]
DEADLINE_S = 60


def harrier(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*HARRIER, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, **environment},
    )


def start(*arguments: str | Path) -> subprocess.Popen:
    return subprocess.Popen([*HARRIER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(result: subprocess.CompletedProcess) -> str:
    """The one line of error a user reads: no traceback, nothing after it."""
    assert "Traceback" not in result.stderr, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("harrier: ")]
    assert lines, result.stderr
    return lines[-1]


@pytest.fixture
def face(catalogue) -> str:
    catalogue("face")
    return "face"


@pytest.fixture
def pictures(catalogue, tmp_path) -> Path:
    """A folder with the sample photo in three sizes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    photo = cv2.imread(str(catalogue("astronaut") / "astronaut.png"))
    for i, side in enumerate((512, 300, 701)):
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(photo, (side, side)))
    return folder


def test_run_reads_a_configuration_and_writes_lines_and_stats(face, pictures, tmp_path):
    config = tmp_path / "robot.toml"
    config.write_text(f'model = "face"\nsource = "images://{pictures}"\npublish = ["file://{tmp_path}/out.jsonl"]\n')
    result = harrier("run", config, "--stats", tmp_path / "stats.json")
    assert result.returncode == 0, result.stderr
    messages = [decode(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    found = [m for m in messages if m.kind == "detections"]
    assert [m.seq for m in found] == [0, 1, 2]
    assert all(len(m.detections) == 1 and m.detections[0].score > 0.85 for m in found)
    for message in found:  # the same face in each size, in source pixels
        left = message.detections[0].box[0] / message.frame[0]
        assert left == pytest.approx(0.347, abs=0.02)
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["frames"] == 3
    assert stats["source_stats"]["dropped"] == 0
    assert set(stats["stages_ms"]) >= {"preprocess", "infer", "decode", "nms", "publish"}
    assert set(stats["wall_ms"]) == {"p50", "p90", "p99", "max"}


def test_stdout_is_the_default_publisher(face, pictures):
    result = harrier("run", "--model", "face", "--source", f"images://{pictures}", "--frames", "2")
    assert result.returncode == 0, result.stderr
    lines = [decode(line.encode()) for line in result.stdout.splitlines()]
    assert sum(m.kind == "detections" for m in lines) == 2


def test_options_override_the_configuration(face, pictures, tmp_path):
    config = tmp_path / "robot.toml"
    config.write_text(f'model = "nonsense"\nsource = "images://{pictures}"\n')
    result = harrier("run", config, "--model", "face", "--score", "0.999", "--frames", "1")
    assert result.returncode == 0, result.stderr
    message = next(m for m in map(decode, result.stdout.encode().splitlines()) if m.kind == "detections")
    assert message.detections == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_drain_and_exit_with_0(face, number, tmp_path):
    out = tmp_path / "out.jsonl"
    child = start("run", "--model", "face", "--source", "synthetic://?fps=60", "--publish", f"file://{out}")
    deadline = time.monotonic() + DEADLINE_S
    while not (out.exists() and out.stat().st_size > 2000):
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(number)
    _, errors = child.communicate(timeout=10)
    assert child.returncode == 0, errors
    assert "Traceback" not in errors
    lines = out.read_bytes()
    assert lines.endswith(b"\n")
    assert all(decode(line) for line in lines.splitlines())


def address_of(child: subprocess.Popen) -> str:
    for line in child.stderr:
        if found := re.search(r"publishing to (tcp://\S+)", line):
            return found[1]
    raise AssertionError("harrier run ended without an address")


def test_detections_arrive_in_another_process(face, pictures):
    runner = start(
        "run",
        "--model",
        "face",
        "--source",
        f"images://{pictures}?fps=10&loop=yes",
        "--publish",
        "tcp://127.0.0.1:0",
    )
    address = address_of(runner)
    listened = harrier("listen", address, "--count", "5", "--json")
    assert listened.returncode == 0, listened.stderr
    messages = [decode(line.encode()) for line in listened.stdout.splitlines()]
    assert len(messages) == 5
    seqs = [m.seq for m in messages if m.kind == "detections"]
    assert seqs == sorted(set(seqs))
    readable = harrier("listen", address, "--count", "2")
    assert "face 0.9" in readable.stdout
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=10)
    assert runner.returncode == 0


def test_listen_over_udp(face, pictures):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listener = start("listen", f"udp://127.0.0.1:{port}", "--count", "3", "--timeout", "30")
    source = f"images://{pictures}?fps=5&loop=yes"
    runner = start("run", "--model", "face", "--source", source, "--publish", f"udp://127.0.0.1:{port}")
    out, errors = listener.communicate(timeout=DEADLINE_S)
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=10)
    assert listener.returncode == 0, errors
    assert out.count("\n") == 3


def test_statuses_come_in_order_with_the_time_of_the_event(face, pictures):
    result = harrier("run", "--model", "face", "--source", f"images://{pictures}")
    messages = [decode(line.encode()) for line in result.stdout.splitlines()]
    kinds = [getattr(message, "state", message.kind) for message in messages]
    assert kinds == ["connecting", "streaming", *["detections"] * 3, "ended", "closed"]
    assert [m.ref for m in messages if m.kind == "detections"] == ["0.png", "1.png", "2.png"]
    assert all(message.age_ms >= 0 for message in messages if message.kind == "detections")


def test_a_run_that_never_saw_a_frame_says_so(face):
    result = harrier("run", "--model", "face", "--source", "rtsp://127.0.0.1:9/x", "--seconds", "0.5")
    assert result.returncode == 4
    assert "cannot be reached" in said(result)


def test_a_full_output_is_told_and_does_not_stop_the_others(face, pictures, tmp_path):
    out = tmp_path / "out.jsonl"
    result = harrier(
        *("run", "--model", "face", "--source", f"images://{pictures}"),
        *("--publish", "file:///dev/full", "--publish", f"file://{out}"),
    )
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
    assert "publisher /dev/full: [Errno 28] No space left on device" in result.stderr
    assert len(out.read_bytes().splitlines()) == 7


@pytest.mark.parametrize("option", [["--seconds", "-1"], ["--seconds", "nan"], ["--score", "x"], ["--frames", "0"]])
def test_numbers_that_make_no_sense_are_refused(option):
    result = harrier("run", "--model", "face", "--source", "synthetic://", *option)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "is not" in result.stderr


def test_listen_says_when_nobody_answers():
    result = harrier("listen", "tcp://127.0.0.1:9", "--timeout", "0.3")
    assert result.returncode == 4
    assert "nobody answers at 127.0.0.1:9" in said(result)


def test_listen_says_when_the_publisher_ends_early(face, pictures):
    runner = start("run", "--model", "face", "--source", f"images://{pictures}?fps=2", "--publish", "tcp://127.0.0.1:0")
    result = harrier("listen", address_of(runner), "--count", "100")
    runner.communicate(timeout=DEADLINE_S)
    assert result.returncode == 4
    assert "hung up after" in said(result)


def test_listen_refuses_what_is_no_message():
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = start("listen", f"tcp://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")
        _, errors = child.communicate(timeout=DEADLINE_S)
        connection.close()
    assert child.returncode == 4
    assert "not a Harrier message" in errors
    assert "Traceback" not in errors


def test_a_closed_pipe_ends_run_and_listen_quietly(face, pictures):
    command = shlex.join(HARRIER) + f" run --model face --source 'images://{pictures}?loop=yes' | head -n 2"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert result.stdout.count("\n") == 2
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
    assert result.returncode == 0, result.stderr


def test_a_closed_pipe_ends_listen_quietly(face, pictures):
    source = f"images://{pictures}?fps=50&loop=yes"
    runner = start("run", "--model", "face", "--source", source, "--publish", "tcp://127.0.0.1:0")
    command = f"{shlex.join(HARRIER)} listen {address_of(runner)} | head -n 2"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=DEADLINE_S
    )
    runner.send_signal(signal.SIGINT)
    runner.communicate(timeout=10)
    assert result.stdout.count("\n") == 2
    assert result.stderr == ""
    assert result.returncode == 0


def test_models_list_and_pull(face):
    result = harrier("models", "list")
    assert result.returncode == 0
    assert re.search(r"^face +model +here", result.stdout, re.MULTILINE)
    pulled = harrier("models", "pull", "face")
    assert pulled.returncode == 0
    assert (Path(pulled.stdout.strip()) / "manifest.toml").is_file()


def test_check_says_what_is_right(face, pictures, tmp_path):
    config = tmp_path / "robot.toml"
    config.write_text(f'model = "face"\nsource = "images://{pictures}"\npublish = ["tcp://127.0.0.1:0"]\n')
    result = harrier("check", config)
    assert result.returncode == 0, result.stderr
    assert "ssd_anchors" in result.stdout
    assert result.stdout.strip().endswith("is right")


def test_inspect_tells_fact_from_guess(face, catalogue, tmp_path):
    bundle = harrier("inspect", "face")
    assert bundle.returncode == 0, bundle.stderr
    assert "ssd_anchors" in bundle.stdout
    assert "manifest" in bundle.stdout
    bare = tmp_path / "bare.tflite"
    bare.write_bytes((catalogue("face") / "face_detection_short_range.tflite").read_bytes())
    facts = json.loads(harrier("inspect", bare, "--json").stdout)
    assert facts["decoder"]["family"] == "ssd_anchors"
    assert "896" in facts["decoder"]["origin"]
    assert facts["contract"]["origin"].startswith("a guess")
    assert facts["inputs"][0]["shape"] == [1, 128, 128, 3]


def test_inspect_shows_the_tensors_of_a_model_no_decoder_takes(tmp_path):
    odd = tmp_path / "odd.null"
    odd.write_text(
        '[[inputs]]\nname = "x"\nshape = [1, 8, 8, 3]\nlayout = "NHWC"\n'
        '[[outputs]]\nname = "y"\nshape = [1, 7, 7, 7, 7]\n'
    )
    result = harrier("inspect", odd)
    assert result.returncode == 0, result.stderr
    assert "1x7x7x7x7" in result.stdout
    assert "none: no decoder recognises" in result.stdout


@pytest.mark.shared
def test_inspect_explains_real_models(shared):
    yolox = harrier("inspect", shared / "models/yolox_nano.onnx").stdout
    assert re.search(r"decoder +yolox", yolox)
    assert "3549 = 52*52+26*26+13*13" in yolox
    assert "a guess" in yolox
    mobilenet = harrier("inspect", shared / "models/mobilenet_v2_1.0_224_quant.tflite").stdout
    assert "pixels: copy" in mobilenet
    assert "TensorFlow Lite metadata" in mobilenet


BAD = [
    (["run", "--model", "{dir}/missing.tflite", "--source", "synthetic://"], 3, "there is no model"),
    (
        ["run", "--model", "{dir}/text.tflite", "--source", "synthetic://"],
        3,
        "is not a TensorFlow Lite model",
    ),
    (["run", "--model", "{dir}/cut.tflite", "--source", "synthetic://"], 3, "damaged or cut short"),
    (["run", "--model", "face", "--source", "file://{dir}/missing.mp4"], 4, "missing.mp4"),
    (["run", "--model", "face", "--source", "images://{dir}/nowhere"], 4, "nowhere"),
    (["run", "--model", "face", "--source", "file://{dir}/text.mp4"], 4, "text.mp4"),
    (["run", "--model", "face", "--source", "vl42://0"], 2, "did you mean 'v4l2'"),
    (["run", "--model", "face", "--source", "synthetic://?fsp=3"], 2, "did you mean 'fps'"),
    (["run", "--model", "face", "--source", "gst://nosuchelement ! fakesink"], 4, "nosuchelement"),
    (
        ["run", "--model", "face", "--source", "synthetic://", "--publish", "tpc://1.2.3.4:1"],
        2,
        "did you mean 'tcp'",
    ),
    (
        ["run", "--model", "face", "--source", "synthetic://", "--publish", "tcp://127.0.0.1:{port}"],
        4,
        "is in use",
    ),
    (
        ["run", "--model", "face", "--source", "synthetic://", "--publish", "udp://:1?format=xml"],
        2,
        "names nobody",
    ),
    (
        ["run", "--model", "face", "--source", "synthetic://", "--publish", "udp://127.0.0.1:9?format=xml"],
        2,
        "there is no format 'xml'",
    ),
    (["run", "--model", "face"], 2, "no source is given"),
    (["run", "--source", "synthetic://"], 2, "no model is given"),
    (["run", "{dir}/unknown.toml"], 2, "unknown key 'modle': did you mean 'model'"),
    (["run", "{dir}/missing.toml"], 2, "missing.toml"),
    (["check", "{dir}/unknown.toml"], 2, "unknown key 'modle'"),
    (["check", "{dir}/no_port.toml"], 2, "names no host and port"),
    (["check", "{dir}/option.toml"], 2, "did you mean 'format'"),
    (["inspect", "{dir}/picture.png"], 3, "no model file an engine knows"),
    (["run", "--model", "{dir}/bad.zip", "--source", "synthetic://"], 3, "cannot unpack"),
    (["inspect", "{dir}/text.onnx"], 3, "is not an ONNX model"),
    (["models", "pull", "fase"], 3, "did you mean 'face'"),
    (["listen", "http://127.0.0.1:1"], 2, "cannot listen to 'http'"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), BAD, ids=[" ".join(a)[:60] for a, _, _ in BAD])
def test_bad_input_gets_one_line_and_the_documented_code(arguments, code, says, face, catalogue, tmp_path):
    whole = (catalogue("face") / "face_detection_short_range.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[:100_000])
    for name in ("text.tflite", "text.mp4", "text.onnx"):
        (tmp_path / name).write_text("this is no such file\n" * 20)
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "bad.zip").write_bytes(b"PK")
    parts = 'model = "face"\nsource = "synthetic://"\n'
    (tmp_path / "no_port.toml").write_text(parts + 'publish = ["tcp://127.0.0.1"]\n')
    (tmp_path / "option.toml").write_text(parts + 'publish = ["udp://127.0.0.1:9?fromat=json"]\n')
    (tmp_path / "unknown.toml").write_text('modle = "face"\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = harrier(*[a.format(dir=tmp_path, port=port) for a in arguments])
    assert says in said(result)
    assert result.returncode == code


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("mobilenet_v1_0.25_128_quant_edgetpu.tflite", 4, "compiled for the Edge TPU"),
        ("model_invoking_error.tflite", 3, "custom operators the runtime lacks (fake-op-double)"),
    ],
)
def test_models_that_cannot_run_here_are_explained(shared, name, code, says):
    for command in (["inspect"], ["run", "--source", "synthetic://", "--model"]):
        result = harrier(*command, shared / "models" / name)
        assert says in said(result)
        assert result.returncode == code


@pytest.mark.shared
def test_too_few_labels_are_refused(shared, tmp_path):
    (tmp_path / "few.txt").write_text("cat\ndog\n")
    model = shared / "models/yolox_nano.onnx"
    result = harrier("run", "--model", model, "--labels", tmp_path / "few.txt", "--source", "synthetic://")
    assert "2 labels for 80 classes" in said(result)
    assert result.returncode == 3


def test_a_model_not_pulled_yet_says_how(tmp_path):
    result = harrier("run", "--model", "face", "--source", "synthetic://", HARRIER_HOME=str(tmp_path))
    assert "harrier models pull face" in said(result)
    assert result.returncode == 3


@pytest.mark.parametrize(
    ("words", "module", "code"),
    [
        ("bench --model face", "edge.bench.session.configurations", 130),  # before there is anything to keep
        ("explain a b --compare c", "edge.evaluation.dataset_reader.read_dataset", 130),
        ("eval a b", "edge.evaluation.dataset_reader.read_dataset", 130),
        ("listen tcp://127.0.0.1:9", "edge.client.print_messages", 0),  # without an end of their own, these two
        ("run --model face --source synthetic://", "edge.run.run", 0),
    ],
)
def test_ctrl_c_gives_no_result_away_for_one(words, module, code):
    script = (
        "import sys\nfrom unittest.mock import patch\nfrom edge.cli import main\n"
        f"with patch({module!r}, side_effect=KeyboardInterrupt):\n    sys.exit(main({words.split()!r}))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE_S)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert ("harrier: interrupted: give the same command again" in result.stderr) is (code == 130)


def test_a_corrupt_picture_is_passed_over(face, pictures):
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:100])
    result = harrier("run", "--model", "face", "--source", f"images://{pictures}")
    assert result.returncode == 0, result.stderr
    found = [m for m in map(decode, result.stdout.encode().splitlines()) if m.kind == "detections"]
    assert len(found) == 2
    assert "1.png" in result.stderr


def test_a_picture_without_a_face_gives_an_empty_list(face, tmp_path):
    cv2.imwrite(str(tmp_path / "gray.png"), np.full((100, 100, 3), 128, np.uint8))
    result = harrier("run", "--model", "face", "--source", str(tmp_path / "gray.png"))
    assert result.returncode == 0, result.stderr
    found = [m for m in map(decode, result.stdout.encode().splitlines()) if m.kind == "detections"]
    assert [m.detections for m in found] == [[]]


def test_a_file_one_may_not_read_is_one_line(tmp_path, capsys, monkeypatch):
    def denied(arguments):
        raise PermissionError(13, "Permission denied", "/private/model.tflite")

    monkeypatch.setattr("edge.cli._inspect", denied)
    assert main(["inspect", "/private/model.tflite"]) == 2
    assert capsys.readouterr().err == (
        "harrier: no permission for /private/model.tflite: give this user access to it, or choose another place\n"
    )
