"""The ring: what was seen before a trigger is kept, and nothing else gets to the disk."""

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("mcap", reason="the record extra is not installed")
pytest.importorskip("foxglove_schemas_protobuf", reason="the record extra is not installed")

from recorded import (
    BALL,
    classification,
    detections,
    entry_of,
    frame,
    messages_of,
    numbers_in,
    region,
    status,
    wait_for,
    writing,
)

from edge.errors import ConfigError
from edge.publishers.mcap import McapPublisher
from edge.publishers.mcap_disk import DiskWriter
from edge.publishers.mcap_folder import RecordingFolder
from edge.publishers.mcap_triggers import conditions_of
from edge.uri import parse_uri


@pytest.mark.parametrize(
    ("text", "message", "reason"),
    [
        ("region", region(), "region gate enter"),
        ("region:gate", region(), "region gate enter"),
        ("region:door", region(), ""),
        ("region", detections(), ""),
        ("score<0.5", detections(records=[BALL]), ""),
        ("score<0.9", detections(records=[BALL]), "score ball 0.81"),
        ("score>0.9", detections(), "score person 0.93"),
        ("score(ball)>0.8", detections(), "score ball 0.81"),
        ("score(dog)>0.1", detections(), ""),
        ("0.3<score<0.5", detections(), ""),  # a cup that is only expected there
        ("0.8<score<0.9", detections(), "score ball 0.81"),
        ("score<0.65", classification(), "score tabby 0.61"),
        ("score<0.5", classification(), ""),  # the best class only
        ("status", status("lost", "unplugged"), "status lost unplugged"),
        ("status", status("closed"), ""),
        ("status,region", region(), "region gate enter"),
    ],
)
def test_conditions(text, message, reason):
    found = [said for condition in conditions_of(text, "uri") if (said := condition(message))]
    assert found == ([reason] if reason else [])


def test_the_first_streaming_is_no_change():
    (condition,) = conditions_of("status", "uri")
    assert condition(status("connecting")) == ""
    assert condition(status("streaming")) == ""
    assert condition(status("streaming", "throttled: hot")) == "status streaming throttled: hot"


@pytest.mark.parametrize("text", ["score", "0.5<score>0.2", "score<", "0.9<score<0.1", "regions", "score<0.5<0.9"])
def test_what_triggers_nothing_is_refused(text):
    with pytest.raises(ConfigError, match="uri: "):
        conditions_of(text, "uri")


def ring_of(folder, options: str = "") -> McapPublisher:
    return McapPublisher(parse_uri(f"mcap://{folder}?min_free_mb=0&ring_s=60&flush_s=0.02{options}"))


def test_an_event_keeps_what_was_seen_before_and_after(tmp_path):
    publisher = ring_of(tmp_path, "&after_s=0.3&trigger=region")
    for seq in range(5):
        publisher.send(detections(seq))
        publisher.show(frame(seq, (32, 24)), detections(seq))
    wait_for(lambda: not publisher._waiting, "in the ring")
    assert not list(tmp_path.iterdir())
    assert not publisher.recording
    publisher.send(region())
    wait_for(lambda: publisher.file, "triggered")
    publisher.send(detections(5))
    wait_for(lambda: publisher.file is None, "the end of the piece")
    publisher.send(detections(6))
    publisher.close(5.0)
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("Z-region-gate-enter.mcap")
    assert numbers_in(path) == [0, 1, 2, 3, 4, 5]
    topics = [m.topic for m in messages_of(path)]
    assert topics.count("/camera/image") == 5
    assert topics.count("/harrier/trigger") == topics.count("/harrier/region") == 1


def test_events_that_follow_each_other_make_one_file(tmp_path):
    publisher = ring_of(tmp_path, "&after_s=0.4&trigger=score<0.9")
    for seq in range(12):
        publisher.send(detections(seq, [BALL]))
        time.sleep(0.05)
    wait_for(lambda: publisher.file is None and publisher.sent, "the end of the piece")
    publisher.close(5.0)
    (path,) = tmp_path.iterdir()
    assert numbers_in(path) == list(range(12))
    assert sum(m.topic == "/harrier/trigger" for m in messages_of(path)) == 1


def test_what_is_asked_for_while_a_file_is_about_to_end_goes_into_that_one(tmp_path):
    """And leaves no request behind, of which a file without results would be made."""
    disk = DiskWriter(RecordingFolder(tmp_path, "a", 0, 0), writing(ring_s=5.0), on=False)
    disk.close(5.0)  # what its thread does is done here, at the moments that matter
    disk._closing = False
    assert not disk.extend(0.1)
    disk.put(entry_of(0))
    disk.save("first", 0.1)
    assert disk.extend(0.1)
    disk._work()
    time.sleep(0.12)
    assert not disk.extend(0.1)
    disk.put(entry_of(1))
    disk.save("second", 0.1)
    disk._work()
    time.sleep(0.12)
    disk.put(entry_of(2))  # after the end
    disk._work()
    disk._work()
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-first.mcap")
    assert numbers_in(path) == [0, 1]


def test_the_ring_holds_so_many_seconds_and_bytes(tmp_path):
    disk = DiskWriter(RecordingFolder(tmp_path, "a", 0, 0), writing(ring_s=2.0, max_bytes=10**9), on=False)
    now = time.monotonic_ns()
    for seq in range(100):
        disk.put(entry_of(seq, t_ns=now - (100 - seq) * 10**8))
    disk.save("api", 0.0)
    wait_for(lambda: disk.written, "written")
    wait_for(lambda: disk.file is None, "finished")
    disk.close(5.0)
    (path,) = tmp_path.iterdir()
    assert numbers_in(path) == list(range(79, 100))
    assert disk.dropped == 0


def test_words_that_are_not_utf8_end_no_recording(tmp_path):
    """As those of a file's name may be, in a reason or in a status."""
    publisher = ring_of(tmp_path, "&after_s=0")
    publisher.send(status("lost", "cannot open v\udcff.mp4"))
    publisher.trigger("near \udcff miss")
    wait_for(lambda: publisher.sent and publisher.file is None, "the end of the piece")
    publisher.close(5.0)
    assert publisher.failure == ""
    (path,) = tmp_path.iterdir()
    assert {"/harrier/status", "/harrier/log", "/harrier/trigger"} <= {m.topic for m in messages_of(path)}


def test_a_ring_for_which_memory_is_too_small_says_so(tmp_path, caplog):
    disk = DiskWriter(RecordingFolder(tmp_path, "a", 0, 0), writing(ring_s=1000.0, memory_bytes=50_000), on=False)
    for seq in range(100):
        disk.put(entry_of(seq, 1000))
    assert "the ring holds only" in caplog.text
    disk.save("api", 0.0)
    wait_for(lambda: disk.written, "written")
    disk.close(5.0)
    kept = numbers_in(*tmp_path.iterdir())
    assert kept == list(range(100 - len(kept), 100))
    assert disk.dropped == 0  # nothing was asked for yet


def test_the_api_keeps_the_ring_and_the_button_records_on(tmp_path):
    publisher = ring_of(tmp_path, "&after_s=0")
    publisher.send(detections(0))
    wait_for(lambda: not publisher._waiting, "in the ring")
    publisher.trigger("the operator saw something")
    wait_for(lambda: publisher.sent and publisher.file is None, "a piece")
    publisher.send(detections(1))
    wait_for(lambda: not publisher._waiting, "in the ring")
    publisher.record(True)
    publisher.send(detections(2))
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2 and publisher.file, "recording")
    wait_for(lambda: not publisher._waiting, "taken")
    assert publisher.recording
    publisher.record(False)
    wait_for(lambda: publisher.file is None, "finished")
    publisher.send(detections(3))
    publisher.close(5.0)
    first, second = sorted(tmp_path.iterdir())
    assert "the-operator-saw-something" in first.name
    assert numbers_in(first) == [0]
    assert numbers_in(second) == [1, 2]


def test_a_signal_keeps_the_ring_of_a_run(tmp_path, catalogue):
    catalogue("face")
    script = (
        "from edge.config import RunConfig\n"
        "from edge.run import run\n"
        f"run(RunConfig(model='face', source='synthetic://?fps=30', publish=['mcap://{tmp_path}/r?ring_s=20&after_s=0.2"
        "&min_free_mb=0&flush_s=0.05']), seconds=30)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            wait_for(lambda: (tmp_path / "r").is_dir(), "started", 30)
            deadline = time.monotonic() + 20
            while not list((tmp_path / "r").glob("*.mcap")) and time.monotonic() < deadline:
                time.sleep(0.5)  # it may not handle signals yet
                status_ = process.poll()
                assert status_ is None, process.stderr.read().decode()
                if _catches(process.pid, signal.SIGUSR1):
                    process.send_signal(signal.SIGUSR1)
        finally:
            process.terminate()
            process.wait(20)
    (path, *_) = sorted((tmp_path / "r").glob("*.mcap"))
    assert "SIGUSR1" in path.name
    found = messages_of(path)
    assert sum(m.topic == "/camera/image" for m in found) > 0
    assert [m.topic for m in found].count("/harrier/trigger") >= 1


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, as the kernel says."""
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
