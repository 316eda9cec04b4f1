"""Numbers on the command line, for argparse's `type=`: each says in plain words what is wrong with another."""

import argparse

__all__ = ["count", "positive", "seconds", "unit_interval"]


def unit_interval(text: str) -> float:
    """Return a number from 0 to 1.

    Raises: ArgumentTypeError, as argparse wants it.
    """
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def seconds(text: str) -> float:
    """Return a positive number of seconds.

    Raises: ArgumentTypeError, as argparse wants it.
    """
    value = _number(text)
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def positive(text: str) -> int:
    """Return a whole number from 1 on.

    Raises: ArgumentTypeError, as argparse wants it.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def count(text: str) -> int:
    """Return a whole number from 0 on.

    Raises: ArgumentTypeError, as argparse wants it.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None
