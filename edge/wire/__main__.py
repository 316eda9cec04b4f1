"""`python -m edge.wire` writes what is made of the table in `edge.wire.layout`; with `--check` it only compares."""

import argparse
import sys
from pathlib import Path

from edge.files import write_atomically
from edge.wire.c_header import c_header
from edge.wire.document import with_tables

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "examples" / "firmware" / "harrier_layout.h"
PAGE = ROOT / "docs" / "wire.md"


def main() -> int:
    """Write the generated files, or name those that differ from the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge.wire", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is old")
    check = parser.parse_args().check
    if not PAGE.is_file():
        print(f"harrier: {PAGE} is not there: run this in a checkout", file=sys.stderr)
        return 2
    stale = 0
    for path, text in ((HEADER, c_header()), (PAGE, with_tables(PAGE.read_text(encoding="utf-8")))):
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if check:
            print(f"{path.relative_to(ROOT)} is not what the table says: run python -m edge.wire")
        else:
            write_atomically(path, text)
            print(f"wrote {path.relative_to(ROOT)}")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
