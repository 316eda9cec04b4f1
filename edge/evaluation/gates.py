"""The error of the accuracy gate: `--min-map`, `--min-top1` and `--max-drop`."""

from edge.errors import EdgeError

__all__ = ["AccuracyError"]


class AccuracyError(EdgeError):
    """The accuracy is below what the command line demands; the report is written all the same."""

    exit_code = 5
