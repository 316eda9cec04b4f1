"""`python -m edge.bench` is `harrier bench`."""

import argparse
import sys

from edge.bench.command import add_arguments, execute
from edge.errors import EdgeError


def main() -> int:
    """Run the benchmark from the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="harrier bench")
    add_arguments(parser)
    try:
        return execute(parser.parse_args())
    except EdgeError as exc:
        print(f"harrier: {exc}", file=sys.stderr)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
