"""Compiling with a stand-in for edgetpu_compiler, ssh and scp: what is called, what comes back, and every failure."""

import json
import os
import shlex
import subprocess
import sys
import time

import pytest

pytest.importorskip("ai_edge_litert", reason="files are read and written through LiteRT's schema")

from edgetpu_models import chain

from convert.edgetpu.compile import CompileOptions, compile_for_edgetpu
from edge.errors import ConfigError, DeviceError, ModelError

LOG = """Edge TPU Compiler version 16.0.384591198
Model compiled successfully in 12 ms.
On-chip memory used for caching model parameters: 1.00MiB
Number of Edge TPU subgraphs: 1

Operator                       Count      Status

RELU                           2          Mapped to Edge TPU
"""

# what each stand-in does: notes its arguments, then runs the case's own lines
SCRIPT = """#!{python}
import json, os, shutil, subprocess, sys, time
from pathlib import Path
with open({calls!r}, "a") as file:
    file.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
LOG, COMPILED = {log!r}, {compiled!r}
{body}
"""
COMPILES = """
model = Path(sys.argv[-1])
folder = Path(sys.argv[sys.argv.index("-o") + 1])
assert model.read_bytes()[4:8] == b"TFL3"
shutil.copy(COMPILED, folder / (model.stem + "_edgetpu.tflite"))
print(LOG)
"""
HANGS = """
child = subprocess.Popen(["sleep", "60"])
Path(sys.argv[0] + ".child").write_text(str(child.pid))
time.sleep(60)
"""
SSH = """
host, command = sys.argv[-2:]
assert sys.argv[-3] == "--"
sys.exit(subprocess.run(["sh", "-c", command]).returncode)
"""
SCP = """
source, target = (name.partition(":")[2] or name for name in sys.argv[-2:])
shutil.copy(source, target)
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A model, a folder for results, and a PATH with nothing but the stand-ins that are put into it."""
    place = tmp_path / "bin"
    place.mkdir()
    (tmp_path / "out").mkdir()
    chain(tmp_path / "compiled.tflite", ["edgetpu-custom-op"])
    chain(tmp_path / "net.tflite", ["RELU", "RELU"])
    for tool in ("sh", "rm", "mktemp", "timeout", "sleep"):
        (place / tool).symlink_to(subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip())
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def put(bench, name, body, compiled="compiled.tflite"):
    script = bench / "bin" / name
    values = {"calls": str(bench / "calls"), "log": LOG, "compiled": str(bench / compiled)}
    script.write_text(SCRIPT.format(python=sys.executable, name=name, body=body, **values))
    script.chmod(0o755)


def calls(bench):
    return [json.loads(line) for line in (bench / "calls").read_text().splitlines()]


def compile_net(bench, **options):
    return compile_for_edgetpu(bench / "net.tflite", bench / "out", CompileOptions(**options))


def left(bench):
    return sorted(path.name for path in (bench / "out").iterdir())


def test_the_compiler_here_is_used(bench):
    put(bench, "edgetpu_compiler", COMPILES)
    before = (bench / "net.tflite").read_bytes()
    result = compile_net(bench)
    assert result.file == bench / "out" / "net_edgetpu.tflite"
    assert result.file.read_bytes() == (bench / "compiled.tflite").read_bytes()
    assert left(bench) == ["net_edgetpu.tflite"]
    assert result.place == "here"
    assert (result.log.mapped_count, result.log.on_chip_used_bytes) == (2, 1 << 20)
    assert calls(bench)[0][1:3] == ["-s", "-o"]
    assert (bench / "net.tflite").read_bytes() == before
    assert json.loads(json.dumps(result.facts))["log"]["mapped"] == 2


def test_without_a_compiler_the_command_is_told(bench):
    source = chain(bench / "my net.tflite", ["RELU"])
    result = compile_for_edgetpu(source, bench / "out")
    assert (result.file, result.log, result.place) == (None, None, "")
    assert shlex.split(result.command) == ["edgetpu_compiler", "-s", "-o", ".", "my net.tflite"]
    assert result.command in result.text
    assert "apt install edgetpu-compiler" in result.text
    assert left(bench) == []


FAILURES = {
    "refused": ("print('Invalid model: m\\nModel not quantized'); sys.exit(1)", "not quantized", "int8-io"),
    "refused with exit code 0": ("print('Internal compiler error. Aborting!')", "failed inside", "smaller"),
    "killed": ("os.kill(os.getpid(), 9)", "said last: nothing", "by hand"),
    "garbage": ("sys.stdout.buffer.write(bytes(range(256)) * 99); sys.exit(3)", "made no file", "by hand"),
    "all on the CPU": (COMPILES.replace("COMPILED", repr("net.tflite")), "all of net.tflite on the CPU", "placement"),
    "no model": (COMPILES + "(folder / 'model_edgetpu.tflite').write_text('x')", "no .tflite file", "again"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_have_cause_and_cure_and_leave_nothing(bench, monkeypatch, case):
    monkeypatch.chdir(bench)
    body, cause, cure = FAILURES[case]
    put(bench, "edgetpu_compiler", body)
    with pytest.raises(ModelError) as caught:
        compile_net(bench)
    assert cause in caught.value.cause
    assert cure in caught.value.cure
    assert caught.value.cause.isprintable()
    assert left(bench) == []


def test_a_compiler_that_hangs_is_killed_with_its_children(bench):
    put(bench, "edgetpu_compiler", HANGS)
    start = time.monotonic()
    with pytest.raises(DeviceError, match="longer than 2 s"):
        compile_net(bench, timeout_s=2.0)
    assert time.monotonic() - start < 20
    child = int((bench / "bin" / "edgetpu_compiler.child").read_text())
    assert not runs(child)
    assert left(bench) == []


def runs(process):
    for _ in range(50):
        try:
            with open(f"/proc/{process}/stat") as file:
                if file.read().split()[2] == "Z":  # killed; whoever adopted it has not looked yet
                    return False
        except (FileNotFoundError, ProcessLookupError):
            return False
        time.sleep(0.1)
    return True


def test_a_compiled_file_and_no_file_are_refused(bench):
    with pytest.raises(ModelError, match="compiled for the Edge TPU already"):
        compile_for_edgetpu(bench / "compiled.tflite", bench / "out")
    with pytest.raises(ModelError, match="cannot read"):
        compile_for_edgetpu(bench / "none.tflite", bench / "out")
    (bench / "text.tflite").write_text("no model")
    with pytest.raises(ModelError, match="no .tflite file"):
        compile_for_edgetpu(bench / "text.tflite", bench / "out")


def test_a_missing_folder_is_refused(bench):
    put(bench, "edgetpu_compiler", COMPILES)
    with pytest.raises(ConfigError, match="cannot write"):
        compile_for_edgetpu(bench / "net.tflite", bench / "nowhere")


def remote(bench, ssh=SSH, scp=SCP):
    put(bench, "ssh", ssh)
    put(bench, "scp", scp)


# over there the compiler is on another PATH: the stand-in for ssh adds it
ELSEWHERE = SSH.replace('["sh", "-c", command]', '["sh", "-c", command], env={**os.environ, "PATH": REMOTE}')


def with_remote_compiler(bench, body=COMPILES):
    put(bench, "edgetpu_compiler", body)
    (bench / "there").mkdir()
    (bench / "bin" / "edgetpu_compiler").rename(bench / "there" / "edgetpu_compiler")
    path = f"{bench / 'there'}:{bench / 'bin'}"
    remote(bench, ELSEWHERE.replace("REMOTE", repr(path)))


def test_a_remote_machine_compiles(bench):
    with_remote_compiler(bench)
    result = compile_net(bench, remote="me@board.local")
    assert result.place == "me@board.local"
    assert left(bench) == ["net_edgetpu.tflite"]
    made = [call for call in calls(bench) if call[0] in ("ssh", "scp")]
    assert [call[0] for call in made] == ["ssh", "scp", "ssh", "scp", "ssh"]
    for call in made:
        assert "BatchMode=yes" in call
        assert "--" in call
    assert not list(bench.glob("tmp.*")), "the folder over there is taken away"


def test_a_remote_refusal_is_explained(bench):
    with_remote_compiler(bench, "print('Model not quantized'); sys.exit(1)")
    with pytest.raises(ModelError, match="not quantized"):
        compile_net(bench, remote="board")
    assert not list(bench.glob("tmp.*"))


def test_a_remote_machine_without_compiler_is_told(bench):
    remote(bench)
    with pytest.raises(DeviceError, match="board has no edgetpu_compiler"):
        compile_net(bench, remote="board")


def test_a_remote_compiler_that_hangs_is_ended(bench):
    with_remote_compiler(bench, "time.sleep(60)")
    with pytest.raises(DeviceError, match="longer than 1 s"):
        compile_net(bench, remote="board", timeout_s=1.0)


@pytest.mark.parametrize(
    ("said", "cause", "cure"),
    [
        ("me@board: Permission denied (publickey,password).", "refuses the login", "ssh-copy-id board"),
        ("Host key verification failed.", "host key", "connect once by hand"),
        ("ssh: Could not resolve hostname board: Name or service not known", "not a known host", "name"),
        ("ssh: connect to host board port 22: Connection refused", "no ssh server", "sshd"),
        ("ssh: connect to host board port 22: Connection timed out", "does not answer", "reachable"),
        ("kex_exchange_identification: strange", "kex_exchange_identification", "by hand"),
    ],
)
def test_ssh_errors_are_explained(bench, said, cause, cure):
    remote(bench, ssh=f"print({said!r}, file=sys.stderr); sys.exit(255)")
    with pytest.raises(DeviceError) as caught:
        compile_net(bench, remote="board")
    assert cause in caught.value.cause
    assert cure in caught.value.cure
    assert left(bench) == []


def test_without_ssh_this_is_told(bench):
    with pytest.raises(DeviceError, match="ssh is not installed"):
        compile_net(bench, remote="board")


def test_a_strange_folder_over_there_is_not_used(bench):
    remote(bench, ssh="print('/tmp/x; rm -rf ~')")
    with pytest.raises(DeviceError, match="no temporary folder"):
        compile_net(bench, remote="board")
    assert len(calls(bench)) == 1


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch x", "a b", "a;b", "$(x)", "me@-oX", "", "me@", "a\nb", "me@host:22", "a@b@c", "`x`"]
)
def test_hosts_that_ssh_could_misread_are_refused(bench, host):
    remote(bench)
    if host == "":
        assert compile_net(bench, remote=host).file is None
    else:
        with pytest.raises(ConfigError, match="no host for ssh"):
            compile_net(bench, remote=host)
    assert not (bench / "calls").exists()


def test_nothing_of_the_environment_is_needed_but_path(bench, monkeypatch):
    put(bench, "edgetpu_compiler", COMPILES)
    monkeypatch.delenv("HOME", raising=False)
    assert os.environ["PATH"] == str(bench / "bin")
    assert compile_net(bench).file is not None
