"""Results from before stand only as long as nothing that could change them has changed."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from same_for_all import TENSORS

from edge.config import Thresholds
from edge.errors import ConfigError, ManifestError
from edge.evaluation import runner
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.datasets import Sample
from edge.evaluation.evaluate import evaluate
from edge.evaluation.runner import RunSettings, run_dataset, second_reference
from edge.evaluation.store import ResultStore, Seen

MANIFEST = """
format = 1
name = "two"

[targets.one]
file = "one.null"
outputs = { scores = "scores" }

[targets.other]
file = "other.null"
outputs = { scores = "scores" }

[input]
scale = 1.0

[decoder]
family = "classification"
"""


def nothing() -> Seen:
    return Seen((64, 48), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle with the targets one and other, and a folder `set` with two pictures in class folders."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("one", "other"):
        (folder / f"{name}.null").write_text(TENSORS)
    (folder / "manifest.toml").write_text(MANIFEST)
    for name in ("0", "1"):
        (tmp_path / "set" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / name / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    return folder


@pytest.fixture
def sample(tmp_path) -> Sample:
    (tmp_path / "a.jpg").write_bytes(b"1234")
    return Sample("a.jpg", tmp_path / "a.jpg", (64, 48))


def is_known(folder: Path, sample: Sample) -> bool:
    with ResultStore(folder, {}) as store:
        return store.known(sample)


def test_a_picture_is_known_until_its_bytes_its_time_or_its_annotated_size_change(tmp_path, sample):
    store = tmp_path / "kept"
    assert not is_known(store, sample)
    with ResultStore(store, {}) as kept:
        kept.add(sample, nothing())
    assert is_known(store, sample)
    before = sample.path.stat()
    sample.path.write_bytes(b"5678")  # as many bytes as before
    os.utime(sample.path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert not is_known(store, sample)
    sample.path.write_bytes(b"12345")
    os.utime(sample.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_known(store, sample)
    sample.path.write_bytes(b"1234")
    os.utime(sample.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_known(store, sample)
    sample.size_wh = (48, 64)  # decides whether EXIF data turn the picture
    assert not is_known(store, sample)
    sample.size_wh = (64, 48)
    sample.path.unlink()
    assert not is_known(store, sample)


def test_a_whole_line_without_its_end_is_computed_again(tmp_path, sample):
    """What is appended next would stand on the same line."""
    store = tmp_path / "kept"
    with ResultStore(store, {}) as kept:
        kept.add(sample, nothing())
    (path,) = store.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip(b"\n"))
    assert not is_known(store, sample)
    with ResultStore(store, {}) as kept:
        kept.add(sample, nothing())
    assert path.read_bytes() == whole


def test_a_result_is_in_the_file_at_once(tmp_path, sample):
    with ResultStore(tmp_path / "kept", {}) as kept:
        kept.add(sample, nothing())
        assert is_known(tmp_path / "kept", sample)  # as after a kill here


def test_other_threads_and_another_library_give_other_files(bundle, tmp_path, monkeypatch):
    dataset = read_dataset(tmp_path / "set")

    def run(threads: int | None) -> int:
        settings = RunSettings(str(bundle), "one", score=0.0, threads=threads)
        model = settings.open()
        run_dataset(model, settings, dataset, tmp_path / "kept")
        model.close()
        return len(list((tmp_path / "kept").glob("*.jsonl")))

    assert [run(None), run(None), run(1), run(2), run(1)] == [1, 1, 2, 3, 3]
    monkeypatch.setattr(runner, "version", lambda name: "99.0")
    assert run(1) == 4


def test_compare_takes_another_target_of_the_bundle_before_another_model(bundle):
    first = RunSettings(str(bundle), "one", "labels.txt", 0.3, Thresholds(iou=0.6), 2)
    second = second_reference(first, "other")
    assert (second.reference, second.target) == (str(bundle), "other")
    assert (second.labels, second.score, second.thresholds, second.threads) == ("labels.txt", 0.3, first.thresholds, 2)
    second = second_reference(first, str(bundle / "other.null"))
    assert (second.reference, second.target) == (str(bundle / "other.null"), None)
    with pytest.raises(ManifestError, match="'third' is neither a target of .*its targets: --compare one, --compare o"):
        second_reference(first, "third")
    with pytest.raises(ManifestError, match="there is no model 'third'"):
        second_reference(RunSettings(str(bundle / "one.null")), "third")


def test_two_targets_of_a_bundle_are_evaluated_each(bundle, tmp_path):
    first = RunSettings(str(bundle), "one", score=0.0)
    report = evaluate(read_dataset(tmp_path / "set"), [first, second_reference(first, "other")]).report
    assert [model["target"] for model in report["models"]] == ["one", "other"]
    assert report["comparison"]["verdict"] == "too few pictures to tell: A and B differ on 0 of 2"


def test_two_classifiers_agree_on_names_not_on_numbers(bundle, tmp_path):
    """Both say class 0 of every picture, and each calls it something else."""
    for name in ("0", "1"):
        (tmp_path / "set" / name).rename(tmp_path / "set" / {"0": "cat", "1": "dog"}[name])
    settings = []
    for labels in ("cat dog cow", "dog cat cow"):
        path = tmp_path / f"{labels}.txt"
        path.write_text(labels.replace(" ", "\n"))
        settings.append(RunSettings(str(bundle), "one", str(path), 0.0))
    comparison = evaluate(read_dataset(tmp_path / "set"), settings).report["comparison"]
    assert comparison["agreement"] == 0
    assert [row["difference"] for row in comparison["pictures"]] == [1.0, -1.0]


def test_an_evaluation_of_the_first_model_is_taken_over(bundle, tmp_path, monkeypatch):
    dataset = read_dataset(tmp_path / "set")
    both = [RunSettings(str(bundle), name, score=0.0) for name in ("one", "other")]
    anew, known = evaluate(dataset, both), evaluate(dataset, both[:1])
    opened = []
    real = RunSettings.open
    monkeypatch.setattr(RunSettings, "open", lambda self: opened.append(self.target) or real(self))
    found = evaluate(dataset, both, known=known)
    assert opened == ["other"]
    assert found.report == anew.report
    assert [side.title for side in found.sides] == ["A", "B"]
    assert known.sides[0].title == ""


@pytest.mark.parametrize("state", ["missing", "truncated"])
def test_a_bad_picture_is_told_before_the_first_is_evaluated(bundle, tmp_path, state, monkeypatch):
    dataset = read_dataset(tmp_path / "set")
    last = dataset.samples[-1].path
    if state == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:-20])
    monkeypatch.setattr(RunSettings, "open", None)  # calling it would fail
    with pytest.raises(ConfigError, match=f"1 of 2 pictures are .*{state}, first .*1/a.png"):
        evaluate(dataset, [RunSettings(str(bundle), "one", score=0.0)])
