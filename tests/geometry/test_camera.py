"""The camera file: written and read, and errors that name the key."""

import datetime
import math

import msgspec
import numpy as np
import pytest
from scenes import TrueCamera

from edge.errors import ConfigError
from edge.geometry.camera import (
    Camera,
    DistortionSection,
    IntrinsicsSection,
    MountSection,
    SigmaSection,
    read_camera,
    write_camera,
)
from edge.geometry.transforms import base_from_camera
from edge.toml_text import toml_text

WHOLE = {
    "width_px": 640,
    "height_px": 480,
    "intrinsics": {"fx_px": 500.0, "fy_px": 500.0, "cx_px": 320.0, "cy_px": 240.0},
}


def test_a_camera_comes_back_as_it_was_written(tmp_path):
    covariance = np.diag([1.0, 1.0, 2.0, 2.0, 1e-4, 1e-4, 1e-6, 1e-6, 1e-4])
    covariance[0, 1] = covariance[1, 0] = 0.9
    camera = Camera(
        frame_id="front",
        width_px=1280,
        height_px=720,
        calibrated=datetime.date(2025, 3, 4),
        rms_px=0.21,
        views=22,
        intrinsics=IntrinsicsSection(fx_px=700.1, fy_px=701.2, cx_px=640.3, cy_px=359.4),
        distortion=DistortionSection(coefficients=[-0.3, 0.1, 1e-4, -2e-4, 0.01]),
        sigma=SigmaSection(fx_px=1.0, covariance=covariance.tolist()),
        mount=MountSection(height_m=0.6, tilt_down_deg=12.0, position_m=(0.2, 0.0, 0.5)),
    )
    write_camera(tmp_path / "front.toml", camera)
    assert read_camera(tmp_path / "front.toml") == camera
    np.testing.assert_array_equal(camera.covariance, covariance)


def test_a_file_with_the_least_is_enough(tmp_path):
    path = tmp_path / "least.toml"
    path.write_text(toml_text(WHOLE))
    camera = read_camera(path)
    assert camera.mount is None
    assert camera.parameters.tolist() == [500, 500, 320, 240, 0, 0, 0, 0]
    assert not camera.covariance.any()


def test_without_a_covariance_the_sigmas_stand_for_it():
    sigma = {"fx_px": 2.0, "fy_px": 3.0, "coefficients": [0.1, 0.2, 0.0, 0.0]}
    camera = msgspec.convert({**WHOLE, "sigma": sigma}, Camera)
    np.testing.assert_allclose(np.sqrt(np.diag(camera.covariance)), [2, 3, 0, 0, 0.1, 0.2, 0, 0])


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("intrinsics", {"fx_px": -1.0}, "intrinsics.fx_px"),
        ("intrinsics", {"cx_px": 900.0}, "intrinsics.cx_px' lies outside"),
        ("intrinsics", {"cy_px": math.nan}, "intrinsics.cy_px' is not a number"),
        ("intrinsics", {"fx": 1.0}, "unknown key 'fx'"),
        ("distortion", {"coefficients": [0.1]}, "4 or 5 or 8, not 1"),
        ("distortion", {"model": "fisheye", "coefficients": [0.1] * 5}, "of fisheye are 4, not 5"),
        ("distortion", {"model": "fish"}, "did you mean 'fisheye'"),
        ("sigma", {"coefficients": [0.1]}, "sigma.coefficients"),
        ("sigma", {"covariance": [[1.0]]}, "sigma.covariance' is not 8 x 8"),
        ("sigma", {"covariance": (-np.eye(8)).tolist()}, "not symmetric and positive"),
        ("mount", {"height_m": 0.0}, "mount.height_m"),
        ("mount", {"tilt_down_deg": 1.0, "tilt_down_rad": 0.1}, "both 'tilt_down_deg' and 'tilt_down_rad'"),
        ("mount", {"tilt": 1.0}, "unknown key 'tilt'"),
        ("mount", {"position_m": [1.0, 2.0]}, "mount.position_m"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path, section, values, said):
    path = tmp_path / "camera.toml"
    path.write_text(toml_text({**WHOLE, section: {**WHOLE.get(section, {}), **values}}))
    with pytest.raises(ConfigError, match=said) as caught:
        read_camera(path)
    assert "camera.toml" in str(caught.value)


def test_a_missing_section_and_file_are_named(tmp_path):
    path = tmp_path / "camera.toml"
    path.write_text("width_px = 640\nheight_px = 480\n")
    with pytest.raises(ConfigError, match="add 'intrinsics'"):
        read_camera(path)
    with pytest.raises(ConfigError, match="no file"):
        read_camera(tmp_path / "none.toml")


def test_angles_may_be_in_degrees_or_radians():
    degrees = MountSection(pan_left_deg=20.0, tilt_down_deg=10.0, roll_right_deg=-5.0, tilt_sigma_deg=1.0)
    radians = MountSection(
        pan_left_rad=math.radians(20),
        tilt_down_rad=math.radians(10),
        roll_right_rad=math.radians(-5),
        tilt_sigma_rad=math.radians(1),
    )
    np.testing.assert_allclose(base_from_camera(degrees), base_from_camera(radians))
    assert degrees.sigma_of_tilt_rad == pytest.approx(radians.sigma_of_tilt_rad)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.5, 0, 0), (0, 0.4, 0), (0, 0, 0.3), (-1.2, 0.7, -0.4)])
def test_base_from_camera_is_what_geometry_says(angles):
    pan, tilt, roll = angles
    mount = MountSection(pan_left_rad=pan, tilt_down_rad=tilt, roll_right_rad=roll, position_m=(0.3, -0.1, 0.8))
    true = TrueCamera(
        640, 480, (1, 1), (0, 0), (), origin_m=(0.3, -0.1, 0.8), pan_left=pan, tilt_down=tilt, roll_right=roll
    )
    found = base_from_camera(mount)
    np.testing.assert_allclose(found[:3, :3], true.axes().T, atol=1e-12)  # columns: right, down, forward
    np.testing.assert_allclose(found[:, 3], (0.3, -0.1, 0.8, 1))
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)


def test_a_level_camera_looks_ahead():
    forward = base_from_camera(None)[:3, :3] @ (0, 0, 1)
    right = base_from_camera(None)[:3, :3] @ (1, 0, 0)
    np.testing.assert_allclose(forward, (1, 0, 0))
    np.testing.assert_allclose(right, (0, -1, 0))
    downwards = base_from_camera(MountSection(tilt_down_deg=90))[:3, :3] @ (0, 0, 1)
    np.testing.assert_allclose(downwards, (0, 0, -1), atol=1e-12)
    assert base_from_camera(MountSection(height_m=0.7))[2, 3] == 0.7
