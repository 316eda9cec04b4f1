"""Who may see the page and who may change something: tokens, names, origins, addresses."""

import http.client
import socket
import ssl
import time
import urllib.request

import pytest
from live_runs import LiveRun, until
from tls_files import certificate

from edge.config import RunConfig, WebSection
from edge.errors import ConfigError, PublishError
from edge.registry import resolve
from edge.web import gate, server
from edge.web.options import address_of, checked, web_section

pytest.importorskip("aiohttp", reason="the extra 'web' is not installed")

SECRET = {"Authorization": "Bearer sesame"}
CHANGE = {"score": 0.6}


@pytest.fixture
def open_run(tmp_path):
    with LiveRun(tmp_path) as run:
        yield run


@pytest.fixture
def locked_run(tmp_path):
    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", token="sesame", names=["robot.lan"])) as run:
        yield run


def test_on_loopback_everything_is_answered(open_run):
    for path in ("/", "/live.css", "/live.js", "/metrics", "/healthz", "/api/state", "/api/models", "/picture.jpg"):
        assert open_run.ask(path)[0] == 200, path
    assert open_run.ask("/api/thresholds", CHANGE)[0] == 200
    assert open_run.ask("/nothing")[0] == 404
    assert open_run.ask("/../live.css")[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8080", "[", ""])
def test_another_name_for_this_machine_is_refused(open_run, host):
    """DNS rebinding: a stranger's name that points here must not make his pages pages of this host."""
    for path in ("/", "/metrics", "/api/state", "/picture.jpg"):
        assert open_run.ask(path, Host=host)[0] in (400, 403), path
    assert open_run.ask("/api/thresholds", CHANGE, Host=host)[0] in (400, 403)
    assert open_run.pipeline.config.thresholds.score is None


def test_healthz_tells_a_strange_name_the_state_alone(open_run):
    assert open_run.ask("/healthz", Host="evil.example") == (200, {"state": "ok"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", socket.gethostname()])
def test_our_own_names_are_known(open_run, host):
    assert open_run.ask("/api/state", Host=f"{host}:8080")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},  # another server on this machine
        {"Origin": "null"},
        {"Origin": "["},
        {"X_Harrier": "0"},
        {"Content_Type": "text/plain"},  # what a form of another page can send
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_page_from_elsewhere_changes_nothing(open_run, headers):
    for path, body in (("thresholds", CHANGE), ("pause", {}), ("snapshot", {}), ("model", {"target": "second"})):
        status, told = open_run.ask(f"/api/{path}", body, **headers)
        assert (status, bool(told["error"])) == (403, True)
    assert open_run.pipeline.config.thresholds.score is None
    assert open_run.pipeline.state == "streaming"


def test_our_own_page_may_change_something(open_run):
    own = f"http://127.0.0.1:{open_run.port}"
    assert open_run.ask("/api/thresholds", CHANGE, Origin=own, Sec_Fetch_Site="same-origin")[0] == 200
    assert open_run.pipeline.config.thresholds.score == 0.6


def test_changes_are_asked_for_with_post(open_run):
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        assert open_run.ask("/api/thresholds", CHANGE, method)[0] == 405
    assert open_run.pipeline.config.thresholds.score is None


def test_a_page_from_elsewhere_shows_no_pictures_of_ours(open_run):
    assert open_run.ask("/picture.jpg", Sec_Fetch_Site="cross-site")[0] == 403


def test_with_a_token_nothing_is_shown_without_it(locked_run):
    for path in ("/metrics", "/api/state", "/api/models", "/picture.jpg", "/live.mjpg", "/api/snapshots/x.png"):
        assert locked_run.ask(path)[0] == 401, path
        assert locked_run.ask(path, Authorization="Bearer sesam")[0] == 401, path
        assert locked_run.ask(f"{path}?token=s%C3%A9same")[0] == 401, path
    assert locked_run.ask("/")[0] == 200  # it says nothing of the run, and asks for the token
    assert locked_run.ask("/api/thresholds", CHANGE)[0] == 401
    assert locked_run.pipeline.config.thresholds.score is None
    for path in ("/metrics", "/api/state", "/api/models", "/picture.jpg"):
        assert locked_run.ask(path, **SECRET)[0] == 200, path
        assert locked_run.ask(f"{path}?token=sesame")[0] == 200, path
    assert locked_run.ask("/api/thresholds", CHANGE, **SECRET)[0] == 200


def test_on_this_machine_healthz_tells_all_without_the_token(locked_run):
    assert locked_run.ask("/healthz")[1]["source"]["id"] == "memory"


def test_a_name_that_is_configured_is_ours(locked_run):
    assert locked_run.ask("/", Host="robot.lan:8080")[0] == 200
    assert locked_run.ask("/", Host="robot.wan:8080")[0] == 403
    assert locked_run.ask("/metrics", Host="robot.wan", **SECRET)[0] == 200  # who has the token is no stranger


def test_control_false_changes_nothing(tmp_path):
    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", control=False)) as run:
        status, told = run.ask("/api/thresholds", CHANGE)
        assert status == 403
        assert "control = false" in told["error"]
        assert run.ask("/api/state")[0] == 200


def test_without_a_token_another_machine_changes_nothing(tmp_path, monkeypatch):
    with LiveRun(tmp_path, WebSection(listen="0.0.0.0:0", insecure=True)) as run:
        assert run.ask("/api/thresholds", CHANGE)[0] == 200
        monkeypatch.setattr(gate, "is_loopback", lambda host: False)
        status, told = run.ask("/api/thresholds", {"score": 0.7})
        assert status == 403
        assert "set [web] token" in told["error"]
        assert run.ask("/api/state")[0] == 200
        assert run.pipeline.config.thresholds.score == 0.6


def test_addresses_that_others_reach_need_a_token_or_tls(tmp_path):
    for listen in ("0.0.0.0:8080", ":8080", "[::]:8080", "robot:8080"):
        with pytest.raises(ConfigError, match="anybody who can reach"):
            checked(WebSection(listen=listen))
        assert checked(WebSection(listen=listen, token="sesame")) is None
    for listen in ("127.0.0.1:8080", "localhost:0", "[::1]:8080"):
        checked(WebSection(listen=listen))
    with pytest.raises(ConfigError, match="half of what TLS needs"):
        checked(WebSection(cert=str(tmp_path)))
    with pytest.raises(ConfigError, match="no host and port: write 127"):
        checked(WebSection(listen="8080"))


def test_the_option_web_is_read_over_the_configuration():
    assert web_section("8080", None) == WebSection(listen="127.0.0.1:8080")
    base = WebSection(listen="127.0.0.1:1", token="a", picture_hz=5, names=["robot"])
    found = web_section("0.0.0.0:2?token=b&control=false&picture_width=320", base)
    assert (found.listen, found.token, found.control, found.picture_width) == ("0.0.0.0:2", "b", False, 320)
    assert (found.picture_hz, found.names) == (5, ["robot"])
    assert address_of(found) == ("0.0.0.0", 2)
    with pytest.raises(ConfigError, match="unknown key 'tokn'.*did you mean 'token'"):
        web_section("127.0.0.1:0?tokn=b", None)
    assert RunConfig().web is None


def test_a_port_in_use_is_named(open_run):
    section = WebSection(listen=f"127.0.0.1:{open_run.port}")
    with pytest.raises(PublishError, match=f"port {open_run.port} is in use"):
        resolve("pages", "live")(section, open_run.pipeline, None, None)


def test_connections_that_ask_for_nothing_are_hung_up_on(open_run, monkeypatch):
    monkeypatch.setattr(server, "_REQUEST_WITHIN_S", 0.1)
    silent = socket.create_connection(("127.0.0.1", open_run.port), 5)
    half = socket.create_connection(("127.0.0.1", open_run.port), 5)
    half.sendall(b"GET / HTTP/1.1\r\nHost: ")
    for sock in (silent, half):
        with sock:
            try:
                assert sock.recv(100) == b""
            except ConnectionError:
                pass
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 0)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        open_run.ask("/healthz")


def test_a_body_that_is_too_large_or_no_json_is_refused(open_run):
    assert open_run.ask("/api/trigger", {"reason": "x" * 100_000})[0] == 413
    for body in ({"score": 2}, {"scores": 0.5}, {"score": "high"}, [], 7, {"score": None, "iou": "x"}):
        status, told = open_run.ask("/api/thresholds", body)
        assert (status, bool(told["error"])) == (400, True), body


def test_with_a_certificate_it_is_https(tmp_path):
    cert, key = certificate(tmp_path, "front")
    with LiveRun(tmp_path, WebSection(listen="127.0.0.1:0", cert=str(cert), key=str(key))) as run:
        assert run.page.address.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(cert))
        with urllib.request.urlopen(f"{run.page.address}/healthz", timeout=10, context=context) as answer:
            assert b'"state":"ok"' in answer.read()
        with pytest.raises((ConnectionError, http.client.HTTPException, OSError)):
            run.ask("/healthz")


def test_it_ends_quickly_whoever_is_connected(tmp_path):
    with LiveRun(tmp_path) as run:
        sock = socket.create_connection(("127.0.0.1", run.port), 5)
        sock.sendall(b"GET /live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        until(lambda: b"harrier-picture" in sock.recv(4096), "no picture came")
        start = time.monotonic()
    assert time.monotonic() - start < 3
    sock.close()
