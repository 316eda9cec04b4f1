"""Installed models: what runs is always a whole version, and one that does not prove itself is taken back."""

import hashlib
import shutil
from pathlib import Path

import pytest

from edge import slots
from edge.bundle import locate
from edge.errors import ConfigError, ManifestError

NULL = '[[inputs]]\nname = "x"\nshape = [1, 8, 8, 3]\nlayout = "NHWC"\n[[outputs]]\nname = "s"\nshape = [1, 3]\n'


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HARRIER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bundle(tmp_path):
    """Make a bundle of a classifier that gives this score."""

    def make(fill: float, hashed: bool = True) -> Path:
        folder = tmp_path / f"bundle-{fill}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        text = NULL + f"fill = {fill}\n"
        (folder / "m.null").write_text(text)
        digest = f'sha256 = "{hashlib.sha256(text.encode()).hexdigest()}"\n' if hashed else ""
        (folder / "manifest.toml").write_text(
            f'name = "m"\nlabels = ["a", "b", "c"]\n[targets.first]\nfile = "m.null"\n{digest}'
            'outputs = { scores = "s" }\n[input]\n[decoder]\nfamily = "classification"\n'
        )
        return folder

    return make


def fill_of(path: Path | None) -> str:
    assert path is not None
    return (path / "m.null").read_text().rpartition("= ")[2].strip()


def test_the_first_version_runs_at_once_and_is_not_on_trial(bundle):
    assert slots.current("front") is None
    path = slots.install("front", bundle(0.1))
    assert slots.current("front") == path == locate("front")
    assert slots.on_trial("front") is None
    assert slots.roll_back("front") is None


def test_the_next_version_is_on_trial_until_it_is_confirmed(bundle):
    first = slots.install("front", bundle(0.1))
    second = slots.install("front", bundle(0.2))
    assert fill_of(slots.current("front")) == "0.2"
    assert slots.on_trial("front").version == second.name
    assert slots.versions("front") == {first.name: "previous", second.name: "current"}
    slots.confirm("front")
    assert slots.on_trial("front") is None
    assert slots.current("front") == second


def test_it_is_taken_back(bundle):
    first = slots.install("front", bundle(0.1))
    second = slots.install("front", bundle(0.2))
    assert slots.roll_back("front") == first
    assert slots.current("front") == first
    assert slots.on_trial("front") is None
    assert slots.versions("front")[second.name] == "previous"


def test_a_version_that_is_started_again_and_again_is_taken_back_at_the_third_start(bundle):
    first = slots.install("front", bundle(0.1))
    second = slots.install("front", bundle(0.2))
    assert [slots.begin("front") for _ in range(4)] == [second, second, first, first]


def test_a_confirmed_version_may_start_as_often_as_it_likes(bundle):
    slots.install("front", bundle(0.1))
    second = slots.install("front", bundle(0.2))
    slots.confirm("front")
    assert {slots.begin("front") for _ in range(5)} == {second}


def test_two_are_kept_and_what_proved_itself_is_one_of_them(bundle):
    proven = slots.install("front", bundle(0.1))
    slots.install("front", bundle(0.2))
    third = slots.install("front", bundle(0.3))  # the second never proved itself
    assert slots.versions("front") == {proven.name: "previous", third.name: "current"}
    slots.confirm("front")
    fourth = slots.install("front", bundle(0.4))
    assert slots.versions("front") == {third.name: "previous", fourth.name: "current"}


def test_the_same_bundle_again_changes_nothing(bundle):
    slots.install("front", bundle(0.1))
    second = slots.install("front", bundle(0.2))
    slots.confirm("front")
    assert slots.install("front", bundle(0.2)) == second
    assert slots.on_trial("front") is None


def test_files_that_are_not_what_the_manifest_says_are_refused(bundle):
    slots.install("front", bundle(0.1))
    changed = bundle(0.2)
    (changed / "m.null").write_text(NULL + "fill = 0.9\n")
    with pytest.raises(ManifestError, match="SHA-256 differs"):
        slots.install("front", changed)
    with pytest.raises(ManifestError, match="has no sha256"):
        slots.install("front", bundle(0.3, hashed=False))
    assert fill_of(slots.current("front")) == "0.1"


def test_a_copy_that_was_cut_short_is_made_anew(bundle, home):
    slots.install("front", bundle(0.1))
    made = bundle(0.2)
    version = slots.verified(made)
    partial = home / "installed/front/versions" / f".{version}.partial"
    partial.mkdir()
    (partial / "m.null").write_text("half")
    assert fill_of(slots.install("front", made)) == "0.2"
    assert not partial.exists()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "Front", ".hidden", "-x"])
def test_a_name_that_is_a_path_is_refused(bundle, name):
    with pytest.raises(ConfigError, match="cannot be a name"):
        slots.install(name, bundle(0.1))


def test_a_link_to_nothing_and_a_broken_trial_are_as_if_they_were_not_there(bundle, home):
    slots.install("front", bundle(0.1))
    slots.install("front", bundle(0.2))
    (home / "installed/front/trial.json").write_text("{broken")
    assert slots.on_trial("front") is None
    shutil.rmtree(slots.current("front"))
    assert slots.current("front") is None


def test_a_version_that_was_damaged_since_is_installed_again(bundle):
    path = slots.install("front", bundle(0.1))
    (path / "m.null").write_text("damaged")
    assert slots.install("front", bundle(0.1)) == path
    assert fill_of(slots.current("front")) == "0.1"


def test_a_name_leads_nowhere_else(bundle, home):
    slots.install("front", bundle(0.1))
    slots.install("front", bundle(0.2))
    (home / "installed/front").rename(home / "front")
    assert slots.current("../front") is None
    assert slots.roll_back("../front") is None
    assert fill_of(home / "front/current") == "0.2"


def test_a_bundle_with_other_labels_is_another_version(tmp_path, bundle):
    made = bundle(0.1)
    manifest = made / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('["a", "b", "c"]', '"labels.txt"'))
    (made / "labels.txt").write_text("a\nb\nc\n")
    first = slots.install("front", made)
    (made / "labels.txt").write_text("a\nb\nd\n")
    second = slots.install("front", made)
    assert second != first
    assert (second / "labels.txt").read_text() == "a\nb\nd\n"
    assert slots.on_trial("front").version == second.name
