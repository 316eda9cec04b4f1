"""Numbers on the command line: what is taken, and what is said about the rest."""

import argparse

import pytest

from edge.arguments import count, positive, seconds, unit_interval


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (unit_interval, "0", 0.0),
        (unit_interval, "1.0", 1.0),
        (seconds, "0.5", 0.5),
        (positive, "3", 3),
        (count, "0", 0),
    ],
)
def test_good_numbers(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((unit_interval, text) for text in ("-0.1", "1.1", "nan", "x", "")),
        *((seconds, text) for text in ("0", "-1", "nan", "inf", "soon")),
        *((positive, text) for text in ("0", "-3", "1.5", "x")),
        *((count, text) for text in ("-1", "1.5", "x")),
    ],
)
def test_bad_numbers_are_named(parse, text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not"):
        parse(text)
