"""Light to message: a flash whose time is known, seen by the camera, until its result is published.

Everything counts: the camera's exposure and read-out, its driver, the wait for a free pipeline, and all stages.
With `terminal` the screen's own delay counts too: up to one refresh and the panel's response.
"""

import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edge.bench.results import Photon
from edge.bench.summaries import distribution_of
from edge.clock import monotonic_ns
from edge.errors import ConfigError, DeviceError, SourceTimeoutError
from edge.pipeline import Pipeline
from edge.progress import Progress

__all__ = ["Flash", "LedLight", "Light", "TerminalLight", "match_flashes", "measure_photon", "open_light"]

_MIN_CONTRAST = 10.0  # of 255 grey levels


class Light(Protocol):
    """Something the camera sees that can be switched."""

    name: str

    def switch(self, on: bool) -> None:
        """Switch it; returns when it is done."""

    def close(self) -> None:
        """Leave it as it was found."""


class TerminalLight:
    """The whole terminal in white or black: point the camera at the screen and make the window large.

    Raises: ConfigError when standard output is no terminal.
    """

    name = "terminal"

    def __init__(self) -> None:
        if not sys.stdout.isatty():
            raise ConfigError("--photon terminal flashes nothing: standard output is no terminal", "do not redirect it")

    def switch(self, on: bool) -> None:
        """Fill the screen."""
        sys.stdout.write(f"\x1b[{'107' if on else '40'}m\x1b[2J")
        sys.stdout.flush()

    def close(self) -> None:
        """Give the terminal its colours back."""
        sys.stdout.write("\x1b[0m\x1b[2J\x1b[H")
        sys.stdout.flush()


class LedLight:
    """An LED of the kernel's: the folder /sys/class/leds/NAME, or its file `brightness`.

    Raises: ConfigError when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = path / "brightness" if path.is_dir() else path
        self.name = str(self._file)
        try:
            self._before = self._file.read_text().strip()
            most = self._file.with_name("max_brightness")
            self._most = most.read_text().strip() if most.is_file() else "1"
            self._file.write_text(self._before or "0")  # only whether it can: what fails later must not darken it
        except OSError as exc:
            raise ConfigError(
                f"cannot switch the light {path} ({exc.strerror})", "check the path, or use sudo"
            ) from exc

    def switch(self, on: bool) -> None:
        """Write the highest brightness, or 0.

        Raises: DeviceError when it is gone.
        """
        try:
            self._file.write_text(self._most if on else "0")
        except OSError as exc:
            raise DeviceError(f"cannot switch the light {self.name} ({exc.strerror})", "check its driver") from exc

    def close(self) -> None:
        """Write what was there before; one that is gone is left alone."""
        with suppress(OSError):
            self._file.write_text(self._before or "0")


def open_light(text: str) -> Light:
    """Return the light that `--photon` names.

    Raises: ConfigError when it cannot be switched.
    """
    return TerminalLight() if text == "terminal" else LedLight(Path(text))


@dataclass(frozen=True, slots=True)
class Flash:
    """One flash and the first frame that shows it, CLOCK_MONOTONIC ns."""

    t_light_ns: int
    t_capture_ns: int
    t_message_ns: int


def match_flashes(t_on_ns: list[int], steps: np.ndarray) -> list[Flash]:
    """Return the flashes that were seen. steps: (N, 3) int64, t_message ns, t_capture ns, brightness in 1/1000.

    A flash is seen in the first frame brighter than half-way that was published after it, provided that the
    frame before was dark and the next flash had not begun.
    Raises: DeviceError when the light makes no difference in the frames.
    """
    brightness = steps[:, 2] / 1000
    dark, bright = np.percentile(brightness, (5, 95))
    if bright - dark < _MIN_CONTRAST:
        raise DeviceError(
            f"the camera sees no flash: the frames differ by {bright - dark:.1f} of 255 grey levels",
            "point the camera at the light, darken the room, switch automatic exposure off",
        )
    lit = brightness > (dark + bright) / 2
    rising = np.flatnonzero(lit[1:] & ~lit[:-1]) + 1
    found = []
    for t_ns, t_next_ns in zip(t_on_ns, [*t_on_ns[1:], np.iinfo(np.int64).max], strict=True):
        after = [i for i in rising if t_ns < steps[i, 0] < t_next_ns]
        if after:
            found.append(Flash(t_ns, int(steps[after[0], 1]), int(steps[after[0], 0])))
    return found


def measure_photon(
    pipeline: Pipeline, light: Light, flashes: int = 40, on_s: float = 0.4, off_s: float = 0.6
) -> Photon:
    """Return the light-to-message latency of `flashes` flashes at random moments of the camera's cycle.

    on_s must be longer than the latency. The light is switched on a thread of its own, so that its moments do not
    follow the pipeline's rhythm.
    Raises: DeviceError when the camera sees no flash or the light cannot be switched.
    """
    t_on_ns: list[int] = []
    done, stop = threading.Event(), threading.Event()
    trouble: list[DeviceError] = []

    def flash() -> None:
        try:
            _flash(light, t_on_ns, stop, flashes, on_s, off_s)
        except DeviceError as exc:
            trouble.append(exc)
        finally:
            done.set()

    thread = threading.Thread(target=flash, name="bench light", daemon=True)
    thread.start()
    progress = Progress("light to message", flashes, live=not isinstance(light, TerminalLight))
    rows: list[tuple[int, int, int]] = []
    try:
        while not done.is_set():
            try:
                pipeline.step()
            except SourceTimeoutError:
                continue
            t_message_ns = monotonic_ns()
            if pipeline.frame is not None:
                grey = int(1000 * float(pipeline.frame.image[::8, ::8].mean()))
                rows.append((t_message_ns, pipeline.frame.info.t_capture_ns, grey))
            progress.update(len(t_on_ns), f"{len(t_on_ns)} of {flashes} flashes")
    finally:
        stop.set()
        thread.join()
        light.close()
    if trouble:
        raise trouble[0]
    if not rows:
        raise DeviceError("the camera gave no frame while the light flashed", "check the source with harrier run")
    return _photon(match_flashes(t_on_ns, np.array(rows, np.int64)), len(t_on_ns), light.name)


def _flash(light: Light, t_on_ns: list[int], stop: threading.Event, flashes: int, on_s: float, off_s: float) -> None:
    """Flash until `stop`, and note when the light went on."""
    rng = np.random.default_rng()
    light.switch(False)
    for _ in range(flashes):
        if stop.wait(off_s * rng.uniform(0.5, 1.5)):
            return
        light.switch(True)
        t_on_ns.append(monotonic_ns())
        if stop.wait(on_s):
            return
        light.switch(False)
    stop.wait(off_s)


def _photon(seen: list[Flash], flashes: int, name: str) -> Photon:
    if not seen:
        raise DeviceError("none of the flashes was seen in a frame", "make the flashes longer than the latency")
    latency_ms = np.array([(flash.t_message_ns - flash.t_light_ns) / 1e6 for flash in seen])
    stamp_ms = np.array([(flash.t_capture_ns - flash.t_light_ns) / 1e6 for flash in seen])
    return Photon(
        flashes=flashes,
        missed=flashes - len(seen),
        light_to_message=distribution_of(latency_ms),
        light_to_capture_stamp_p50_ms=round(float(np.median(stamp_ms)), 3),
        light=name,
    )
