"""The splits of a data set, such as train and val: where each of them is, and which one `--split` means."""

from pathlib import Path

from edge.errors import ConfigError
from edge.evaluation.datasets import PICTURE_SUFFIXES, is_there, read_text
from edge.evaluation.yaml_names import paths_of_yaml

__all__ = ["chosen_split", "coco_pictures", "names_in", "splits_of"]

_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing")


def splits_of(folder: Path) -> dict[str, Path]:
    """Return the splits of a data set's folder, by name; {} where it has none.

    Pascal VOC: lists in `ImageSets/Main`. YOLO: what `data.yaml` names, and folders in `images`, each a folder of
    pictures or a list of them. COCO: `annotations/instances_NAME.json`. Others: folders that are data sets.
    Raises: ConfigError when a list or `data.yaml` cannot be read.
    """
    if (folder / "Annotations").is_dir():
        lists = sorted((folder / "ImageSets/Main").glob("[!.]*.txt"))
        return {path.stem: path for path in lists if not _is_of_one_class(path, folder / "Annotations")}
    found = paths_of_yaml(folder)
    known = {path.resolve() for path in found.values()}
    inner = [path for path in sorted(folder.glob("images/*")) if (folder / "labels" / path.name).is_dir()]
    found |= {path.name: path for path in inner if path.is_dir() and path.resolve() not in known}
    if found:
        return found
    listed = sorted(folder.glob("annotations/instances_*.json"))
    if listed:
        return {path.stem.removeprefix("instances_"): path for path in listed}
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    sets = {path.name: path for path in folders if _is_set(path)}
    if not sets and all(path.name in _NAMES for path in folders):
        sets = {path.name: path for path in folders if _holds_classes(path)}
    return sets


def chosen_split(splits: dict[str, Path], asked: str, folder: Path) -> str:
    """Return the name of the split that is asked for; `val` may be `val2017`, where there is only one of these.

    Raises: ConfigError naming those that exist.
    """
    alike = [name for name in splits if name.rstrip("0123456789") == asked]
    if asked in splits:
        return asked
    if len(alike) == 1:
        return alike[0]
    cure = f"choose one of {', '.join(splits)}" if splits else "leave --split out: it has none"
    raise ConfigError(f"{folder} has no split '{asked}'", cure)


def names_in(path: Path) -> list[str]:
    """Return the lines of a list of pictures, hidden space aside.

    Raises: ConfigError when it cannot be read.
    """
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def coco_pictures(folder: Path, name: str) -> Path:
    """Return where the pictures of a split of a COCO folder are: `NAME`, `images/NAME` or `images`."""
    places = (folder / name, folder / "images" / name, folder / "images")
    return next((place for place in places if place.is_dir()), folder)


def _is_set(folder: Path) -> bool:
    yolo = (folder / "images").is_dir() and (folder / "labels").is_dir()
    return yolo or (folder / "Annotations").is_dir() or (folder / "instances.json").is_file()


def _is_of_one_class(path: Path, annotations: Path) -> bool:
    """Whether a VOC list is not of a split but says, picture by picture, if a class is in it: `NAME -1`."""
    first = next(iter(names_in(path)), "")
    return first.rpartition(" ")[2] in ("-1", "0", "1") and " " in first and not is_there(annotations / f"{first}.xml")


def _holds_classes(folder: Path) -> bool:
    """Whether a folder has folders, and no pictures beside them."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return any(p.is_dir() for p in entries) and not any(p.suffix.lower() in PICTURE_SUFFIXES for p in entries)
