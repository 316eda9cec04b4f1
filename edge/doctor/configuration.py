"""What a configuration needs of this machine: its source, publishers, packages, engine targets and interpreter."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.bundle import MANIFEST_NAME, locate
from edge.catalogue import home
from edge.config import EngineSection, RunConfig, read_config
from edge.doctor.cameras import Camera, cameras_of
from edge.doctor.devices import group_cure, may_use
from edge.doctor.finding import Finding, note, ok, problem, warning
from edge.doctor.interpreters import Interpreter, interpreter, own_interpreter
from edge.doctor.machine import Machine
from edge.doctor.serial_ports import console_cure, console_on
from edge.doctor.targets import Trouble, file_trouble, target_trouble
from edge.engines.kserve_address import address_of
from edge.errors import EdgeError, MissingBackendError
from edge.manifest import read_manifest
from edge.registry import PLUGS, resolve
from edge.sources.address import source_uri
from edge.uri import Uri, parse_uri

__all__ = ["config_findings"]

_GSTREAMER = ("gst", "csi")
_NOT_BUILT = "an engine that does not fit this board cannot be built again"
_WORKER_NEEDS = "a worker in that interpreter needs numpy and what runs the model"


def config_findings(machine: Machine, path: Path) -> Iterator[Finding]:
    """Yield what of a run configuration would not work on this machine."""
    try:
        config = read_config(path)
    except EdgeError as exc:
        yield _wrong("config.file", str(path), exc)
        return
    yield ok("config.file", str(path), "can be read")
    yield from _source(machine, config)
    for text in config.publish:
        yield from _publisher(machine, text)
    yield from _engine(machine, config)


def _source(machine: Machine, config: RunConfig) -> Iterator[Finding]:
    if not config.source:
        cure = 'source = "0"  # or --source'
        yield warning("config.source", "source", "none", "harrier run needs one", cure)
        return
    try:
        uri = source_uri(config.source)
    except EdgeError as exc:
        yield _wrong("config.source", "source", exc)
        return
    if missing := _missing_extra(machine, "sources", uri):
        yield missing
    if uri.scheme in _GSTREAMER and machine.tool(["gst-launch-1.0", "--version"]) is None:
        cure = "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-bad"
        yield problem("config.source", uri.scheme, "gst-launch-1.0 is not installed", "the source needs it", cure)
    elif uri.scheme == "csi":
        state = machine.tool(["systemctl", "is-active", "nvargus-daemon"])
        if state != "active":
            cure = "sudo systemctl restart nvargus-daemon"
            why = "csi:// sources get their pictures from it"
            yield problem("config.source", uri.safe_text, "nvargus-daemon is not active", why, cure)
    elif uri.scheme == "v4l2":
        yield from _camera(machine, uri)
    elif wrong := _refused(machine, "sources", uri):
        yield wrong
    else:
        yield ok("config.source", "source", uri.safe_text)


def _refused(machine: Machine, group: str, uri: Uri) -> Finding | None:
    """What Harrier says of a URI without opening anything; of another machine only whether there is such a plug."""
    name = f"config.{group[:-1]}" if group == "sources" else "config.publish"
    try:
        plug = resolve(group, uri.scheme)
        if machine.live and group == "publishers":
            plug.check(uri)
    except MissingBackendError:
        return None  # here; what the machine lacks is `config.extra`
    except EdgeError as exc:
        return _wrong(name, uri.safe_text, exc)
    return None


def _camera(machine: Machine, uri: Uri) -> Iterator[Finding]:
    path = f"/dev/video{uri.rest.strip('/')}" if re.fullmatch(r"/?\d+/?", uri.rest) else uri.rest
    cameras = cameras_of(machine)
    camera = next((each for each in cameras if path == each.device or path in each.lasting), None)
    if camera is None:
        known = ", ".join((each.lasting or (each.device,))[0] for each in cameras) or "no camera"
        found = "is there, but gives no pictures" if machine.exists(path) else "does not exist"
        cure = f"ls -l /dev/v4l/by-id/  # here: {known}"
        yield problem("config.source", path, found, "the source cannot be opened", cure)
        return
    if not may_use(machine, camera.device):
        cure = group_cure(machine, camera.device, "video")
        yield problem("config.source", path, "no permission", "the source cannot be opened", cure)
        return
    yield ok("config.source", path, camera.name or camera.device)
    yield from _size(uri, camera)
    if path == camera.device and camera.lasting and len(cameras) > 1:
        why = "numbers are given in the order of plugging: after a restart it may be another camera"
        cure = f'source = "v4l2://{camera.lasting[0]}"  # in the configuration'
        yield warning("config.identity", path, f"a number, with {len(cameras)} cameras here", why, cure)


def _size(uri: Uri, camera: Camera) -> Iterator[Finding]:
    asked = re.fullmatch(r"(\d+)x(\d+)", uri.query.get("size", ""))
    sizes = {(each.width, each.height) for each in camera.formats or () if each.width}
    if asked is None or not sizes or (int(asked[1]), int(asked[2])) in sizes:
        return
    area = int(asked[1]) * int(asked[2])
    nearest = min(sizes, key=lambda size: abs(size[0] * size[1] - area))
    why = "the camera takes another size then"
    cure = f"size={nearest[0]}x{nearest[1]} in the source's URI"
    yield warning("config.size", camera.device, f"has no size {asked[0]}", why, cure)


def _publisher(machine: Machine, text: str) -> Iterator[Finding]:
    try:
        uri = parse_uri(text)
    except EdgeError as exc:
        yield _wrong("config.publish", "publish", exc)
        return
    missing = _missing_extra(machine, "publishers", uri)
    if missing:
        yield missing
    if uri.rest.startswith("/dev/"):
        yield from _port(machine, uri.rest)
    elif wrong := _refused(machine, "publishers", uri):
        yield wrong
    elif not missing:
        yield ok("config.publish", "publish", uri.safe_text)


def _port(machine: Machine, path: str) -> Iterator[Finding]:
    why = "nothing can be published there"
    if not machine.exists(path):
        cure = "ls -l /dev/serial/by-id/  # after plugging it in"
        yield problem("config.publish", path, "does not exist", why, cure)
        return
    target = machine.path(path)
    device = f"/dev/{Path(os.readlink(target)).name}" if target.is_symlink() else path
    if console := console_on(machine, device):
        found = f"a console runs on it ({console})"
        yield problem("config.publish", path, found, "it prints between the messages", console_cure(machine, console))
    elif not may_use(machine, device):
        yield problem("config.publish", path, "no permission", why, group_cure(machine, device, "dialout"))
    else:
        yield ok("config.publish", path, "there, and may be used")


def _missing_extra(machine: Machine, group: str, uri: Uri) -> Finding | None:
    plug, own = PLUGS[group].get(uri.scheme), own_interpreter(machine)
    if plug is None or own is None:
        return None
    missing = [name for name in plug.modules if name not in own.modules]
    if not missing:
        return None
    found = f"{uri.scheme}:// needs {', '.join(missing)}, which is not installed"
    return problem("config.extra", uri.scheme, found, "it cannot start", f"pip install 'harrier-edge[{plug.extra}]'")


def _engine(machine: Machine, config: RunConfig) -> Iterator[Finding]:
    options = config.engine
    runs = own_interpreter(machine)
    if options.python:
        runs = interpreter(machine, options.python)
        yield _worker(options.python, runs)
    wanted = [options.target] if options.target and options.target != "auto" else []
    for server in [target for target in (*wanted, *options.fallback) if "://" in target]:
        yield from _server(machine, server)
    if config.model is None:
        cure = 'model = "BUNDLE"  # or --model'
        yield warning("config.model", "model", "none", "harrier run needs one", cure)
        return
    try:
        path = locate(config.model)
        yield ok("config.model", config.model, str(path))
        yield from _targets(machine, path, options, runs)
    except EdgeError as exc:
        yield _wrong("config.model", config.model, exc)


def _server(machine: Machine, text: str) -> Iterator[Finding]:
    try:
        uri = parse_uri(text)
    except EdgeError as exc:
        yield _wrong("config.target", text, exc)
        return
    if uri.scheme not in PLUGS["engines"]:
        servers = " or ".join(f"{scheme}://HOST:PORT/MODEL" for scheme in PLUGS["engines"] if "+" in scheme)
        why = "the engine cannot be opened"
        yield problem("config.target", uri.safe_text, "no server Harrier can ask", why, f'target = "{servers}"')
        return
    try:
        address_of(uri)
    except EdgeError as exc:
        yield _wrong("config.target", uri.safe_text, exc)
        return
    if missing := _missing_extra(machine, "engines", uri):
        yield missing
    else:
        yield ok("config.target", uri.safe_text, "a server, which was not asked")


def _worker(python: str, found: Interpreter | None) -> Finding:
    if found is None:
        cure = f"ls -l {python}  # and correct python under [engine]"
        return problem("config.python", python, "is no Python that runs", _WORKER_NEEDS, cure)
    if "numpy" not in found.modules:
        cure = "sudo apt install python3-numpy" if python == "/usr/bin/python3" else f"{python} -m pip install numpy"
        return problem("config.python", python, f"Python {found.version_text} without numpy", _WORKER_NEEDS, cure)
    return ok("config.python", python, f"Python {found.version_text}, numpy {found.packages.get('numpy', '')}".rstrip())


def _targets(machine: Machine, path: Path, options: EngineSection, runs: Interpreter | None) -> Iterator[Finding]:
    if not path.is_dir():
        yield _verdict(path.name, file_trouble(machine, path, runs, options), True)
        return
    manifest = read_manifest(path / MANIFEST_NAME)
    wanted = options.target if options.target and options.target != "auto" else None
    first = [wanted] if wanted else [*manifest.targets]
    troubles = {}
    for name in dict.fromkeys(name for name in (*first, *options.fallback) if name != "auto" and "://" not in name):
        target = manifest.targets.get(name)
        if target is None:
            why = f"the bundle has {', '.join(manifest.targets)}"
            cure = f"name one of these under [engine] of the configuration: {', '.join(manifest.targets)}"
            yield problem("config.target", name, "not in the bundle", why, cure)
        elif name in options.fallback:  # which runs in Harrier's own process
            own = msgspec.structs.replace(options, python=None, isolate=False)
            troubles[name] = target_trouble(machine, path, manifest, target, own_interpreter(machine), own)
        elif runs or not options.python:
            troubles[name] = target_trouble(machine, path, manifest, target, runs, options)
    usable = [name for name, trouble in troubles.items() if trouble is None]
    for name, trouble in troubles.items():
        yield _verdict(name, trouble, name == wanted or not usable)
    if options.rebuild == "auto" and not os.access(path, os.W_OK):
        yield _rebuilt_elsewhere(path)


def _rebuilt_elsewhere(path: Path) -> Finding:
    """Where engines of a bundle that cannot be written are kept, if anywhere (`edge.rebuild`)."""
    cure = f"sudo chown -R $USER {path}  # or set HARRIER_HOME to a folder this user may write"
    try:
        kept = home() / "engines"
    except EdgeError as exc:
        return problem("config.rebuild", str(path), f"cannot be written, and {exc.cause}", _NOT_BUILT, cure)
    nearest = next(folder for folder in (kept, *kept.parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        return problem("config.rebuild", str(path), f"cannot be written, nor can {nearest}", _NOT_BUILT, cure)
    why = "a service keeps them in its StateDirectory instead, this user there"
    return note("config.rebuild", str(path), f"cannot be written: engines built here are kept in {kept}", why)


def _verdict(name: str, trouble: Trouble, needed: bool) -> Finding:
    if trouble is None:
        return ok("config.target", name, "can run here")
    why = "the model cannot run with it" if needed else "another target runs instead"
    return (problem if needed else warning)("config.target", name, trouble[0], why, trouble[1])


def _wrong(name: str, subject: str, exc: EdgeError) -> Finding:
    return problem(name, subject, exc.cause, "harrier run would end with this error", exc.cure)
