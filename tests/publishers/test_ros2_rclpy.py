"""A real rclpy on Fast DDS at the other end, and as the way out; in processes of the Python that has ROS.

HARRIER_ROS_PYTHON names that Python: of a sourced ROS 2 with vision_msgs, or of a virtual environment with
`ros-rclpy[fastrtps] ros-std-msgs ros-geometry-msgs msgspec`, for which the messages are built here with gcc.
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds", reason="the extra ros2 is not installed (there is no wheel for this machine?)")

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import make_idl_struct
from cyclonedds.idl.types import float64
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic as DdsTopic
from ros2_domains import next_domain

from edge.publishers import ros2_cdr
from edge.publishers.ros2 import Ros2Publisher
from edge.uri import parse_uri
from edge.wire.messages import ClassificationMessage, DetectionRecord, DetectionsMessage, StatusMessage

DEADLINE_S = 30.0
HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
T_CAPTURE_NS = 1_700_000_000_123_456_789
CAT = DetectionRecord("cat", 3, 0.5, (10.0, 20.0, 30.0, 60.0), track_id=9)
DOG = DetectionRecord("dög", 4, 0.25, (1.0, 2.0, 5.5, 8.0))


@pytest.fixture(scope="module")
def ros(tmp_path_factory) -> dict[str, str]:
    """The environment for ROS's Python, in which vision_msgs can be imported."""
    python = os.environ.get("HARRIER_ROS_PYTHON")
    if not python:
        pytest.skip("HARRIER_ROS_PYTHON is not set: no Python with rclpy")
    folder = tmp_path_factory.mktemp("ros")
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(ROOT)])),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(folder),
    }
    needs = "import rclpy, std_msgs.msg, geometry_msgs.msg, msgspec; rclpy.init(); rclpy.shutdown()"
    found = subprocess.run([python, "-c", needs], env=env, capture_output=True, text=True, timeout=60)
    if found.returncode:
        pytest.fail(f"HARRIER_ROS_PYTHON is set, but ROS does not run there:\n{found.stderr[-2000:]}")
    here = subprocess.run([python, "-c", "import vision_msgs.msg"], env=env, capture_output=True, timeout=60)
    if here.returncode:
        if not (shutil.which("gcc") and shutil.which("g++")):
            pytest.skip("gcc and g++ are not installed: vision_msgs cannot be built")
        built = subprocess.run(
            [python, str(HERE / "ros2_interfaces.py"), str(folder)],
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert built.returncode == 0, built.stderr[-3000:]
        env["PYTHONPATH"] = f"{built.stdout.strip()}{os.pathsep}{env['PYTHONPATH']}"
    return env


class Child:
    """A script in ROS's Python, whose lines are read as they come."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        python = os.environ["HARRIER_ROS_PYTHON"]
        self.process = subprocess.Popen(
            [python, *arguments],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.errors: list[str] = []
        for stream, take in ((self.process.stdout, self.lines.put), (self.process.stderr, self.errors.append)):
            threading.Thread(target=lambda s=stream, t=take: [t(line.rstrip("\n")) for line in s], daemon=True).start()

    def line(self, meanwhile: Callable[[], None] = lambda: None) -> str:
        """The next line, within the deadline; `meanwhile` is called again and again."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            meanwhile()
            try:
                return self.lines.get(timeout=0.02)
            except queue.Empty:
                assert self.process.poll() is None, f"it ended: {self.errors}"
        raise AssertionError(f"nothing came within {DEADLINE_S} s: {self.errors}")

    def said(self, topic: str, meanwhile: Callable[[], None] = lambda: None) -> dict:
        """The next JSON line of a topic."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            said = json.loads(self.line(meanwhile))
            if said["topic"] == topic:
                return said
        raise AssertionError(f"nothing of {topic} within {DEADLINE_S} s: {self.errors}")

    def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)
        finally:
            self.process.stdin.close()


@pytest.fixture
def start(ros) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def run(*arguments: str, **extra: str) -> Child:
        children.append(Child(ros | extra, *arguments))
        return children[-1]

    yield run
    for child in children:
        child.stop()


@pytest.fixture
def domain() -> int:
    """A domain that nobody else on this machine is likely to be in; rclpy takes ports up to 231 only."""
    return next_domain()


def detections(*found: DetectionRecord, t_ns: int = T_CAPTURE_NS) -> DetectionsMessage:
    return DetectionsMessage(
        source="cam", seq=1, t_publish_ns=t_ns, t_capture_ns=t_ns, age_ms=0.0, detections=list(found)
    )


def test_rclpy_receives_what_cyclone_publishes(start, domain):
    publisher = Ros2Publisher(parse_uri(f"ros2://detections?domain={domain}&backend=cyclonedds&frame_id=front"))
    publisher.send(StatusMessage(source="cam", seq=1, t_publish_ns=0, t_event_ns=0, state="streaming"))
    reader = start(str(HERE / "ros2_subscriber.py"), str(domain), "60")
    assert reader.line() == "ready"
    message = detections(CAT, DOG)
    status = json.loads(reader.said("status")["data"])
    assert (status["kind"], status["state"]) == ("status", "streaming")
    said = reader.said("detections", lambda: publisher.send(message))
    ours = ros2_cdr.detection_array(message, "front")
    received = bytes.fromhex(said["cdr"])
    assert received[2:4] in (b"\0\0", bytes((0, -len(ours) % 4)))  # how much padding follows, where DDS says so
    assert received[:2] + b"\0\0" + received[4:] == ours + bytes(-len(ours) % 4)
    assert (said["stamp_ns"], said["frame_id"]) == (T_CAPTURE_NS, "front")
    cat = {"class_id": ["cat"], "score": [0.5], "centre": [20.0, 40.0], "size": [20.0, 40.0], "id": "9"}
    dog = {"class_id": ["dög"], "score": [0.25], "centre": [3.25, 5.0], "size": [4.5, 6.0], "id": ""}
    assert said["detections"] == [one | {"frame_id": "front", "w": [1.0]} for one in (cat, dog)]
    publisher.close()


def test_rclpy_receives_classifications_best_effort(start, domain):
    publisher = Ros2Publisher(parse_uri(f"ros2://classes?domain={domain}&backend=cyclonedds&reliability=best_effort"))
    reader = start(str(HERE / "ros2_subscriber.py"), str(domain), "60")
    assert reader.line() == "ready"
    message = ClassificationMessage(
        source="cam", seq=1, t_publish_ns=1, t_capture_ns=1, age_ms=0.0,
        classes=[DetectionRecord("cat", 3, 0.75), DetectionRecord("dög", 4, 0.25)],
    )  # fmt: skip
    said = reader.said("classification", lambda: publisher.send(message))
    assert said["results"] == [["cat", 0.75], ["dög", 0.25]]
    publisher.close()


@pytest.mark.parametrize("backend", ["rclpy", "auto"])
def test_rclpy_as_the_way_out(start, domain, backend):
    writer = start(str(HERE / "ros2_publish.py"), f"ros2://detections?domain={domain}&backend={backend}")
    assert writer.line() == f"ros2://detections (domain {domain}, rclpy with rmw_fastrtps_cpp)"
    reader = start(str(HERE / "ros2_subscriber.py"), str(domain), "60")
    assert reader.line() == "ready"
    said: dict[str, dict] = {}
    while set(said) != {"status", "detections"}:
        one = json.loads(reader.line())
        said[one["topic"]] = one
    assert json.loads(said["status"]["data"])["state"] == "streaming"
    ours = ros2_cdr.detection_array(detections(CAT), "camera")
    received = bytes.fromhex(said["detections"]["cdr"])
    assert received[:2] + b"\0\0" + received[4:] == ours + bytes(len(received) - len(ours))
    writer.process.stdin.close()
    sent, _, failure = writer.line().split(maxsplit=2)  # some are replaced while the topic is announced
    assert int(sent) > 0
    assert failure == "''"


def test_the_example_node_turns_to_the_target_and_stops_when_nothing_comes(start, ros, domain):
    path = f"{ROOT / 'examples/ros2/harrier_follow'}{os.pathsep}{ros['PYTHONPATH']}"
    publisher = Ros2Publisher(parse_uri(f"ros2://detections?domain={domain}&backend=cyclonedds"))
    arguments = ("--ros-args", "-p", "target:=cat", "-p", "ttl_ms:=400.0")
    node = start("-m", "harrier_follow.follow_target", *arguments, PYTHONPATH=path, ROS_DOMAIN_ID=str(domain))
    vector = make_idl_struct(
        "Vector3", "geometry_msgs::msg::dds_::Vector3_", {"x": float64, "y": float64, "z": float64}
    )
    twist = make_idl_struct("Twist", "geometry_msgs::msg::dds_::Twist_", {"linear": vector, "angular": vector})
    participant = DomainParticipant(domain)
    commands = DataReader(participant, DdsTopic(participant, "rt/cmd_vel", twist))
    deadline = time.monotonic() + DEADLINE_S
    driven: list = []
    while not any(one.angular.z for one in driven):
        assert time.monotonic() < deadline, f"it never steered: {len(driven)} commands"
        publisher.send(detections(DOG, CAT, t_ns=time.time_ns()))  # the cat is far to the left, the dog is no target
        driven = commands.take(100)
        time.sleep(0.02)
    moving = next(one for one in driven if one.angular.z)
    assert moving.angular.z == pytest.approx(1.0 - 2 * 20 / 640)
    assert moving.linear.x == pytest.approx(0.3 * (1 - 20 / 640 / 0.5) * (2 * 20 / 640))
    while (driven and driven[-1].angular.z) or not driven:
        assert time.monotonic() < deadline, "it never stopped"
        driven = commands.take(100)
        time.sleep(0.02)
    assert (driven[-1].linear.x, driven[-1].angular.z) == (0.0, 0.0)
    assert node.stop() == 0, node.errors
    assert not node.errors
    publisher.close()


def test_the_recipe_of_the_documentation_sees_what_harrier_publishes(start, domain, tmp_path):
    page = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")
    recipe = tmp_path / "recipe.py"
    recipe.write_text(page.partition("```py\n")[2].partition("```")[0])
    publisher = Ros2Publisher(parse_uri(f"ros2://detections?domain={domain}&backend=cyclonedds"))
    node = start(str(recipe), ROS_DOMAIN_ID=str(domain))
    line = node.line(lambda: publisher.send(detections(CAT, DOG, t_ns=time.time_ns())))
    publisher.close()
    assert line.startswith("2 seen, ")
    assert 0 <= int(line.split()[2]) < DEADLINE_S * 1000
