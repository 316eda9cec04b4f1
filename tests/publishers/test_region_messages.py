"""What a track did to a region, from the pipeline to a reader: each event is sent, in order, on every way there is."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stream_readers import DEADLINE_S, wait_for

import edge
from edge.client import line_of
from edge.clock import monotonic_ns, unix_ns_from_monotonic_ns
from edge.events import RegionEvent
from edge.frame import FrameInfo
from edge.publishers.access import ListenOptions
from edge.publishers.base import Publisher
from edge.publishers.outbox import Outbox
from edge.publishers.session import Channel
from edge.reception import Reception
from edge.registry import resolve
from edge.uri import parse_uri
from edge.wire import encoder, jsonl
from edge.wire.building import Stream, greeting, region_of, restamped
from edge.wire.layout import STREAM_SYNC
from edge.wire.messages import ControlMessage, CreditMessage, DetectionsMessage, RegionMessage

STREAM = Stream(source="cam", model="m", labels=("cat", "dog"))
MS = 1_000_000


def event(track_id: int = 7, class_id: int = 1, age_ms: float = 50.0, **more) -> RegionMessage:
    happened = RegionEvent("door", "enter", track_id, class_id, monotonic_ns() - int(age_ms * MS), **more)
    return region_of(happened, FrameInfo(12, "cam", monotonic_ns(), 64, 48), STREAM)


def result(seq: int) -> DetectionsMessage:
    return DetectionsMessage(source="cam", seq=seq, t_publish_ns=0, t_capture_ns=0, age_ms=0.0, detections=[])


def opened(uri: str) -> Publisher:
    return resolve("publishers", uri.partition(":")[0])(parse_uri(uri))


def test_a_message_says_what_when_and_who():
    before = monotonic_ns()
    happened = RegionEvent("door", "leave", 7, 1, before - 60 * MS, dwell_s=2.5, lost=True, index=3, inside=2)
    message = region_of(happened, FrameInfo(12, "cam", before, 64, 48), STREAM, ("stale",))
    assert (message.region, message.index, message.event, message.lost, message.inside) == ("door", 3, "leave", True, 2)
    assert (message.track_id, message.class_id, message.label, message.dwell_ms) == (7, 1, "dog", 2500.0)
    assert (message.source, message.seq, message.flags, message.model_id) == ("cam", 12, ("stale",), STREAM.model_id)
    assert message.t_publish_ns - message.t_event_ns == pytest.approx(message.age_ms * MS, abs=1000)
    assert abs(message.t_event_ns - unix_ns_from_monotonic_ns(before - 60 * MS)) < 50 * MS
    assert message.age_ms >= 60
    assert b"t_event_local_ns" not in jsonl.encode(message)  # means nothing to anybody else
    time.sleep(0.02)
    later = restamped(message)
    assert later.age_ms >= message.age_ms + 20
    assert later.t_event_ns == message.t_event_ns
    assert later.age_now_ms() >= later.age_ms


def test_events_wait_in_order_and_the_oldest_of_too_many_are_dropped_and_counted():
    outbox: Outbox[int] = Outbox()
    for i in range(70):
        outbox.put("region", i)
        outbox.put("detections", i)
        if i % 10 == 0:
            outbox.put("status", i)
    taken: dict[str, list[int]] = {"region": [], "detections": [], "status": []}
    while (item := outbox.take()) is not None:
        taken[item[0]].append(item[1])
    assert taken == {"region": list(range(6, 70)), "detections": [69], "status": list(range(0, 70, 10))}
    assert outbox.dropped == 6 + 69
    for i in range(100):  # what was taken, and put back, counts no more
        outbox.put("region", i)
        kind, first = outbox.take()
        outbox.put_back(kind, first)
        assert outbox.take() == ("region", i)
    assert outbox.dropped == 6 + 69


def test_a_reader_has_events_without_credit_of_its_classes_only_and_none_from_before():
    channel = Channel(ListenOptions(control="view"), jsonl.encode)
    reader = channel.open("reader")
    reader.receive(jsonl.encode(CreditMessage(results=0))[:-1])
    reader.receive(jsonl.encode(ControlMessage(class_ids=(1,)))[:-1])
    for message in (event(1, 0), event(2, 1), result(5), event(3, 1)):
        item = channel.put(message)
        for session in channel.sessions.values():
            session.put(item)
    heard = [jsonl.decode(payload) for payload in iter(reader.take, None)]
    assert [(m.kind, m.track_id) for m in heard] == [("region", 2), ("region", 3)]  # no credit for the result
    late = channel.open("late")
    assert late.take() is None
    reader.receive(jsonl.encode(ControlMessage(kinds=("status",)))[:-1])
    reader.put(channel.put(event(4, 1)))
    assert reader.take() is None


@pytest.mark.parametrize("encode", [encoder.encode, jsonl.encode])
def test_a_reader_knows_by_its_own_clock_when_it_happened(encode: Callable):
    reception, now = Reception("message"), monotonic_ns()
    for message in greeting(STREAM, (64, 48)):
        reception.take(encode(message), now)
    sent = restamped(event(age_ms=80.0))
    (back,) = reception.take(encode(sent), now)
    assert (back.region, back.label, back.source) == ("door", "dog", "cam")
    assert back.t_event_local_ns == pytest.approx(now - sent.age_ms * MS, abs=2000)
    assert back.clock_error_ms is None  # nobody has compared the clocks
    impossible = jsonl.encode(sent).replace(b'"age_ms":', b'"age_ms":1e300,"was":')
    assert reception.take(impossible, now) == []
    assert reception.damaged == 1


def brought(publisher: Publisher, address: str, ready: Callable[[], object]) -> list[RegionMessage]:
    """What a reader that connects is brought of 20 events amid 20 results."""
    for message in greeting(STREAM, (64, 48)):
        publisher.send(message)
    found: list[RegionMessage] = []
    with edge.connect(address) as connection:
        wait_for(ready, "a reader")
        wait_for(lambda: connection.state == "connected", "a connection")
        for i in range(20):
            publisher.send(event(i, i % 2))
            publisher.send(result(i))
        deadline = time.monotonic() + DEADLINE_S
        while len(found) < 20 and time.monotonic() < deadline:
            message = connection.read(0.1)
            if message is not None and message.kind == "region":
                found.append(message)
    publisher.close()
    return found


@pytest.mark.parametrize("form", ["binary", "json"])
@pytest.mark.parametrize("scheme", ["tcp", "unix", "ws"])
def test_each_event_arrives_in_order(tmp_path: Path, scheme: str, form: str):
    if scheme == "ws":
        pytest.importorskip("aiohttp", reason="the extra web is not installed")
    place = {"unix": f"{tmp_path}/v.sock", "tcp": "127.0.0.1:0", "ws": "127.0.0.1:0"}[scheme]
    publisher = opened(f"{scheme}://{place}?format={form}")
    found = brought(publisher, publisher.address, lambda: publisher.client_count)
    assert [message.track_id for message in found] == list(range(20))
    assert {message.label for message in found} == {"cat", "dog"}
    assert all(message.age_now_ms() >= 50 for message in found)


def test_datagrams_bring_them_too():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = brought(opened(f"udp://127.0.0.1:{port}"), f"udp://127.0.0.1:{port}", lambda: True)
    assert [message.track_id for message in found] == list(range(20))


def test_mavlink_has_no_message_for_them():
    pytest.importorskip("pymavlink", reason="the extra mavlink is not installed")
    publisher = opened("mavlink://127.0.0.1:9")
    assert publisher.write(event()) is False
    publisher.close()
    assert publisher.failure == ""


@pytest.mark.parametrize("form", ["binary", "json"])
def test_files_have_them_all(tmp_path: Path, form: str):
    publisher = opened(f"file://{tmp_path}/seen?format={form}")
    messages = [event(i) for i in range(200)]
    for message in messages:
        publisher.send(message)
    publisher.close(DEADLINE_S)
    data, reception = (tmp_path / "seen").read_bytes(), Reception("stream")
    found = [m.track_id for m in reception.take(data, monotonic_ns()) if m.kind == "region"]
    assert found == list(range(200))
    assert data[:1] == (b"{" if form == "json" else bytes((STREAM_SYNC,)))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"inside": 3}, "cam #12  door: dog #7 entered 3 inside, age "),
        ({"kind": "leave", "dwell_s": 2.5, "lost": True, "inside": 0}, "door: dog #7 left after 2.5 s (lost) 0 inside"),
        ({"kind": "dwell", "dwell_s": 3.0, "inside": 1}, "door: dog #7 stays for 3.0 s 1 inside"),
        ({"kind": "cross", "direction": "left_to_right"}, "door: dog #7 crossed left to right, age "),
    ],
)
def test_listen_says_it_in_words(more: dict, expected: str):
    known = {"region": "door", "kind": "enter", "track_id": 7, "class_id": 1, "t_capture_ns": monotonic_ns()}
    message = region_of(RegionEvent(**known | more), FrameInfo(12, "cam", 0, 64, 48), STREAM)
    assert expected in line_of(message)
