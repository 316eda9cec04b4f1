"""What the machine draws, read at most every two seconds and only while somebody asks."""

import asyncio
import time
from dataclasses import dataclass

from edge.bench.sensors import PowerMeter, find_power

__all__ = ["Power", "PowerReading"]

_PERIOD_S = 2.0


@dataclass(frozen=True, slots=True)
class PowerReading:
    """Watts, by which sensor, and of what."""

    sensor: str
    scope: str
    watts: float


class Power:
    """Reads the best power meter there is in a thread: on some boards a reading starts a program."""

    def __init__(self) -> None:
        self.newest: PowerReading | None = None
        self._meter: PowerMeter | None = None
        self._looked = False
        self._t_due_s = 0.0

    async def look(self) -> PowerReading | None:
        """Return the newest reading, read again where it is two seconds old; None without a meter."""
        now_s = time.monotonic()
        if now_s >= self._t_due_s:
            self._t_due_s = now_s + _PERIOD_S
            self.newest = await asyncio.to_thread(self._read)
        return self.newest

    def _read(self) -> PowerReading | None:
        if not self._looked:
            self._meter, self._looked = find_power(), True
        meter = self._meter
        watts = meter.read_w() if meter else None
        return PowerReading(meter.sensor, meter.scope, round(watts, 3)) if meter and watts is not None else None
