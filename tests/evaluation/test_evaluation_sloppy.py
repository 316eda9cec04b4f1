"""Data sets as people have them: other tools' spellings, stray files, names that are not UTF-8."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import ConfigError
from edge.evaluation.categories import classes_of_categories
from edge.evaluation.dataset_reader import read_dataset
from edge.evaluation.datasets import Dataset, Sample, check_pictures, read_picture
from edge.evaluation.evaluate import evaluate

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
OBJECT = "<object><name>cat</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>"


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, PIXELS)
    assert done
    path.write_bytes(data.tobytes())
    return path


def coco(folder: Path, text: str = "", categories: list | None = None, **changes: object) -> Path:
    """A COCO JSON of one annotation, or `text` itself."""
    annotation = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], **changes}
    images = [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}]
    categories = categories or [{"id": 1, "name": "cat"}]
    document = {"images": images, "categories": categories, "annotations": [annotation]}
    (folder / "instances.json").write_text(text or json.dumps(document))
    return folder / "instances.json"


def yolo(folder: Path, label: str = "0 .5 .5 .1 .1", yaml: str = "names: [cat, dog]") -> Path:
    picture(folder / "images/a.png")
    (folder / "labels").mkdir()
    (folder / "labels/a.txt").write_text(label)
    (folder / "data.yaml").write_text(yaml)
    return folder


def voc(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    picture(folder / "JPEGImages/a.png")
    (folder / "Annotations").mkdir()
    (folder / "Annotations/a.xml").write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200_000, "is no COCO JSON"),
        ('{"images": [' + "9" * 5000 + "]}", "is no COCO JSON"),
    ],
)
def test_a_json_that_cannot_be_read_is_one_line(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        read_dataset(coco(tmp_path, text))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"bbox": [1, 2, 3, 10**400]}, "has the bbox"), ({"iscrowd": "0"}, "has the iscrowd '0'")],
)
def test_an_annotation_that_would_be_misread_is_named(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=rf"annotations\[0\] {said}"):
        read_dataset(coco(tmp_path, **changes))


@pytest.mark.parametrize("area", [float("nan"), -5, 10**400, None])
def test_an_area_that_is_none_is_that_of_the_box(tmp_path, area):
    assert read_dataset(coco(tmp_path, area=area)).samples[0].area.tolist() == [12]


def test_a_set_without_an_object_that_counts_is_told_before_the_work(tmp_path):
    dataset = read_dataset(coco(tmp_path, iscrowd=1))
    with pytest.raises(ConfigError, match="has no object that counts"):
        evaluate(dataset, [])  # nor is the picture looked for


def test_a_heading_without_annotations_is_no_category(tmp_path):
    heading, cat = {"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "pets"}
    assert read_dataset(coco(tmp_path, categories=[heading, cat])).categories == ["cat"]
    assert read_dataset(coco(tmp_path, categories=[heading, cat], category_id=0)).categories == ["pets", "cat"]
    person = {"id": 0, "name": "person", "supercategory": "person"}  # COCO's own, in a set without one
    assert read_dataset(coco(tmp_path, categories=[person, cat])).categories == ["person", "cat"]


@pytest.mark.parametrize(
    ("yaml", "names"),
    [
        ("names: ['cat, big', \"dog's\", c#]  # three", ["cat, big", "dog's", "c#"]),
        ("names: ['it''s', b,]", ["it's", "b"]),
        ("names: {1: dog, 0: cat}", ["cat", "dog"]),
        ("names:\n  '0': cat\n  '1': dog", ["cat", "dog"]),
        ("'names': [cat]\nnc: 1", ["cat"]),
        ("names:\n  1: dog\n  0: cat  # a comment\nnc: 2", ["cat", "dog"]),
        ("names: []", []),
    ],
)
def test_names_in_the_spellings_of_other_tools(tmp_path, yaml, names):
    assert read_dataset(yolo(tmp_path, yaml=yaml, label="")).categories == names


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("names:\n  0: cat\n  0: dog", "twice there"),
        ("names:\n  0: cat\n  1:\n", "yaml:3 is not a class name"),
        ("names: [cat,\n  dog]", "on one line"),
        ("names: {0: cat, dog}", "on one line"),
        ("names: cat dog", "on one line"),
    ],
)
def test_names_that_cannot_be_read_are_named(tmp_path, yaml, said):
    with pytest.raises(ConfigError, match=said):
        read_dataset(yolo(tmp_path, yaml=yaml))


def test_a_class_that_numpy_wrote_and_lines_that_are_wrong(tmp_path):
    label = yolo(tmp_path) / "labels/a.txt"
    np.savetxt(label, [[1, 0.5, 0.5, 0.25, 0.5]])
    (sample,) = read_dataset(tmp_path).samples
    assert sample.category.tolist() == [1]
    assert sample.category.dtype == np.int64
    assert sample.xywh.tolist() == [[0.375, 0.25, 0.25, 0.5]]
    for wrong in ("0.5 .5 .5 .1 .1", "0 .5 .5 -.005 .1", "1e30 .5 .5 .1 .1", "inf .5 .5 .1 .1", "0 .5 .5 .1 .1 .9"):
        label.write_text(wrong)
        with pytest.raises(ConfigError, match=r"a\.txt:1"):
            read_dataset(tmp_path)


def test_one_split_has_the_names_of_the_folder_above_and_several_are_not_classes(tmp_path):
    yolo(tmp_path / "set/valid")
    (tmp_path / "set/valid/data.yaml").rename(tmp_path / "set/data.yaml")
    assert read_dataset(tmp_path / "set/valid").categories == ["cat", "dog"]
    assert read_dataset(tmp_path / "set").split == "valid"
    yolo(tmp_path / "set/train")
    with pytest.raises(ConfigError, match=r"several sets \(train, valid\): choose one: --split valid"):
        read_dataset(tmp_path / "set")
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/annotations/boxes.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"--images, such as .*boxes\.json"):
        read_dataset(tmp_path / "coco")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (f'<?xml version="1.0" encoding="ISO-8859-1"?><a><folder>caf\xe9</folder>{OBJECT}</a>', "latin-1"),
        (f'<?xml version="1.0" encoding="UTF-16"?><a>{OBJECT}</a>', "utf-16"),
        (f"<a><filename>a</filename>{OBJECT}</a>", "utf-8"),
        (f"<a><filename>a.jpg</filename>{OBJECT}</a>", "utf-8"),
        (f"<a><filename>C:\\old\\IMG_1.JPG</filename>{OBJECT}</a>", "utf-8"),
    ],
)
def test_an_xml_of_another_encoding_or_with_a_stale_name(tmp_path, text, encoding):
    (sample,) = read_dataset(voc(tmp_path, text, encoding)).samples
    assert sample.path == tmp_path / "JPEGImages/a.png"
    assert sample.xywh.tolist() == [[4, 5, 16, 25]]


def test_an_xml_of_no_known_encoding_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.xml declares an encoding"):
        read_dataset(voc(tmp_path, f'<?xml version="1.0" encoding="klingon"?><a>{OBJECT}</a>'))


def test_hidden_files_and_folders_are_left_out(tmp_path):
    picture(tmp_path / "cat/a.png")
    picture(tmp_path / ".ipynb_checkpoints/a.png")
    picture(tmp_path / "cat/.cache/a.png")
    (tmp_path / "cat/._a.png").write_bytes(b"\0\5\x16\7")
    dataset = read_dataset(tmp_path)
    assert dataset.categories == ["cat"]
    assert [sample.name for sample in dataset.samples] == ["cat/a.png"]
    yolo(tmp_path / "yolo")
    (tmp_path / "yolo/images/._a.png").write_bytes(b"\0\5\x16\7")
    assert [sample.name for sample in read_dataset(tmp_path / "yolo").samples] == ["a.png"]
    voc(tmp_path / "voc", f"<a>{OBJECT}</a>")
    (tmp_path / "voc/Annotations/._a.xml").write_bytes(b"\0\5\x16\7")
    assert len(read_dataset(tmp_path / "voc").samples) == 1


def test_a_first_line_that_names_no_file_is_a_header(tmp_path):
    picture(tmp_path / "a.png")
    table = tmp_path / "set.csv"
    table.write_text("filename,class\na.png,cat\n")
    assert [sample.name for sample in read_dataset(table).samples] == ["a.png"]
    shutil.copy(tmp_path / "a.png", tmp_path / "filename")
    assert [sample.name for sample in read_dataset(table).samples] == ["filename", "a.png"]
    table.write_text("gone.png,cat\na.png,cat\n")
    assert len(read_dataset(table).samples) == 2  # a picture that is missing is told, never left out


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_a_picture_cut_short_is_told_before_the_work(tmp_path, suffix):
    path = picture(tmp_path / f"a{suffix}")
    sample = Sample("a", path)
    check_pictures([sample])
    whole = path.read_bytes()
    for cut in (20 if suffix == ".png" else 1, 100, len(whole) // 2):  # of a PNG the checksum may be missing
        path.write_bytes(whole[:-cut])
        with pytest.raises(ConfigError, match="1 of 1 pictures are no pictures, or are truncated"):
            check_pictures([sample])


@pytest.mark.parametrize("text", [b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_text_under_the_name_of_a_picture_is_told_before_the_work(tmp_path, text):
    (tmp_path / "a.jpg").write_bytes(text)
    with pytest.raises(ConfigError, match="are no pictures"):
        check_pictures([Sample("a", tmp_path / "a.jpg")])


def test_a_photo_with_a_film_behind_it_and_one_with_a_preview_in_it_are_whole(tmp_path):
    path = picture(tmp_path / "a.jpg")
    whole = path.read_bytes()
    path.write_bytes(whole + b"ftypmp4 \xff\xda what follows a scan")
    np.testing.assert_array_equal(read_picture(path), cv2.imdecode(np.frombuffer(whole, np.uint8), 1))
    preview = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    path.write_bytes(whole[:2] + preview + whole[2:])
    assert read_picture(path).shape == (48, 64, 3)
    path.write_bytes(whole[:2] + preview + whole[2:-200])  # the end of the preview is not that of the photo
    with pytest.raises(ConfigError, match="truncated"):
        check_pictures([Sample("a", path)])
    done, steps = cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])
    assert done
    path.write_bytes(steps.tobytes())
    assert read_picture(path).shape == (48, 64, 3)


def test_a_name_that_is_too_long_is_a_missing_picture(tmp_path):
    (tmp_path / "set.csv").write_text("a" * 400 + ".jpg,cat\n")
    with pytest.raises(ConfigError, match="1 of 1 pictures are missing"):
        check_pictures(read_dataset(tmp_path / "set.csv").samples)
    with pytest.raises(ConfigError, match="no picture"):
        read_picture(tmp_path / ("a" * 400))


def named(*categories: str) -> Dataset:
    return Dataset("classification", "CSV", Path("set.csv"), list(categories), [])


def test_two_categories_of_one_class_are_refused():
    for names, said in ((("Cat", "cat"), "cat"), (("cat", "cat"), "cat"), (("7", "07"), "7")):
        with pytest.raises(ConfigError, match=f"set.csv has 2 categories '{said}'"):
            classes_of_categories(named(*names), ["dog", "cat"], None)
    assert classes_of_categories(named("a", "A"), ["x", "A", "a"], 3) == [2, 1]  # letters, each in its own case
    assert classes_of_categories(named("9" * 5000), ["x"], None) == [0]  # a name, for no class has such a number
