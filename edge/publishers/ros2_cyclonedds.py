"""The way to ROS 2 over DDS, without ROS: Eclipse Cyclone DDS, set up so that Fast DDS nodes understand it."""

import logging
import re

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.topic import Topic as DdsTopic
from cyclonedds.util import duration

from edge.errors import ConfigError, PublishError
from edge.publishers.ros2_idl import Classification, Detection2DArray, Detection3DArray, String
from edge.publishers.ros2_types import Ros2Options, Topic

__all__ = ["CycloneBackend", "domain_xml"]

log = logging.getLogger("harrier")

_TYPES: dict[str, type[IdlStruct]] = {
    "vision_msgs/msg/Detection2DArray": Detection2DArray,
    "vision_msgs/msg/Detection3DArray": Detection3DArray,
    "vision_msgs/msg/Classification": Classification,
    "std_msgs/msg/String": String,
}
_LOOPBACK = '<NetworkInterface name="lo" multicast="false"/>'
# nodes that keep to this machine are found by asking there, one by one: loopback has no multicast
_DISCOVERY = (
    "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>99</MaxAutoParticipantIndex>"
    '<Peers><Peer Address="127.0.0.1"/></Peers></Discovery>'
)
_COMPATIBLE = "<Compatibility><IgnoreTypeInformation>1.15</IgnoreTypeInformation></Compatibility>"
_domains: dict[int, tuple[str, Domain]] = {}  # a process has one of each, to its end


class CycloneBackend:
    """Writers of a Cyclone DDS participant; domain and network are settled by the first one in a process.

    Raises: ConfigError for an interface that cannot be one, or another than before; PublishError when Cyclone fails.
    """

    def __init__(self, options: Ros2Options, domain: int) -> None:
        if options.connect:
            raise ConfigError("connect= is for backend=zenoh", "give network= to leave loopback")
        xml = domain_xml(options.network)
        try:
            if domain not in _domains:
                _domains[domain] = xml, Domain(domain, xml)
            if _domains[domain][0] != xml:
                raise ConfigError(f"domain {domain} is in use here with another network=", "give both the same")
            self._participant = DomainParticipant(domain)
        except DDSException as exc:
            network = options.network or "loopback"
            raise PublishError(
                f"Cyclone DDS cannot open domain {domain} on {network} ({_plain(exc)})",
                "check that the interface is up, and network= and domain=",
            ) from exc
        self.address = f"domain {domain} on {options.network or 'loopback'}, Cyclone DDS"
        if not options.network:
            log.info("ros2: only nodes with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST hear it; network=auto is for all")
        self._reliable = options.reliability == "reliable"
        self._writers: dict[Topic, DataWriter] = {}

    def announce(self, topic: Topic) -> None:
        """Make the topic's writer.

        Raises: PublishError.
        """
        qos = _qos(topic, self._reliable or topic.latched)
        kind = _TYPES[topic.type_name]
        try:
            dds_topic = DdsTopic(self._participant, f"rt{topic.name}", kind, qos=qos.topic())
            self._writers[topic] = DataWriter(self._participant, dds_topic, qos=qos)
        except DDSException as exc:
            raise PublishError(f"Cyclone DDS cannot publish {topic.name} ({_plain(exc)})", "correct its name") from exc

    def publish(self, topic: Topic, cdr: bytes) -> None:
        """Write one serialized message.

        Raises: PublishError.
        """
        if topic not in self._writers:
            self.announce(topic)
        sample = object.__new__(_TYPES[topic.type_name])
        sample.serialize = lambda use_version_2=None: cdr  # type: ignore[method-assign]  # ours is many times quicker
        try:
            self._writers[topic].write(sample)
        except DDSException as exc:
            raise PublishError(f"Cyclone DDS cannot write {topic.name} ({_plain(exc)})", "it is tried again") from exc

    def trouble(self) -> str:
        """Return "": DDS finds its readers by itself."""
        return ""

    def close(self) -> None:
        """Delete the writers, which tells the readers."""
        self._writers.clear()
        del self._participant


def domain_xml(network: str) -> str:
    """Return Cyclone's configuration for loopback and an interface: its name, its address, `auto`, or "" for none.

    Without IgnoreTypeInformation nodes on Fast DDS silently receive nothing: the two describe types differently.
    Raises: ConfigError for what cannot be an interface.
    """
    if not re.fullmatch(r"[\w.:%-]*", network, re.ASCII):
        raise ConfigError(f"'{network}' cannot be a network interface", "write network=eth0, an address, or auto")
    if network == "auto":
        others = '<NetworkInterface autodetermine="true"/>'
    elif network:
        kind = "address" if re.fullmatch(r"[\d.]+|.*:.*", network) else "name"
        others = f'<NetworkInterface {kind}="{network}"/>'
    else:
        others = ""
    alone = "" if network else "<AllowMulticast>false</AllowMulticast>"
    general = f"<General><Interfaces>{_LOOPBACK}{others}</Interfaces>{alone}</General>"
    return f'<CycloneDDS><Domain Id="any">{general}{_DISCOVERY}{_COMPATIBLE}</Domain></CycloneDDS>'


def _qos(topic: Topic, reliable: bool) -> Qos:
    return Qos(
        Policy.Reliability.Reliable(duration(milliseconds=100)) if reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if topic.latched else Policy.Durability.Volatile,
        Policy.History.KeepLast(topic.depth),
        Policy.DataRepresentation(use_cdrv0_representation=True),
        Policy.Userdata(f"typehash={topic.type_hash};".encode()),
    )


def _plain(exc: DDSException) -> str:
    return " ".join(str(exc).replace("[DDSException]", "").split())
