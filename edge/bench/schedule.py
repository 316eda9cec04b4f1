"""In which order the blocks are measured: in turns, or one window after the other for a night."""

from edge.bench.measure import Recording, measure_block
from edge.bench.soak import WINDOWS, SoakLog
from edge.errors import EdgeError, InterruptedWorkError
from edge.progress import Progress

__all__ = ["measure_in_turns", "measure_windows"]


def measure_in_turns(recordings: list[Recording], repeats: int, frames: int | None, seconds: float | None) -> None:
    """A B, B A, A B, ...: turns, in changing order, so that a slow drift of the machine falls on both alike.

    Raises: ConfigError when a source had no frame left, SourceTimeoutError when it was silent.
    """
    progress = Progress("harrier bench", repeats)
    for turn in range(repeats):
        for recording in recordings if turn % 2 == 0 else reversed(recordings):
            recording.add(measure_block(recording.pipeline, frames, seconds))
        progress.update(turn + 1, f"{recordings[0].blocks[-1].steps} frames a block")


def measure_windows(duration_s: float, recording: Recording) -> tuple[SoakLog, EdgeError | None]:
    """Windows until the time is over, Ctrl-C, or the source ends or a part fails, which is returned beside the log.

    Only the last window's own times stay in the recording: all of them would look like a leak.
    Raises: InterruptedWorkError when Ctrl-C came before there was one, EdgeError likewise.
    """
    log = SoakLog(duration_s / WINDOWS)
    progress = Progress("harrier bench --soak", WINDOWS)
    for window in range(WINDOWS):
        try:
            block = measure_block(recording.pipeline, None, log.window_s)
        except KeyboardInterrupt as exc:
            if recording.blocks:
                break
            text = f"the soak was stopped before its first window of {log.window_s:.3g} s was over"
            raise InterruptedWorkError(
                f"{text}, nothing was written", "let it run longer, or give a shorter --soak"
            ) from exc
        except EdgeError as exc:  # hours of numbers outweigh it
            if not recording.blocks:
                raise
            return log, exc
        log.add(block)
        recording.add(block, keep_earlier=False)
        progress.update(window + 1, f"{block.steps / block.elapsed_s:.1f} frames/s")
    return log, None
