"""Which format a data set has, and the formats of classification sets: class folders and CSV."""

import csv
from pathlib import Path

import numpy as np

from edge.errors import ConfigError
from edge.evaluation.dataset_formats import read_coco, read_voc, read_yolo
from edge.evaluation.datasets import Dataset, Sample, is_number, is_there, pictures_in, read_text
from edge.evaluation.splits import chosen_split, coco_pictures, splits_of
from edge.evaluation.yaml_names import paths_of_yaml

__all__ = ["read_dataset", "read_folders", "read_table"]


def read_dataset(path: Path, images: Path | None = None, limit: int | None = None, split: str | None = None) -> Dataset:
    """Return the data set at `path`, its format told by what is there; at most the first `limit` pictures.

    split: only this part of it, such as val.
    Raises: ConfigError when the format or the split is unknown, something in it is wrong, or it is empty.
    """
    found = _read(path, images, split)
    if images and found.form not in ("COCO JSON", "CSV"):
        raise ConfigError(f"--images does not fit {path} ({found.form}), whose pictures lie inside it", "leave it out")
    if not found.samples:
        raise ConfigError(f"{path} ({found.form}) has no pictures", "check the path")
    if len({sample.name for sample in found.samples}) < len(found.samples):
        raise ConfigError(f"{path} lists a picture twice", "list each picture once")
    found.samples = found.samples[:limit]
    return found


def read_folders(folder: Path) -> Dataset:
    """Return a folder with one folder of pictures for each class."""
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    samples = [
        Sample(f"{entry.name}/{picture.relative_to(entry).as_posix()}", picture, category=np.array([i]))
        for i, entry in enumerate(folders)
        for picture in pictures_in(entry, deep=True)
    ]
    return Dataset("classification", "class folders", folder, [entry.name for entry in folders], samples)


def read_table(path: Path, images: Path | None = None) -> Dataset:
    """Return a CSV of `path,label` lines; pictures are in `images`, else beside the file.

    A first line that names no file and has no suffix is a header.

    Raises: ConfigError naming the line that is wrong.
    """
    folder = images or path.parent
    rows: list[tuple[str, str]] = []
    reader = csv.reader(read_text(path).splitlines())
    try:
        for words in reader:
            if not words:
                continue
            name, label = (words[0].strip(), words[1].strip()) if len(words) == 2 else ("", "")
            if not name or not label:
                raise ConfigError(f"{path}:{reader.line_num} is '{','.join(words)[:60]}'", "write path,label")
            if reader.line_num > 1 or Path(name).suffix or is_there(folder / name):
                rows.append((name, label))
    except csv.Error as exc:
        raise ConfigError(f"{path}:{reader.line_num} is not CSV ({exc})", "correct that line") from exc
    names = sorted({label for _, label in rows}, key=lambda word: (int(word) if is_number(word) else 0, word))
    samples = [Sample(name, folder / name, category=np.array([names.index(label)])) for name, label in rows]
    return Dataset("classification", "CSV", path, names, samples)


def _read(path: Path, images: Path | None, split: str | None) -> Dataset:
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        return _read_yaml(path, images, split)
    if path.is_file():
        if split:
            raise ConfigError(f"--split {split} does not fit {path}, which is one file", "give the folder of the set")
        if path.suffix.lower() == ".json":
            return read_coco(path, images)
        if path.suffix.lower() == ".csv":
            return read_table(path, images)
        raise ConfigError(
            f"{path} is neither .json, .csv nor .yaml", "give a COCO JSON, a CSV, a data.yaml or a folder"
        )
    if not path.is_dir():
        raise ConfigError(f"there is no data set {path}", "check the path")
    splits = splits_of(path)
    if split:
        return _read_split(path, images, splits, chosen_split(splits, split, path))
    if whole := _read_whole(path, images):
        if splits:
            whole.notes.insert(0, f"the whole set is evaluated: --split takes one of {', '.join(splits)}")
        return whole
    if len(splits) == 1:
        return _read_split(path, images, splits, *splits)
    if splits:
        raise ConfigError(f"{path} has several sets ({', '.join(splits)})", f"choose one: --split {[*splits][-1]}")
    listed = sorted(path.glob("annotations/*.json"))
    if listed:
        raise ConfigError(f"{path} has COCO annotations", f"give a file of them and its --images, such as {listed[0]}")
    if any(entry.is_dir() for entry in path.iterdir()):
        return read_folders(path)
    raise ConfigError(
        f"the format of {path} is not known",
        "give a COCO JSON, images/ + labels/ (YOLO), Annotations/ + JPEGImages/ (VOC), class folders or a CSV",
    )


def _read_yaml(path: Path, images: Path | None, split: str | None) -> Dataset:
    """A set by its `data.yaml`: the split that is asked for, else val, else the only one."""
    splits = paths_of_yaml(path)
    if not splits and path.stem == "data":
        return _read(path.parent, images, split)
    if not splits:
        raise ConfigError(f"{path} names no folder of pictures that is here", "correct its path, train, val and test")
    if not split and len(splits) > 1 and "val" not in splits:
        raise ConfigError(f"{path} has several sets ({', '.join(splits)})", f"choose one: --split {[*splits][-1]}")
    name = chosen_split(splits, split or ("val" if "val" in splits else next(iter(splits))), path)
    found = read_yolo(path, splits[name])
    found.path, found.split = path, name
    if not split and len(splits) > 1:
        found.notes.insert(0, f"the split {name} is evaluated: --split takes one of {', '.join(splits)}")
    return found


def _read_whole(path: Path, images: Path | None) -> Dataset | None:
    """The set that lies in a folder itself, with all its splits; None where it does not, or are class folders."""
    if (path / "Annotations").is_dir():
        return read_voc(path)
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return read_yolo(path)
    if (path / "instances.json").is_file():
        return read_coco(path / "instances.json", images)
    return None


def _read_split(path: Path, images: Path | None, splits: dict[str, Path], name: str) -> Dataset:
    place = splits[name]
    if (path / "Annotations").is_dir():
        found = read_voc(path, place)
    elif place.suffix == ".json":
        found = read_coco(place, images or coco_pictures(path, name))
    elif whole := _read_whole(place, images):
        found = whole
    elif place.parent == path and place not in paths_of_yaml(path).values():
        found = read_folders(place)
    else:
        found = read_yolo(path, place)
    found.path, found.split = path, name
    return found
