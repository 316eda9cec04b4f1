"""Every format gives the same boxes, and every mistake in a file is named in one line."""

import json

import cv2
import numpy as np
import pytest

from edge.errors import ConfigError
from edge.evaluation.categories import class_names, classes_of_categories, order_warnings
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.datasets import read_picture
from edge.evaluation.detection_metrics import truths_of
from edge.evaluation.store import Seen

NAMES = ["cat", "dog", "old bird"]
BOXES = {"a.jpg": [(0, 10, 20, 30, 40), (2, 0, 0, 64, 48)], "b.jpg": [], "c.jpg": [(1, 5, 6, 7, 8)]}


def nothing() -> Seen:
    return Seen((64, 48), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


@pytest.fixture
def folder(tmp_path):
    """The same three pictures as COCO JSON, YOLO and VOC."""
    for name in ("images", "labels", "Annotations"):
        (tmp_path / name).mkdir()
    (tmp_path / "JPEGImages").symlink_to(tmp_path / "images")
    annotations = []
    for i, (name, boxes) in enumerate(BOXES.items()):
        cv2.imwrite(str(tmp_path / "images" / name), np.full((48, 64, 3), 90, np.uint8))
        objects, lines = "", ""
        for c, x, y, w, h in boxes:
            annotations.append({"image_id": i, "category_id": 10 * c + 3, "bbox": [x, y, w, h]})
            lines += f"{c} {(x + w / 2) / 64} {(y + h / 2) / 48} {w / 64} {h / 48}\n"
            corners = (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + w), ("ymax", y + h))
            box = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
            objects += f"<object><name>{NAMES[c]}</name><bndbox>{box}</bndbox></object>"
        (tmp_path / "labels" / name.replace("jpg", "txt")).write_text(lines)
        text = f"<annotation><filename>{name}</filename>{objects}</annotation>"
        (tmp_path / "Annotations" / name.replace("jpg", "xml")).write_text(text)
    (tmp_path / "data.yaml").write_text("path: .\nnames:\n  0: cat\n  1: dog\n  2: old bird\n")
    document = {
        "images": [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(BOXES)],
        "categories": [{"id": 10 * i + 3, "name": name} for i, name in enumerate(NAMES)],
        "annotations": annotations,
    }
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return tmp_path


def layout(folder, form):
    """The folder with only one format left in it."""
    if form == "coco":
        return folder / "instances.json"
    other = "Annotations" if form == "yolo" else "labels"
    (folder / other).rename(folder / f"no-{other}")
    return folder


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_every_format_gives_the_same_truth(folder, form):
    dataset = read_dataset(layout(folder, form))
    assert dataset.categories == NAMES
    assert [sample.name for sample in dataset.samples] == list(BOXES)
    for truth, boxes in zip(truths_of(dataset, [nothing()] * 3), BOXES.values(), strict=True):
        np.testing.assert_allclose(truth.xywh, np.array([box[1:] for box in boxes]).reshape(-1, 4), atol=1e-9)
        assert truth.class_ids.tolist() == [box[0] for box in boxes]
        assert truth.area == pytest.approx([box[3] * box[4] for box in boxes])


@pytest.mark.parametrize("yaml", ["names: [cat, 'dog', old bird]", "names:\n- cat\n- dog  # good\n- old bird\nnc: 3"])
def test_names_of_a_data_yaml_in_its_other_spellings(folder, yaml):
    (folder / "data.yaml").write_text(yaml)
    assert read_dataset(layout(folder, "yolo")).categories == NAMES


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("labels/a.txt", "0 0.5 0.5 0.1 0.1\n1 0.5 nan2 0.1 0.1\n", "a.txt:2"),
        ("labels/a.txt", "0 12 0.5 0.1 0.1\n", "a.txt:1"),
        ("labels/a.txt", "0 nan 0.5 0.1 0.1\n", "a.txt:1"),
        (
            "labels/a.txt",
            "0 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.1 0.1\n",
            "a.txt:2 has the class 3, but data.yaml names 0 to 2",
        ),
        ("data.yaml", "names:\n  0: cat\n  5: dog\n", "gaps"),
        ("Annotations/c.xml", "<annotation>\n<object>", "c.xml:2"),
        ("Annotations/c.xml", "<annotation><object><name>cat</name></object></annotation>", "bndbox/xmin"),
        ("instances.json", '{"images": [],\n oops}', "instances.json:2"),
        ("instances.json", "[]", "'images'"),
        ("instances.json", '{"images": [{"id": "x"}], "categories": [], "annotations": []}', "whole number 'id'"),
    ],
)
def test_a_mistake_in_a_file_is_named(folder, file, text, said):
    (folder / file).write_text(text)
    form = "coco" if file.endswith("json") else "voc" if file.endswith("xml") else "yolo"
    with pytest.raises(ConfigError) as caught:
        read_dataset(layout(folder, form))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("category_id", 99, "unknown category_id 99"),
        ("image_id", 99, "image_id 99"),
        ("bbox", [1, 2, 3], "bbox"),
        ("image_id", [0], "image_id [0]"),
    ],
)
def test_a_wrong_annotation_is_named(folder, key, value, said):
    document = json.loads((folder / "instances.json").read_text())
    document["annotations"][1][key] = value
    (folder / "instances.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"annotations\[1\]") as caught:
        read_dataset(folder / "instances.json")
    assert said in str(caught.value)


def test_crowds_and_difficult_objects_are_ignored_regions(folder):
    document = json.loads((folder / "instances.json").read_text())
    document["annotations"][1].update(iscrowd=1, area=700)
    (folder / "instances.json").write_text(json.dumps(document))
    first = read_dataset(folder / "instances.json").samples[0]
    assert first.ignore.tolist() == [False, True]
    assert first.area.tolist() == [1200, 700]
    path = folder / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<name>old bird", "<difficult>1</difficult><name>old bird"))
    first = read_dataset(layout(folder, "voc")).samples[0]
    assert first.ignore.tolist() == [False, True]
    assert truths_of(read_dataset(folder), [nothing()] * 3)[0].crowd.tolist() == [False, True]


def test_pictures_that_cannot_be_used_are_named(folder):
    path = folder / "images" / "a.jpg"
    with pytest.raises(ConfigError, match="its annotations are for 32x32"):
        read_picture(path, (32, 32))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="truncated"):
        read_picture(path)
    with pytest.raises(ConfigError, match="no picture"):
        read_picture(folder / "images" / "gone.jpg")


def test_empty_and_unknown_sets_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="format"):
        read_dataset(tmp_path)
    with pytest.raises(ConfigError, match="no data set"):
        read_dataset(tmp_path / "gone")
    (tmp_path / "cat").mkdir()
    with pytest.raises(ConfigError, match="no pictures"):
        read_dataset(tmp_path)


def test_a_table_names_its_wrong_line(tmp_path):
    table = tmp_path / "set.csv"
    table.write_text("path,label\na.jpg,dog\nb.jpg\n")
    with pytest.raises(ConfigError, match="set.csv:3"):
        read_dataset(table)
    table.write_text('path,label\na.jpg,dog\n"b, c.jpg",cat\n')
    dataset = read_dataset(table)
    assert dataset.categories == ["cat", "dog"]
    assert [(s.name, int(s.category[0])) for s in dataset.samples] == [("a.jpg", 1), ("b, c.jpg", 0)]


@pytest.mark.parametrize("label", ["\u00b2", "\u2460", "x"])
def test_a_label_that_only_looks_like_a_number_is_a_name(tmp_path, label):
    (tmp_path / "set.csv").write_text(f"a.jpg,{label}\nb.jpg,10\nc.jpg,9\n", encoding="utf-8")
    assert read_dataset(tmp_path / "set.csv").categories == [label, "9", "10"]


def test_categories_find_their_class(folder):
    dataset = read_dataset(folder / "instances.json")
    assert classes_of_categories(dataset, ["Dog", "Old_Bird", "cat", "fish"], 4) == [2, 0, 1]
    assert classes_of_categories(dataset, [], 3) == [0, 1, 2]
    assert classes_of_categories(dataset, ["x", "y", "z"], 3) == [0, 1, 2]
    with pytest.raises(ConfigError, match="3 categories for 4 classes"):
        classes_of_categories(dataset, [], 4)
    with pytest.raises(ConfigError, match="no label 'old bird'"):
        classes_of_categories(dataset, ["cat", "dog", "cow", "emu"], 4)
    with pytest.raises(ConfigError, match="two classes 'dog'"):
        classes_of_categories(dataset, ["cat", "dog", "dog", "old bird"], 4)


def test_going_by_order_is_warned_of_and_refused_where_names_contradict_it(folder):
    dataset = read_dataset(folder / "instances.json")
    assert order_warnings(dataset, ["Dog", "Old_Bird", "cat"]) == order_warnings(dataset, []) == []
    assert classes_of_categories(dataset, ["cat", "hound", "old bird"], 3) == [0, 1, 2]
    (said,) = order_warnings(dataset, ["cat", "hound", "old bird"])
    assert said.startswith("1 of 3 categories have no label of the model")
    assert said.endswith("'dog' is taken for 'hound'")
    with pytest.raises(ConfigError, match="no label 'dog', and the order differs, too: 'cat' is category 0 here and"):
        classes_of_categories(dataset, ["old bird", "cat", "hound"], 3)


def test_labels_that_are_missing_are_asked_for_by_their_option(folder):
    dataset = read_dataset(folder / "instances.json")
    with pytest.raises(
        ConfigError, match="3 categories for 80 classes: name all 80 .*: --labels FILE, one name a line"
    ):
        classes_of_categories(dataset, [], 80)


def test_a_folder_of_pictures_fits_only_where_they_lie_elsewhere(folder):
    with pytest.raises(ConfigError, match="--images does not fit .* .YOLO txt."):
        read_dataset(layout(folder, "yolo"), folder / "images")


def test_class_numbers_without_names(folder):
    (folder / "data.yaml").unlink()
    dataset = read_dataset(layout(folder, "yolo"))
    assert classes_of_categories(dataset, [], 80) == [0, 1, 2]
    assert class_names(dataset, ["cat", "dog"]) == ["cat", "dog", "2"]
    assert order_warnings(dataset, []) == []
    (said,) = order_warnings(dataset, ["person", "bicycle", "car"])
    assert said == "no data.yaml with names: class numbers were taken as the model's: 0 person, 1 bicycle, 2 car"
    with pytest.raises(ConfigError, match="has the class 2"):
        classes_of_categories(dataset, [], 2)
