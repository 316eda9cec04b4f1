"""The README's first command, as it is run."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_demo_finds_the_face_and_writes_its_picture(catalogue, tmp_path):
    catalogue("face")
    catalogue("astronaut")
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    found = re.search(r"(\d+) messages arrived, (\d+) with a face", result.stdout)
    assert found, result.stdout
    assert int(found[2]) > 0.8 * int(found[1]) > 50
    picture = re.search(r"annotated picture: (.+)", result.stdout)
    assert picture
    assert (tmp_path / picture[1]).is_file()
