"""The engine that asks a server, against a stand-in that fails in every way: nothing late is ever taken for new."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from kserve_stand_in import StandIn
from tls_files import certificate

from edge.config import EngineSection
from edge.engines.kserve import KserveEngine
from edge.engines.kserve_http import http_engine
from edge.errors import ConfigError, EngineError, EngineLostError
from edge.testing import check_engine
from edge.uri import parse_uri

WAIT_S = 10.0


@pytest.fixture
def server() -> Iterator[StandIn]:
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


def opened(server: StandIn, options: str = "", model: str = "double") -> KserveEngine:
    """The engine; with a deadline that only what is meant to be late can miss."""
    deadline = "" if "deadline_ms" in options else "&deadline_ms=5000"
    uri = parse_uri(f"kserve+http://127.0.0.1:{server.port}/{model}?{options.lstrip('&')}{deadline}".replace("?&", "?"))
    return http_engine(uri, EngineSection(start_s=5))


def ask(engine: KserveEngine, value: float) -> list[float]:
    engine.inputs[0][...] = value
    engine.run()
    return engine.outputs[0][0].tolist()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_it_keeps_the_contract(server):
    check_engine(opened(server))


def test_it_keeps_the_contract_as_json(server):
    check_engine(opened(server, "encoding=json"))


def test_a_server_without_binary_tensors_is_asked_as_json(server):
    server.json_only = True
    engine = opened(server)
    assert ask(engine, 3) == [6, 6, 6, 6]
    engine.close()
    with pytest.raises(EngineError, match="cannot read binary tensors"):
        opened(server, "encoding=binary")


def test_shapes_come_from_the_server(server):
    server.metadata["inputs"] = [{"name": "x", "datatype": "FP32", "shape": ["-1", 4]}]
    engine = opened(server)
    assert [spec.shape for spec in engine.input_specs] == [(1, 4)]
    assert [spec.name for spec in engine.output_specs] == ["y"]
    engine.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": []}, "does not say what tensors"),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1]}]}, "input 'x' of the server's model is BYTES"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3, -1, -1]}]}, "has no fixed size"),
        ({"outputs": [{"name": "y"}]}, "does not answer as KServe v2 does"),
        ({"outputs": 3}, "does not answer as KServe v2 does"),
    ],
)
def test_a_model_that_cannot_be_used_is_explained(server, change, says):
    server.metadata |= change
    with pytest.raises(EngineError, match=says):
        opened(server)


def test_a_late_answer_is_never_taken_for_a_new_one(server):
    engine = opened(server, "deadline_ms=150")
    server.delays_s = [0.4]
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


def test_an_answer_that_trickles_in_is_late_as_a_whole(server):
    engine = opened(server, "deadline_ms=150")
    server.trickle_s = 0.02  # each byte well within the deadline, the whole head far beyond it
    started = time.monotonic()
    with pytest.raises(EngineLostError, match="did not answer within 150 ms"):
        ask(engine, 1)
    assert time.monotonic() - started < 0.5
    engine.close()


def test_an_answer_to_another_request_is_not_taken(server):
    engine = opened(server)
    server.answer_id = "yesterday's"
    with pytest.raises(EngineLostError, match="answered another request"):
        ask(engine, 1)
    engine.close()


def test_while_it_is_lost_it_says_so_at_once_and_comes_back(server):
    engine = opened(server)
    port = server.port
    server.close()
    with pytest.raises(EngineLostError):
        ask(engine, 1)
    until(lambda: "refused" in engine.lost)
    started = time.monotonic()
    with pytest.raises(EngineLostError, match="cannot be reached"):
        engine.run()
    assert time.monotonic() - started < 0.1
    again = StandIn(port)
    until(lambda: not engine.lost)
    assert ask(engine, 4) == [8, 8, 8, 8]
    assert [thread for thread in threading.enumerate() if thread.name.startswith("restore double")] == []
    engine.close()
    again.close()


def test_a_server_that_was_restarted_between_two_frames_is_found_without_an_error(server):
    engine = opened(server)
    port = server.port
    server.close()
    again = StandIn(port)
    assert ask(engine, 4) == [8, 8, 8, 8]
    assert not engine.lost
    engine.close()
    again.close()


def test_a_connection_closed_while_idle_costs_no_frame(server):
    engine = opened(server)
    server.drop_connections()
    time.sleep(0.05)
    assert ask(engine, 5) == [10, 10, 10, 10]
    engine.close()


def test_what_may_have_run_is_not_asked_again(server):
    engine = opened(server)
    server.requests.clear()
    server.hang_ups = 1
    with pytest.raises(EngineLostError, match="hung up"):
        ask(engine, 1)
    assert len(server.requests) == 1
    until(lambda: not engine.lost)
    assert ask(engine, 2) == [4, 4, 4, 4]
    assert len(set(server.requests)) == 2, "every inference has a number of its own"
    engine.close()


def test_an_unloaded_model_is_lost_until_it_is_back(server):
    engine = opened(server)
    server.ready, server.refuse = False, (400, "Request for unknown model: 'double' has no available versions")
    with pytest.raises(EngineLostError, match="is not ready"):
        ask(engine, 1)
    time.sleep(0.1)
    assert "not loaded" in engine.lost
    server.ready, server.refuse = True, None
    until(lambda: not engine.lost)
    assert ask(engine, 2) == [4, 4, 4, 4]
    engine.close()


def test_a_model_that_fails_is_an_error_but_not_lost(server):
    engine = opened(server)
    server.refuse = (500, "division by zero in the model")
    with pytest.raises(EngineError, match="failed .division by zero") as caught:
        ask(engine, 1)
    assert not isinstance(caught.value, EngineLostError)
    assert not engine.lost
    server.refuse = None
    assert ask(engine, 2) == [4, 4, 4, 4]
    engine.close()


def test_a_model_that_came_back_with_other_tensors_stays_lost(server):
    engine = opened(server)
    server.metadata["outputs"][0]["shape"] = [-1, 5]
    server.hang_ups = 1
    with pytest.raises(EngineLostError):
        ask(engine, 1)
    until(lambda: "other tensors than before" in engine.lost)
    server.metadata["outputs"][0]["shape"] = [-1, 4]
    until(lambda: not engine.lost)
    engine.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"declared": {"datatype": "FP16"}}, "has y as FP16 1x4, its description FP32 1x4"),
        ({"declared": {"shape": [1, 2]}}, "has y as FP32 1x2"),
        ({"declared": {"shape": [1, "four"]}}, "does not answer as KServe v2 does"),
        ({"declared": {"name": "z"}}, "has z unasked"),
        ({"values": lambda x: (2 * x)[:2], "declared": {"shape": [1, 4]}}, "has 8 bytes as y, not 16"),
        ({"values": lambda x: np.float32([1, np.nan, 1, 1])}, "has NaN in y"),
    ],
    ids=["dtype", "shape", "no number", "name", "bytes", "NaN"],
)
def test_a_wrong_answer_is_told_and_the_next_one_is_right(server, change, says):
    engine = opened(server)
    right = {name: getattr(server, name) for name in change}
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(EngineError, match=says):
        ask(engine, 1)
    for name, value in right.items():
        setattr(server, name, value)
    assert ask(engine, 3) == [6, 6, 6, 6]
    engine.close()


def test_infinity_is_a_number(server):
    engine = opened(server)
    server.values = lambda x: np.float32([np.inf, -np.inf, 0, 1])
    assert ask(engine, 3) == [np.inf, -np.inf, 0, 1]
    engine.close()


def test_an_output_of_open_size_may_be_of_any_even_none(server):
    server.metadata["outputs"][0]["shape"] = [-1, -1, 2]
    server.values = lambda x: np.tile(x[:2], (int(x[0]), 1))
    engine = opened(server)
    listed = engine.outputs
    for count in (3, 0, 2):
        ask(engine, count)
        assert engine.outputs is listed
        assert engine.outputs[0].shape == (1, count, 2)
        assert (engine.outputs[0] == count).all()
    engine.close()


def test_a_token_is_sent_and_never_shown(server, tmp_path):
    engine = opened(server, "token=pssst")
    ask(engine, 1)
    assert server.headers["authorization"] == "Bearer pssst"
    server.refuse = (403, "pssst is not allowed")
    with pytest.raises(EngineError, match=r"is not for us \(\*\*\* is not allowed\)") as caught:
        ask(engine, 1)
    assert "pssst" not in str(caught.value)
    engine.close()
    server.refuse = None
    (tmp_path / "token").write_text("from a file\n")
    engine = opened(server, f"token_file={tmp_path}/token&token_header=X-Key&authority=double.fleet.example")
    assert server.headers["x-key"] == "from a file"
    assert server.headers["Host"] == "double.fleet.example"
    (tmp_path / "token").write_text("a newer one")
    ask(engine, 1)
    assert server.headers["x-key"] == "a newer one"
    (tmp_path / "token").unlink()
    with pytest.raises(EngineError, match="cannot read token_file"):
        ask(engine, 1)
    engine.close()


def test_tls_with_an_authority_of_our_own(tmp_path):
    cert, key = certificate(tmp_path, "server")
    server = StandIn(tls=(cert, key))
    engine = opened(server, f"tls=yes&ca={cert}")
    assert ask(engine, 2) == [4, 4, 4, 4]
    assert ask(engine, 3) == [6, 6, 6, 6]
    assert len(server.connections) == 1, "the connection is kept"
    engine.close()
    with pytest.raises(EngineError, match=r"is not trusted .*give ca=FILE"):
        opened(server, "tls=yes")
    server.close()


def test_a_version_is_asked_for(server):
    engine = opened(server, "version=7")
    engine.close()
    assert engine.inputs == []


def test_a_server_that_is_not_there_is_lost_and_not_wrong():
    server = StandIn()
    server.close()
    with pytest.raises(EngineLostError, match=r"double on 127\.0\.0\.1:\d+ cannot be reached .*refused"):
        opened(server)


def test_a_model_that_is_not_there(server):
    server.ready = False
    with pytest.raises(EngineLostError, match="double on .* is not ready"):
        opened(server)


def test_close_is_quick_while_the_server_hangs(server):
    engine = opened(server, "deadline_ms=50")
    server.delays_s = [1.0] * 3
    with pytest.raises(EngineLostError):
        ask(engine, 1)
    started = time.monotonic()
    engine.close()
    engine.close()
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("kserve+http://10.0.0.5/yolox", "names no server and model"),
        ("kserve+http://10.0.0.5:8000", "names no server and model"),
        ("kserve+http://10.0.0.5:0/yolox", "names no server and model"),
        ("kserve+http://10.0.0.5:8000/a/b", "names no server and model"),
        ("kserve+http://10.0.0.5:8000/yolox?deadline_ms=0", "deadline_ms"),
        ("kserve+http://10.0.0.5:8000/yolox?shared_memory=on", "does not say which"),
        ("kserve+http://10.0.0.5:8000/yolox?shared_memory=cuda", "shared_memory"),
        ("kserve+http://10.0.0.5:8000/yolox?ca=x.pem", "without TLS"),
        ("kserve+http://10.0.0.5:8000/yolox?tls=yes&ca=/nowhere.pem", "holds no certificate"),
        ("kserve+http://10.0.0.5:8000/yolox?token=a&token_file=b", "two tokens"),
        ("kserve+http://10.0.0.5:8000/yolox?token_file=/nowhere", "cannot read token_file"),
        ("kserve+http://10.0.0.5:8000/yolox?token=a%0d%0aX-Evil:%201", "control character"),
        ("kserve+http://10.0.0.5:8000/yolox?tokn=a", "did you mean 'token'"),
    ],
)
def test_wrong_addresses_are_explained_before_anything_is_sent(uri, says):
    with pytest.raises(ConfigError, match=says):
        http_engine(parse_uri(uri), EngineSection(start_s=0.2))


@pytest.mark.parametrize(
    "answer", [{}, [], 3, {"id": 3}, {"outputs": [{}]}, {"outputs": {}}, {"outputs": [3]}], ids=str
)
def test_json_of_any_kind_is_no_traceback(server, answer):
    engine = opened(server)
    server.answer = answer
    with pytest.raises(EngineError):
        ask(engine, 1)
    server.answer = None
    until(lambda: not engine.lost)
    assert ask(engine, 3) == [6, 6, 6, 6]
    engine.close()
