"""What a service runs is pulled and opened as its user: root writes and opens nothing in that user's folder."""

import hashlib
import logging
import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli import main
from edge.config import RunConfig, read_config
from edge.errors import ConfigError, DeviceError, EdgeError, ManifestError, PublishError
from edge.service import install as install_module
from edge.service import preparing
from edge.service.checking import is_reached
from edge.service.preparing import prepare, prepare_as

NULL = '[[inputs]]\nname = "x"\nshape = [1, 4, 4, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "y"\nshape = [1, 2]\n'


@pytest.fixture
def nobody() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    return pwd.getpwnam("nobody")


@pytest.fixture
def place(nobody, monkeypatch) -> Iterator[Path]:
    """A folder that every user reaches, as pytest's own ones are not, with a home in it that is nobody's."""
    for path in (Path(sys.executable), Path(preparing.__file__)):
        if not is_reached(path, nobody.pw_uid, {nobody.pw_gid}):
            pytest.skip(f"other users do not reach {path}")
    monkeypatch.setenv("HARRIER_HOME", "/nowhere")
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        for name in ("home", "cache"):
            (Path(made) / name).mkdir()
            os.chown(Path(made) / name, nobody.pw_uid, nobody.pw_gid)
        yield Path(made)


def bundle_in(place: Path) -> Path:
    """A zip, which is unpacked into the home when it is opened."""
    folder = place / "bundle"
    folder.mkdir()
    (folder / "m.null").write_text(NULL)
    digest = hashlib.sha256(NULL.encode()).hexdigest()
    (folder / "manifest.toml").write_text(
        f'name = "m"\nlabels = ["a", "b"]\n[targets.first]\nfile = "m.null"\nsha256 = "{digest}"\n'
        'outputs = { scores = "y" }\n[input]\n[decoder]\nfamily = "classification"\n'
    )
    return Path(shutil.make_archive(str(place / "m"), "zip", folder))


def config_of(model: Path, **keys: object) -> RunConfig:
    return RunConfig(model=str(model), source="synthetic://?fps=15", **{"publish": ["tcp://127.0.0.1:0"], **keys})


def prepared(user: pwd.struct_passwd, place: Path, config: RunConfig, is_opened: bool = True) -> None:
    prepare_as(user, {4242}, config, place / "home", place / "cache", is_opened)


def test_what_is_written_is_that_users(nobody, place, capfd):
    prepared(nobody, place, config_of(bundle_in(place)))
    made = list((place / "home").rglob("*"))
    assert any(path.name == "m.null" for path in made)
    assert {path.lstat().st_uid for path in made} == {nobody.pw_uid}
    assert os.environ["HARRIER_HOME"] == "/nowhere"
    assert capfd.readouterr() == ("", "")


def test_only_what_is_to_run_here_is_opened(nobody, place):
    prepared(nobody, place, config_of(place / "missing.null"), is_opened=False)
    with pytest.raises(ManifestError, match=r"missing\.null"):
        prepared(nobody, place, config_of(place / "missing.null"))


def test_a_link_to_what_is_roots_is_not_followed(nobody, place):
    """Such as a home whose user has put one where a bundle is unpacked."""
    (place / "roots").mkdir(mode=0o700)
    (place / "home/bundles").symlink_to(place / "roots")
    with pytest.raises(ManifestError, match="Permission denied"):
        prepared(nobody, place, config_of(bundle_in(place)))
    assert not list((place / "roots").iterdir())


@pytest.mark.parametrize("key", ["model", "labels"])
def test_what_only_root_may_read_is_refused_in_one_line(nobody, place, key):
    files = {"model": place / "m.null", "labels": place / "labels.txt"}
    files["model"].write_text(NULL)
    files["labels"].write_text("a\nb\n")
    files[key].chmod(0o600)
    with pytest.raises(EdgeError) as caught:
        prepared(nobody, place, config_of(files["model"], labels=str(files["labels"])))
    assert str(files[key]) in caught.value.cause
    assert "ermission" in caught.value.cause


def test_errors_are_what_they_were(nobody, place):
    config = config_of(bundle_in(place), publish=[f"unix://{place}/missing/out.sock"])
    with pytest.raises(PublishError) as caught:
        prepared(nobody, place, config)
    assert caught.value.cure == f"mkdir -p {place}/missing"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os; os.write(1, b'something else'); raise SystemExit(7)", "ended with exit code 7"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "ended with signal 9"),
        ('print(\'{"kind": "print", "cause": "a", "cure": "b"}\'); raise SystemExit(2)', "^a: b$"),
        (
            "import os, sys; sys.exit(os.getuid() == 0 or os.getgid() == 0 or os.umask(0) != 0o27"
            " or 0 in os.getgroups() or 4242 not in os.getgroups()"
            " or os.environ['HOME'] == '/caller' or 'TMPDIR' in os.environ or os.environ['KEPT'] != 'yes'"
            " or '\"level\":30' not in sys.stdin.read())",
            "",
        ),
    ],
)
def test_the_process_is_that_users_and_its_end_is_told(nobody, place, tmp_path, monkeypatch, program, told):
    """With a stand-in for the interpreter's work: what a library of that user's could do in there."""
    stand_in = place / "python"
    stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "$PROGRAM"\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(preparing.sys, "executable", str(stand_in))
    for name, value in {"PROGRAM": program, "HOME": "/caller", "TMPDIR": "/caller", "KEPT": "yes"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)  # --quiet
    if not told:
        prepared(nobody, place, RunConfig())
        return
    with pytest.raises(DeviceError, match=told):
        prepared(nobody, place, RunConfig())


def test_an_interpreter_that_user_may_not_start_is_told(nobody, place, monkeypatch):
    (place / "closed").mkdir(mode=0o700)
    monkeypatch.setattr(preparing.sys, "executable", str(place / "closed/python"))
    with pytest.raises(DeviceError, match="cannot start .* as nobody"):
        prepared(nobody, place, RunConfig())


def test_install_has_it_done_by_the_services_user(nobody, machine, configuration, monkeypatch):
    """On a machine made of a folder, of which `nobody` is the service's user."""
    told: list[tuple] = []
    monkeypatch.setattr(install_module, "is_reached", lambda path, uid, gids: True)
    monkeypatch.setattr(install_module, "_user_here", lambda job: nobody)
    monkeypatch.setattr(install_module, "groups_here", lambda root: ["video"])
    monkeypatch.setattr(install_module, "prepare", lambda *_: pytest.fail("done as root"))
    monkeypatch.setattr(install_module, "prepare_as", lambda *given: told.append((*given, machine.calls[-1])))
    (machine.root / "var/lib/harrier/models").mkdir(parents=True)
    config = configuration()
    install_module.install(install_module.InstallJob(config, root=machine.root), print)
    state, cache = machine.file("var/lib/harrier"), machine.file("var/cache/harrier")
    gid = install_module.grp.getgrnam("video").gr_gid
    named = "udevadm settle --timeout=10"  # before: only then may that user open an accelerator
    assert told == [(nobody, {gid}, read_config(config), state, cache, True, named)]
    own = [state, state / "models", cache, machine.file("run/harrier/front"), machine.file("var/log/harrier")]
    assert {path.stat().st_uid for path in own} == {nobody.pw_uid}
    assert machine.file("run/harrier").stat().st_uid == 0


def test_without_root_and_in_an_image_it_is_done_here(machine, configuration, monkeypatch):
    done: list[tuple] = []
    monkeypatch.setattr(install_module, "prepare", lambda *given: done.append(given[1:]))
    monkeypatch.setattr(install_module, "prepare_as", lambda *_: pytest.fail("no such user here"))
    assert main(["service", "install", str(configuration()), "--root", str(machine.root)]) == 0
    assert done == [(machine.file("var/lib/harrier"), False)]
    monkeypatch.setattr(install_module.os, "geteuid", lambda: 1000)
    assert install_module._user_here(install_module.InstallJob(configuration())) is None


def test_a_user_that_is_not_there_is_told(configuration, monkeypatch):
    monkeypatch.setattr(install_module.os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError, match="there is no user no-such-user"):
        install_module._user_here(install_module.InstallJob(configuration(), user="no-such-user"))


def test_here_it_says_what_is_wrong_as_check_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HARRIER_HOME", "/nowhere")
    prepare(config_of(tmp_path / "missing.null"), tmp_path, False)
    assert os.environ["HARRIER_HOME"] == str(tmp_path)
    with pytest.raises(ManifestError, match=r"missing\.null"):
        prepare(config_of(tmp_path / "missing.null"), tmp_path, True)
