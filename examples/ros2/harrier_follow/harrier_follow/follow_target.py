"""Turn towards what Harrier sees; stop when the newest picture is older than `ttl_ms`, or none comes.

    ros2 run harrier_follow follow_target --ros-args -p target:=person -p image_width:=1280

The command is sent from a timer, not from the subscription: a dead camera, a dead Harrier and a dead network all end
in the same zero.
"""

import rclpy
from geometry_msgs.msg import Twist
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from vision_msgs.msg import Detection2DArray

from harrier_follow.steering import Command, Limits, Seen, choose, is_fresh, steer


class FollowTarget(Node):
    """Subscribes `detections`, publishes `cmd_vel` 20 times a second."""

    def __init__(self) -> None:
        super().__init__("follow_target")
        self._target = self.declare_parameter("target", "").value
        self._min_score = self.declare_parameter("min_score", 0.5).value
        self._image_width = self.declare_parameter("image_width", 640).value
        self._ttl_ms = self.declare_parameter("ttl_ms", 300.0).value
        self._limits = Limits(
            self.declare_parameter("forward_m_s", 0.3).value,
            self.declare_parameter("turn_rad_s", 1.0).value,
            self.declare_parameter("near", 0.5).value,
        )
        self._command = Command()
        self._t_stamp_ns = 0
        self._publisher = self.create_publisher(Twist, "cmd_vel", 1)
        self.create_subscription(Detection2DArray, "detections", self._see, qos_profile_sensor_data)
        self.create_timer(0.05, self._drive)

    def _see(self, message: Detection2DArray) -> None:
        seen = [
            Seen(one.results[0].hypothesis.class_id, one.results[0].hypothesis.score, *_place(one.bbox))
            for one in message.detections
            if one.results
        ]
        self._command = steer(choose(seen, self._target, self._min_score), self._image_width, self._limits)
        self._t_stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec

    def _drive(self) -> None:
        fresh = is_fresh(self._t_stamp_ns, self.get_clock().now().nanoseconds, self._ttl_ms)
        command = self._command if fresh else Command()
        message = Twist()
        message.linear.x = command.forward_m_s
        message.angular.z = command.turn_rad_s
        self._publisher.publish(message)


def _place(box) -> tuple[float, float]:
    """Centre and width in px; vision_msgs before 4.0 has the centre's x elsewhere."""
    centre = getattr(box.center, "position", box.center)
    return centre.x, box.size_x


def main() -> None:
    """Run the node until it is told to stop."""
    rclpy.init()
    try:
        rclpy.spin(FollowTarget())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
