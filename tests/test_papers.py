"""Configuration, manifest, URIs and the registry: what they accept, and how they explain what they do not."""

from pathlib import Path

import msgspec
import pytest

from edge import registry
from edge.config import read_config
from edge.errors import ConfigError, ManifestError, MissingBackendError
from edge.manifest import read_labels, read_manifest, sha256_of, verify_file
from edge.uri import parse_uri

MANIFEST = """
name = "m"
labels = ["a", "b"]
[input]
size_wh = [8, 8]
[decoder]
family = "yolox"
[targets.onnx]
file = "m.onnx"
outputs = { raw = "output" }
"""


class Options(msgspec.Struct, forbid_unknown_fields=True):
    loop: bool = False
    size: tuple[int, int] | None = None
    fps: float = 30.0


@pytest.mark.parametrize(
    ("text", "rest", "options"),
    [
        ("file:///a/b%20c.mp4?loop=yes&size=640x480&fps=12.5", "/a/b c.mp4", Options(True, (640, 480), 12.5)),
        ("file://relative.mp4", "relative.mp4", Options()),
        ("tcp://127.0.0.1:7788?loop=off", "127.0.0.1:7788", Options()),
        ("gst://videotestsrc pattern=1 ! a?b&c", "videotestsrc pattern=1 ! a?b&c", Options()),
    ],
)
def test_uris_come_apart(text, rest, options):
    uri = parse_uri(text)
    assert uri.rest == rest
    assert uri.options(Options) == options


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("face.mp4", "is not a URI"),
        ("file://x?lop=1", "unknown key 'lop': did you mean 'loop'"),
        ("file://x?fps=fast", "'fps'"),
        ("file://x?loop", "malformed query"),
        ("unix:///tmp/a%00b", "has a zero byte"),
        ("ws://127.0.0.1:1?page=%00", "has a zero byte"),
    ],
)
def test_wrong_uris_are_explained(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_uri(text).options(Options)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://robot:SECRET@10.0.0.1/stream",
        "rtsp://robot:x/SECRET@y@10.0.0.1/stream?foo",
        "rtsp://10.0.0.1/stream?usr=a&pwd=SECRET",
        "rtsp://10.0.0.1/stream?access_token=SECRET&x=1",
        "file://robot:SECRET@x?broken",
    ],
)
def test_no_form_of_secret_is_shown(text):
    try:
        assert "SECRET" not in parse_uri(text).safe_text
    except ConfigError as exc:
        assert "SECRET" not in str(exc)


def test_passwords_stay_out_of_messages():
    uri = parse_uri("rtsp://robot:secret@10.0.0.1/stream?lop=1")
    assert "secret" not in uri.safe_text
    with pytest.raises(ConfigError) as caught:
        uri.options(Options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["tcp://127.0.0.1", "tcp://h:70000", "tcp://h:80/x", "tcp://"])
def test_hosts_need_a_port(text):
    with pytest.raises(ConfigError, match="names no host and port"):
        parse_uri(text).host_port()


def test_ipv6_hosts_are_understood():
    assert parse_uri("tcp://[::1]:80").host_port() == ("::1", 80)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('modle = "face"', "unknown key 'modle': did you mean 'model'"),
        ("[thresholds]\nscor = 1", r"unknown key 'scor' in \[thresholds\]: did you mean 'score'"),
        ("[thresholds]\nscore = 7", "'thresholds.score'.*<= 1.0"),
        ("model = 3", "'model'.*str"),
        ('publish = "stdout://"', "'publish'.*array"),
        ("[engine]\nthreads = 0", "'engine.threads'"),
        ('[thresholds]\nnms = "weightd"', "'thresholds.nms'.*did you mean 'weighted'"),
        ("frame_timeout_s = inf", "'frame_timeout_s'"),
        ("a =", "not valid TOML"),
    ],
)
def test_wrong_configurations_name_the_key_and_the_cure(tmp_path, text, says):
    path = tmp_path / "robot.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_config(path)
    assert "robot.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_configurations_that_cannot_be_read_are_explained(tmp_path, content):
    path = tmp_path / "robot.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="robot.toml"):
        read_config(path)


def test_a_manifest_reads_back(tmp_path):
    (tmp_path / "manifest.toml").write_text(MANIFEST)
    manifest = read_manifest(tmp_path / "manifest.toml")
    assert manifest.input.size_wh == (8, 8)
    assert manifest.targets["onnx"].outputs == {"raw": "output"}
    assert read_labels(manifest, tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("size_wh = [8, 8]", "size = [8, 8]", "unknown key 'size'"),
        ("size_wh = [8, 8]", "size_wh = [8, 0]", "size_wh"),
        ("size_wh = [8, 8]", "scale = 0.0", "must not be 0"),
        ('file = "m.onnx"', "", "missing required field"),
        ('file = "m.onnx"', 'file = "m.onnx"\nsha = "0"', "unknown key 'sha'.*sha256"),
        ("size_wh = [8, 8]", "mean = [nan, 0, 0]", "finite"),
        ('name = "m"', 'name = "m"\nformat = 2', "format"),
        ('file = "m.onnx"', 'file = "../m.onnx"', "does not lie inside the bundle"),
        ('file = "m.onnx"', 'file = "/m.onnx"', "does not lie inside the bundle"),
        ('["a", "b"]', '"../names.txt"', "does not lie inside the bundle"),
    ],
)
def test_wrong_manifests_are_explained(tmp_path, old, new, says):
    (tmp_path / "manifest.toml").write_text(MANIFEST.replace(old, new))
    with pytest.raises(ManifestError, match=says):
        read_manifest(tmp_path / "manifest.toml")


def test_labels_come_from_a_file_too(tmp_path):
    (tmp_path / "manifest.toml").write_text(MANIFEST.replace('["a", "b"]', '"names.txt"'))
    manifest = read_manifest(tmp_path / "manifest.toml")
    with pytest.raises(ManifestError, match="cannot read labels"):
        read_labels(manifest, tmp_path)
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n\r\n")  # as Windows editors write it
    assert read_labels(manifest, tmp_path) == ["cat", "dog"]


def test_a_changed_model_file_is_noticed(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(ManifestError, match="no model file"):
        verify_file(path, None)
    path.write_bytes(b"weights")
    verify_file(path, sha256_of(path).upper())
    digest = sha256_of(path)
    path.write_bytes(b"other weights")
    with pytest.raises(ManifestError, match="not the file its manifest describes"):
        verify_file(path, digest)


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in registry.PLUGS for name in registry.names(group)]
)
def test_every_row_of_the_registry_resolves(group, name):
    try:
        assert callable(registry.resolve(group, name))
    except MissingBackendError as exc:
        pytest.skip(str(exc))


def test_unknown_plugs_are_explained():
    with pytest.raises(ConfigError, match="there is no source 'vl42': did you mean 'v4l2'"):
        registry.resolve("sources", "vl42")


def test_a_missing_extra_gives_its_install_line(monkeypatch):
    row = registry.Plug("edge.tests_absent:Nothing", "serial", ("edge",))
    monkeypatch.setitem(registry.PLUGS["publishers"], "serial", row)
    with pytest.raises(MissingBackendError, match=r"pip install 'harrier-edge\[serial\]'"):
        registry.resolve("publishers", "serial")


def test_other_import_errors_pass_through(monkeypatch):
    monkeypatch.setitem(registry.PLUGS["publishers"], "x", registry.Plug("edge.absent:X", "x", ("serial",)))
    with pytest.raises(ModuleNotFoundError):
        registry.resolve("publishers", "x")


class FakePoint:
    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value

    def load(self) -> type:
        return Path


def test_third_parties_plug_in_and_clashes_are_refused(monkeypatch):
    points = [FakePoint("laser", "one:Laser")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "edge.sources" else [])
    assert registry.resolve("sources", "laser") is Path
    points.append(FakePoint("laser", "two:Laser"))
    with pytest.raises(ConfigError, match="claimed by one:Laser and two:Laser"):
        registry.resolve("sources", "laser")
