"""`harrier model`: what is not signed, not whole or sees something else is not installed."""

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

from edge import slots
from edge.cli import main
from edge.golden import write_golden
from edge.manifest import sha256_of

crypto = pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.ed25519", reason="cryptography is not installed (extra 'sign')"
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: E402

from edge import signatures  # noqa: E402

NULL = '[[inputs]]\nname = "x"\nshape = [1, 8, 8, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "s"\nshape = [1, 3]\n'
KEY_ID = b"\x01\x02\x03\x04\x05\x06\x07\x08"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bundle(tmp_path):
    def make(fill: float = 0.5) -> Path:
        folder = tmp_path / f"bundle-{fill}"
        folder.mkdir()
        text = NULL + f"fill = {fill}\n"
        (folder / "m.null").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        (folder / "manifest.toml").write_text(
            f'name = "front"\n[targets.first]\nfile = "m.null"\nsha256 = "{digest}"\n'
            'outputs = { scores = "s" }\n[input]\n[decoder]\nfamily = "classification"\n'
        )
        return folder

    return make


@pytest.fixture
def zipped(bundle, tmp_path) -> Path:
    return Path(shutil.make_archive(str(tmp_path / "front"), "zip", bundle()))


class Signer:
    """Signs as minisign does, for what its program would not write."""

    def __init__(self, folder: Path) -> None:
        self.private = crypto.Ed25519PrivateKey.generate()
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = folder / "key.pub"
        self.key.write_text(f"untrusted comment: a key\n{base64.b64encode(b'Ed' + KEY_ID + public).decode()}\n")

    def sign(self, file: Path, prehashed: bool = True, key_id: bytes = KEY_ID) -> Path:
        content = file.read_bytes()
        signature = self.private.sign(hashlib.blake2b(content).digest() if prehashed else content)
        overall = self.private.sign(signature + b"version 7")
        line = base64.b64encode((b"ED" if prehashed else b"Ed") + key_id + signature).decode()
        path = file.with_name(file.name + ".minisig")
        path.write_text(
            f"untrusted comment: x\n{line}\ntrusted comment: version 7\n{base64.b64encode(overall).decode()}\n"
        )
        return path


@pytest.mark.parametrize("prehashed", [True, False])
def test_a_signed_zip_is_installed(zipped, tmp_path, capsys, prehashed):
    signer = Signer(tmp_path)
    signer.sign(zipped, prehashed)
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 0
    told = capsys.readouterr()
    assert "signature: version 7" in told.err
    assert slots.current("front").name in told.out


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda z, s: z.write_bytes(z.read_bytes() + b"x"), "is not what was signed"),
        (lambda z, s: s.unlink(), "has no signature"),
        (lambda z, s: s.write_text("garbage"), "has no signature"),
        (lambda z, s: s.write_text(s.read_text().replace("version 7", "version 8")), "is not what was signed"),
        (lambda z, s: s.write_bytes(b"\xff\x00\n" * 5), "has no signature"),
    ],
)
def test_what_was_changed_is_not_installed(zipped, tmp_path, capsys, harm, said):
    signer = Signer(tmp_path)
    harm(zipped, signer.sign(zipped))
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 3
    assert said in capsys.readouterr().err
    assert slots.current("front") is None


def packed(folder: Path) -> bytes:
    return Path(shutil.make_archive(str(folder), "zip", folder)).read_bytes()


def test_a_file_that_is_exchanged_after_the_check_is_not_what_is_installed(
    zipped, bundle, tmp_path, monkeypatch, capsys
):
    other = packed(bundle(0.9))
    signer = Signer(tmp_path)
    signer.sign(zipped)
    check = signatures.check_signature

    def check_and_exchange(*arguments: object) -> str:
        comment = check(*arguments)
        zipped.write_bytes(other)
        return comment

    monkeypatch.setattr(signatures, "check_signature", check_and_exchange)
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 0
    assert "fill = 0.5" in (slots.current("front") / "m.null").read_text()
    monkeypatch.setattr(signatures, "check_signature", check)
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 3
    assert "is not what was signed" in capsys.readouterr().err


def test_a_zip_that_is_exchanged_for_a_folder_is_not_installed(zipped, bundle, tmp_path, monkeypatch):
    signer = Signer(tmp_path)
    signer.sign(zipped)
    other = bundle(0.9)
    check = signatures.check_signature

    def check_and_exchange(*arguments: object) -> str:
        comment = check(*arguments)
        zipped.unlink()
        other.rename(zipped)
        return comment

    monkeypatch.setattr(signatures, "check_signature", check_and_exchange)
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 0
    assert "fill = 0.5" in (slots.current("front") / "m.null").read_text()


def test_what_is_exchanged_while_it_is_unpacked_does_not_lie_under_the_hash_of_what_was_there(
    zipped, bundle, tmp_path, monkeypatch
):
    """Else the signed zip with that hash would be taken for unpacked already, later, with another's content."""
    signed, other = zipped.read_bytes(), packed(bundle(0.9))
    signer = Signer(tmp_path)
    signer.sign(zipped)

    def hash_and_exchange(path: Path) -> str:
        digest = sha256_of(path)
        if path == zipped:
            path.write_bytes(other)
        return digest

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("edge.bundle.sha256_of", hash_and_exchange)
        assert main(["model", "install", str(zipped)]) == 0  # without a key it may be anything
    zipped.write_bytes(signed)
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 0
    assert "fill = 0.5" in (slots.current("front") / "m.null").read_text()


def test_a_home_that_is_no_folder_is_told_in_one_line(zipped, home, capsys):
    home.write_text("a file")
    assert main(["model", "install", str(zipped), "--name", "front"]) == 3
    assert "check HARRIER_HOME" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["front.zip", "front.null"])
def test_what_is_signed_and_no_bundle_is_refused_in_one_line(tmp_path, capsys, name):
    file = tmp_path / name
    file.write_text("no zip")
    signer = Signer(tmp_path)
    signer.sign(file)
    assert main(["model", "install", str(file), "--public-key", str(signer.key)]) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("harrier: ")
    assert ("cannot unpack" in told[-1]) == (name == "front.zip")


def test_another_key_and_a_key_that_is_none_are_refused(zipped, tmp_path, capsys):
    signer = Signer(tmp_path)
    signer.sign(zipped, key_id=b"12345678")
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 3
    assert "with another key" in capsys.readouterr().err
    signer.key.write_text("not a key")
    assert main(["model", "install", str(zipped), "--public-key", str(signer.key)]) == 2
    assert "no minisign public key" in capsys.readouterr().err


def test_a_trusted_key_that_is_gone_lets_nothing_in(zipped, home, capsys):
    home.mkdir(exist_ok=True)
    (home / "trusted.pub").symlink_to("/nowhere/robot.pub")
    assert main(["model", "install", str(zipped), "--name", "front"]) == 2
    assert "is no minisign public key" in capsys.readouterr().err
    assert slots.current("front") is None


def test_where_a_key_is_trusted_nothing_unsigned_comes_in(zipped, bundle, tmp_path, home, capsys):
    signer = Signer(tmp_path)
    home.mkdir()
    shutil.copy(signer.key, home / "trusted.pub")
    assert main(["model", "install", str(zipped)]) == 3
    assert main(["model", "install", str(bundle(0.6))]) == 3
    assert "no file that could be signed" in capsys.readouterr().err
    signer.sign(zipped)
    assert main(["model", "install", str(zipped)]) == 0


@pytest.mark.skipif(not shutil.which("minisign"), reason="the program minisign is not installed")
@pytest.mark.parametrize("legacy", [True, False])
def test_what_minisign_itself_signs_is_taken(zipped, tmp_path, legacy):
    key, secret = tmp_path / "k.pub", tmp_path / "k.key"
    made = subprocess.run(["minisign", "-GWf", "-p", key, "-s", secret], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    words = ["minisign", "-Sm", str(zipped), "-s", str(secret), *(["-l"] if legacy else [])]
    signed = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert signed.returncode == 0, signed.stderr
    assert main(["model", "install", str(zipped), "--public-key", str(key)]) == 0


def test_versions_are_listed_and_taken_back(bundle, capsys):
    assert main(["model", "install", str(bundle(0.5))]) == 0
    assert main(["model", "install", str(bundle(0.6)), "--name", "front"]) == 0
    second = slots.current("front").name
    capsys.readouterr()
    assert main(["model", "list"]) == 0
    told = capsys.readouterr().out
    assert f"{second}  current (on trial)" in told
    assert told.count("previous") == 1
    assert main(["model", "rollback", "front"]) == 0
    assert slots.current("front").name != second
    assert main(["model", "rollback", "back"]) == 3


def test_a_bundle_that_sees_something_else_than_it_did_is_not_installed(catalogue, tmp_path, capsys):
    folder = tmp_path / "face"
    shutil.copytree(catalogue("face"), folder)
    picture = cv2.imread(str(next(catalogue("astronaut").glob("*.png"))))
    name = next(line for line in (folder / "manifest.toml").read_text().splitlines() if line.startswith("[targets."))
    target = name.strip("[]").split(".")[1]
    write_golden(folder, picture, target, [target])
    assert main(["model", "install", str(folder), "--name", "face2"]) == 0
    assert "golden picture:" in capsys.readouterr().err
    results = folder / "golden/results.json"
    text = results.read_text()
    for key, more in (("xyxy", "[1, 1, 5, 5]"), ("class_ids", "0"), ("scores", "0.99")):
        text = text.replace(f'"{key}": [', f'"{key}": [{more}, ', 1)
    results.write_text(text)
    assert main(["model", "install", str(folder), "--name", "face3"]) == 5
    assert slots.current("face3") is None
