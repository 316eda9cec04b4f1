"""The way to ROS 2 over Zenoh, without ROS: keys, tokens and attachments as the middleware rmw_zenoh writes them.

After the design document of ros2/rmw_zenoh ("Graph cache", "Quality of Service"): a sample's key is
`DOMAIN/TOPIC/TYPE/HASH`, its attachment sequence number, time and the publisher's id; liveliness tokens below
`@ros2_lv` make node and topics visible to `ros2 topic list`.
"""

import secrets
import struct
import time

import zenoh
from zenoh import ext

from edge.errors import ConfigError, PublishError
from edge.publishers.ros2_types import Ros2Options, Topic
from edge.publishers.zenoh_session import ROUTER, connected, open_session

__all__ = ["ZenohBackend", "attachment", "node_token", "publisher_token", "sample_key"]

_ATTACHMENT = struct.Struct("<qqB16s")
_NODE = 0


class ZenohBackend:
    """Publishers of a Zenoh session that is connected to rmw_zenoh's router, which need not be there yet.

    Raises: ConfigError for a wrong endpoint, PublishError when Zenoh cannot be opened.
    """

    def __init__(self, options: Ros2Options, domain: int) -> None:
        if options.network:
            raise ConfigError("network= is not for backend=zenoh", "name the router: connect=tcp/HOST:7447")
        self._router = options.connect or ROUTER
        self.address = f"domain {domain} by {self._router}, Zenoh"
        self._domain, self._node = domain, options.node
        self._reliable = options.reliability == "reliable"
        self._session = open_session("peer", self._router, "", "")
        self._linked = connected(self._session)
        zid = str(self._session.zid())
        self._tokens = [self._session.liveliness().declare_token(node_token(domain, zid, options.node))]
        self._publishers: dict[Topic, zenoh.Publisher | ext.AdvancedPublisher] = {}
        self._sent: dict[Topic, int] = {}
        self._gids: dict[Topic, bytes] = {}

    def announce(self, topic: Topic) -> None:
        """Declare the topic's publisher and the token that shows it."""
        key = sample_key(self._domain, topic)
        if topic.latched:
            self._publishers[topic] = ext.declare_advanced_publisher(
                self._session,
                key,
                congestion_control=zenoh.CongestionControl.DROP,
                express=True,
                cache=ext.CacheConfig(max_samples=1),
                publisher_detection=True,
            )
        else:
            self._publishers[topic] = self._session.declare_publisher(
                key, congestion_control=zenoh.CongestionControl.DROP, express=True
            )
        self._sent[topic], self._gids[topic] = 0, secrets.token_bytes(16)
        entity = len(self._publishers)
        token = publisher_token(self._domain, str(self._session.zid()), self._node, entity, topic, self._reliable)
        self._tokens.append(self._session.liveliness().declare_token(token))

    def publish(self, topic: Topic, cdr: bytes) -> None:
        """Put one serialized message.

        Raises: PublishError while the router is not there; what is latched waits for it.
        """
        if topic not in self._publishers:
            self.announce(topic)
        if not (self._linked or topic.latched):
            raise PublishError(f"nobody answers at {self._router}", "start it: ros2 run rmw_zenoh_cpp rmw_zenohd")
        self._sent[topic] += 1
        about = attachment(self._sent[topic], time.time_ns(), self._gids[topic])
        try:
            self._publishers[topic].put(cdr, attachment=about)
        except zenoh.ZError as exc:
            raise PublishError(f"Zenoh cannot put {topic.name} ({exc})", "it is tried again") from exc

    def trouble(self) -> str:
        """Return that the router is not there, when it is not."""
        self._linked = connected(self._session)
        return "" if self._linked else f"nobody answers at {self._router}"

    def close(self) -> None:
        """Take the tokens back and disconnect."""
        for token in self._tokens:
            token.undeclare()
        self._session.close()


def sample_key(domain: int, topic: Topic) -> str:
    """Return the key of the topic's samples."""
    return f"{domain}{topic.name}/{topic.dds_type}/{topic.type_hash}"


def attachment(sequence: int, t_ns: int, gid: bytes) -> bytes:
    """Return what goes with a sample: 33 bytes; t_ns is Unix time, gid 16 bytes."""
    return _ATTACHMENT.pack(sequence, t_ns, len(gid), gid)


def node_token(domain: int, session: str, node: str) -> str:
    """Return the liveliness key of the node, which has no enclave and no namespace."""
    return f"@ros2_lv/{domain}/{session}/{_NODE}/{_NODE}/NN/%/%/{node}"


def publisher_token(domain: int, session: str, node: str, entity: int, topic: Topic, reliable: bool) -> str:
    """Return the liveliness key of a publisher; what is as by default in its quality of service stays empty."""
    name = topic.name.replace("/", "%")
    qos = f"{'' if reliable or topic.latched else 2}:{1 if topic.latched else ''}:,{topic.depth}:,:,:,,"
    head = f"@ros2_lv/{domain}/{session}/{_NODE}/{entity}/MP/%/%/{node}"
    return f"{head}/{name}/{topic.dds_type}/{topic.type_hash}/{qos}"
