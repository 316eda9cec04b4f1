"""The formats of detection data sets: COCO JSON, YOLO txt and Pascal VOC."""

import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from edge.errors import ConfigError
from edge.evaluation.datasets import Dataset, Sample, pictures_in, read_text

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
    tables = [_table(document, name, path) for name in ("images", "categories", "annotations")]
    folder = images or (path.parent / "images" if (path.parent / "images").is_dir() else path.parent)
    categories = sorted(tables[1], key=lambda entry: _integer(entry, "id", path, "categories"))
    index = {entry["id"]: i for i, entry in enumerate(categories)}
    samples: dict[int, Sample] = {}
    for entry in sorted(tables[0], key=lambda entry: _integer(entry, "id", path, "images")):
        name = _word(entry, "file_name", path, "images")
        samples[entry["id"]] = Sample(name, folder / name, _size(entry.get("width"), entry.get("height")))
    for listed, known in ((tables[0], samples), (tables[1], index)):
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
        area = entry.get("area")
        real = float(area) if isinstance(area, int | float) else box[2] * box[3]
        rows[image].append((box, index[category], bool(entry.get("iscrowd")), real))
    for key, sample in samples.items():
        _fill(sample, rows[key])
    names = [_word(entry, "name", path, "categories") for entry in categories]
    return Dataset("detection", "COCO JSON", path, names, list(samples.values()))


def read_yolo(folder: Path) -> Dataset:
    """Return a YOLO folder: `images/` and `labels/` with `class cx cy w h` lines in fractions of the picture.

    Names come from a `data.yaml` with a list or a table under `names`. A picture without a label file has no objects.
    Raises: ConfigError naming the file and the line that is wrong.
    """
    pictures = pictures_in(folder / "images", deep=True)
    names = _yaml_names(folder)
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
    for path in sorted((folder / "Annotations").glob("*.xml")):
        try:
            trees.append((path, ElementTree.fromstring(read_text(path))))
        except ElementTree.ParseError as exc:
            raise ConfigError(f"{path}:{exc.position[0]} is not valid XML ({exc})", "correct that line") from exc
    names = sorted({_voc_text(node, "name", path) for path, tree in trees for node in tree.iter("object")})
    samples = []
    for path, tree in trees:
        name = (tree.findtext("filename") or f"{path.stem}.jpg").strip()
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


def _box(values: Any, path: Path, where: str) -> list[float]:
    right = isinstance(values, list) and len(values) == 4 and all(isinstance(v, int | float) for v in values)
    if not right or not all(math.isfinite(v) for v in values) or min(values[2:]) < 0:
        raise ConfigError(f"{path}: {where} has the bbox {values}", "give [x, y, width, height] in px")
    return [float(v) for v in values]


def _yolo_rows(path: Path, class_count: int) -> list[tuple]:
    """The boxes of a label file; class_count 0: nobody says how many classes there are."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            category = int(words[0])
            values = [float(word) for word in words[1:]]
        except ValueError:
            category, values = -1, []
        if category < 0 or len(values) != 4 or not all(-0.01 <= v <= 1.01 for v in values):
            raise ConfigError(
                f"{path}:{number} is '{line.strip()[:60]}'", "write 'class cx cy w h', the last four from 0 to 1"
            )
        if class_count and category >= class_count:
            raise ConfigError(
                f"{path}:{number} has the class {category}, but data.yaml names 0 to {class_count - 1}",
                "correct the class, or add its name to data.yaml",
            )
        cx, cy, w, h = values
        rows.append(([cx - w / 2, cy - h / 2, w, h], category, False, 0.0))
    return rows


def _yaml_names(folder: Path) -> list[str]:
    """The names of a data.yaml in one of its three usual spellings; [] without the file."""
    path = next((p for p in (folder / "data.yaml", folder / "data.yml") if p.is_file()), None)
    if path is None:
        return []
    lines = read_text(path).splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return []
    inline = lines[start].partition(":")[2].partition("#")[0].strip()
    if inline:
        if not (inline.startswith("[") and inline.endswith("]")):
            raise ConfigError(f"{path}:{start + 1} has names in an unknown form", "write names: [first, second]")
        return [word.strip().strip("'\"") for word in inline[1:-1].split(",") if word.strip()]
    names: dict[int, str] = {}
    for number, line in enumerate(lines[start + 1 :], start + 2):
        entry = re.match(r"\s*(?:-|(\d+)\s*:)\s+(.*?)\s*(?:\s#.*)?$", line)
        if not entry:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if line[0].isspace():
                raise ConfigError(f"{path}:{number} is not a class name", "write '- name' or '0: name'")
            break
        names[int(entry[1]) if entry[1] else len(names)] = entry[2].strip("'\"")
    if sorted(names) != list(range(len(names))):
        raise ConfigError(f"{path}: the class numbers of names have gaps", "number the names from 0")
    return [names[i] for i in range(len(names))]


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
