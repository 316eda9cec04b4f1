"""ros2 launch harrier_follow follow.launch.py: Harrier on a camera, and the node that follows what it sees."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """Start `harrier run` in its own environment, and follow_target beside it."""
    arguments = {
        "harrier": ("harrier", "the command, with its path where it is in a virtual environment"),
        "model": ("face", "a bundle, a model file or a catalogue name"),
        "source": ("v4l2:///dev/video0", "the camera"),
        "target": ("", "the class to follow; empty: the surest detection of any class"),
        "image_width": ("640", "px"),
    }
    value = {name: LaunchConfiguration(name) for name in arguments}
    command = [value["harrier"], "run", "--model", value["model"], "--source", value["source"]]
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=about) for n, (d, about) in arguments.items()),
            ExecuteProcess(cmd=[*command, "--publish", "ros2://detections"], output="screen"),
            Node(
                package="harrier_follow",
                executable="follow_target",
                parameters=[{"target": value["target"], "image_width": value["image_width"]}],
                output="screen",
            ),
        ]
    )
