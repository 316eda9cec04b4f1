"""What to steer for a set of detections: plain Python, so that it can be tested without ROS."""

from dataclasses import dataclass

__all__ = ["Command", "Limits", "Seen", "choose", "is_fresh", "steer"]


@dataclass(frozen=True)
class Seen:
    """One detection: its class, its score in 0..1, centre and width of its box in px."""

    name: str
    score: float
    centre_x: float
    width: float


@dataclass(frozen=True)
class Limits:
    """How fast at most (m/s forward, rad/s turning), and where to stop: the box's share of the image's width."""

    forward_m_s: float = 0.3
    turn_rad_s: float = 1.0
    near: float = 0.5


@dataclass(frozen=True)
class Command:
    """Speed forward in m/s and turning in rad/s, positive to the left, as geometry_msgs/Twist has them."""

    forward_m_s: float = 0.0
    turn_rad_s: float = 0.0


def choose(seen: list[Seen], target: str, min_score: float) -> Seen | None:
    """Return the surest detection of the class (of any class for ""), None when there is none."""
    wanted = [one for one in seen if one.score >= min_score and target in ("", one.name)]
    return max(wanted, key=lambda one: one.score, default=None)


def steer(one: Seen | None, image_width: int, limits: Limits) -> Command:
    """Return the way towards a detection; nothing seen is no movement."""
    if one is None:
        return Command()
    aside = max(-1.0, min(1.0, 2.0 * one.centre_x / image_width - 1.0))  # -1 at the left edge, 1 at the right
    room = max(0.0, 1.0 - one.width / image_width / limits.near)
    return Command(limits.forward_m_s * room * (1.0 - abs(aside)), -limits.turn_rad_s * aside)


def is_fresh(t_stamp_ns: int, t_now_ns: int, ttl_ms: float) -> bool:
    """Return whether what was captured at t_stamp_ns may still move the robot.

    A stamp from the future is as bad as an old one: somebody's clock is wrong.
    """
    return abs(t_now_ns - t_stamp_ns) <= ttl_ms * 1e6
