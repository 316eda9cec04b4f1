"""The engine over gRPC, against a stand-in of a few lines with the protocol's own messages."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge.config import EngineSection
from edge.errors import ConfigError, EngineError, EngineLostError
from edge.registry import resolve
from edge.testing import check_engine
from edge.uri import parse_uri

grpc = pytest.importorskip("grpc", reason="the extra kserve is not installed")
pytest.importorskip("tritonclient.grpc", reason="the extra kserve is not installed")
from tritonclient.grpc import service_pb2, service_pb2_grpc  # noqa: E402

WAIT_S = 10.0


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Doubles four numbers, of ready, late, wrong and refusing kinds; what it does not know is UNIMPLEMENTED."""

    def __init__(self) -> None:
        self.ready, self.typed = True, False
        self.delays_s: list[float] = []
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        self.change: Callable = lambda answer: None
        self.metadata: dict[str, str] = {}

    def ModelReady(self, request, context):
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelMetadata(self, request, context):
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        inputs = [tensor(name="x", datatype="FP32", shape=[-1, 4])]
        outputs = [tensor(name="y", datatype="FP32", shape=[-1, 4])]
        return service_pb2.ModelMetadataResponse(name=request.name, inputs=inputs, outputs=outputs)

    def ModelInfer(self, request, context):
        self.metadata = dict(context.invocation_metadata())
        if self.refuse:
            context.abort(*self.refuse)
        if self.delays_s:
            time.sleep(self.delays_s.pop(0))
        y = 2 * np.frombuffer(request.raw_input_contents[0], np.float32)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        output = answer.outputs.add(name="y", datatype="FP32", shape=[1, 4])
        if self.typed:
            output.contents.fp32_contents.extend(y)
        else:
            answer.raw_output_contents.append(y.tobytes())
        self.change(answer)
        return answer


class Served:
    """A servicer that listens; it may be stopped and started again on its port."""

    def __init__(self) -> None:
        self.servicer, self.port = Servicer(), 0
        self.start()

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.servicer, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait(5)


@pytest.fixture
def server() -> Iterator[Served]:
    served = Served()
    yield served
    served.stop()


def opened(server: Served, options: str = "deadline_ms=5000"):
    uri = parse_uri(f"kserve+grpc://127.0.0.1:{server.port}/double?{options}")
    return resolve("engines", "kserve+grpc")(uri, EngineSection(start_s=5))


def ask(engine, value: float) -> list[float]:
    engine.inputs[0][...] = value
    engine.run()
    return engine.outputs[0][0].tolist()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("typed", [False, True])
def test_it_keeps_the_contract(server, typed):
    server.servicer.typed = typed
    check_engine(opened(server))


def test_a_late_answer_is_never_taken_for_a_new_one(server):
    engine = opened(server, "deadline_ms=150")
    server.servicer.delays_s = [0.4]
    started = time.monotonic()
    with pytest.raises(EngineLostError, match="did not answer within 150 ms"):
        ask(engine, 1)
    assert time.monotonic() - started < 0.35, "the deadline was not kept"
    until(lambda: not engine.lost)
    for value in range(2, 12):
        assert ask(engine, value) == [2.0 * value] * 4
    time.sleep(0.3)  # the late answer has been written by now
    assert ask(engine, 20) == [40, 40, 40, 40]
    engine.close()


def test_a_server_that_is_restarted_is_found_again(server):
    engine = opened(server)
    server.stop()
    with pytest.raises(EngineLostError):
        ask(engine, 1)
    until(lambda: "cannot be reached" in engine.lost)
    server.start()
    until(lambda: not engine.lost)
    assert ask(engine, 4) == [8, 8, 8, 8]
    engine.close()


def test_a_model_that_is_not_loaded(server):
    server.servicer.ready = False
    with pytest.raises(EngineLostError, match="double on .* is not ready"):
        opened(server)


def test_nobody_there():
    served = Served()
    served.stop()
    with pytest.raises(EngineLostError, match="cannot be reached .*refused"):
        opened(served)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda answer: setattr(answer.outputs[0], "datatype", "FP64"), "has y as FP64 1x4, its description FP32"),
        (lambda answer: answer.outputs[0].shape.append(2), "has y as FP32 1x4x2"),
        (lambda answer: answer.raw_output_contents.__setitem__(0, b"12345678"), "has 2 values as y"),
        (lambda answer: answer.raw_output_contents.__setitem__(0, b"12345"), "has 5 bytes as y"),
        (lambda answer: answer.raw_output_contents.__setitem__(0, np.float32([np.nan] * 4).tobytes()), "NaN in y"),
        (lambda answer: answer.outputs.pop(), "has no y"),
        (lambda answer: setattr(answer, "id", "another"), "answered another request"),
    ],
    ids=["dtype", "shape", "values", "bytes", "NaN", "none", "id"],
)
def test_a_wrong_answer_is_told_and_the_next_one_is_right(server, change, says):
    engine = opened(server)
    server.servicer.change = change
    with pytest.raises(EngineError, match=says):
        ask(engine, 1)
    server.servicer.change = lambda answer: None
    until(lambda: not engine.lost)
    assert ask(engine, 3) == [6, 6, 6, 6]
    engine.close()


@pytest.mark.parametrize(
    ("code", "lost", "says"),
    [
        ("UNAUTHENTICATED", False, r"is not for us \(\*\*\* is no good\)"),
        ("INTERNAL", False, "failed"),
        ("RESOURCE_EXHAUSTED", True, "is not ready"),
        ("UNAVAILABLE", True, "hung up"),
    ],
)
def test_refusals(server, code, lost, says):
    engine = opened(server, "token=pssst&deadline_ms=5000")
    server.servicer.refuse = (grpc.StatusCode[code], "pssst is no good")
    with pytest.raises(EngineError, match=says) as caught:
        ask(engine, 1)
    assert isinstance(caught.value, EngineLostError) == lost
    assert "pssst" not in str(caught.value)
    server.servicer.refuse = None
    until(lambda: not engine.lost)
    assert ask(engine, 2) == [4, 4, 4, 4]
    assert server.servicer.metadata["authorization"] == "Bearer pssst"
    engine.close()


def test_there_is_no_json_over_grpc(server):
    with pytest.raises(ConfigError, match="gRPC has no JSON"):
        opened(server, "encoding=json")
