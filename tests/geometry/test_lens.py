"""Rays of pixels, beside the forward models of OpenCV and of `scenes`."""

import cv2
import numpy as np
import pytest
from scenes import TrueCamera

from edge.geometry.bearings import SureMaps, angles_of
from edge.geometry.camera import Camera, DistortionSection, IntrinsicsSection, MountSection, SigmaSection
from edge.geometry.lens import Lens

CASES = {
    "pinhole": ("opencv", [0.0, 0.0, 0.0, 0.0], 700.0),
    "four": ("opencv", [-0.3, 0.1, 0.001, -0.002], 700.0),
    "wide": ("opencv", [-0.28, 0.07, 0.001, -0.0005, 0.0], 640.0),
    "tele": ("opencv", [0.15, -0.3, 0.0, 0.0005, 0.4], 1500.0),
    "rational": ("opencv", [0.1, 0.2, 0.001, 0.002, 0.05, 0.4, 0.3, 0.1], 700.0),
    "fisheye": ("fisheye", [-0.02, 0.01, -0.005, 0.001], 380.0),
}


def camera_of(name: str, **sections: object) -> Camera:
    model, coefficients, focal = CASES[name]
    return Camera(
        width_px=1280,
        height_px=720,
        intrinsics=IntrinsicsSection(fx_px=focal, fy_px=focal * 1.01, cx_px=650.0, cy_px=350.0),
        distortion=DistortionSection(model=model, coefficients=coefficients),
        **sections,
    )


def grid(camera: Camera) -> np.ndarray:
    u, v = np.meshgrid(np.linspace(0, camera.width_px - 1, 33), np.linspace(0, camera.height_px - 1, 21))
    return np.stack([u.ravel(), v.ravel()])


@pytest.mark.parametrize("name", CASES)
def test_rays_project_back_to_their_pixels(name):
    camera = camera_of(name)
    points = grid(camera)
    rays = Lens(camera).rays(points)
    if camera.distortion.model == "fisheye":
        ahead = rays[2] > 0.1  # OpenCV's forward model ends at 90 degrees
        rays, points = rays[:, ahead], points[:, ahead]
        back, _ = cv2.fisheye.projectPoints(
            rays.T[:, None].copy(), np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.distortion.coefficients)
        )
    else:
        back, _ = cv2.projectPoints(
            rays.T.copy(), np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.distortion.coefficients)
        )
    assert np.abs(back.reshape(-1, 2).T - points).max() < 0.02


def test_a_fisheye_sees_behind_its_own_plane():
    camera = camera_of("fisheye")
    true = TrueCamera(1280, 720, (380.0, 383.8), (650.0, 350.0), (-0.02, 0.01, -0.005, 0.001), fisheye=True)
    angles = np.radians(np.stack([np.linspace(-100, 100, 41), np.linspace(-5, 5, 41)]))
    forward = np.cos(angles[1]) * np.cos(angles[0])
    left, up = -np.cos(angles[1]) * np.sin(angles[0]), np.sin(angles[1])
    pixels = true.project(np.stack([forward, left, up], axis=1) + true.origin_m)
    found = angles_of(Lens(camera).rays(pixels.T))
    inside = (pixels[:, 0] > 0) & (pixels[:, 0] < 1279)
    assert np.abs(angles[0, inside]).max() > np.radians(90)
    np.testing.assert_allclose(found[:, inside], angles[:, inside], atol=1e-5)


def test_where_the_model_folds_back_there_is_no_ray():
    camera = Camera(
        width_px=1280,
        height_px=720,
        intrinsics=IntrinsicsSection(fx_px=600.0, fy_px=600.0, cx_px=640.0, cy_px=360.0),
        distortion=DistortionSection(coefficients=[-0.35, 0.15, 0.0, 0.0, -0.03]),
    )
    rays = Lens(camera).rays(np.array([[640.0, 5.0], [360.0, 5.0]]))
    assert np.isfinite(rays[:, 0]).all()
    assert np.isnan(rays[0, 1])


def test_angles_have_their_signs():
    right_up = angles_of(np.array([[1.0], [-1.0], [1.0]]))
    np.testing.assert_allclose(right_up[:, 0], [np.pi / 4, np.arctan(1 / np.sqrt(2))])


@pytest.mark.parametrize("name", ["wide", "fisheye"])
def test_the_maps_say_how_far_angles_really_scatter(name):
    sigma = SigmaSection(
        fx_px=3.0, fy_px=3.0, cx_px=2.0, cy_px=2.0, coefficients=[0.002] + [0.0] * (3 + (name == "wide"))
    )
    camera = camera_of(name, sigma=sigma, mount=MountSection(tilt_down_deg=8.0, tilt_sigma_deg=0.0))
    maps = SureMaps(camera)
    rng = np.random.default_rng(4)
    for point in ((200.0, 150.0), (640.0, 400.0), (1100.0, 600.0)):
        cell = maps.cells(np.array(point)[:, None])
        noisy = np.array(point)[:, None] + rng.normal(0, 1, (2, 4000))
        by_pixel = angles_of(Lens(camera).rays(noisy)).std(axis=1).max()
        assert np.sqrt(maps.px2[0, cell]) == pytest.approx(by_pixel, rel=0.05)
        drawn = rng.multivariate_normal(camera.parameters, camera.covariance, 300)
        by_lens = np.stack([angles_of(Lens(camera, p).rays(np.array(point)[:, None]))[:, 0] for p in drawn])
        assert np.sqrt(maps.fixed2[0, cell]) == pytest.approx(by_lens.std(axis=0).max(), rel=0.13)
