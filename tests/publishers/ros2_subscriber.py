"""Run by the Python that has ROS: print what arrives on `detections`, `detections/status` and `cmd_vel`, as JSON lines.

    python ros2_subscriber.py DOMAIN SECONDS

Prints "ready" first, and ends by itself, or when its standard input is closed.
"""

import json
import select
import sys
import time

import rclpy
from geometry_msgs.msg import Twist
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from std_msgs.msg import String
from vision_msgs.msg import Classification, Detection2DArray


def say(topic: str, **what: object) -> None:
    """Print one line."""
    print(json.dumps({"topic": topic, **what}), flush=True)


def on_detections(data: bytes) -> None:
    """Say the bytes that came, and what ROS makes of them."""
    message = deserialize_message(data, Detection2DArray)
    detections = [
        {
            "class_id": [result.hypothesis.class_id for result in one.results],
            "score": [result.hypothesis.score for result in one.results],
            "centre": [one.bbox.center.position.x, one.bbox.center.position.y],
            "size": [one.bbox.size_x, one.bbox.size_y],
            "id": one.id,
            "frame_id": one.header.frame_id,
            "w": [result.pose.pose.orientation.w for result in one.results],
        }
        for one in message.detections
    ]
    stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
    say("detections", cdr=bytes(data).hex(), stamp_ns=stamp, frame_id=message.header.frame_id, detections=detections)


def on_classification(message: Classification) -> None:
    """Say the classes."""
    say("classification", results=[[one.class_id, one.score] for one in message.results])


def main(domain: int, seconds: float) -> None:
    """Subscribe and print."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("reader", context=context)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(Detection2DArray, "detections", on_detections, 10, raw=True)
    node.create_subscription(Classification, "classes", on_classification, qos_profile_sensor_data)
    node.create_subscription(String, "detections/status", lambda m: say("status", data=m.data), latched)
    node.create_subscription(Twist, "cmd_vel", lambda m: say("cmd_vel", x=m.linear.x, z=m.angular.z), 10)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not select.select([sys.stdin], [], [], 0)[0]:
        executor.spin_once(timeout_sec=0.05)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
