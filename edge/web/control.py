"""What the live page can change: each request, checked, done between two frames, and answered with what it changed."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cv2
import msgspec

from edge import __version__
from edge.config import WebSection
from edge.errors import ConfigError, DeviceError
from edge.files import write_atomically
from edge.health import Health
from edge.nms import settings_of
from edge.pipeline import Pipeline
from edge.updates import Updater
from edge.web.models import check_choice
from edge.web.pictures import Pictures
from edge.wire.jsonl import encode

__all__ = ["Control", "ModelRequest", "RecordRequest", "ThresholdsRequest", "TriggerRequest", "thresholds_of"]

T = TypeVar("T")

_LOOP_S = 3.0
_FRAME_S = 2.0
_KEPT_SNAPSHOTS = 4

Unit = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class ThresholdsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Other thresholds; None stays as it is."""

    score: Unit | None = None
    iou: Unit | None = None


class ModelRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Another target of the bundle, or another model of those that `GET /api/models` lists."""

    model: str | None = None
    target: str | None = None


class RecordRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Whether to record."""

    on: bool


class TriggerRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why what was just seen is worth keeping."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = "asked for on the live page"


def thresholds_of(pipeline: Pipeline) -> dict[str, float | None]:
    """Return the thresholds that hold; iou is None where the model needs no NMS."""
    decoder = pipeline.model.decoder
    settings = settings_of(pipeline.model.manifest.decoder, pipeline.config.thresholds)
    overlaps = decoder.kind == "detections" and decoder.needs_nms
    return {"score": settings.score_threshold, "iou": settings.iou_threshold if overlaps else None}


class Control:
    """Carries requests out; from the server's thread. ask_run: hands "start" or "stop" to the loop.

    switching: what is being opened or was opened last: model, target, state (opening, runs, failed) and why.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        health: Health,
        updater: Updater | None,
        pictures: Pictures,
        section: WebSection,
        ask_run: Callable[[str], None],
    ) -> None:
        self.switching: dict[str, str] | None = None
        self.snapshots: dict[str, bytes] = {}
        self._pipeline, self._health, self._updater, self._pictures = pipeline, health, updater, pictures
        self._ask_run = ask_run
        self._folder = Path(section.snapshots).expanduser() if section.snapshots else None

    @property
    def record(self) -> dict[str, Any] | None:
        """What the publishers that record are doing, None where there is none."""
        recorders = [p for p in self._pipeline.publishers if hasattr(p, "recording")]
        if not recorders:
            return None
        files = [str(file) for p in recorders if (file := getattr(p, "file", None))]
        return {"on": any(p.recording for p in recorders), "files": files}

    async def set_thresholds(self, asked: ThresholdsRequest) -> dict[str, Any]:
        """Let them hold from the next frame on.

        Raises: DeviceError when the loop does not answer.
        """

        def change(pipeline: Pipeline) -> dict[str, Any]:
            before = thresholds_of(pipeline)
            pipeline.set_thresholds(asked.score, asked.iou)
            after = thresholds_of(pipeline)
            changed = {name: {"from": before[name], "to": after[name]} for name in after if after[name] != before[name]}
            newest = self._pictures.newest
            return {"changed": changed, "thresholds": after, "frame": newest.seq + 1 if newest else 0}

        return await self._in_loop(change)

    async def switch(self, asked: ModelRequest) -> dict[str, Any]:
        """Have another target or model opened in the background; it takes over between two frames.

        Raises: ConfigError for one there is none of, DeviceError while another one is on its way.
        """
        updater = self._updater
        if updater is None:
            raise ConfigError("this run cannot change its model", "start it with harrier run")
        if updater.on_trial or (self.switching and self.switching["state"] == "opening"):
            raise DeviceError("another model is on its way or on trial", "wait until it is done")
        config = await asyncio.to_thread(check_choice, self._pipeline, asked.model, asked.target)
        said = {"model": config.model or "", "target": config.engine.target or ""}
        self.switching = {**said, "state": "opening", "why": ""}

        def told(trouble: str) -> None:
            self.switching = {**said, "state": "failed" if trouble else "runs", "why": trouble}

        def now() -> Any:
            # thresholds may have been changed while this waited
            held = self._pipeline.config
            return msgspec.structs.replace(config, thresholds=held.thresholds, tracking=held.tracking)

        updater.reload(now, told)
        return self.switching

    async def snapshot(self) -> dict[str, Any]:
        """Keep the next frame as PNG, without drawings, and what was seen on it as JSON.

        Raises: DeviceError when no frame comes, ConfigError when the folder cannot be written.
        """
        try:
            taken = asyncio.wrap_future(self._pictures.snapshot())
            image, message = await asyncio.wait_for(taken, _FRAME_S)
        except (TimeoutError, asyncio.TimeoutError) as exc:
            source = f"the source is {self._pipeline.state}"
            raise DeviceError(f"no frame came within {_FRAME_S:g} s ({source})", "try again when frames come") from exc
        told = {
            "software": f"harrier {__version__}",
            "result": msgspec.Raw(encode(message)),
            "thresholds": thresholds_of(self._pipeline),
            "target": self._pipeline.model.target,
            "health": self._health.report(),
        }
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{message.seq:06d}"
        png = await asyncio.to_thread(lambda: cv2.imencode(".png", image)[1].tobytes())
        files = {f"{name}.png": png, f"{name}.json": msgspec.json.format(msgspec.json.encode(told), indent=2)}
        if self._folder:
            await asyncio.to_thread(_write, self._folder, files)
            return {"frame": message.seq, "files": [str(self._folder / file) for file in files]}
        kept = list(self.snapshots.items())[-2 * (_KEPT_SNAPSHOTS - 1) :]
        self.snapshots = {**dict(kept), **files}
        return {"frame": message.seq, "downloads": [f"/api/snapshots/{file}" for file in files]}

    async def set_recording(self, asked: RecordRequest) -> dict[str, Any]:
        """Begin or end to record.

        Raises: ConfigError where nothing records.
        """
        self._need_recorder()
        for publisher in self._pipeline.publishers:
            publisher.record(asked.on)
        return {"record": self.record}

    async def trigger(self, asked: TriggerRequest) -> dict[str, Any]:
        """Have what was seen around now kept.

        Raises: ConfigError where nothing records.
        """
        self._need_recorder()
        for publisher in self._pipeline.publishers:
            publisher.trigger(asked.reason)
        return {"record": self.record, "reason": asked.reason}

    async def rest(self, resting: bool) -> dict[str, Any]:
        """Pause the run, or let it go on.

        Raises: DeviceError when the loop does not answer.
        """
        self._ask_run("stop" if resting else "start")
        deadline = time.monotonic() + _LOOP_S
        while (self._pipeline.state == "paused") != resting:
            if time.monotonic() > deadline:
                self._ask_run("")
                raise DeviceError("the loop does not answer", "look at its state on the page")
            await asyncio.sleep(0.01)
        return {"state": self._pipeline.state}

    def _need_recorder(self) -> None:
        if self.record is None:
            raise ConfigError("nothing records here", "add --publish mcap://FOLDER")

    async def _in_loop(self, action: Callable[[Pipeline], T]) -> T:
        """What `action` returns, done by the loop between two frames; not done at all where that takes too long."""
        future: Future[T] = Future()

        def act(pipeline: Pipeline) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(action(pipeline))
            except Exception as exc:  # the server answers; the loop goes on
                future.set_exception(exc)

        self._pipeline.ask(act)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), _LOOP_S)
        except (TimeoutError, asyncio.TimeoutError) as exc:
            raise DeviceError("the loop does not answer", "look at its state on the page") from exc


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot make {folder} ({exc.strerror})", "choose another [web] snapshots") from exc
    for name, data in files.items():
        write_atomically(folder / name, data)
