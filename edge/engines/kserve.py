"""A model on a KServe v2 inference server, such as Triton, that several robots share."""

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable

import numpy as np

from edge.config import EngineSection
from edge.engines.kserve_address import KserveAddress, address_of
from edge.engines.kserve_link import CONNECT_S, Encoding, Exchange, Link, LinkError
from edge.engines.kserve_memory import Region, is_this_machine, left_behind
from edge.engines.kserve_tensors import check_finite
from edge.errors import ConfigError, EdgeError, EngineError, EngineLostError
from edge.uri import Uri

__all__ = ["KserveEngine"]

log = logging.getLogger("harrier")

_RETRY_S = (0.05, 2.0)
_CLOSE_S = 0.5
_LET_GO_S = 0.01
_MOST_STALE = 64
_CURE = "it is tried again; name a fallback = [...] in [engine] for the time until then"


class KserveEngine:
    """Sends its inputs to a server and takes the answer as its outputs. See `edge.engines.base.Engine`.

    An inference that is not answered within the deadline is given up for good: over HTTP its connection is dropped,
    over gRPC its call cancelled, and where the server writes answers to shared memory, it is not looked at any more.
    While `lost` is set a thread asks every now and then whether the model is ready; there is none otherwise.
    """

    def __init__(self, uri: Uri, options: EngineSection, open_link: Callable[[KserveAddress], Link]) -> None:
        """Raises: ConfigError, EngineError; EngineLostError when the server or the model is not there."""
        self.lost = ""
        self._address = address_of(uri)
        self._open_link = open_link
        self._deadline_s = (self._address.options.deadline_ms or options.deadline_ms) / 1e3
        self._closing = threading.Event()
        self._restorer: threading.Thread | None = None
        self._restored: tuple[Link, Region | None] | None = None
        self._stale: list[str] = []  # shared memory the server may still know
        self._number, self._own = 0, secrets.token_hex(4)
        self._link = open_link(self._address)
        try:
            until_s = time.monotonic() + options.start_s
            model = self._link.describe(until_s)
            self.input_specs, self.output_specs, self.embedded = model.inputs, model.outputs, model.embedded
            self._tensors = self._agreed(
                Exchange(
                    model,
                    "binary",
                    [np.zeros(spec.shape, spec.dtype) for spec in model.inputs],
                    [np.zeros(spec.shape, spec.dtype) for spec in model.outputs],
                ),
                until_s,
            )
        except LinkError as exc:
            self._link.close()
            raise self._error_of(exc, options.start_s) from exc
        except BaseException:
            self._link.close()
            raise
        self.inputs, self.outputs = self._tensors.inputs, self._tensors.outputs

    def run(self) -> None:
        """Ask the server.

        Raises: EngineError, EngineLostError.
        """
        if self.lost:
            raise EngineLostError(self.lost, _CURE)
        self._take_restored()
        until_s = time.monotonic() + self._deadline_s
        try:
            self._infer(self._tensors, until_s)
        except LinkError as exc:
            error = self._error_of(self._looked_into(exc, until_s), self._deadline_s)
            if isinstance(error, EngineLostError):
                self._lose(error.cause)
            raise error from exc
        except ConfigError as exc:  # the file of the token is gone
            raise EngineError(exc.cause, exc.cure) from exc
        check_finite(self.outputs, self.output_specs)

    def close(self) -> None:
        """Hang up and give shared memory back."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._restorer:
            self._restorer.join(_CLOSE_S)  # it hangs up by itself where it takes longer
        self._take_restored()
        regions = [region for region in (self._tensors.input_region, self._tensors.output_region) if region]
        if not self.lost:
            until_s = time.monotonic() + _CLOSE_S
            left = _forget(self._link, [*self._stale, *(region.name for region in regions)], until_s)
            while left and time.monotonic() < until_s:  # a server answers first and lets go of memory then
                time.sleep(_LET_GO_S)
                left = _forget(self._link, left, until_s)
        for region in regions:
            region.close()
        self._link.close()
        self.inputs, self.outputs = [], []
        self._tensors = Exchange(self._tensors.model, "binary", [], [])

    def _infer(self, tensors: Exchange, until_s: float) -> None:
        self._number += 1
        request_id = f"{self._own}-{self._number}"
        try:
            self._link.infer(tensors, request_id, until_s)
        except LinkError as exc:
            if exc.trouble != "unsent" or time.monotonic() >= until_s:
                raise
            self._link.infer(tensors, request_id, until_s)  # the first never left, so that no answer to it can come

    def _agreed(self, plain: Exchange, until_s: float) -> Exchange:
        """The quickest way of exchanging tensors that the server takes, tried with an inference."""
        wanted = self._address.options
        trouble: LinkError | EngineError | None = None
        if wanted.shared_memory == "system" or (wanted.shared_memory == "auto" and is_this_machine(self._address.host)):
            try:
                return self._tried_shared(plain, until_s)
            except (LinkError, OSError) as exc:
                if wanted.shared_memory == "system":
                    raise EngineError(
                        f"{self._address.host_port} takes no shared memory ({exc})",
                        "let it see this machine's /dev/shm (--ipc=host) as the same user, or write shared_memory=auto",
                    ) from exc
                log.info("%s: tensors are sent, not shared: %s", self._address.text, exc)
        encodings: tuple[Encoding, ...] = ("binary", "json") if wanted.encoding == "auto" else (wanted.encoding,)
        for encoding in encodings:
            if encoding not in self._link.encodings:
                continue
            plain.encoding = encoding
            try:
                self._infer(plain, until_s)
                return plain
            except (LinkError, EngineError) as exc:
                if isinstance(exc, LinkError) and exc.trouble != "refused":
                    raise
                trouble = trouble or exc
        raise trouble or ConfigError("gRPC has no JSON encoding", "leave encoding out, or write kserve+http")

    def _tried_shared(self, plain: Exchange, until_s: float) -> Exchange:
        model = plain.model
        _forget(self._link, left_behind(), until_s)
        regions: list[Region] = []
        known: list[str] = []
        try:
            for specs in (model.inputs, model.outputs if not model.open_outputs else []):
                if specs:
                    regions.append(Region(specs))
                    self._link.register(regions[-1], until_s)
                    known.append(regions[-1].name)
            source, target = regions[0], regions[1] if len(regions) > 1 else None
            outputs = target.arrays if target else plain.outputs
            shared = Exchange(model, "shared", source.arrays, outputs, source, target)
            self._infer(shared, until_s)
        except BaseException:
            self._stale += _forget(self._link, known, until_s)
            for region in regions:
                region.close()
            raise
        return shared

    def _looked_into(self, exc: LinkError, until_s: float) -> LinkError:
        """What is behind a refusal: the model may be gone, and a server that was restarted knows no shared memory."""
        if exc.trouble != "refused":
            return exc
        if self._tensors.input_region and "shared memory" in exc.text.lower():
            return LinkError("absent", exc.text)
        try:
            self._link.check_ready(until_s)
        except LinkError as other:
            return other
        return exc

    def _error_of(self, exc: LinkError, limit_s: float) -> EngineError:
        where = self._address.text
        if exc.trouble == "forbidden":
            return EngineError(f"{where} is not for us ({exc.text})", "give token=SECRET or token_file=FILE")
        if exc.trouble == "refused":
            return EngineError(f"{where} failed ({exc.text})", "see the server's log")
        if exc.trouble == "late":
            return EngineLostError(f"{where} did not answer within {limit_s * 1e3:.0f} ms", _CURE)
        says = {"absent": "is not ready", "broken": "hung up"}.get(exc.trouble, "cannot be reached")
        return EngineLostError(f"{where} {says} ({exc.text})", _CURE)

    def _lose(self, why: str) -> None:
        self.lost = why
        self._restorer = threading.Thread(target=self._restore, name=f"restore {self._address.text}", daemon=True)
        self._restorer.start()

    def _restore(self) -> None:
        """Connect anew until it works; the thread that runs the engine leaves the link alone meanwhile."""
        self._link.close()
        pause_s = _RETRY_S[0]
        while not self._closing.is_set():
            until_s = time.monotonic() + CONNECT_S
            link: Link | None = None
            try:
                link = self._open_link(self._address)
                region = self._renewed(link, until_s)
            except (LinkError, EdgeError, OSError) as exc:
                if link:
                    link.close()
                error = self._error_of(exc, CONNECT_S) if isinstance(exc, LinkError) else exc
                self.lost = error.cause if isinstance(error, EdgeError) else str(error)
            else:
                self._hand_over(link, region)
                return
            # not all at once: a fleet comes back together
            self._closing.wait(pause_s * random.uniform(0.5, 1))
            pause_s = min(2 * pause_s, _RETRY_S[1])

    def _renewed(self, link: Link, until_s: float) -> Region | None:
        """Check that the model is as it was; return new memory for answers, as old requests may still write theirs."""
        model, known = link.describe(until_s), self._tensors.model
        if (model.inputs, model.outputs) != (known.inputs, known.outputs):
            raise EngineError(f"{self._address.text} has other tensors than before", "start again to use it")
        source, old = self._tensors.input_region, self._tensors.output_region
        if source and not _forget(link, [source.name], until_s):  # else it is in use: the server has it
            link.register(source, until_s)
        if not old:
            return None
        self._stale = _forget(link, dict.fromkeys([*self._stale, old.name]), until_s)[-_MOST_STALE:]
        target = Region(model.outputs)
        try:
            link.register(target, until_s)
        except BaseException:
            target.close()
            raise
        return target

    def _hand_over(self, link: Link, region: Region | None) -> None:
        self._restored = link, region
        self.lost = ""
        if self._closing.is_set() and self._restored:  # nobody will take it
            link.close()
            if region:
                region.close()

    def _take_restored(self) -> None:
        if not self._restored:
            return
        self._link, region = self._restored
        self._restored = self._restorer = None
        if region and self._tensors.output_region:
            self._tensors.output_region.close()
            self._tensors.output_region = region
            self._tensors.outputs[:] = region.arrays


def _forget(link: Link, names: Iterable[str], until_s: float) -> list[str]:
    """Let the server forget shared memory, and return the names it keeps: while it uses it, it does."""
    kept = []
    for name in names:
        try:
            link.unregister(name, until_s)
        except (LinkError, EdgeError):
            kept.append(name)
    return kept
