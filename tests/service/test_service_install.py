"""`harrier service install` and `uninstall` on a machine made of a folder and stand-ins for systemd's tools."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from edge.cli import main
from edge.config import RunConfig
from edge.errors import ConfigError, DeviceError
from edge.service import install as install_module
from edge.service.checking import check_paths, is_reached
from edge.service.install import InstallJob, _give, install, instances, uninstall

UNIT = "etc/systemd/system/harrier@.service"
FOLDER = "etc/systemd/system/harrier@front.service.d"
RULES = "etc/udev/rules.d/70-harrier.rules"


@pytest.fixture
def live(monkeypatch):
    """As if root installed on this machine, with an interpreter that every user reaches."""
    monkeypatch.setattr(install_module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(install_module, "is_reached", lambda path, uid, gids: True)


def image_install(machine, config: Path, **options: str) -> list[str]:
    told: list[str] = []
    install(InstallJob(config, root=machine.root, live=False, **options), told.append)
    return told


def test_an_image_gets_all_files_a_user_and_the_link_that_starts_it(machine, configuration):
    config = configuration()
    told = image_install(machine, config)
    assert machine.file(UNIT).is_file()
    assert machine.file(RULES).is_file()
    assert machine.file("etc/harrier/front.toml").read_text() == config.read_text()
    assert stat.S_IMODE(machine.file("etc/harrier/front.toml").stat().st_mode) == 0o640
    own = machine.file(f"{FOLDER}/70-instance.conf").read_text()
    assert " -I -X faulthandler -m edge run /etc/harrier/%i.toml\n" in own
    assert "SupplementaryGroups=\nSupplementaryGroups=video dialout\n" in own  # those that are there
    made = [call for call in machine.calls if call.startswith("useradd")]
    assert len(made) == 1
    assert "--groups video,dialout" in made[0]
    assert made[0].endswith(f"--prefix {machine.root} harrier")
    assert machine.calls[-1] == f"systemctl --root={machine.root} enable harrier@front.service"
    assert not [call for call in machine.calls if "restart" in call or "daemon-reload" in call]
    assert told[-1] == f"harrier@front.service starts when {machine.root} boots"


def test_a_user_who_is_there_is_not_made(machine, configuration):
    machine.file("etc/passwd").write_text("robot:x:1000:1000::/home/robot:/bin/sh\n")
    image_install(machine, configuration(), user="robot")
    assert not [call for call in machine.calls if call.startswith("useradd")]
    assert "User=robot\nGroup=robot\n" in machine.file(f"{FOLDER}/70-instance.conf").read_text()


@pytest.mark.parametrize(("version", "has_backoff"), [(252, False), (254, True), (257, True)])
def test_restarts_slow_down_where_systemd_can(machine, configuration, version, has_backoff):
    machine.be_systemd(version)
    image_install(machine, configuration())
    assert machine.file(f"{FOLDER}/60-backoff.conf").exists() == has_backoff


@pytest.mark.parametrize("profile", ["cpu", "jetson", "coral", "cuda"])
def test_the_board_chooses_the_drop_in(machine, configuration, profile):
    marks = {"jetson": "etc/nv_tegra_release", "coral": "dev/apex_0", "cuda": "dev/nvidiactl"}
    if profile in marks:
        machine.file(marks[profile]).parent.mkdir(parents=True, exist_ok=True)
        machine.file(marks[profile]).touch()
    told = image_install(machine, configuration())
    assert told[0].startswith(f"profile {profile}, ")
    written = machine.file(f"{FOLDER}/50-board.conf").read_text()
    assert written == (Path(__file__).parents[2] / f"systemd/drop-ins/{profile}.conf").read_text()


def test_a_coral_on_usb_is_found_by_its_numbers(machine, configuration):
    device = machine.file("sys/bus/usb/devices/2-1")
    device.mkdir(parents=True)
    (device / "idVendor").write_text("1a6e\n")
    (device / "idProduct").write_text("089a\n")
    assert image_install(machine, configuration())[0].startswith("profile coral, ")
    assert image_install(machine, configuration(), profile="cpu")[0].startswith("profile cpu, ")


def test_installing_again_changes_nothing_and_another_configuration_keeps_the_first(machine, configuration):
    first = configuration()
    before = first.read_text()
    image_install(machine, first)
    assert not [line for line in image_install(machine, first) if line.startswith("wrote")]
    image_install(machine, configuration(frame_timeout_s=2.0))
    assert machine.file("etc/harrier/front.toml.before").read_text() == before
    assert "frame_timeout_s = 2.0" in machine.file("etc/harrier/front.toml").read_text()


def test_the_configuration_in_its_place_can_be_installed_again(machine, configuration):
    image_install(machine, configuration())
    installed = machine.file("etc/harrier/front.toml")
    text = installed.read_text()
    image_install(machine, installed)
    assert installed.read_text() == text
    assert not machine.file("etc/harrier/front.toml.before").exists()


def test_a_machine_that_runs_is_told_in_the_right_order_and_waited_for(machine, configuration, live):
    told: list[str] = []
    install(InstallJob(configuration(), root=machine.root), told.append)
    asked = [call.partition(" --property")[0] for call in machine.calls]
    order = ["useradd", "udevadm control", "udevadm trigger", "udevadm settle"]  # then the parts are opened
    order += ["systemctl daemon-reload", "systemctl enable"]
    order += ["systemctl restart --no-block harrier@front.service", "systemctl show harrier@front.service"]
    positions = [next(i for i, call in enumerate(asked) if call.startswith(words)) for words in order]
    assert positions == sorted(positions)
    assert told[-1] == "harrier@front.service is running: 30.0 results/s, age 21 ms"


def test_one_that_does_not_become_ready_shows_its_log(machine, configuration, live):
    machine.show(ActiveState="activating", SubState="start", StatusText="connecting: /dev/video0", NRestarts="0")
    told: list[str] = []
    with pytest.raises(
        DeviceError, match=r"no result within 0\.3 s, its last word: connecting: /dev/video0: see harrier"
    ):
        install(InstallJob(configuration(), root=machine.root, wait_s=0.3), told.append)
    assert told[-2:] == ["  connecting: /dev/video0", "  | a line of the log"]


def test_nothing_is_installed_where_the_check_fails(machine, configuration, live):
    config = configuration(publish='["tcp://127.0.0.1:99999"]')
    with pytest.raises(ConfigError, match="names no host and port"):
        install(InstallJob(config, root=machine.root), print)
    assert not machine.file(UNIT).exists()
    assert not machine.file("etc/harrier/front.toml").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": '"nets/a.tflite"'}, "model = 'nets/a.tflite' is relative"),
        ({"model": '"~/a.tflite"'}, "model = '~/a.tflite' is relative"),
        ({"labels": '"names.txt"'}, "labels = 'names.txt' is relative"),
        ({"source": '"file://clip.mp4"'}, "source = 'file://clip.mp4' is relative"),
        ({"publish": '["unix://out.sock"]'}, "publish = 'unix://out.sock' is relative"),
    ],
)
def test_what_is_named_from_the_present_folder_is_refused(machine, configuration, changes, said):
    with pytest.raises(ConfigError) as caught:
        image_install(machine, configuration(**changes))
    assert said in str(caught.value)
    assert not machine.file(UNIT).exists()


def test_names_of_the_catalogue_and_of_installed_models_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("face", "rover-v2.1"):
        check_paths(RunConfig(model=name, source="0", publish=["tcp://127.0.0.1:7788"]))
    (tmp_path / "rover-v2.1").mkdir()  # a path wins over a name
    with pytest.raises(ConfigError, match="is relative"):
        check_paths(RunConfig(model="rover-v2.1", source="0"))


def test_what_works_otherwise_as_a_service_is_told(machine, configuration):
    publish = '["stdout://", "unix:///tmp/a.sock", "file:///srv/a.jsonl", "unix:///run/harrier/front/a.sock"]'
    warnings = [line for line in image_install(machine, configuration(publish=publish)) if line.startswith("warning")]
    assert len(warnings) == 3
    assert "goes to the log" in warnings[0]
    assert "/tmp of the service's own" in warnings[1]
    assert "/srv/a.jsonl cannot be written" in warnings[2]


def test_dry_run_writes_and_asks_nothing(machine, configuration, capsys):
    assert main(["service", "install", str(configuration()), "--root", str(machine.root), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"would write {machine.root / UNIT}" in out
    assert "ExecStart=" in out
    assert not machine.file(UNIT).exists()
    assert machine.calls == ["systemctl --version"]


@pytest.mark.parametrize("name", ["../evil", "a b", "-x", "", "a/b", "x" * 80])
def test_odd_names_are_refused(machine, configuration, name):
    config = configuration("odd name.toml")
    with pytest.raises(ConfigError, match="is no name for an instance"):
        image_install(machine, config, name=name)


def test_without_root_the_line_with_sudo_is_told(configuration, monkeypatch):
    monkeypatch.setattr(install_module.os, "geteuid", lambda: 1000)
    config = configuration()
    with pytest.raises(ConfigError) as caught:
        install(InstallJob(config), print)
    assert caught.value.cure.startswith("sudo ")
    assert caught.value.cure.endswith(f"harrier service install {config}")


def test_a_machine_without_systemd_is_told_so_in_one_line(machine, configuration, monkeypatch, capsys):
    empty = machine.root / "empty"
    empty.mkdir()
    machine.file("etc/passwd").write_text("harrier:x:999:999::/:/bin/false\n")
    monkeypatch.setenv("PATH", str(empty))
    assert main(["service", "install", str(configuration()), "--root", str(machine.root)]) == 4
    assert capsys.readouterr().err.splitlines()[-1].startswith("harrier: systemctl is not there: ")


def test_a_tool_that_fails_is_quoted(machine, configuration, capsys):
    tool = Path(machine.path.partition(os.pathsep)[0]) / "useradd"
    tool.write_text("#!/bin/sh\necho 'useradd: group files are locked' >&2\nexit 10\n")
    assert main(["service", "install", str(configuration()), "--root", str(machine.root)]) == 4
    assert "failed (useradd: group files are locked)" in capsys.readouterr().err


def test_uninstall_keeps_the_configuration_and_what_others_need(machine, configuration):
    image_install(machine, configuration())
    image_install(machine, configuration(), name="rear")
    assert instances(machine.root) == ["front", "rear"]
    told: list[str] = []
    uninstall("front", machine.root, False, told.append)
    assert machine.calls[-1] == f"systemctl --root={machine.root} disable harrier@front.service"
    assert not machine.file(FOLDER).exists()
    assert machine.file(UNIT).exists()
    assert machine.file("etc/harrier/front.toml").exists()
    assert "front.toml" in told[-1]
    uninstall("rear", machine.root, False, told.append)
    assert not machine.file(UNIT).exists()
    assert not machine.file(RULES).exists()
    with pytest.raises(ConfigError, match="there is no instance 'rear'"):
        uninstall("rear", machine.root, False, told.append)


def test_uninstall_on_a_machine_that_runs_stops_first_and_leaves_own_settings(machine, configuration, live):
    install(InstallJob(configuration(), root=machine.root), print)
    own = machine.file(f"{FOLDER}/override.conf")
    own.write_text("[Service]\nWatchdogSec=30\n")
    told: list[str] = []
    uninstall("front", machine.root, True, told.append)
    at = [machine.calls.index(f"systemctl {words}") for words in ("disable --now harrier@front.service",)]
    assert machine.calls[at[0] + 1 :][0] == "systemctl daemon-reload"
    assert own.exists()
    assert "settings of your own" in told[-1]


def test_reach_follows_folders_links_and_the_users_groups():
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to other users
        folder = Path(made)
        folder.chmod(0o755)
        closed = folder / "closed"
        closed.mkdir()
        (closed / "file").write_text("x")
        (closed / "file").chmod(0o640)
        closed.chmod(0o750)
        (folder / "link").symlink_to(closed / "file")
        (folder / "open").write_text("x")
        (folder / "open").chmod(0o644)
        assert is_reached(folder / "open", 12345, set())
        assert not is_reached(closed / "file", 12345, set())
        assert not is_reached(folder / "link", 12345, set())
        assert is_reached(closed / "file", 12345, {closed.stat().st_gid})
        assert not is_reached(folder / "missing", 12345, set())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_links_in_the_state_folder_lead_to_is_not_given_away(tmp_path):
    """Its user may have put them there; the next `sudo harrier service install` must not make him the owner."""
    state, other = tmp_path / "state", tmp_path / "other"
    (state / "models").mkdir(parents=True)
    (state / "models/m.tflite").touch()
    other.mkdir()
    (other / "secret").touch()
    (state / "link").symlink_to(other / "secret")
    (state / "folder").symlink_to(other)
    nobody = pwd.getpwnam("nobody")
    _give(state, nobody)
    own = [state, state / "models", state / "models/m.tflite", state / "link", state / "folder"]
    assert [path.lstat().st_uid for path in own] == [nobody.pw_uid] * len(own)
    assert [path.stat().st_uid for path in (other, other / "secret")] == [0, 0]
