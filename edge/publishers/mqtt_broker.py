"""A connection to an MQTT broker, served by one thread of its owner; nothing queues behind what the broker has taken.

paho-mqtt keeps what cannot be written and sends it late. So a connection says when all that was sent has been read:
after it an UNSUBSCRIBE for a topic nobody subscribed to is sent, which every broker must answer (MQTT 3.1.1, 3.10.4).
"""

import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote

import msgspec
from paho.mqtt.client import Client, MQTTErrorCode
from paho.mqtt.enums import CallbackAPIVersion

from edge.errors import ConfigError, PublishError
from edge.publishers.base import PublisherOptions, options_of
from edge.uri import Uri

__all__ = ["Broker", "BrokerConnection", "BrokerOptions", "broker_of", "warn_if_open"]

log = logging.getLogger("harrier")

_KEEPALIVE_S = 5  # the broker tells of our end after 1.5 times this, where the connection does not end by itself
_MAX_INFLIGHT = 1000  # kept messages wait for their acknowledgement; results do not
_SEND_BUFFER_BYTES = 65536
_REFUSED = {"Bad user name or password", "Not authorized", "Client identifier not valid", "Banned"}


class BrokerOptions(PublisherOptions, kw_only=True):
    """Options of a broker: password_file holds the password and nothing else; ca, cert, key are PEM files for mqtts.

    insecure: the broker's certificate is not checked.
    """

    password_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False
    client_id: str = ""


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker is, how to be let in, and the prefix of the topics there."""

    host: str
    port: int
    prefix: str
    tls: bool
    user: str
    password: str
    options: BrokerOptions

    @property
    def address(self) -> str:
        """The URI without user, password and options."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}/{self.prefix}"


def broker_of(uri: Uri) -> Broker:
    """Return what `mqtt://user:password@host:port/topic/prefix` says; the port may be left out.

    Raises: ConfigError for what is missing, a wrong option, or a file that is not there.
    """
    options = options_of(uri, BrokerOptions)
    # user and password are decoded after splitting: either may hold %40 or %2F
    rest = uri.text.strip().partition("://")[2].partition("?")[0]
    authority, _, topic = rest.partition("/")
    login, _, place = authority.rpartition("@")
    user, _, password = (unquote(part) for part in login.partition(":"))
    tls = uri.scheme == "mqtts"
    place = place if place.rpartition("]")[2].count(":") else f"{place}:{8883 if tls else 1883}"
    host, port = Uri(uri.safe_text, uri.scheme, place, {}).host_port()
    prefix = unquote(topic).strip("/")
    example = f"write {uri.scheme}://HOST/robot1/front"
    if not host or port == 0:
        raise ConfigError(f"{uri.safe_text} names no broker", example)
    if not prefix:
        raise ConfigError(f"{uri.safe_text} names no topic, and two robots would overwrite each other", example)
    if any(c in prefix for c in "+#\0") or len(prefix.encode()) > 1000:
        raise ConfigError(f"'{prefix[:80]}' cannot be a topic to publish to", f"{example}, without + and #")
    if not tls and (options.ca or options.cert or options.key or options.insecure):
        raise ConfigError("ca, cert, key and insecure are for mqtts", f"write mqtts://{place}/{prefix}")
    if bool(options.cert) != bool(options.key):
        raise ConfigError(f"{uri.safe_text} has half of a client certificate", "give both cert=FILE and key=FILE")
    if options.password_file:
        if password:
            raise ConfigError(f"{uri.safe_text} gives two passwords", "leave out password_file or the one in the URI")
        password = _text_of(options.password_file)
    if password and not user:
        raise ConfigError("there is a password but no user", f"write {uri.scheme}://USER@HOST/robot1/front")
    broker = Broker(host=host, port=port, prefix=prefix, tls=tls, user=user, password=password, options=options)
    if tls:
        _tls_context(options)
    return broker


def _text_of(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read password_file={path} ({exc})", "put the password alone into that file") from exc


def warn_if_open(broker: Broker) -> None:
    """Log a warning where others could read the password or stand in for the broker."""
    if broker.options.insecure:
        log.warning("%s: insecure, whoever answers there is taken for the broker", broker.address)
    elif broker.password and not broker.tls and broker.host not in ("localhost", "127.0.0.1", "::1"):
        log.warning("%s: the password travels readable; use mqtts where others share the network", broker.address)


def _tls_context(options: BrokerOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(Path(options.ca).expanduser()) if options.ca else None)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"ca={options.ca} is no certificate ({exc})", "give the PEM file of the authority") from exc
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.cert:
        cert, key = str(Path(options.cert).expanduser()), str(Path(options.key).expanduser())
        try:
            context.load_cert_chain(cert, key, password=lambda: b"")
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"cert={options.cert} and key={options.key} are no pair ({exc})", "give PEM files, the key unencrypted"
            ) from exc
    return context


class BrokerConnection:
    """One connection, from connecting to its loss; a new one is made to connect again, so that nothing is sent late.

    taken: the broker has read all that was published. All calls come from one thread.
    """

    def __init__(
        self,
        broker: Broker,
        will: tuple[str, bytes] | None = None,
        on_payload: Callable[[bytes], None] | None = None,
        wake: socket.socket | None = None,
    ) -> None:
        self.taken = True
        self._broker = broker
        self._wake = wake
        self._connected = False
        self._subscribed = False
        self._why = ""
        self._probe = 0
        self._selector = selectors.DefaultSelector()
        options = broker.options
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id=options.client_id or f"harrier-{token_hex(6)}"
        )
        client.max_inflight_messages_set(_MAX_INFLIGHT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_unsubscribe = self._on_unsubscribe
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = _set_up_socket
        if on_payload is not None:
            client.on_message = lambda _client, _data, message: on_payload(message.payload)
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.tls:
            client.tls_set_context(_tls_context(options))
            client.tls_insecure_set(options.insecure)
        if will is not None:
            topic, payload = will
            client.will_set(f"{broker.prefix}/{topic}", payload, qos=1, retain=True)

    def open(self, timeout_s: float) -> None:
        """Connect and be let in.

        Raises: PublishError when nobody answers in time, ConfigError when the broker refuses or is not trusted.
        """
        deadline = time.monotonic() + timeout_s
        self._client.connect_timeout = timeout_s
        try:
            self._client.connect(self._broker.host, self._broker.port, _KEEPALIVE_S)
        except ssl.SSLCertVerificationError as exc:
            raise ConfigError(
                f"the certificate of broker {self._place} is not trusted ({exc.verify_message})",
                "give ca=FILE of whoever signed it",
            ) from exc
        except ssl.SSLError as exc:
            raise self._no_answer(f"no TLS there: {exc.reason}") from exc
        except (OSError, UnicodeError) as exc:
            raise self._no_answer(getattr(exc, "strerror", None) or str(exc) or "timed out") from exc
        self._selector.register(self._client.socket(), selectors.EVENT_READ)  # type: ignore[arg-type]
        if self._wake is not None:
            self._selector.register(self._wake, selectors.EVENT_READ)
        while not self._connected:
            self.turn(min(0.1, max(0.0, deadline - time.monotonic())))
            if time.monotonic() > deadline:
                raise self._no_answer("it says nothing")

    def publish(self, topic: str, payload: bytes, kept: bool, counts: bool = False) -> bool:
        """Send one message, return whether that began; kept: retained. QoS 1 where it is kept or counts, else 0."""
        info = self._client.publish(f"{self._broker.prefix}/{topic}", payload, qos=int(kept or counts), retain=kept)
        return info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def probe(self) -> None:
        """Ask to be told, by `taken`, when the broker has read all that was published so far."""
        self.taken = False
        _, mid = self._client.unsubscribe(f"{self._broker.prefix}/none")
        self._probe = mid or 0

    def subscribe(self, topics: list[str], timeout_s: float) -> None:
        """Subscribe below the prefix, with QoS 0.

        Raises: PublishError when the broker does not answer.
        """
        deadline = time.monotonic() + timeout_s
        self._client.subscribe([(f"{self._broker.prefix}/{topic}", 0) for topic in topics])
        while not self._subscribed:
            self.turn(0.1)
            if time.monotonic() > deadline:
                raise self._no_answer("it does not answer a subscription")

    def turn(self, timeout_s: float) -> None:
        """Wait for the broker or for `wake`, then read and write what can be.

        Raises: PublishError when the connection is lost, ConfigError when the broker refuses.
        """
        sock = self._client.socket()
        if sock is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._client.want_write() else 0)
            if self._selector.get_key(sock).events != events:
                self._selector.modify(sock, events)
            decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
            ready = {key.fileobj: mask for key, mask in self._selector.select(0 if decrypted else timeout_s)}
            if self._wake in ready:
                self._wake.recv(4096)  # type: ignore[union-attr]
            if decrypted or ready.get(sock, 0) & selectors.EVENT_READ:
                self._client.loop_read()
            if ready.get(sock, 0) & selectors.EVENT_WRITE:
                self._client.loop_write()
            self._client.loop_misc()
        if self._client.socket() is None:
            if self._why in _REFUSED:
                raise ConfigError(
                    f"broker {self._place} refuses ({self._why.lower()})", "check user, password, client_id and rights"
                )
            raise self._no_answer(self._why or "it hung up")

    def close(self, said_all: bool) -> None:
        """Hang up; said_all=False leaves it to the broker to publish the last will."""
        sock = self._client.socket()
        if sock is not None and said_all:
            self._client.disconnect()
        self._selector.close()
        if sock is not None:
            sock.close()

    @property
    def _place(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    def _no_answer(self, why: str) -> PublishError:
        kind = "MQTT broker with TLS" if self._broker.tls else "MQTT broker"
        return PublishError(f"no {kind} at {self._place} ({why})", "start it, or check host, port and mqtt or mqtts")

    def _on_connect(self, _client: Client, _data: object, _flags: object, reason: object, _props: object) -> None:
        self._connected = str(reason) == "Success"
        self._why = "" if self._connected else str(reason)

    def _on_disconnect(self, _client: Client, _data: object, _flags: object, reason: object, _props: object) -> None:
        self._why = self._why or str(reason)

    def _on_unsubscribe(self, _client: Client, _data: object, mid: int, _codes: object, _props: object) -> None:
        self.taken = self.taken or mid == self._probe

    def _on_subscribe(self, _client: Client, _data: object, _mid: int, _codes: object, _props: object) -> None:
        self._subscribed = True


def _set_up_socket(_client: Client, _data: object, sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
