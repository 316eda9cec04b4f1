"""The formats of detection data sets: COCO JSON, YOLO txt and Pascal VOC."""

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from edge.errors import ConfigError
from edge.evaluation.datasets import PICTURE_SUFFIXES, Dataset, Sample, is_there, pictures_in, read_text
from edge.evaluation.yaml_names import names_of_yaml

__all__ = ["read_coco", "read_voc", "read_yolo"]


def read_coco(path: Path, images: Path | None = None) -> Dataset:
    """Return a COCO `instances.json`; pictures are in `images`, else in `images` beside it, else beside it.

    Categories and samples come in the order of their ids; crowds become ignored regions.
    Raises: ConfigError naming the file and the entry that is wrong.
    """
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as exc:
        raise ConfigError(f"{path}:{exc.lineno} is not valid JSON ({exc.msg})", "correct that line") from exc
    except (ValueError, RecursionError) as exc:  # a number of thousands of digits, thousands of brackets
        raise ConfigError(f"{path} is no COCO JSON ({exc})", "give images, annotations and categories") from exc
    tables = [_table(document, name, path) for name in ("images", "categories", "annotations")]
    folder = images or (path.parent / "images" if (path.parent / "images").is_dir() else path.parent)
    categories = sorted(tables[1], key=lambda entry: _integer(entry, "id", path, "categories"))
    categories = _without_heading(categories, tables[2])
    index = {entry["id"]: i for i, entry in enumerate(categories)}
    samples: dict[int, Sample] = {}
    for entry in sorted(tables[0], key=lambda entry: _integer(entry, "id", path, "images")):
        name = _word(entry, "file_name", path, "images")
        samples[entry["id"]] = Sample(name, folder / name, _size(entry.get("width"), entry.get("height")))
    for listed, known in ((tables[0], samples), (categories, index)):
        if len(known) < len(listed):
            raise ConfigError(f"{path} has an id twice in images or categories", "give each its own id")
    rows: dict[int, list[tuple]] = {key: [] for key in samples}
    for i, entry in enumerate(tables[2]):
        where = f"annotations[{i}]"
        image, category = entry.get("image_id"), entry.get("category_id")
        if not isinstance(image, int) or image not in rows:
            raise ConfigError(f"{path}: {where} is for image_id {image}, which is not listed", "correct image_id")
        if not isinstance(category, int) or category not in index:
            raise ConfigError(f"{path}: {where} has the unknown category_id {category}", "add it to categories")
        box = _box(entry.get("bbox"), path, where)
        area, crowd = entry.get("area"), entry.get("iscrowd")
        real = _finite(area)
        real = box[2] * box[3] if real is None or real < 0 else real
        if crowd not in (None, 0, 1):
            raise ConfigError(f"{path}: {where} has the iscrowd {crowd!r}", "give 0 or 1")
        rows[image].append((box, index[category], bool(crowd), real))
    for key, sample in samples.items():
        _fill(sample, rows[key])
    names = [_word(entry, "name", path, "categories") for entry in categories]
    return Dataset("detection", "COCO JSON", path, names, list(samples.values()))


def read_yolo(folder: Path) -> Dataset:
    """Return a YOLO folder: `images/` and `labels/` with `class cx cy w h` lines in fractions of the picture.

    Names come from a `data.yaml` in the folder or the one above, from a list or a table under `names`. A picture
    without a label file has no objects.
    Raises: ConfigError naming the file and the line that is wrong.
    """
    pictures = pictures_in(folder / "images", deep=True)
    names = names_of_yaml(folder)
    samples = []
    for picture in pictures:
        inner = picture.relative_to(folder / "images")
        sample = Sample(inner.as_posix(), picture)
        labels = folder / "labels" / inner.with_suffix(".txt")
        if labels.is_file():
            _fill(sample, _yolo_rows(labels, len(names)), area=False)
        samples.append(sample)
    return Dataset("detection", "YOLO txt", folder, names, samples, relative=True)


def read_voc(folder: Path) -> Dataset:
    """Return a Pascal VOC folder: `Annotations/*.xml` and `JPEGImages/`; difficult objects are ignored.

    Coordinates count from 1, and xmax and ymax belong to the object, as in the VOC development kit.
    Raises: ConfigError naming the file that is wrong.
    """
    trees = []
    for path in sorted((folder / "Annotations").glob("[!.]*.xml")):
        try:
            trees.append((path, ElementTree.fromstring(path.read_bytes())))  # in the encoding that it declares
        except ElementTree.ParseError as exc:
            raise ConfigError(f"{path}:{exc.position[0]} is not valid XML ({exc})", "correct that line") from exc
        except (ValueError, LookupError) as exc:
            raise ConfigError(f"{path} declares an encoding that is not known ({exc})", "give UTF-8") from exc
    names = sorted({_voc_text(node, "name", path) for path, tree in trees for node in tree.iter("object")})
    samples = []
    for path, tree in trees:
        name = _voc_picture(folder / "JPEGImages", (tree.findtext("filename") or "").strip(), path.stem)
        size = [(tree.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
        known = _size(*(int(n) if n.isdecimal() else None for n in size))
        sample = Sample(name, folder / "JPEGImages" / name, known)
        rows = [_voc_row(node, names, path) for node in tree.iter("object")]
        _fill(sample, rows)
        samples.append(sample)
    return Dataset("detection", "Pascal VOC", folder, names, samples)


def _fill(sample: Sample, rows: list[tuple], area: bool = True) -> None:
    sample.xywh = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
    sample.category = np.array([row[1] for row in rows], np.int64)
    sample.ignore = np.array([row[2] for row in rows], bool)
    sample.area = np.array([row[3] for row in rows], np.float64) if area else np.zeros(0)


def _table(document: Any, name: str, path: Path) -> list[dict]:
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ConfigError(f"{path} has no list '{name}'", "give images, annotations and categories")
    return found


def _integer(entry: dict, key: str, path: Path, where: str) -> int:
    if not isinstance(entry.get(key), int):
        raise ConfigError(f"{path}: an entry of {where} has no whole number '{key}'", f"add {key}")
    return entry[key]


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    """The size the annotations state, None when they do not."""
    known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return (width, height) if known else None


def _word(entry: dict, key: str, path: Path, where: str) -> str:
    if not isinstance(entry.get(key), str):
        raise ConfigError(f"{path}: an entry of {where} has no text '{key}'", f"add {key}")
    return entry[key]


def _without_heading(categories: list[dict], annotations: list[dict]) -> list[dict]:
    """Without categories that nothing is annotated with and that others have above them, as Roboflow writes one."""
    used = [entry.get("category_id") for entry in annotations]
    above = {entry["id"]: entry.get("supercategory") for entry in categories}

    def is_heading(entry: dict) -> bool:
        name = entry.get("name")
        own = above[entry["id"]] == name or entry["id"] in used
        return not own and name in above.values()

    return [entry for entry in categories if not is_heading(entry)]


def _finite(value: Any) -> float | None:
    """A number that float64 holds, else None."""
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


def _box(values: Any, path: Path, where: str) -> list[float]:
    numbers = [_finite(value) for value in values] if isinstance(values, list) else []
    box = [number for number in numbers if number is not None]
    if len(numbers) != 4 or len(box) != 4 or min(box[2:]) < 0:
        raise ConfigError(f"{path}: {where} has the bbox {str(values)[:60]}", "give [x, y, width, height] in px")
    return box


def _yolo_rows(path: Path, class_count: int) -> list[tuple]:
    """The boxes of a label file; class_count 0: nobody says how many classes there are."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            category, *values = [float(word) for word in words]  # numpy writes the class as 0.0, too
        except ValueError:
            category, values = -1.0, []
        right = category.is_integer() and 0 <= category < 2**31 and len(values) == 4
        if not right or not all(-0.01 <= v <= 1.01 for v in values) or min(values[2:]) < 0:
            raise ConfigError(
                f"{path}:{number} is '{line.strip()[:60]}'", "write 'class cx cy w h', the last four from 0 to 1"
            )
        if class_count and category >= class_count:
            raise ConfigError(
                f"{path}:{number} has the class {category:g}, but data.yaml names 0 to {class_count - 1}",
                "correct the class, or add its name to data.yaml",
            )
        cx, cy, w, h = values
        rows.append(([cx - w / 2, cy - h / 2, w, h], int(category), False, 0.0))
    return rows


def _voc_picture(folder: Path, stated: str, stem: str) -> str:
    """The name of the picture of STEM.xml: as stated, else STEM, for files are renamed and the text stays."""
    names = [stated, *(f"{stem}{suffix}" for s in PICTURE_SUFFIXES for suffix in (s, s.upper()))]
    return next((name for name in names if name and is_there(folder / name)), stated or f"{stem}.jpg")


def _voc_text(node: ElementTree.Element, tag: str, path: Path) -> str:
    text = node.findtext(tag)
    if not text or not text.strip():
        raise ConfigError(f"{path}: an object has no <{tag}>", "add it")
    return text.strip()


def _voc_row(node: ElementTree.Element, names: list[str], path: Path) -> tuple:
    try:
        x1, y1, x2, y2 = (float(_voc_text(node, f"bndbox/{side}", path)) for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as exc:
        raise ConfigError(f"{path}: a bndbox is not of numbers ({exc})", "correct it") from exc
    width, height = x2 - x1 + 1, y2 - y1 + 1
    if not (math.isfinite(width) and math.isfinite(height)) or width <= 0 or height <= 0:
        raise ConfigError(f"{path}: the bndbox {x1:g} {y1:g} {x2:g} {y2:g} is inverted", "correct it")
    difficult = (node.findtext("difficult") or "0").strip() == "1"
    category = names.index(_voc_text(node, "name", path))
    return ([x1 - 1, y1 - 1, width, height], category, difficult, width * height)
