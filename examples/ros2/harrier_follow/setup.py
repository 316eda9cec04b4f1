"""Installs the node as `ros2 run harrier_follow follow_target`."""

from setuptools import setup

NAME = "harrier_follow"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/follow.launch.py"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={"console_scripts": ["follow_target = harrier_follow.follow_target:main"]},
)
