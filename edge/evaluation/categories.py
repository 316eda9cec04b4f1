"""From the data set's categories to the model's classes."""

from collections import Counter
from collections.abc import Sequence

from edge.errors import ConfigError
from edge.evaluation.datasets import Dataset, is_number

__all__ = ["class_names", "classes_of_categories", "order_warnings"]

_LABELS = "--labels FILE, one name a line"
_SHOWN = 5  # classes in a warning


def classes_of_categories(dataset: Dataset, labels: list[str], class_count: int | None) -> list[int]:
    """Return the model's class for each category of the data set.

    By name where the model's labels have all names (upper case and underscores aside); by number where the
    categories are numbers; in order where there are as many.
    Raises: ConfigError when none of these holds, a name means two classes, or two categories are one class.
    """
    count = class_count or len(labels) or None
    names = dataset.categories
    if not names or all(is_number(name) for name in names):
        return _by_number(dataset, count)
    _check_unequal(dataset, names)
    if len({*labels}) == len(labels) and {*names} <= {*labels}:  # a letter has two cases
        return [labels.index(name) for name in names]
    plain = [_plain(label) for label in labels]
    missing = [name for name in names if _plain(name) not in plain]
    if labels and not missing:
        twice = [name for name in names if Counter(plain)[_plain(name)] > 1]
        if twice:
            raise ConfigError(f"the model has two classes '{twice[0]}'", "use class numbers instead of names")
        _check_unequal(dataset, [_plain(name) for name in names])
        return [plain.index(_plain(name)) for name in names]
    if count is None or count == len(names):
        for i, name in enumerate(names):
            if _plain(name) in plain and plain.index(_plain(name)) != i:
                raise ConfigError(
                    f"{dataset.path}: the model has no label '{missing[0]}', and the order differs, too: '{name}' is "
                    f"category {i} here and class {plain.index(_plain(name))} there",
                    f"name the model's classes, in its order, as the data set does, '{missing[0]}' included: {_LABELS}",
                )
        return list(range(len(names)))
    said = f"{len(names)} categories for {count} classes"
    if labels:
        said += f", and the model has no label '{missing[0]}'"
    cure = f"name all {count} classes of the model, in its order, as the data set does: {_LABELS}"
    raise ConfigError(f"{dataset.path}: {said}", cure)


def order_warnings(dataset: Dataset, labels: list[str]) -> list[str]:
    """Return a warning where `classes_of_categories` went by order or number, which may be another; else []."""
    names = dataset.categories
    used = sorted({int(c) for sample in dataset.samples for c in sample.category})
    if labels and not names and used:
        first = ", ".join(f"{n} {labels[n]}" for n in used[:_SHOWN] if n < len(labels))
        more = ", ..." if len(used) > _SHOWN else ""
        return [f"no data.yaml with names: class numbers were taken as the model's: {first}{more}"]
    if not labels or not names or all(is_number(name) for name in names):
        return []
    plain = [_plain(label) for label in labels]
    missing = [(name, label) for name, label in zip(names, labels, strict=False) if _plain(name) not in plain]
    if not missing:
        return []
    name, label = missing[0]
    return [
        f"{len(missing)} of {len(names)} categories have no label of the model, so all were matched by order: "
        f"'{name}' is taken for '{label}'"
    ]


def class_names(dataset: Dataset, labels: list[str]) -> list[str]:
    """Return a name for each category: the data set's, else the model's label, else the number."""
    if dataset.categories and not all(is_number(name) for name in dataset.categories):
        return list(dataset.categories)
    numbers = _numbers(dataset)
    return [labels[n] if n < len(labels) else str(n) for n in numbers]


def _by_number(dataset: Dataset, count: int | None) -> list[int]:
    numbers = _numbers(dataset)
    _check_unequal(dataset, numbers)
    if count is not None and numbers and max(numbers) >= count:
        raise ConfigError(
            f"{dataset.path} has the class {max(numbers)}, but the model's classes are 0 to {count - 1}",
            "give the model that the labels were made for, or name the classes",
        )
    return numbers


def _check_unequal(dataset: Dataset, values: Sequence[str] | Sequence[int]) -> None:
    """Two categories of one class would share its detections, and one of them would get none."""
    value, often = Counter(values).most_common(1)[0] if values else ("", 1)
    if often > 1:
        raise ConfigError(f"{dataset.path} has {often} categories '{value}'", "make them one, or rename them")


def _numbers(dataset: Dataset) -> list[int]:
    if dataset.categories:
        return [int(name) for name in dataset.categories]
    highest = max((int(s.category.max()) for s in dataset.samples if len(s.category)), default=-1)
    return list(range(highest + 1))


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
