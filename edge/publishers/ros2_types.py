"""What the ways to ROS 2 have in common: the topics, by the names ROS has for them, and the options of the URI."""

from typing import Annotated, Literal, NamedTuple, Protocol

import msgspec

from edge.publishers.base import PublisherOptions

__all__ = ["TYPE_HASHES", "Backend", "Ros2Options", "Topic"]

TYPE_HASHES = {
    "vision_msgs/msg/Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/msg/Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "vision_msgs/msg/Classification": "RIHS01_f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "std_msgs/msg/String": "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
}
"""Hashes of the type descriptions (REP 2016) of vision_msgs 4.1.1 and std_msgs."""


class Topic(NamedTuple):
    """A topic by its full name (`/detections`), its type, and whether late subscribers get the last message.

    Queues hold `depth` messages: keep last, volatile or transient local.
    """

    name: str
    type_name: str
    latched: bool = False
    depth: int = 1

    @property
    def dds_type(self) -> str:
        """The type's name in DDS and in rmw_zenoh."""
        package, _, name = self.type_name.split("/")
        return f"{package}::msg::dds_::{name}_"

    @property
    def type_hash(self) -> str:
        """The hash of the type's description."""
        return TYPE_HASHES[self.type_name]


class Ros2Options(PublisherOptions, kw_only=True):
    """domain: the ROS domain, ROS_DOMAIN_ID where it is not given. frame_id: of the camera, for every header;
    where it is not given, that of the camera file, else `camera`.

    backend: the way to ROS. node: the name of the node. class_id: what a hypothesis calls its class.
    reliability: of the detections. network: with cyclonedds the interface (a name, an address, or `auto`), loopback
    where it is not given; with rclpy `auto` or nothing. connect: the router, with zenoh.
    """

    domain: Annotated[int, msgspec.Meta(ge=0, le=232)] | None = None
    frame_id: str = ""
    backend: Literal["auto", "rclpy", "cyclonedds", "zenoh"] = "auto"
    node: str = "harrier"
    class_id: Literal["label", "number"] = "label"
    reliability: Literal["reliable", "best_effort"] = "reliable"
    network: str = ""
    connect: str = ""


class Backend(Protocol):
    """A way to ROS: built from the options and the domain; raises PublishError or ConfigError when it cannot start.

    One thread publishes and closes. address: what it is, for logs.
    """

    address: str

    def __init__(self, options: Ros2Options, domain: int) -> None: ...

    def publish(self, topic: Topic, cdr: bytes) -> None:
        """Publish one serialized message; topics are announced when first used, or by `announce`.

        Raises: PublishError.
        """

    def announce(self, topic: Topic) -> None:
        """Let others find the topic.

        Raises: PublishError.
        """

    def trouble(self) -> str:
        """Return what is wrong just now, or ""."""

    def close(self) -> None:
        """Let go of everything."""
