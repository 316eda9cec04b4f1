"""The reader's end of `mqtt://` and `mqtts://`: what a broker passes on of one Harrier."""

from collections import deque

from edge.errors import ConfigError, EndOfStreamError, PublishError, SourceTimeoutError
from edge.links.base import Framing
from edge.publishers.mqtt_broker import BrokerConnection, broker_of, warn_if_open
from edge.uri import Uri

__all__ = ["MqttLink"]

_TOPICS = ["hello", "labels/+", "status", "heartbeat", "detections", "classification", "region"]


class MqttLink:
    """Subscribes to the topics of one publisher; options as those of the publisher.

    A broker passes on what publishers say, not the other way round: there is no clock to ask and no credit.
    """

    framing: Framing = "message"
    two_way = False

    def __init__(self, uri: Uri) -> None:
        self._broker = broker_of(uri)
        self._connection: BrokerConnection | None = None
        self._arrived: deque[bytes] = deque()

    def open(self, timeout_s: float) -> None:
        """Connect and subscribe, trying for at most `timeout_s`.

        Raises: SourceTimeoutError when no broker answers, ConfigError when it refuses or is not trusted.
        """
        self.close()
        warn_if_open(self._broker)
        connection = BrokerConnection(self._broker, on_payload=self._arrived.append)
        try:
            connection.open(timeout_s)
            connection.subscribe(_TOPICS, timeout_s)
        except ConfigError:
            connection.close(said_all=True)
            raise
        except PublishError as exc:
            connection.close(said_all=True)
            raise SourceTimeoutError(exc.cause, exc.cure) from exc
        self._connection = connection

    def receive(self, timeout_s: float) -> bytes:
        """Return one message, b"" when none came within `timeout_s`.

        Raises: EndOfStreamError when the broker is gone.
        """
        if self._connection is None:
            raise EndOfStreamError("the connection is closed", "open it again")
        if not self._arrived:
            try:
                self._connection.turn(timeout_s)
            except PublishError as exc:
                raise EndOfStreamError(exc.cause, exc.cure) from exc
        return self._arrived.popleft() if self._arrived else b""

    def send(self, data: bytes) -> None:
        """Drop what is sent: nobody would hear it."""

    def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        self._arrived.clear()
        if connection is not None:
            connection.close(said_all=True)
