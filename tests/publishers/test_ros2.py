"""Bytes for ROS 2 against two other serializers, and every way to ROS with a real subscriber at its end."""

import importlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cyclonedds", reason="the extra ros2 is not installed (there is no wheel for this machine?)")
pytest.importorskip("rosbags", reason="rosbags is not installed")
pytest.importorskip("zenoh", reason="the extra zenoh is not installed")

import zenoh
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic as DdsTopic
from ros2_domains import next_domain
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from zenoh import ext

from edge.errors import ConfigError, MissingBackendError, PublishError
from edge.publishers import ros2, ros2_cdr, ros2_idl, ros2_zenoh
from edge.publishers.ros2 import Ros2Publisher
from edge.publishers.ros2_cyclonedds import domain_xml
from edge.publishers.ros2_types import TYPE_HASHES, Topic
from edge.publishers.zenoh_session import open_session
from edge.testing import check_publisher
from edge.uri import parse_uri
from edge.wire import jsonl
from edge.wire.messages import (
    ClassificationMessage,
    DetectionRecord,
    DetectionsMessage,
    HeartbeatMessage,
    HelloMessage,
    RegionMessage,
    StatusMessage,
)

DEADLINE_S = 15.0
T_CAPTURE_NS = 1_700_000_000_123_456_789
MESSAGES = Path(__file__).parent / "ros2_msgs" / "msg"

finite = st.floats(-1e6, 1e6)
boxes = st.one_of(st.none(), st.tuples(finite, finite, finite, finite))
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
records = st.builds(
    DetectionRecord,
    label=names,
    class_id=st.integers(0, 65535),
    score=st.floats(0, 1),
    box=boxes,
    track_id=st.one_of(st.none(), st.integers(0, 1 << 40)),
)
stamps = st.integers(0, (1 << 31) * 1_000_000_000 - 1)


@pytest.fixture(scope="module")
def store():
    found = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in MESSAGES.glob("*.msg"):
        types.update(get_types_from_msg(path.read_text(), f"vision_msgs/msg/{path.stem}"))
    found.register(types)
    return found


def detections(found: list[DetectionRecord], t_ns: int = T_CAPTURE_NS, seq: int = 1) -> DetectionsMessage:
    return DetectionsMessage(source="cam", seq=seq, t_publish_ns=t_ns, t_capture_ns=t_ns, age_ms=0.0, detections=found)


def classes(found: list[DetectionRecord], t_ns: int = T_CAPTURE_NS) -> ClassificationMessage:
    return ClassificationMessage(source="cam", seq=1, t_publish_ns=t_ns, t_capture_ns=t_ns, age_ms=0.0, classes=found)


def event(track_id: int) -> RegionMessage:
    known = {"source": "cam", "t_publish_ns": 0, "t_event_ns": 0, "age_ms": 0.0, "region": "door", "index": 0}
    return RegionMessage(**known, event="enter", track_id=track_id, class_id=0, label="cat")


def status(state="streaming", seq: int = 1) -> StatusMessage:
    return StatusMessage(source="cam", seq=seq, t_publish_ns=0, t_event_ns=0, state=state)


metres = st.tuples(finite, finite, finite)
placed = st.builds(
    DetectionRecord,
    label=names,
    class_id=st.integers(0, 65535),
    score=st.floats(0, 1),
    box=boxes,
    track_id=st.one_of(st.none(), st.integers(0, 1 << 40)),
    position_m=st.one_of(st.none(), metres),
    position_sigma_m=st.one_of(st.none(), st.floats(0, 1e3)),
)


def positions_in_idl(message: DetectionsMessage, frame_id: str) -> ros2_idl.Detection3DArray:
    """Where things are, as Cyclone's own types have it."""
    head = ros2_idl.Header(ros2_idl.Time(message.t_capture_ns // 10**9, message.t_capture_ns % 10**9), frame_id)
    found = []
    for record in message.detections:
        if record.position_m is None:
            continue
        pose = ros2_idl.Pose(ros2_idl.Point(*record.position_m), ros2_idl.Quaternion(0.0, 0.0, 0.0, 1.0))
        covariance = [0.0] * 36
        for axis in range(3):
            covariance[7 * axis] = (record.position_sigma_m or 0.0) ** 2
        what = ros2_idl.ObjectHypothesisWithPose(
            ros2_idl.ObjectHypothesis(record.label, record.score), ros2_idl.PoseWithCovariance(pose, covariance)
        )
        box = ros2_idl.BoundingBox3D(pose, ros2_idl.Vector3(0.0, 0.0, 0.0))
        track = "" if record.track_id is None else str(record.track_id)
        found.append(ros2_idl.Detection3D(head, [what], box, track))
    return ros2_idl.Detection3DArray(head, found)


CAT = DetectionRecord("cat", 3, 0.5, (10.0, 20.0, 30.0, 60.0), track_id=9)


def in_idl(message: DetectionsMessage, frame_id: str) -> ros2_idl.Detection2DArray:
    """The message as Cyclone's own types have it, written as the ROS conventions say and not as ours does."""
    head = ros2_idl.Header(ros2_idl.Time(message.t_capture_ns // 10**9, message.t_capture_ns % 10**9), frame_id)
    found = []
    for record in message.detections:
        left, top, right, bottom = record.box or (0.0, 0.0, 0.0, 0.0)
        pose = ros2_idl.Pose(ros2_idl.Point(0.0, 0.0, 0.0), ros2_idl.Quaternion(0.0, 0.0, 0.0, 1.0))
        what = ros2_idl.ObjectHypothesisWithPose(
            ros2_idl.ObjectHypothesis(record.label, record.score), ros2_idl.PoseWithCovariance(pose, [0.0] * 36)
        )
        middle = ros2_idl.Pose2D(ros2_idl.Point2D((left + right) / 2, (top + bottom) / 2), 0.0)
        box = ros2_idl.BoundingBox2D(middle, right - left, bottom - top)
        track = "" if record.track_id is None else str(record.track_id)
        found.append(ros2_idl.Detection2D(head, [what], box, track))
    return ros2_idl.Detection2DArray(head, found)


def in_rosbags(store, thing):
    """A tree of Cyclone's types as rosbags' types, field by field."""
    name = type(thing).__idl_typename__.replace("::msg::dds_::", "/msg/").rstrip("_").replace("::", "/")
    kind = store.types[name]
    values = {}
    for field in thing.__dataclass_fields__:
        value = getattr(thing, field)
        if field == "covariance":
            value = importlib.import_module("numpy").array(value)
        elif isinstance(value, list):
            value = [in_rosbags(store, one) for one in value]
        elif hasattr(value, "__dataclass_fields__"):
            value = in_rosbags(store, value)
        values[field] = value
    return kind(**values)


@settings(max_examples=200, deadline=None)
@given(st.lists(records, max_size=12), names, stamps)
def test_detections_have_the_bytes_of_rosbags_and_of_cyclone(store, found, frame_id, t_ns):
    message = detections(found, t_ns)
    cdr = ros2_cdr.detection_array(message, frame_id)
    tree = in_idl(message, frame_id)
    assert cdr == bytes(tree.serialize(use_version_2=False))
    assert cdr == bytes(store.serialize_cdr(in_rosbags(store, tree), "vision_msgs/msg/Detection2DArray"))


@settings(max_examples=100, deadline=None)
@given(st.lists(placed, max_size=8), names, stamps)
def test_positions_have_the_bytes_of_rosbags_and_of_cyclone(store, found, frame_id, t_ns):
    message = detections(found, t_ns)
    cdr = ros2_cdr.position_array(message, frame_id)
    tree = positions_in_idl(message, frame_id)
    assert cdr == bytes(tree.serialize(use_version_2=False))
    assert cdr == bytes(store.serialize_cdr(in_rosbags(store, tree), "vision_msgs/msg/Detection3DArray"))


@settings(max_examples=100, deadline=None)
@given(st.lists(records, max_size=6), names, stamps)
def test_classes_have_the_bytes_of_rosbags_and_of_cyclone(store, found, frame_id, t_ns):
    cdr = ros2_cdr.classification(classes(found, t_ns), frame_id)
    head = ros2_idl.Header(ros2_idl.Time(t_ns // 10**9, t_ns % 10**9), frame_id)
    tree = ros2_idl.Classification(head, [ros2_idl.ObjectHypothesis(one.label, one.score) for one in found])
    assert cdr == bytes(tree.serialize(use_version_2=False))
    assert cdr == bytes(store.serialize_cdr(in_rosbags(store, tree), "vision_msgs/msg/Classification"))


@given(names)
def test_a_string_has_the_bytes_of_cyclone(data):
    assert ros2_cdr.text(data) == bytes(ros2_idl.String(data).serialize(use_version_2=False))


def test_classes_may_be_numbers_and_what_cdr_cannot_say_is_left_out(store):
    found = [DetectionRecord("c\0at\ud800", 7, 0.5, (0.0, 0.0, 1.0, 1.0))]
    kind = "vision_msgs/msg/Detection2DArray"
    far = detections(found, (1 << 31) * 10**9 + 5)
    decoded = store.deserialize_cdr(ros2_cdr.detection_array(far, "f\0g", numbers=True), kind)
    assert decoded.detections[0].results[0].hypothesis.class_id == "7"
    assert (decoded.header.frame_id, decoded.header.stamp.sec) == ("fg", (1 << 31) - 1)
    decoded = store.deserialize_cdr(ros2_cdr.detection_array(far, "camera"), kind)
    assert decoded.detections[0].results[0].hypothesis.class_id == "cat?"
    numbered = ros2_cdr.classification(classes(found), "camera", numbers=True)
    assert store.deserialize_cdr(numbered, "vision_msgs/msg/Classification").results[0].class_id == "7"


def test_type_hashes_are_those_that_rosbags_computes(store):
    assert {name: store.hash_rihs01(name) for name in TYPE_HASHES} == TYPE_HASHES


# Cyclone DDS


@pytest.fixture
def domain() -> int:
    """A domain that nobody else on this machine is likely to be in."""
    return next_domain()


def dds_reader(domain: int, topic: str, kind: type, latched: bool = False) -> DataReader:
    participant = DomainParticipant(domain)
    durability = Policy.Durability.TransientLocal if latched else Policy.Durability.Volatile
    qos = Qos(Policy.Reliability.Reliable(0), durability, Policy.History.KeepLast(100))
    return DataReader(participant, DdsTopic(participant, f"rt/{topic}", kind), qos=qos)


def until(condition, what: str, meanwhile=lambda: None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        meanwhile()
        time.sleep(0.01)


def test_cyclone_keeps_the_contract_and_says_who_hears_it(domain, caplog):
    caplog.set_level("INFO", "harrier")
    check_publisher(Ros2Publisher(parse_uri(f"ros2://detections?domain={domain}&backend=cyclonedds")))
    assert "only nodes with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST hear it; network=auto is for all" in caplog.text
    assert f"ros2: domain {domain} on loopback, Cyclone DDS" in caplog.text


def test_cyclone_brings_detections_status_and_heartbeats(domain):
    publisher = Ros2Publisher(parse_uri(f"ros2://front/detections?domain={domain}&backend=cyclonedds&frame_id=front"))
    assert publisher.address == f"ros2://front/detections (domain {domain} on loopback, Cyclone DDS)"
    publisher.send(status("connecting", 1))
    publisher.send(status("streaming", 2))
    until(lambda: publisher.sent == 2, "the statuses")
    late = dds_reader(domain, "front/detections/status", ros2_idl.String, latched=True)
    said: list = []
    until(lambda: said.extend(late.take(10)) or said, "the last status")
    assert [json.loads(one.data)["state"] for one in said] == ["streaming"]
    beats = dds_reader(domain, "front/detections/heartbeat", ros2_idl.String)
    reader = dds_reader(domain, "front/detections", ros2_idl.Detection2DArray)
    events = dds_reader(domain, "front/detections/region", ros2_idl.String)
    heard: list = []
    got: list = []
    happened: list = []

    def send() -> None:
        publisher.send(HelloMessage(source="cam"))  # of no use to ROS, and not counted
        publisher.send(HeartbeatMessage(source="cam", t_publish_ns=1, uptime_ms=2, period_ms=250, state="streaming"))
        publisher.send(detections([CAT]))
        publisher.send(event(7))

    def arrived() -> bool:
        for found, one in ((got, reader), (heard, beats), (happened, events)):
            found.extend(one.take(10))
        return bool(got and heard and happened)

    until(arrived, "a result, a heartbeat and an event", send)
    assert jsonl.decode(happened[0].data.encode()) == event(7)
    assert got[0] == in_idl(detections([CAT]), "front")
    assert json.loads(heard[0].data)["kind"] == "heartbeat"
    publisher.close()
    assert publisher.failure == ""


def test_positions_and_frames_are_those_of_the_camera_file(domain):
    publisher = Ros2Publisher(parse_uri(f"ros2://front?domain={domain}&backend=cyclonedds"))
    publisher.send(HelloMessage(source="cam", frame_id="front_camera", base_frame_id="base_link"))
    near = DetectionRecord("cat", 3, 0.5, (10.0, 20.0, 30.0, 60.0), 9, position_m=(2.5, -0.5, 0.25))
    near.position_sigma_m = 0.5
    reader = dds_reader(domain, "front/positions", ros2_idl.Detection3DArray)
    flat = dds_reader(domain, "front", ros2_idl.Detection2DArray)
    got: list = []
    boxes: list = []

    def arrived() -> bool:
        got.extend(reader.take(10))
        boxes.extend(flat.take(10))
        return bool(got and boxes)

    until(arrived, "positions", lambda: publisher.send(detections([near, CAT])))
    assert got[0] == positions_in_idl(detections([near, CAT]), "base_link")
    assert len(got[0].detections) == 1  # of the other it is not known, so it is not at the origin
    assert boxes[0] == in_idl(detections([near, CAT]), "front_camera")
    publisher.close()


def test_a_classifier_publishes_classifications(domain):
    publisher = Ros2Publisher(parse_uri(f"ros2://what?domain={domain}&backend=cyclonedds&class_id=number"))
    reader = dds_reader(domain, "what", ros2_idl.Classification)
    got: list = []
    send = lambda: publisher.send(classes([DetectionRecord("cat", 3, 0.75), DetectionRecord("dog", 4, 0.25)]))  # noqa: E731
    until(lambda: got.extend(reader.take(10)) or got, "a classification", send)
    assert [(one.class_id, one.score) for one in got[0].results] == [("3", 0.75), ("4", 0.25)]
    publisher.close()


def test_another_network_in_the_same_domain_is_refused(domain):
    first = Ros2Publisher(parse_uri(f"ros2://?domain={domain}&backend=cyclonedds"))
    with pytest.raises(ConfigError, match="with another network"):
        Ros2Publisher(parse_uri(f"ros2://?domain={domain}&backend=cyclonedds&network=auto"))
    first.close()


def test_an_interface_that_is_not_there_is_explained(domain):
    with pytest.raises(PublishError, match="cannot open domain .* on nosuch0.*check that the interface is up"):
        Ros2Publisher(parse_uri(f"ros2://?domain={domain}&network=nosuch0"))


def test_cyclone_stays_on_loopback_and_always_suits_fast_dds():
    compatible = "<IgnoreTypeInformation>1.15</IgnoreTypeInformation>"
    xml = {network: domain_xml(network) for network in ("", "eth0", "10.0.0.7", "fe80::1%eth0", "auto")}
    assert all(compatible in text for text in xml.values())
    assert "<AllowMulticast>false" in xml[""]
    assert all('name="lo"' in text for text in xml.values())
    assert "AllowMulticast" not in xml["auto"]
    assert 'name="eth0"' in xml["eth0"]
    assert 'address="10.0.0.7"' in xml["10.0.0.7"]
    assert 'address="fe80::1%eth0"' in xml["fe80::1%eth0"]
    assert 'autodetermine="true"' in xml["auto"]
    with pytest.raises(ConfigError, match="cannot be a network interface"):
        domain_xml('lo"/><x y="')


# Zenoh, as rmw_zenoh writes it


def test_keys_tokens_and_attachments_are_those_of_rmw_zenoh():
    chatter = Topic("/chatter", "std_msgs/msg/String")
    tail = f"std_msgs::msg::dds_::String_/{TYPE_HASHES['std_msgs/msg/String']}"
    assert ros2_zenoh.sample_key(2, chatter) == f"2/chatter/{tail}"
    assert ros2_zenoh.node_token(2, "ab12", "harrier") == "@ros2_lv/2/ab12/0/0/NN/%/%/harrier"
    token = ros2_zenoh.publisher_token
    head = "@ros2_lv/2/ab12/0/1/MP/%/%/harrier"
    assert token(2, "ab12", "harrier", 1, chatter, True) == f"{head}/%chatter/{tail}/::,1:,:,:,,"
    assert token(2, "ab12", "harrier", 1, chatter, False) == f"{head}/%chatter/{tail}/2::,1:,:,:,,"
    latched = Topic("/a/b", "std_msgs/msg/String", latched=True)
    deep = Topic("/chatter", "std_msgs/msg/String", depth=64)
    assert token(2, "ab12", "harrier", 1, deep, True) == f"{head}/%chatter/{tail}/::,64:,:,:,,"
    assert token(2, "ab12", "harrier", 1, latched, True) == f"{head}/%a%b/{tail}/:1:,1:,:,:,,"
    about = ros2_zenoh.attachment(5, 6, bytes(range(16)))
    assert about == (5).to_bytes(8, "little") + (6).to_bytes(8, "little") + b"\x10" + bytes(range(16))
    assert len(about) == 33
    # the same bytes as Zenoh's own serializer makes of the three values
    assert about == bytes(ext.z_serialize((ext.Int64(5), ext.Int64(6), bytes(range(16)))).to_bytes())


@pytest.fixture
def router(free_endpoint):
    session = open_session("router", "", free_endpoint, "")
    yield free_endpoint
    session.close()


@pytest.fixture
def free_endpoint() -> str:
    import_socket = importlib.import_module("socket")
    with import_socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{sock.getsockname()[1]}"


def test_zenoh_brings_detections_through_a_router(router):
    publisher = Ros2Publisher(parse_uri(f"ros2://detections?domain=5&backend=zenoh&connect={router}"))
    session = open_session("client", router, "", "", DEADLINE_S)
    got: list[zenoh.Sample] = []
    session.declare_subscriber(f"5/detections/*/{TYPE_HASHES['vision_msgs/msg/Detection2DArray']}", got.append)
    until(lambda: len(got) >= 3, "detections", lambda: publisher.send(detections([CAT])))
    assert str(got[0].key_expr).startswith("5/detections/vision_msgs::msg::dds_::Detection2DArray_/RIHS01_2142")
    assert got[0].payload.to_bytes() == ros2_cdr.detection_array(detections([CAT]), "camera")
    first, second = (sample.attachment.to_bytes() for sample in got[:2])
    sequence = int.from_bytes(first[:8], "little")
    assert int.from_bytes(second[:8], "little") == sequence + 1
    assert first[16:] == second[16:]
    assert abs(int.from_bytes(first[8:16], "little") - time.time_ns()) < 60e9
    tokens = [str(reply.ok.key_expr) for reply in session.liveliness().get("@ros2_lv/5/**", timeout=2.0)]
    kinds = sorted(token.split("/")[5] for token in tokens)
    assert kinds == ["MP", "MP", "MP", "NN"]
    assert sum("/%detections/vision_msgs::msg::dds_::Detection2DArray_/" in token for token in tokens) == 1
    publisher.close()
    until(lambda: not [*session.liveliness().get("@ros2_lv/5/**", timeout=1.0)], "the tokens to go")
    session.close()


def test_zenoh_tells_late_subscribers_the_last_status(router):
    publisher = Ros2Publisher(parse_uri(f"ros2://detections?domain=6&backend=zenoh&connect={router}"))
    until(lambda: not publisher.failure and publisher._backend.trouble() == "", "the connection")
    publisher.send(status("connecting"))
    publisher.send(status("lost"))
    until(lambda: publisher.sent == 2, "the statuses")
    session = open_session("client", router, "", "", DEADLINE_S)
    got: list[zenoh.Sample] = []
    key = ros2_zenoh.sample_key(6, Topic("/detections/status", "std_msgs/msg/String", latched=True))
    history = ext.HistoryConfig(detect_late_publishers=True)
    subscriber = ext.declare_advanced_subscriber(session, key, got.append, history=history)
    until(lambda: got, "the last status")
    assert [b'"state":"lost"' in sample.payload.to_bytes() for sample in got] == [True]
    subscriber.undeclare()
    session.close()
    publisher.close()


def test_zenoh_without_a_router_is_a_failure_and_keeps_the_contract(free_endpoint):
    uri = parse_uri(f"ros2://detections?backend=zenoh&connect={free_endpoint}")
    publisher = Ros2Publisher(uri)
    until(lambda: publisher.failure, "the failure")
    assert publisher.failure == f"nobody answers at {free_endpoint}"
    publisher.send(detections([CAT]))
    until(lambda: publisher.dropped, "the count")
    assert publisher.sent == 0
    check_publisher(publisher)


# The choice of a way


def backends_here(monkeypatch, *there: str) -> list[str]:
    """Let only these backends be importable; return the list of those that were opened."""
    opened: list[str] = []

    class Fake:
        address = "fake"

        def __init__(self, _options, _domain) -> None:
            opened.append(self.name)

    def load(module: str):
        name = next(name for name, row in ros2._BACKENDS.items() if row[0] == module)
        if name not in there:
            raise ModuleNotFoundError(f"No module named '{name}'")
        kind = type(ros2._BACKENDS[name][1], (Fake,), {"name": name})
        return type("module", (), {ros2._BACKENDS[name][1]: kind})

    monkeypatch.setattr(ros2, "import_module", load)
    return opened


@pytest.mark.parametrize(
    ("there", "options", "chosen"),
    [
        (("rclpy", "cyclonedds", "zenoh"), {}, "rclpy"),
        (("cyclonedds", "zenoh"), {}, "cyclonedds"),
        (("zenoh",), {}, "zenoh"),
        (("rclpy", "cyclonedds", "zenoh"), {"backend": "zenoh"}, "zenoh"),
        (("rclpy", "cyclonedds", "zenoh"), {"network": "eth0"}, "cyclonedds"),
        (("rclpy", "cyclonedds", "zenoh"), {"connect": "tcp/10.0.0.1:7447"}, "zenoh"),
    ],
)
def test_the_first_way_that_is_here_is_taken_and_named(monkeypatch, caplog, there, options, chosen):
    opened = backends_here(monkeypatch, *there)
    caplog.set_level("INFO", "harrier")
    ros2.open_backend(ros2.Ros2Options(**options), 0)
    assert opened == [chosen]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("ros2: fake")
    assert ("rclpy: No module" in line) == (not options and chosen != "rclpy")


def test_no_way_at_all_is_explained(monkeypatch):
    backends_here(monkeypatch)
    with pytest.raises(MissingBackendError, match="no way to ROS 2 here .*: source ROS, or pip install"):
        ros2.open_backend(ros2.Ros2Options(), 0)
    with pytest.raises(MissingBackendError, match="pip install 'harrier-edge\\[zenoh\\]'"):
        ros2.open_backend(ros2.Ros2Options(backend="zenoh"), 0)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("ros2://2nd", "'2nd' cannot be a ROS topic"),
        ("ros2://a__b", "cannot be a ROS topic"),
        ("ros2://a//b", "cannot be a ROS topic"),
        ("ros2://a?domain=233", "233"),
        ("ros2://a?frame=x", "unknown key 'frame'"),
        ("ros2://a?backend=dds", "use one of auto, cyclonedds, rclpy, zenoh"),
        ("ros2://a?node=my-node", "cannot be the name of a ROS node"),
        ("ros2://a?format=json", "one format"),
        ("ros2://a?backend=cyclonedds&connect=tcp/127.0.0.1:7447", "connect= is for backend=zenoh"),
        ("ros2://a?backend=zenoh&network=eth0", "network= is not for backend=zenoh"),
        ("ros2://a?backend=cyclonedds&network=a%20b", "cannot be a network interface"),
    ],
)
def test_wrong_uris_are_explained(uri, says):
    with pytest.raises(ConfigError) as caught:
        Ros2Publisher(parse_uri(uri))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_domain_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    opened = []
    monkeypatch.setattr(ros2, "open_backend", lambda _options, domain: opened.append(domain) or pytest.fail("seen"))
    with pytest.raises(pytest.fail.Exception):
        Ros2Publisher(parse_uri("ros2://"))
    assert opened == [42]
    monkeypatch.setenv("ROS_DOMAIN_ID", "many")
    with pytest.raises(ConfigError, match="ROS_DOMAIN_ID=many is no domain"):
        Ros2Publisher.check(parse_uri("ros2://"))
