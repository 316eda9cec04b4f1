"""Polygons as YOLO labels, labels without a picture, and `--split` in every format that has splits."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import ConfigError
from edge.evaluation.dataset_reader import read_dataset

BOX = "<object><name>{}</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))


def labelled(pictures: Path, name: str, label: str = "0 .5 .5 .1 .1") -> None:
    """A picture, and its label file in the folder beside it."""
    picture(pictures / f"{name}.png")
    labels = Path(str(pictures).replace("images", "labels"))
    labels.mkdir(parents=True, exist_ok=True)
    (labels / f"{name}.txt").write_text(label)


def names_of(folder: Path, split: str | None = None) -> list[str]:
    return [sample.name for sample in read_dataset(folder, split=split).samples]


def test_the_box_around_a_polygon_is_taken_and_counted(tmp_path):
    triangle, turned = "0 .25 .5 .5 .125 .75 .5", "0 .5 .25 .75 .5 .5 .75 .25 .5"
    labelled(tmp_path / "images", "a", f"{triangle}\n{turned}\n0 .5 .5 .5 .25\n")
    dataset = read_dataset(tmp_path)
    boxes = [[0.25, 0.125, 0.5, 0.375], [0.25, 0.25, 0.5, 0.5], [0.25, 0.375, 0.5, 0.25]]
    assert dataset.samples[0].xywh.tolist() == boxes
    assert dataset.notes == ["2 of 3 labels are polygons: the box around each is evaluated"]
    for wrong in ("0 .1 .1 .2 .2 .3 1.2", "0 .1 .1 .2 .2 .3 .3 .4", "0 .1 .1 .2 nan .3 .3"):
        (tmp_path / "labels/a.txt").write_text(wrong)
        with pytest.raises(ConfigError, match=r"a\.txt:1.* for a polygon"):
            read_dataset(tmp_path)


def test_keypoints_behind_a_box_are_no_polygon(tmp_path):
    labelled(tmp_path / "images", "a", "0 .5 .5 .5 .25 .9 .9 .1 .1")
    (tmp_path / "data.yaml").write_text("kpt_shape: [2, 2]\nnames: [person]\n")
    dataset = read_dataset(tmp_path)
    assert dataset.samples[0].xywh.tolist() == [[0.25, 0.375, 0.5, 0.25]]
    assert dataset.notes == []


def test_labels_without_a_picture_are_counted_and_the_first_is_named(tmp_path):
    labelled(tmp_path / "images/day", "a")
    for name in ("day/b.txt", "c.txt", "classes.txt"):
        (tmp_path / "labels" / name).write_text("0 .5 .5 .1 .1")
    notes = read_dataset(tmp_path).notes
    assert f"2 label files without a picture, first {tmp_path / 'labels/c.txt'}" in notes
    for name in ("day/b.txt", "c.txt"):
        (tmp_path / "labels" / name).unlink()
    assert not any("without a picture" in note for note in read_dataset(tmp_path).notes)


@pytest.fixture
def voc(tmp_path):
    for name, category in (("a", "cat"), ("b", "dog"), ("c.1", "cat")):
        picture(tmp_path / f"JPEGImages/{name}.png")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / f"Annotations/{name}.xml").write_text(f"<annotation>{BOX.format(category)}</annotation>")
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\n")
    (lists / "val.txt").write_text("c.1\na.png\n")
    (lists / "cat_val.txt").write_text("c.1 -1\na  1\n")
    return tmp_path


def test_a_split_of_pascal_voc(voc):
    whole = read_dataset(voc)
    assert [sample.name for sample in whole.samples] == ["a.png", "b.png", "c.1.png"]
    assert whole.notes == ["the whole set is evaluated: --split takes one of train, val"]
    val = read_dataset(voc, split="val")
    assert ([sample.name for sample in val.samples], val.split, val.notes) == (["c.1.png", "a.png"], "val", [])
    assert val.categories == ["cat", "dog"]
    assert val.samples[0].category.tolist() == [0]
    with pytest.raises(ConfigError, match="has no split 'cat_val': choose one of train, val$"):
        read_dataset(voc, split="cat_val")
    (voc / "ImageSets/Main/val.txt").write_text("a\nd\n")
    with pytest.raises(ConfigError, match=r"val\.txt lists 1 of 2 pictures without annotations, first .*d\.xml"):
        read_dataset(voc, split="val")


def test_the_splits_that_a_data_yaml_names(tmp_path):
    labelled(tmp_path / "train/images", "t")
    labelled(tmp_path / "valid/images", "v")
    (tmp_path / "list.txt").write_text("./train/images/t.png\n./valid/images/v.png\n")
    text = "train: ../train/images\nval: 'valid/images'  # held out\ntest: list.txt\nnames: [cat]\n"
    (tmp_path / "data.yaml").write_text(f"path: /content/of/another/machine\n{text}")
    val = read_dataset(tmp_path, split="val")
    assert ([sample.name for sample in val.samples], val.categories, val.path) == (["v.png"], ["cat"], tmp_path)
    assert names_of(tmp_path, "train") == ["t.png"]
    both = read_dataset(tmp_path, split="test").samples
    assert [(sample.name, len(sample.xywh)) for sample in both] == [
        ("train/images/t.png", 1),
        ("valid/images/v.png", 1),
    ]
    with pytest.raises(ConfigError, match="has no split 'valid': choose one of train, val, test"):
        read_dataset(tmp_path, split="valid")
    with pytest.raises(ConfigError, match=r"several sets \(train, val, test\): choose one: --split"):
        read_dataset(tmp_path)


def test_a_data_yaml_is_a_data_set_whatever_it_is_called(tmp_path):
    labelled(tmp_path / "sets/coco8/images/train", "t")
    labelled(tmp_path / "sets/coco8/images/val", "v")
    yaml = tmp_path / "coco8.yaml"
    yaml.write_text("path: sets/coco8\ntrain: images/train\nval: images/val\nnc: 2\nnames: [cat]\n")
    dataset = read_dataset(yaml)
    assert ([sample.name for sample in dataset.samples], dataset.categories) == (["v.png"], ["cat"])
    assert (dataset.path, dataset.split, dataset.samples[0].xywh.shape) == (yaml, "val", (1, 4))
    assert dataset.notes == [
        "the split val is evaluated: --split takes one of train, val",
        "data.yaml has nc: 2, but 1 name; the names count",
    ]
    assert names_of(yaml, "train") == ["t.png"]
    with pytest.raises(ConfigError, match="has no split 'test': choose one of train, val"):
        read_dataset(yaml, split="test")
    yaml.write_text("path: gone\nval: images/val\nnames: [cat]\n")
    with pytest.raises(ConfigError, match=r"coco8\.yaml names no folder of pictures that is here"):
        read_dataset(yaml)
    labelled(tmp_path / "images", "x")
    yaml.rename(tmp_path / "data.yaml")
    assert (names_of(tmp_path / "data.yaml"), read_dataset(tmp_path).notes) == (["x.png"], [])


def test_the_splits_that_are_folders_of_a_yolo_set(tmp_path):
    labelled(tmp_path / "images/train2017", "t")
    labelled(tmp_path / "images/val2017", "v")
    (tmp_path / "data.yaml").write_text("val: images/val2017\nnames: [cat]\n")
    assert names_of(tmp_path, "val") == ["v.png"]
    assert len(read_dataset(tmp_path, split="train").samples[0].xywh) == 1
    assert read_dataset(tmp_path).notes == ["the whole set is evaluated: --split takes one of val, train2017"]
    labelled(tmp_path / "images", "x")
    with pytest.raises(ConfigError, match="has no split 'test'"):
        read_dataset(tmp_path, split="test")


def test_labels_beside_their_pictures_and_around_several_folders_of_them(tmp_path):
    picture(tmp_path / "photos/a.png")
    (tmp_path / "photos/a.txt").write_text("0 .5 .5 .1 .1")
    for camera in ("left", "right"):
        labelled(tmp_path / f"{camera}/images", camera, "0 .5 .5 .1 .1\n" * 2)
    (tmp_path / "data.yaml").write_text("train: .\nval: photos\nnames: [cat]\n")
    assert [len(sample.xywh) for sample in read_dataset(tmp_path, split="val").samples] == [1]
    found = {sample.name: len(sample.xywh) for sample in read_dataset(tmp_path, split="train").samples}
    assert found == {"left/images/left.png": 2, "photos/a.png": 1, "right/images/right.png": 2}


def test_a_split_of_a_coco_folder(tmp_path):
    for name in ("train2017", "val2017"):
        picture(tmp_path / name / f"{name}.png")
        image = {"id": 1, "file_name": f"{name}.png", "width": 8, "height": 8}
        box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
        document = {"images": [image], "categories": [{"id": 1, "name": "cat"}], "annotations": [box]}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/instances_{name}.json").write_text(json.dumps(document))
    val = read_dataset(tmp_path, split="val")
    assert ([sample.path for sample in val.samples], val.split) == ([tmp_path / "val2017/val2017.png"], "val2017")
    with pytest.raises(ConfigError, match=r"several sets \(train2017, val2017\): choose one: --split val2017"):
        read_dataset(tmp_path)
    with pytest.raises(ConfigError, match="--split val does not fit .* which is one file"):
        read_dataset(tmp_path / "annotations/instances_val2017.json", split="val")
    (tmp_path / "annotations/instances_train2017.json").unlink()
    assert read_dataset(tmp_path).split == "val2017"


def test_train_and_val_are_no_classes(tmp_path):
    for name in ("train/cat/a", "train/dog/b", "val/cat/c"):
        picture(tmp_path / f"{name}.png")
    with pytest.raises(ConfigError, match=r"several sets \(train, val\)"):
        read_dataset(tmp_path)
    assert names_of(tmp_path, "val") == ["cat/c.png"]
    assert read_dataset(tmp_path, split="train").categories == ["cat", "dog"]
    picture(tmp_path / "bus/d.png")  # vehicles: a train is one of them
    assert read_dataset(tmp_path).categories == ["bus", "train", "val"]
    with pytest.raises(ConfigError, match="has no split 'val': leave --split out"):
        read_dataset(tmp_path, split="val")


def test_a_split_may_be_a_set_of_its_own(voc, tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    voc.rename(root / "VOC2007")
    assert names_of(root, "VOC2007") == ["a.png", "b.png", "c.1.png"]
    assert names_of(root) == ["a.png", "b.png", "c.1.png"]
