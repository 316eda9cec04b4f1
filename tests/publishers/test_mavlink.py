"""MAVLink: what a ground station or autopilot reads of results, heartbeats and silence, over UDP and a serial line."""

import itertools
import logging
import math
import os
import time

import pytest

pytest.importorskip("pymavlink", reason="the mavlink extra is not installed")
pytest.importorskip("serial", reason="the mavlink extra is not installed")

from pymavlink import mavutil
from pymavlink.dialects.v20 import common

from edge.clock import monotonic_ns
from edge.errors import ConfigError
from edge.publishers.mavlink import MavlinkPublisher
from edge.publishers.mavlink_messages import CameraView, choose_target
from edge.uri import parse_uri
from edge.wire.messages import DetectionRecord, DetectionsMessage, HeartbeatMessage, LabelsMessage, StatusMessage

DEADLINE_S = 10.0


@pytest.fixture
def station():
    """A ground station on a free port of the loopback, and the URI that reaches it."""
    connection = mavutil.mavlink_connection("udpin:127.0.0.1:0", dialect="common")
    port = connection.port.getsockname()[1]
    yield connection, f"mavlink://127.0.0.1:{port}"
    connection.close()


def seen(*records: DetectionRecord, age_ms: float = 10.0) -> DetectionsMessage:
    now = monotonic_ns()
    return DetectionsMessage(
        source="cam",
        t_publish_ns=time.time_ns(),
        t_capture_ns=time.time_ns() - int(age_ms * 1e6),
        t_capture_local_ns=now - int(age_ms * 1e6),
        age_ms=age_ms,
        ttl_ms=300,
        frame=(640, 480),
        detections=list(records),
    )


def person(score: float, left: float, **more) -> DetectionRecord:
    return DetectionRecord("person", 0, score, (left, 120.0, left + 64.0, 360.0), **more)


def beat(state: str = "streaming", flags: tuple = ()) -> HeartbeatMessage:
    return HeartbeatMessage(t_publish_ns=0, uptime_ms=1, period_ms=250, state=state, flags=flags)


def receive(station, kind: str | None):
    found = station.recv_match(type=kind, blocking=True, timeout=DEADLINE_S)
    assert found is not None, f"no {kind} came"
    return found


def test_the_target_is_told_as_a_part_of_the_frame(station):
    connection, uri = station
    publisher = MavlinkPublisher(parse_uri(f"{uri}?target=person&score=0.6&system=7"))
    publisher.send(seen(person(0.7, 64), person(0.9, 320), DetectionRecord("dog", 1, 0.99, (0, 0, 9, 9))))
    found = receive(connection, "CAMERA_TRACKING_IMAGE_STATUS")
    publisher.close()
    assert (found.get_srcSystem(), found.get_srcComponent()) == (7, 191)
    assert found.tracking_status == common.CAMERA_TRACKING_STATUS_FLAGS_ACTIVE
    assert found.tracking_mode == common.CAMERA_TRACKING_MODE_RECTANGLE
    box = (found.rec_top_x, found.rec_top_y, found.rec_bottom_x, found.rec_bottom_y)
    assert box == pytest.approx((0.5, 0.25, 0.6, 0.75))


def test_nothing_to_follow_is_told_too_and_so_is_an_old_result(station):
    connection, uri = station
    publisher = MavlinkPublisher(parse_uri(uri))
    for message in (seen(), seen(person(0.3, 0)), seen(person(0.9, 0), age_ms=400)):
        publisher.send(message)
        found = receive(connection, "CAMERA_TRACKING_IMAGE_STATUS")
        assert found.tracking_status == common.CAMERA_TRACKING_STATUS_FLAGS_IDLE
        assert math.isnan(found.rec_top_x)
    publisher.close()


def test_a_landing_target_has_angles_in_the_frame_that_ardupilot_takes(station):
    connection, uri = station
    publisher = MavlinkPublisher(parse_uri(f"{uri}?send=landing&fov=90"))
    publisher.send(seen(DetectionRecord("pad", 0, 0.9, (630.0, 230.0, 650.0, 250.0))))
    found = receive(connection, "LANDING_TARGET")
    assert found.frame == common.MAV_FRAME_BODY_FRD
    assert found.angle_x == pytest.approx(math.radians(45), abs=1e-6)  # the right edge of a 90 degree view
    assert found.angle_y == pytest.approx(0, abs=1e-6)
    assert (found.distance, found.position_valid) == (0, 0)
    assert abs(found.time_usec / 1e6 - time.time()) < 60
    publisher.send(
        seen(DetectionRecord("pad", 0, 0.9, (0, 0, 9, 9), bearing_rad=(0.1, -0.2), range_m=3.5, track_id=258))
    )
    found = receive(connection, "LANDING_TARGET")
    assert (found.angle_x, found.angle_y, found.distance) == pytest.approx((0.1, 0.2, 3.5))
    assert found.target_num == 2
    publisher.close()


def test_obstacles_fill_the_sectors_they_span_and_the_others_are_unknown(station):
    connection, uri = station
    publisher = MavlinkPublisher(parse_uri(f"{uri}?send=obstacle&fov=90&nearest=0.5&farthest=20"))
    publisher.send(
        seen(
            person(0.9, 0, range_m=4.0),
            person(0.8, 20, range_m=2.5),
            person(0.9, 400),  # no range: no obstacle can be told
            person(0.9, 500, range_m=30.0),  # too far
        )
    )
    found = receive(connection, "OBSTACLE_DISTANCE")
    publisher.close()
    assert len(found.distances) == 72
    assert (found.min_distance, found.max_distance, found.frame) == (50, 2000, common.MAV_FRAME_BODY_FRD)
    assert found.increment_f == pytest.approx(90 / 72)
    assert found.angle_offset == pytest.approx(-45 + 90 / 144)
    assert found.distances[0] == 400  # only the farther one stands at the very edge
    view = CameraView(math.radians(90))
    sector = int((math.degrees(view.angles_rad(50, 0, (640, 480))[0]) + 45) / 1.25)
    assert found.distances[sector] == 250  # the nearer one hides the farther one
    assert all(distance == 0xFFFF for distance in found.distances[36:])


def test_heartbeats_follow_the_loop_and_its_state(station):
    connection, uri = station
    publisher = MavlinkPublisher(parse_uri(uri))
    states = []
    for message in (
        StatusMessage(t_publish_ns=0, t_event_ns=0, state="streaming"),
        StatusMessage(t_publish_ns=0, t_event_ns=0, state="lost", reason="unplugged"),
        StatusMessage(t_publish_ns=0, t_event_ns=0, state="closed"),
    ):
        publisher.send(message)
        found = receive(connection, "HEARTBEAT")
        assert (found.type, found.autopilot) == (18, 8)
        states.append(found.system_status)
    assert states == [common.MAV_STATE_ACTIVE, common.MAV_STATE_CRITICAL, common.MAV_STATE_POWEROFF]
    publisher.send(beat(flags=("stale",)))  # within a second: none is due
    publisher.send(seen())
    assert receive(connection, None).get_type() == "CAMERA_TRACKING_IMAGE_STATUS"
    publisher._t_beat = -math.inf  # as after a second
    publisher.send(beat(flags=("stale",)))
    assert receive(connection, "HEARTBEAT").system_status == common.MAV_STATE_CRITICAL
    publisher.close()


def test_packets_are_numbered_so_that_lost_ones_can_be_counted(station):
    connection, uri = station
    publisher = MavlinkPublisher(parse_uri(uri))
    numbers, start = [], time.monotonic()
    for _ in range(300):
        publisher.send(seen())
        numbers.append(receive(connection, "CAMERA_TRACKING_IMAGE_STATUS").get_seq())
    publisher.close()
    assert publisher.sent == 300
    steps = [(later - earlier) % 256 for earlier, later in itertools.pairwise(numbers)]
    assert set(steps) <= {1, 2}, "only a heartbeat may stand between two"
    assert steps.count(2) <= time.monotonic() - start


def test_a_hung_loop_sends_no_heartbeat(station):
    connection, uri = station
    publisher = MavlinkPublisher(parse_uri(uri))
    publisher.send(beat())
    receive(connection, "HEARTBEAT")
    assert connection.recv_match(type="HEARTBEAT", blocking=True, timeout=1.5) is None
    publisher.close()


def test_a_defect_is_told_and_not_taken_for_silence(station, monkeypatch):
    monkeypatch.setattr("edge.publishers.mavlink.choose_target", lambda *_: 1 // 0)
    publisher = MavlinkPublisher(parse_uri(station[1]))
    publisher.send(seen())
    deadline = time.monotonic() + DEADLINE_S
    while not publisher.failure and time.monotonic() < deadline:
        time.sleep(0.005)
    assert "report this as a defect" in publisher.failure
    publisher.close()


def test_a_track_is_followed_while_it_is_there():
    first = seen(person(0.9, 0, track_id=4), person(0.8, 200, track_id=5))
    assert choose_target(first, "", 0.5, None).track_id == 4
    later = seen(person(0.6, 0, track_id=4), person(0.8, 200, track_id=5))
    assert choose_target(later, "", 0.5, 4).track_id == 4
    assert choose_target(later, "", 0.7, 4).track_id == 5
    assert choose_target(later, "0", 0.5, None).track_id == 5
    assert choose_target(later, "dog", 0.5, None) is None


def test_a_serial_line_carries_the_same_packets_and_may_come_late(tmp_path):
    port = tmp_path / "ttyPilot"
    publisher = MavlinkPublisher(parse_uri(f"mavlink://{port}?baud=115200"))
    deadline = time.monotonic() + DEADLINE_S
    while not publisher.failure and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "ttyPilot" in publisher.failure
    master, slave = os.openpty()
    port.symlink_to(os.ttyname(slave))
    parser, found = common.MAVLink(None), []
    os.set_blocking(master, False)
    while time.monotonic() < deadline:
        if not publisher.failure and any(m.get_type() == "CAMERA_TRACKING_IMAGE_STATUS" for m in found):
            break
        publisher.send(seen(person(0.9, 320)))
        time.sleep(0.05)
        try:
            found += parser.parse_buffer(os.read(master, 4096)) or []
        except BlockingIOError:
            pass
    publisher.close()
    os.close(master)
    os.close(slave)
    assert {"HEARTBEAT", "CAMERA_TRACKING_IMAGE_STATUS"} <= {m.get_type() for m in found}
    assert publisher.failure == ""


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("mavlink://", "names no host and port"),
        ("mavlink://:14550", "names nobody to send to"),
        ("mavlink://127.0.0.1:14550?send=all", "cannot send 'all'"),
        ("mavlink://127.0.0.1:14550?send=landing", "fov=DEGREES"),
        ("mavlink://127.0.0.1:14550?format=json", "a format of its own"),
        ("mavlink://127.0.0.1:14550?fov=200", "fov"),
        ("mavlink://127.0.0.1:14550?nearest=5&farthest=2", "not less than"),
    ],
)
def test_wrong_addresses_say_what_is_right(uri, cause):
    with pytest.raises(ConfigError, match=cause):
        MavlinkPublisher.check(parse_uri(uri))


def test_addresses_as_other_tools_write_them():
    MavlinkPublisher.check(parse_uri("mavlink://udpout:127.0.0.1:14550"))
    MavlinkPublisher.check(parse_uri("mavlink:///dev/ttyACM0?baud=921600"))


def test_a_target_that_the_model_does_not_know_is_said(station, caplog):
    _, uri = station
    publisher = MavlinkPublisher(parse_uri(f"{uri}?target=persn"))
    with caplog.at_level(logging.WARNING, "harrier"):
        publisher.send(LabelsMessage(model_id=1, first=0, total=3, labels=["person", "dog"]))
        assert not caplog.records
        publisher.send(LabelsMessage(model_id=1, first=2, total=3, labels=["cat"]))
    publisher.close()
    assert "no class 'persn': did you mean 'person'" in caplog.text
