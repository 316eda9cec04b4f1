"""`harrier replay --expect` of a run that tracked: what was too weak to begin a track then is too weak now."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from edge import catalogue as catalogue_module
from edge.cli import main
from edge.replay_survey import survey

BLURRED, SHARP = 4, 5  # frames before and after, and between
CONFIG = (
    'model = "face"\nsource = "images://{pictures}?fps=20"\npublish = ["mcap://{out}?pictures=png&min_free_mb=0"]\n'
)


@pytest.fixture
def pictures(tmp_path, catalogue) -> Path:
    """A face that is blurred at first and at the end: it scores under the model's 0.5 there."""
    catalogue("face")
    photo = cv2.imread(str(catalogue("astronaut") / catalogue_module.entries()["astronaut"].file))
    photo = cv2.resize(photo, (320, 320))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2 * BLURRED + SHARP):
        sharp = BLURRED <= number < BLURRED + SHARP
        image = np.roll(photo, number, axis=1)
        cv2.imwrite(str(folder / f"{number:03}.png"), image if sharp else cv2.GaussianBlur(image, (0, 0), 4.2))
    return folder


def test_weak_detections_begin_no_tracks_in_the_replay_either(tmp_path, pictures, capsys):
    config, out = tmp_path / "run.toml", tmp_path / "drive.mcap"
    config.write_text(CONFIG.format(pictures=pictures, out=out) + "[tracking]\n")
    assert main(["-q", "run", str(config)]) == 0
    found = survey(out)
    assert found.tracked
    assert found.least_score < 0.5, "no weak detection kept the track going: the pictures test nothing"
    assert main(["-q", "replay", str(out), "--expect", "--config", str(config)]) == 0
    assert re.search(r"^0 of \d+ frames differ", capsys.readouterr().out, re.MULTILINE)
