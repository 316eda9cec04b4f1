"""The engine against a real Triton core: the same detections as in process, late answers, restarts.

HARRIER_TRITON_PYTHON names a Python with nvidia-pytriton and onnxruntime; without it these tests are skipped.
"""

import dataclasses
import http.client
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from triton_process import TOKEN, TritonProcess, interpreter

from edge.config import EngineSection, RunConfig
from edge.engines.base import Engine
from edge.errors import EngineError, EngineLostError, ManifestError
from edge.model import open_model
from edge.pipeline import Pipeline
from edge.registry import resolve
from edge.remote_target import matching_target
from edge.testing import MemoryPublisher, MemorySource, check_engine
from edge.uri import parse_uri

WAIT_S = 60.0
WAYS = [("http", "off"), ("http", "system"), ("grpc", "off"), ("grpc", "system")]
ways = pytest.mark.parametrize(("protocol", "memory"), WAYS, ids=["-".join(way) for way in WAYS])


@pytest.fixture(scope="module")
def triton(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonProcess]:
    server = TritonProcess(interpreter(), shared / "models" / "yolox_nano.onnx", tmp_path_factory.mktemp("triton"))
    yield server
    server.kill()


def opened(triton: TritonProcess, protocol: str, memory: str, model: str, deadline_ms: int = 20_000) -> Engine:
    if protocol == "grpc":
        pytest.importorskip("tritonclient.grpc", reason="the extra kserve is not installed")
    port, header = {
        "http": (triton.http_port, "triton-access-token"),
        "grpc": (triton.grpc_port, "triton-grpc-protocol-triton-access-token"),
    }[protocol]
    uri = f"kserve+{protocol}://127.0.0.1:{port}/{model}?deadline_ms={deadline_ms}&shared_memory={memory}"
    uri += f"&token={TOKEN}&token_header={header}"
    return resolve("engines", f"kserve+{protocol}")(parse_uri(uri), EngineSection())


def doubled(engine: Engine, first: float, *rest: float) -> list[float]:
    engine.inputs[0][0] = first, *rest
    engine.run()
    return engine.outputs[0][0].tolist()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def messages_of(model, image: np.ndarray) -> list:
    publisher = MemoryPublisher()
    Pipeline(MemorySource([image], 1), model, [publisher], RunConfig()).step()
    return [message for message in publisher.messages if message.kind == "detections"]


@ways
def test_it_keeps_the_contract(triton, protocol, memory):
    check_engine(opened(triton, protocol, memory, "yolox"))


@ways
def test_the_detections_are_those_of_the_model_in_process(triton, protocol, memory, shared):
    here = open_model(str(shared / "models" / "yolox_nano.onnx"))
    there = dataclasses.replace(here, engine=opened(triton, protocol, memory, "yolox"))
    image = cv2.imread(str(shared / "data" / "images" / "pets.jpg"))
    expected, found = messages_of(here, image)[0].detections, messages_of(there, image)[0].detections
    assert len(expected) >= 2
    assert [one.class_id for one in found] == [one.class_id for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=0.001)
    for one, other in zip(found, expected, strict=True):
        assert one.box == pytest.approx(other.box, abs=0.1)
    here.close()
    there.close()


def test_the_target_is_found_by_its_outputs(triton, shared):
    model = open_model(str(shared / "models" / "yolox_nano.onnx"))
    engine = opened(triton, "http", "off", "yolox")
    assert matching_target(model.manifest, engine) == model.target
    engine.close()
    engine = opened(triton, "http", "off", "double")
    with pytest.raises(ManifestError, match=r"the server's model gives y; yolox_nano has output \(onnx\)"):
        matching_target(model.manifest, engine)
    engine.close()
    model.close()


@ways
def test_a_late_answer_is_never_taken_for_a_new_one(triton, protocol, memory):
    engine = opened(triton, protocol, memory, "double", deadline_ms=200)
    assert doubled(engine, 0, 1, 2, 3) == [0, 2, 4, 6]
    with pytest.raises(EngineLostError, match="did not answer within 200 ms"):
        doubled(engine, 0.5, 7, 7, 7)
    until(lambda: not engine.lost)
    assert doubled(engine, 0, 1, 2, 3) == [0, 2, 4, 6]
    t_end = time.monotonic() + 0.6
    while time.monotonic() < t_end:  # the late answer is written in the middle of this
        assert engine.outputs[0].tolist() == [[0, 2, 4, 6]]
    assert doubled(engine, 0, 1, 2, 4) == [0, 2, 4, 8]
    engine.close()


@ways
def test_nan_is_told(triton, protocol, memory):
    engine = opened(triton, protocol, memory, "double")
    with pytest.raises(EngineError, match="NaN in y"):
        doubled(engine, 0, np.nan, 1, 1)
    assert doubled(engine, 0, 1, 2, 3) == [0, 2, 4, 6]
    engine.close()


def test_shared_memory_leaves_nothing_behind(triton):
    files, regions = shared_files(), registered(triton)
    engine = opened(triton, "http", "system", "double")
    assert len(registered(triton) - regions) == 2
    assert registered(triton) - regions <= shared_files()
    engine.close()
    assert registered(triton) <= regions
    assert shared_files() <= files


def test_where_shared_memory_is_refused_tensors_are_sent(triton):
    uri = f"kserve+http://127.0.0.1:{triton.http_port}/double"
    engine = resolve("engines", "kserve+http")(parse_uri(uri), EngineSection())
    assert doubled(engine, 0, 1, 2, 3) == [0, 2, 4, 6]
    engine.close()
    with pytest.raises(EngineError, match="takes no shared memory .This API is restricted"):
        resolve("engines", "kserve+http")(parse_uri(f"{uri}?shared_memory=system"), EngineSection())


@ways
def test_a_server_that_hangs_is_lost_until_it_goes_on(triton, protocol, memory):
    engine = opened(triton, protocol, memory, "double", deadline_ms=300)
    triton.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(EngineLostError, match="did not answer within 300 ms"):
            doubled(engine, 0, 1, 2, 3)
        assert time.monotonic() - started < 1
        time.sleep(0.2)
        assert engine.lost
    finally:
        triton.signal(signal.SIGCONT)
    until(lambda: not engine.lost)
    assert doubled(engine, 0, 1, 2, 5) == [0, 2, 4, 10]
    engine.close()


def registered(triton: TritonProcess) -> set[str]:
    return {region["name"] for region in post(triton, "/v2/systemsharedmemory/status", "GET")}


def shared_files() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("harrier-kserve-*")}


def post(triton: TritonProcess, path: str, method: str = "POST") -> list[dict]:
    connection = http.client.HTTPConnection("127.0.0.1", triton.http_port, timeout=10)
    connection.request(method, path, headers={"triton-access-token": TOKEN, "Content-Length": "0"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    connection.close()
    return json.loads(body or b"[]")


def test_an_unloaded_model_and_a_killed_server_are_lost_until_they_are_back(triton):
    """The last one here: it leaves the server dead."""
    engines = [opened(triton, *way, "double", deadline_ms=2000) for way in WAYS]
    post(triton, "/v2/repository/models/double/unload")
    for engine in engines:
        with pytest.raises(EngineLostError, match="is not ready"):
            until(lambda engine=engine: not doubled(engine, 0, 1, 1, 1))  # it goes on for a moment
    triton.kill()
    until(lambda: all("cannot be reached" in engine.lost for engine in engines))
    triton.start()
    for engine in engines:
        until(lambda engine=engine: not engine.lost)
        assert doubled(engine, 0, 1, 2, 3) == [0, 2, 4, 6]
    triton.kill()
    for engine in engines:
        with pytest.raises(EngineLostError):
            doubled(engine, 0, 1, 2, 3)
        engine.close()
