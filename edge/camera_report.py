"""What is said about a camera calibration: as text, and as one self-contained page."""

import math
from html import escape

import numpy as np

from edge.evaluation.report_html import figure_of, page_shell, table_of
from edge.geometry.bearings import SureMaps
from edge.geometry.calibration import Calibration
from edge.geometry.camera import Camera
from edge.geometry.lens import Lens
from edge.geometry.views import covered_cells, tilt_of

__all__ = ["report_page", "report_text"]

_WORST_VIEWS = 3


def report_text(found: Calibration, camera: Camera) -> str:
    """Return the lines that `harrier camera calibrate` prints."""
    lines = [f"{name:<22}{value}" for name, value in _facts(found, camera)]
    order = np.argsort(-found.errors_px)[:_WORST_VIEWS]
    worst = ", ".join(f"{found.views[i].name} {found.errors_px[i]:.3f} px" for i in order)
    lines.append(f"{'worst views':<22}{worst}")
    if found.dropped:
        dropped = ", ".join(f"{view.name} {error:.2f} px" for view, error in found.dropped)
        lines.append(f"{'dropped as outliers':<22}{dropped}")
    return "\n".join(lines)


def report_page(found: Calibration, camera: Camera, jpeg: bytes) -> str:
    """Return the page; jpeg is the coverage picture."""
    every = list(zip(found.views, found.errors_px.tolist(), [""] * len(found.views), strict=True))
    every += [(view, error, "dropped") for view, error in found.dropped]
    rows = [
        (escape(view.name), f"{error:.3f}", str(len(view.image_px)), f"{view.edge_px:.1f}", said)
        for view, error, said in sorted(every, key=lambda row: -row[1])
    ]
    body = [
        f"<h1>Camera {escape(camera.frame_id)}</h1>",
        table_of(("", ""), [(name, escape(value)) for name, value in _facts(found, camera)]),
        "<h2>Coverage</h2>",
        figure_of("corners and their errors", jpeg),
        "<h2>Views, the worst first</h2>",
        table_of(("view", "rms px", "corners", "width of an edge px", ""), rows),
    ]
    return page_shell("harrier camera calibrate", "".join(body))


def _facts(found: Calibration, camera: Camera) -> list[tuple[str, str]]:
    sigma, i, bent = camera.sigma, camera.intrinsics, camera.distortion
    tilts = np.abs([tilt_of(view, found.size_wh) for view in found.views]).max(axis=1)
    covered = 100 * covered_cells(found.views, found.size_wh).mean()
    numbers = [f"{v:.4f} +- {s:.4f}" for v, s in zip(bent.coefficients, sigma.coefficients, strict=True)]
    across, up = _field_of_view(camera)
    return [
        ("pictures", f"{camera.width_px}x{camera.height_px} px, {len(found.views)} views"),
        ("reprojection error", f"{found.rms_px:.3f} px rms, {found.errors_px.max():.3f} px in the worst view"),
        ("focal length", f"{i.fx_px:.2f} +- {sigma.fx_px:.2f}, {i.fy_px:.2f} +- {sigma.fy_px:.2f} px"),
        ("principal point", f"{i.cx_px:.2f} +- {sigma.cx_px:.2f}, {i.cy_px:.2f} +- {sigma.cy_px:.2f} px"),
        (f"distortion ({bent.model})", ", ".join(numbers)),
        ("field of view", f"{across:.1f} x {up:.1f} degrees"),
        ("coverage", f"{covered:.0f} % of the cells, tilted up to {math.degrees(tilts.max()):.0f} degrees"),
        ("bearings are sure to", _sureness(camera)),
    ]


def _field_of_view(camera: Camera) -> tuple[float, float]:
    """Degrees from edge to edge through the middle; NaN where the lens model ends before."""
    w, h = camera.width_px, camera.height_px
    ends = np.array([(-0.5, w - 0.5, w / 2, w / 2), (h / 2, h / 2, -0.5, h - 0.5)])
    x, y, z = Lens(camera).rays(ends)
    right, down = np.degrees(np.arctan2(x, z)), np.degrees(np.arctan2(y, z))
    return float(right[1] - right[0]), float(down[3] - down[2])


def _sureness(camera: Camera) -> str:
    maps = SureMaps(camera)
    sigma = np.degrees(np.sqrt(maps.fixed2[0]))
    return f"{np.nanmedian(sigma):.3f} degrees (median over the picture), {np.nanmax(sigma):.3f} at worst: one sigma"
