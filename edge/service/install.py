"""`harrier service install` and `uninstall`: checks first, then files, user, udev and systemd, then the proof."""

import grp
import os
import pwd
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.config import RunConfig, read_config
from edge.errors import ConfigError, DeviceError
from edge.files import write_atomically
from edge.service.checking import PYTHON_CURE, check_paths, is_reached, needs_home, places, warnings_of
from edge.service.preparing import prepare, prepare_as
from edge.service.systemd import call, journal, systemd_version, unit_of, wait_until_ready
from edge.service.units import groups_here, instance_text, profile_here, shared_files, unit_files

__all__ = ["InstallJob", "install", "instances", "uninstall"]

_CONFIGS = Path("etc/harrier")
_STATE, _CACHE = Path("var/lib/harrier"), Path("var/cache/harrier")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class InstallJob:
    """What is installed where. root: "/" or the root of an image, in which live is False: nothing runs there yet."""

    config: Path
    name: str = ""
    user: str = "harrier"
    profile: str = "auto"
    root: Path = Path("/")
    live: bool = True
    dry_run: bool = False
    wait_s: float = 60.0
    log: str = "text"


def install(job: InstallJob, tell: Callable[[str], None]) -> None:
    """Install an instance, start it, and wait for its first result; `tell` gets one line after the other.

    Raises: ConfigError and others for what `harrier check` finds, DeviceError when it does not become ready.
    """
    name = _checked_name(job.name or job.config.stem)
    if not _USER.fullmatch(job.user):
        raise ConfigError(f"'{job.user}' is no name for a user", "use small letters, digits, _ and -")
    if job.live and not job.dry_run:
        _require_root("install", str(job.config.absolute()))
    config = read_config(job.config)
    check_paths(config)
    home_is_read = _check_reach(config, job)
    profile = profile_here(job.root) if job.profile == "auto" else job.profile
    groups = groups_here(job.root)
    text = instance_text(sys.executable, job.user, groups, home_is_read, job.log)
    files = {**shared_files(), **unit_files(name, profile, systemd_version(), text)}
    tell(f"profile {profile}, user {job.user}, groups {', '.join(groups) or 'none'}, python {sys.executable}")
    for warning in warnings_of(config):
        tell(f"warning: {warning}")
    if job.dry_run:
        for path, content in files.items():
            tell(f"would write {job.root / path}" + (f":\n{content}" if path.name == "70-instance.conf" else ""))
        tell(f"would write {job.root / _CONFIGS / f'{name}.toml'} and start {unit_of(name)}")
        return
    _make_user(job, groups)
    if job.live:
        _name_devices(job, tell)
    _prepare_state(job, config, groups)
    _write_files(job.root, files, name, tell)
    _place_config(job, name, tell)
    if job.live:
        _start(job, name, tell)
    else:
        call(["systemctl", f"--root={job.root}", "enable", unit_of(name)])
        tell(f"{unit_of(name)} starts when {job.root} boots")


def uninstall(name: str, root: Path, live: bool, tell: Callable[[str], None]) -> None:
    """Stop an instance and remove its unit files; configuration, models and logs stay.

    Raises: ConfigError when there is no such instance, DeviceError when systemd does not obey.
    """
    folder = root / "etc/systemd/system" / f"{unit_of(_checked_name(name))}.d"
    config = root / _CONFIGS / f"{name}.toml"
    if not (folder / "70-instance.conf").exists():
        known = ", ".join(instances(root)) or "none"
        raise ConfigError(f"there is no instance '{name}'", f"installed: {known}")
    if live:
        _require_root("uninstall", name)
        call(["systemctl", "disable", "--now", unit_of(name)])
    else:
        call(["systemctl", f"--root={root}", "disable", unit_of(name)])
    for path in (folder / f"{part}.conf" for part in ("50-board", "60-backoff", "70-instance")):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # somebody's own settings stay
        folder.rmdir()
    if not instances(root):
        for path in shared_files():
            (root / path).unlink(missing_ok=True)
    if live:
        call(["systemctl", "daemon-reload"])
        with suppress(DeviceError):  # nothing to clear where it never failed
            call(["systemctl", "reset-failed", unit_of(name)])
    tell(f"{unit_of(name)} is gone; {config} and {root / _STATE} stay: delete them yourself if they are not wanted")
    if folder.exists():
        tell(f"{folder} stays, it has settings of your own")


def instances(root: Path = Path("/")) -> list[str]:
    """Return the names of the instances that were installed under `root`."""
    found = (root / "etc/systemd/system").glob("harrier@*.service.d/70-instance.conf")
    return sorted(path.parent.name[len("harrier@") : -len(".service.d")] for path in found)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is no name for an instance", "give --name with letters, digits, - and _")
    return name


def _require_root(action: str, what: str) -> None:
    if os.geteuid() != 0:
        command = Path(sys.executable).with_name("harrier")
        raise ConfigError(f"to {action} a service needs root", f"sudo {command} service {action} {what}")


def _check_reach(config: RunConfig, job: InstallJob) -> bool:
    """Check that the service's user reaches all it reads; return whether that lies in a home. Raises: ConfigError."""
    uid, gids = -1, set()
    if job.root == Path("/"):
        with suppress(KeyError):
            entry = pwd.getpwnam(job.user)
            uid, gids = entry.pw_uid, set(os.getgrouplist(job.user, entry.pw_gid))
    installed = [Path(sys.executable), Path(__file__)]
    for path in installed if job.live else []:
        if not is_reached(path, uid, gids):
            raise ConfigError(f"the user {job.user} may not reach {path}", PYTHON_CURE)
    data = places(config)
    for path in data if job.live else []:
        if not path.exists():
            raise ConfigError(f"there is no {path}", "check the configuration")
        if not is_reached(path, uid, gids):
            cure = f"copy it to /var/lib/harrier and name it from there, or give {job.user} access"
            raise ConfigError(f"the user {job.user} may not read {path}", cure)
    return needs_home(installed + data)


def _make_user(job: InstallJob, groups: list[str]) -> None:
    """Make the service's user where there is none. Raises: DeviceError."""
    try:
        known = {line.partition(":")[0] for line in (job.root / "etc/passwd").read_text().splitlines()}
    except OSError:
        known = set()
    if job.user in known:
        return
    words = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/harrier"]
    words += ["--shell", "/usr/sbin/nologin", *(["--groups", ",".join(groups)] if groups else [])]
    call([*words, *([] if job.root == Path("/") else ["--prefix", str(job.root)]), job.user])


def _name_devices(job: InstallJob, tell: Callable[[str], None]) -> None:
    """Write udev's rules and let it follow them: the service's user may open its accelerator only then."""
    rules = {path: text for path, text in shared_files().items() if path.suffix == ".rules"}
    _write_changed(job.root, rules, tell)
    try:
        call(["udevadm", "control", "--reload"])
        subsystems = (f"--subsystem-match={name}" for name in ("video4linux", "tty", "usb", "apex"))
        call(["udevadm", "trigger", *subsystems])
        call(["udevadm", "settle", "--timeout=10"])
    except DeviceError as exc:
        tell(f"warning: the names under /dev/harrier come with the next start of the machine: {exc}")


def _prepare_state(job: InstallJob, config: RunConfig, groups: list[str]) -> None:
    """Put the model where the service finds it, and check the parts as it will, as its user. Raises: EdgeError."""
    state, cache = job.root / _STATE, job.root / _CACHE
    own = [state, cache]
    if job.live:  # sockets and files in them are checked
        own += [job.root / "run/harrier" / _checked_name(job.name or job.config.stem), job.root / "var/log/harrier"]
    try:
        for folder in own:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot make {folder} ({exc.strerror})", "check the disk") from exc
    user = _user_here(job)
    if user is None:
        prepare(config, state, job.live)
        return
    _give(state, user)  # what an older version, or somebody by hand, put there as root
    for folder in own[1:]:
        os.chown(folder, user.pw_uid, user.pw_gid, follow_symlinks=False)  # as systemd will
    prepare_as(user, {grp.getgrnam(group).gr_gid for group in groups}, config, state, cache, job.live)


def _user_here(job: InstallJob) -> pwd.struct_passwd | None:
    """The service's user where this process can start another as it: root, on the machine itself. Raises: ConfigError.

    In an image nothing of that user's runs yet.
    """
    if os.geteuid() != 0 or job.root != Path("/"):
        return None
    try:
        return pwd.getpwnam(job.user)
    except KeyError:
        raise ConfigError(f"there is no user {job.user}", "give --user, or see what useradd says") from None


def _give(folder: Path, user: pwd.struct_passwd) -> None:
    """Make a folder and all in it a user's; not what links in it, which may be of that user's making, lead to."""
    for _, folders, files, inside in os.fwalk(folder.resolve()):
        for name in (".", *folders, *files):
            os.chown(name, user.pw_uid, user.pw_gid, dir_fd=inside, follow_symlinks=False)


def _write_files(root: Path, files: dict[Path, str], name: str, tell: Callable[[str], None]) -> None:
    """Write the unit files that differ from what is there. Raises: ConfigError."""
    stale = root / "etc/systemd/system" / f"{unit_of(name)}.d" / "60-backoff.conf"
    if stale.relative_to(root) not in files:
        stale.unlink(missing_ok=True)
    _write_changed(root, files, tell)


def _write_changed(root: Path, files: dict[Path, str], tell: Callable[[str], None]) -> None:
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_text(encoding="utf-8", errors="replace") != text:
            write_atomically(target, text)
            tell(f"wrote {target}")


def _place_config(job: InstallJob, name: str, tell: Callable[[str], None]) -> None:
    """Copy the configuration to its place, keeping one that differs. Raises: ConfigError."""
    target, new, old = job.root / _CONFIGS / f"{name}.toml", job.config.read_bytes(), b""
    target.parent.mkdir(parents=True, exist_ok=True)
    mask = os.umask(0o077)  # it may hold passwords and tokens
    try:
        if target.is_file() and (old := target.read_bytes()) != new:
            kept = target.with_name(f"{name}.toml.before")
            write_atomically(kept, old)
            tell(f"kept the configuration that was there as {kept}")
        if not target.is_file() or old != new:
            write_atomically(target, new)
            tell(f"wrote {target}")
    finally:
        os.umask(mask)
    target.chmod(0o640)
    if job.root == Path("/"):
        with suppress(LookupError, PermissionError):
            shutil.chown(target, "root", job.user)


def _start(job: InstallJob, name: str, tell: Callable[[str], None]) -> None:
    """Let systemd read the files, start the instance and wait for it. Raises: DeviceError."""
    call(["systemctl", "daemon-reload"])
    call(["systemctl", "enable", unit_of(name)])
    call(["systemctl", "restart", "--no-block", unit_of(name)])
    try:
        found = wait_until_ready(name, job.wait_s, lambda status: tell(f"  {status}"))
    except DeviceError:
        for line in journal(name, _LOG_LINES):
            tell(f"  | {line}")
        raise
    tell(f"{unit_of(name)} is running: {found.get('StatusText') or 'ready'}")
