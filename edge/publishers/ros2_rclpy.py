"""The way to ROS 2 where ROS is sourced: rclpy, over whatever middleware RMW_IMPLEMENTATION says.

No extra brings rclpy, only ROS does; so its modules are looked up when they are needed, not when this one is read.
"""

import os
from importlib import import_module
from typing import Any

from edge.errors import ConfigError, PublishError
from edge.publishers.ros2_types import TYPE_HASHES, Ros2Options, Topic

__all__ = ["RclpyBackend"]

_RANGES = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY")


class RclpyBackend:
    """Publishers of a node of its own, in a context of its own; only this machine, unless ROS or `network` say more.

    Raises: ConfigError for options of other ways, PublishError when ROS cannot start.
    """

    def __init__(self, options: Ros2Options, domain: int) -> None:
        if options.connect or options.network not in ("", "auto"):
            raise ConfigError("rclpy takes interfaces and routers from ROS", "leave out connect=, write network=auto")
        rclpy = import_module("rclpy")
        no_signals = import_module("rclpy.signals").SignalHandlerOptions.NO
        self._types = {kind: _message_type(kind) for kind in TYPE_HASHES}
        if not options.network and not any(os.environ.get(name) for name in _RANGES):
            # ROS reads these when a context begins; Humble knows the second only
            humble = os.environ.get("ROS_DISTRO") == "humble"
            os.environ[_RANGES[humble]] = "1" if humble else "LOCALHOST"
        self._context = rclpy.Context()
        try:
            rclpy.init(context=self._context, domain_id=domain, signal_handler_options=no_signals)
            self._node = rclpy.create_node(options.node, context=self._context, start_parameter_services=False)
        except Exception as exc:  # rclpy's errors have no common class
            raise PublishError(f"ROS cannot start a node in domain {domain} ({exc})", "check ROS's settings") from exc
        self.address = f"domain {domain}, rclpy with {rclpy.get_rmw_implementation_identifier()}"
        self._reliable = options.reliability == "reliable"
        self._publishers: dict[Topic, Any] = {}

    def announce(self, topic: Topic) -> None:
        """Create the topic's publisher.

        Raises: PublishError.
        """
        qos = import_module("rclpy.qos")
        reliable, durable = qos.ReliabilityPolicy, qos.DurabilityPolicy
        profile = qos.QoSProfile(
            depth=topic.depth,
            reliability=reliable.RELIABLE if self._reliable or topic.latched else reliable.BEST_EFFORT,
            durability=durable.TRANSIENT_LOCAL if topic.latched else durable.VOLATILE,
        )
        try:
            self._publishers[topic] = self._node.create_publisher(self._types[topic.type_name], topic.name, profile)
        except Exception as exc:
            raise PublishError(f"ROS cannot publish {topic.name} ({exc})", "correct its name") from exc

    def publish(self, topic: Topic, cdr: bytes) -> None:
        """Publish one serialized message.

        Raises: PublishError.
        """
        if topic not in self._publishers:
            self.announce(topic)
        try:
            self._publishers[topic].publish(cdr)
        except Exception as exc:
            raise PublishError(f"ROS cannot write {topic.name} ({exc})", "it is tried again") from exc

    def trouble(self) -> str:
        """Return whether somebody shut ROS down."""
        return "" if self._context.ok() else "ROS was shut down"

    def close(self) -> None:
        """Destroy the node, which tells the subscribers."""
        self._node.destroy_node()
        self._context.try_shutdown()


def _message_type(name: str) -> Any:
    package, _, kind = name.split("/")
    return getattr(import_module(f"{package}.msg"), kind)
