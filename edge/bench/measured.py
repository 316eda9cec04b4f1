"""What one run recorded, and what speaks against it."""

from array import array
from dataclasses import dataclass, field

from edge.bench.health import Snapshot, findings
from edge.bench.measure import Recording
from edge.bench.results import Finding, Photon, Setup, Soak
from edge.bench.sensors import Sampler
from edge.bench.soak import WINDOWS
from edge.errors import EdgeError

__all__ = ["Measured", "ended_text", "marks_of"]


@dataclass(slots=True)
class Measured:
    """What one run recorded, before anything is computed from it.

    ended: why a soak ended before its time, if it was not asked to. untimed: why there is no start-up time, if it was
    asked for. unread: where a subscriber could not connect.
    """

    recordings: list[Recording]
    stamps: list[array | None]
    sampler: Sampler
    before: Snapshot
    after: Snapshot
    elapsed_s: float
    cpu_s: float
    soak: Soak | None = None
    photon: Photon | None = None
    ended: EdgeError | None = None
    untimed: EdgeError | None = None
    unread: list[str] = field(default_factory=list)


def ended_text(soak: Soak | None) -> str:
    """Return how far a soak came that ended before its time."""
    return f"the soak ended after {len(soak.t_s) if soak else 0} of {WINDOWS} windows"


def marks_of(measured: Measured, setups: list[Setup]) -> list[Finding]:
    """Return everything that speaks against the run, the grave ones first."""
    found = []
    if measured.ended:
        text = f"{ended_text(measured.soak)}: {measured.ended.cause}"
        found.append(Finding(kind="source", text=text, invalidates=True))
    for setup in setups:
        if not setup.stages_add_up:
            share = f"{100 * setup.stages_over_wall:.2f} %"
            text = f"{setup.name}: the stages add up to {share} of the wall clock, more than 3 % off"
            found.append(Finding(kind="stages", text=text, invalidates=True))
    for recording in measured.recordings:
        found += _engine_marks(recording)
    sampler = measured.sampler
    found += findings(measured.before, measured.after, measured.elapsed_s, sampler.root, sampler.throttle)
    if measured.untimed:
        found.append(Finding(kind="startup", text=f"no start-up time: {measured.untimed.cause}", invalidates=False))
    for address in measured.unread:
        text = f"the subscriber could not connect to {address}: age of information is not available"
        found.append(Finding(kind="subscriber", text=text, invalidates=False))
    return found


def _engine_marks(recording: Recording) -> list[Finding]:
    """Frames that the target of this set-up did not run: others took over, or none could."""
    totals = recording.totals
    preferred, *others = totals.ran.items() or [("", 0)]
    said = [
        f"{recording.name}: {target} ran {frames} frames in place of {preferred[0]}, which ran {preferred[1]}"
        for target, frames in others
        if frames
    ]
    if totals.engine_lost:
        said.append(f"{recording.name}: {totals.engine_lost} frames were lost because no engine could run them")
    return [Finding(kind="engine", text=text, invalidates=True) for text in said]
