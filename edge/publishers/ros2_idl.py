"""The ROS 2 types that `ros2://` publishes (vision_msgs 4.1.1), as Cyclone DDS describes types."""

from dataclasses import dataclass

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import array, float64, int32, sequence, uint32

__all__ = [
    "BoundingBox2D",
    "BoundingBox3D",
    "Classification",
    "Detection2D",
    "Detection2DArray",
    "Detection3D",
    "Detection3DArray",
    "Header",
    "ObjectHypothesis",
    "ObjectHypothesisWithPose",
    "Point",
    "Point2D",
    "Pose",
    "Pose2D",
    "PoseWithCovariance",
    "Quaternion",
    "String",
    "Time",
    "Vector3",
]


@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):  # type: ignore[call-arg]
    """`builtin_interfaces/msg/Time`."""

    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):  # type: ignore[call-arg]
    """`std_msgs/msg/Header`."""

    stamp: Time
    frame_id: str


@dataclass
class ObjectHypothesis(IdlStruct, typename="vision_msgs::msg::dds_::ObjectHypothesis_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/ObjectHypothesis`."""

    class_id: str
    score: float64


@dataclass
class Point(IdlStruct, typename="geometry_msgs::msg::dds_::Point_"):  # type: ignore[call-arg]
    """`geometry_msgs/msg/Point`."""

    x: float64
    y: float64
    z: float64


@dataclass
class Quaternion(IdlStruct, typename="geometry_msgs::msg::dds_::Quaternion_"):  # type: ignore[call-arg]
    """`geometry_msgs/msg/Quaternion`."""

    x: float64
    y: float64
    z: float64
    w: float64


@dataclass
class Pose(IdlStruct, typename="geometry_msgs::msg::dds_::Pose_"):  # type: ignore[call-arg]
    """`geometry_msgs/msg/Pose`."""

    position: Point
    orientation: Quaternion


@dataclass
class PoseWithCovariance(IdlStruct, typename="geometry_msgs::msg::dds_::PoseWithCovariance_"):  # type: ignore[call-arg]
    """`geometry_msgs/msg/PoseWithCovariance`."""

    pose: Pose
    covariance: array[float64, 36]


@dataclass
class ObjectHypothesisWithPose(  # type: ignore[call-arg]
    IdlStruct, typename="vision_msgs::msg::dds_::ObjectHypothesisWithPose_"
):
    """`vision_msgs/msg/ObjectHypothesisWithPose`."""

    hypothesis: ObjectHypothesis
    pose: PoseWithCovariance


@dataclass
class Point2D(IdlStruct, typename="vision_msgs::msg::dds_::Point2D_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/Point2D`."""

    x: float64
    y: float64


@dataclass
class Pose2D(IdlStruct, typename="vision_msgs::msg::dds_::Pose2D_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/Pose2D`."""

    position: Point2D
    theta: float64


@dataclass
class BoundingBox2D(IdlStruct, typename="vision_msgs::msg::dds_::BoundingBox2D_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/BoundingBox2D`."""

    center: Pose2D
    size_x: float64
    size_y: float64


@dataclass
class Detection2D(IdlStruct, typename="vision_msgs::msg::dds_::Detection2D_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/Detection2D`."""

    header: Header
    results: sequence[ObjectHypothesisWithPose]
    bbox: BoundingBox2D
    id: str


@dataclass
class Detection2DArray(IdlStruct, typename="vision_msgs::msg::dds_::Detection2DArray_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/Detection2DArray`."""

    header: Header
    detections: sequence[Detection2D]


@dataclass
class Vector3(IdlStruct, typename="geometry_msgs::msg::dds_::Vector3_"):  # type: ignore[call-arg]
    """`geometry_msgs/msg/Vector3`."""

    x: float64
    y: float64
    z: float64


@dataclass
class BoundingBox3D(IdlStruct, typename="vision_msgs::msg::dds_::BoundingBox3D_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/BoundingBox3D`."""

    center: Pose
    size: Vector3


@dataclass
class Detection3D(IdlStruct, typename="vision_msgs::msg::dds_::Detection3D_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/Detection3D`."""

    header: Header
    results: sequence[ObjectHypothesisWithPose]
    bbox: BoundingBox3D
    id: str


@dataclass
class Detection3DArray(IdlStruct, typename="vision_msgs::msg::dds_::Detection3DArray_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/Detection3DArray`."""

    header: Header
    detections: sequence[Detection3D]


@dataclass
class Classification(IdlStruct, typename="vision_msgs::msg::dds_::Classification_"):  # type: ignore[call-arg]
    """`vision_msgs/msg/Classification`."""

    header: Header
    results: sequence[ObjectHypothesis]


@dataclass
class String(IdlStruct, typename="std_msgs::msg::dds_::String_"):  # type: ignore[call-arg]
    """`std_msgs/msg/String`."""

    data: str
