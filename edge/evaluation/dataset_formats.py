"""The formats of detection data sets: COCO JSON, YOLO txt and Pascal VOC."""

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from edge.errors import ConfigError
from edge.evaluation.datasets import PICTURE_SUFFIXES, Dataset, Sample, is_there, pictures_in, read_text
from edge.evaluation.splits import names_in
from edge.evaluation.yaml_names import class_count_of_yaml, has_keypoints, names_of_yaml

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


def read_yolo(folder: Path, pictures: Path | None = None) -> Dataset:
    """Return a YOLO folder: `images/` and `labels/` with `class cx cy w h` lines in fractions of the picture.

    pictures: the folder of those of one split, or a list of them. Labels lie where `labels` stands for `images`.
    Names come from a `data.yaml` in the folder or the one above, or from `folder` where it is such a file, from a list
    or a table under `names`. A picture without a label file has no objects. Of a polygon, four corners included, the
    box around it counts.
    Raises: ConfigError naming the file and the line that is wrong.
    """
    place = pictures or folder / "images"
    names, pose, labels = names_of_yaml(folder), has_keypoints(folder), _labels_beside(place)
    if place.is_dir():
        found = {path.relative_to(place): path for path in pictures_in(place, deep=True)}
    else:
        found = {Path(line): place.parent / line for line in names_in(place)}
    apart = place.is_dir() and labels != place  # else a list, or a folder around several `images`
    files = {
        n: labels / n.with_suffix(".txt") if apart else _labels_beside(p).with_suffix(".txt") for n, p in found.items()
    }
    samples, every, polygons = [], 0, 0
    for inner, picture in found.items():
        sample = Sample(inner.as_posix(), picture)
        if files[inner].is_file():
            rows, drawn = _yolo_rows(files[inner], len(names), pose)
            _fill(sample, rows, area=False)
            every, polygons = every + len(rows), polygons + drawn
        samples.append(sample)
    notes = [f"{polygons} of {every} labels are polygons: the box around each is evaluated"] if polygons else []
    alone = sorted(_text_files(labels).difference(files.values())) if apart else []
    stated = class_count_of_yaml(folder)
    if names and stated not in (None, len(names)):
        notes.append(f"data.yaml has nc: {stated}, but {len(names)} name{'s' * (len(names) > 1)}; the names count")
    if alone:
        notes.append(f"{len(alone)} label file{'s' * (len(alone) > 1)} without a picture, first {alone[0]}")
    return Dataset("detection", "YOLO txt", folder, names, samples, relative=True, notes=notes)


def read_voc(folder: Path, listed: Path | None = None) -> Dataset:
    """Return a Pascal VOC folder: `Annotations/*.xml` and `JPEGImages/`; difficult objects are ignored.

    listed: the list of a split's pictures; categories are those of all. Coordinates count from 1, and xmax and ymax
    belong to the object, as in the VOC development kit.
    Raises: ConfigError naming the file that is wrong.
    """
    trees = {}
    for path in sorted((folder / "Annotations").glob("[!.]*.xml")):
        try:
            trees[path] = ElementTree.fromstring(path.read_bytes())  # in the encoding that it declares
        except ElementTree.ParseError as exc:
            raise ConfigError(f"{path}:{exc.position[0]} is not valid XML ({exc})", "correct that line") from exc
        except (ValueError, LookupError) as exc:
            raise ConfigError(f"{path} declares an encoding that is not known ({exc})", "give UTF-8") from exc
    names = sorted({_voc_text(node, "name", path) for path, tree in trees.items() for node in tree.iter("object")})
    samples = []
    for path in _voc_listed(folder, listed, {*trees}) if listed else trees:
        tree = trees[path]
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


def _labels_beside(path: Path) -> Path:
    """The same path with `labels` for the last `images` in it; where there is none, labels lie beside pictures."""
    parts = list(path.parts)
    last = max((i for i, part in enumerate(parts) if part == "images"), default=None)
    if last is not None:
        parts[last] = "labels"
    return Path(*parts)


def _text_files(folder: Path) -> set[Path]:
    """The label files in a folder; LabelImg writes classes.txt beside them."""
    found = (path for path in folder.rglob("*.txt") if path.name != "classes.txt")
    return {path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)}


def _yolo_rows(path: Path, class_count: int, pose: bool) -> tuple[list[tuple], int]:
    """The boxes of a label file, and how many were polygons; class_count 0: nobody says how many classes there are.

    pose: keypoints follow the box.
    """
    rows, polygons = [], 0
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            category, *values = [float(word) for word in words]  # numpy writes the class as 0.0, too
        except ValueError:
            category, values = -1.0, []
        values = values[:4] if pose else values
        polygon = len(values) >= 6 and len(values) % 2 == 0
        right = category.is_integer() and 0 <= category < 2**31 and (polygon or len(values) == 4)
        if not right or not all(-0.01 <= v <= 1.01 for v in values) or (not polygon and min(values[2:]) < 0):
            raise ConfigError(
                f"{path}:{number} is '{line.strip()[:60]}'",
                "write 'class cx cy w h', or 'class x y x y x y ...' for a polygon, all but the class from 0 to 1",
            )
        if class_count and category >= class_count:
            raise ConfigError(
                f"{path}:{number} has the class {category:g}, but data.yaml names 0 to {class_count - 1}",
                "correct the class, or add its name to data.yaml",
            )
        polygons += polygon
        rows.append((_around(values) if polygon else _from_centre(values), int(category), False, 0.0))
    return rows, polygons


def _from_centre(values: list[float]) -> list[float]:
    cx, cy, w, h = values
    return [cx - w / 2, cy - h / 2, w, h]


def _around(values: list[float]) -> list[float]:
    """The box around points x y x y ..."""
    x, y = values[::2], values[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _voc_listed(folder: Path, listed: Path, known: set[Path]) -> list[Path]:
    """The XML of each picture of a list, which may name it with its suffix."""
    stems = [Path(n).stem if Path(n).suffix.lower() in PICTURE_SUFFIXES else n for n in names_in(listed)]
    paths = [folder / "Annotations" / f"{stem}.xml" for stem in stems]
    gone = [path for path in paths if path not in known]
    if gone:
        raise ConfigError(
            f"{listed} lists {len(gone)} of {len(paths)} pictures without annotations, first {gone[0]}",
            "take another split, or take them out of the list",
        )
    return paths


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
