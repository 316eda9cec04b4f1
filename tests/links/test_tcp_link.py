"""The links over TCP and Unix sockets: both ways, TLS with a checked certificate, and errors that name their cure."""

import datetime
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

import edge
from edge.errors import ConfigError, EndOfStreamError, SourceTimeoutError
from edge.links.tcp import TcpLink
from edge.links.unix import UnixLink
from edge.publishers.tcp import TcpPublisher
from edge.uri import parse_uri
from edge.wire.messages import StatusMessage

DEADLINE_S = 20.0


@pytest.fixture(params=["tcp", "unix"])
def pair(request, tmp_path) -> Iterator[tuple[TcpLink | UnixLink, socket.socket]]:
    """An open link and the socket at its other end."""
    family = socket.AF_INET if request.param == "tcp" else socket.AF_UNIX
    with socket.socket(family) as server:
        server.bind(("127.0.0.1", 0) if request.param == "tcp" else str(tmp_path / "s"))
        server.listen()
        name = server.getsockname()
        uri = f"tcp://{name[0]}:{name[1]}" if request.param == "tcp" else f"unix://{name}"
        link = (TcpLink if request.param == "tcp" else UnixLink)(parse_uri(uri))
        link.open(DEADLINE_S)
        other, _ = server.accept()
    with other:
        yield link, other
    link.close()


def test_bytes_go_both_ways_until_somebody_hangs_up(pair):
    link, other = pair
    assert link.receive(0) == b""
    other.sendall(b"down")
    assert link.receive(DEADLINE_S) == b"down"
    link.send(b"up")
    assert other.recv(10) == b"up"
    other.close()
    with pytest.raises(EndOfStreamError, match="hung up"):
        link.receive(DEADLINE_S)
    link.close()
    link.close()
    link.send(b"nobody hears that")
    with pytest.raises(EndOfStreamError):
        link.receive(0)


def test_sending_never_waits_and_never_leaves_half_a_message(pair):
    link, other = pair
    message = b"<" + b"m" * 1000 + b">"
    for _ in range(20_000):  # far more than the kernel takes while nobody reads
        link.send(message)
    other.settimeout(0.2)
    got = b""
    try:
        while True:
            got += other.recv(1 << 20)
    except TimeoutError:
        pass
    link.send(b"<after>")
    other.settimeout(DEADLINE_S)
    while not got.endswith(b"<after>"):
        got += other.recv(1 << 20)
    *whole, last = got.split(b">")[:-1]
    assert last == b"<after"
    assert set(whole) == {message[:-1]}
    assert len(whole) < 20_000


def test_a_link_can_be_opened_again(tmp_path):
    path = tmp_path / "again"
    link = UnixLink(parse_uri(f"unix://{path}"))
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            link.open(DEADLINE_S)
            link.close()
        path.unlink()


def test_tcp_does_not_hold_small_messages_back():
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = TcpLink(parse_uri(f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        link.open(DEADLINE_S)
        assert link._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        link.close()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("tcp://127.0.0.1", "names no host and port"),
        ("tcp://127.0.0.1:1?tsl=yes", "did you mean 'tls'"),
        ("tcp://127.0.0.1:1?ca=x.pem", "add tls=yes"),
        ("tcp://127.0.0.1:1?tls=yes&ca=/none.pem", "/none.pem holds no certificate"),
        ("tcp://127.0.0.1:1?tls=yes&ca=/dev/null", "holds no certificate"),
        ("unix://", "names no socket"),
        ("unix://x?tls=yes", "there are no options"),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_opened(uri, says):
    with pytest.raises(ConfigError, match=says):
        edge.connect(uri)


def test_an_address_where_nobody_is(tmp_path):
    with pytest.raises(SourceTimeoutError, match="nobody answers at 127.0.0.1:9"):
        TcpLink(parse_uri("tcp://127.0.0.1:9")).open(1)
    with pytest.raises(SourceTimeoutError, match=r"nobody answers at .*/none \(No such file"):
        UnixLink(parse_uri(f"unix://{tmp_path}/none")).open(1)
    with pytest.raises(ConfigError, match="choose a shorter path"):
        UnixLink(parse_uri(f"unix://{tmp_path}/{'x' * 120}")).open(1)


def test_a_connection_to_itself_is_nobody(monkeypatch):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())  # as happens by chance when a port above 32767 is tried again and again
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: sock)
    with pytest.raises(SourceTimeoutError, match="nobody answers"):
        TcpLink(parse_uri(f"tcp://127.0.0.1:{sock.getsockname()[1]}")).open(1)
    assert sock.fileno() == -1


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for localhost and 127.0.0.1; its key stands beside it."""
    if which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate to test TLS with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return folder / "cert.pem"


@pytest.fixture
def secured(certificate) -> Iterator[TcpPublisher]:
    publisher = TcpPublisher(parse_uri(f"tcp://127.0.0.1:0?cert={certificate}&key={certificate.parent / 'key.pem'}"))
    yield publisher
    publisher.close(0)


def test_tls_carries_messages_from_a_publisher_that_is_trusted(secured, certificate):
    secured.send(StatusMessage(t_publish_ns=1, t_event_ns=1, state="streaming", reason="x" * 200))
    with edge.connect(f"{secured.address.partition('?')[0]}?tls=yes&ca={certificate}") as connection:
        assert connection.read(DEADLINE_S).reason == "x" * 200


def test_tls_refuses_a_publisher_that_is_not_trusted(secured):
    with edge.connect(f"{secured.address.partition('?')[0]}?tls=yes") as connection:
        with pytest.raises(ConfigError, match=r"is not trusted .*ca=FILE"):
            connection.read(DEADLINE_S)
        assert connection.state == "failed"


def test_tls_refuses_a_certificate_of_another_name(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parent / "key.pem")
    with socket.create_server(("127.0.0.2", 0)) as server:

        def answer() -> None:
            sock, _ = server.accept()
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(sock, server_side=True)

        thread = threading.Thread(target=answer)
        thread.start()
        link = TcpLink(parse_uri(f"tcp://127.0.0.2:{server.getsockname()[1]}?tls=yes&ca={certificate}"))
        with pytest.raises(ConfigError, match="is not trusted"):
            link.open(DEADLINE_S)
        thread.join(DEADLINE_S)


def test_a_reader_without_tls_is_told_to_use_it(secured):
    address = secured.address.partition("?")[0]
    with edge.connect(address, token="x", reconnect=False) as connection, pytest.raises(edge.EdgeError) as caught:
        connection.read(DEADLINE_S)
    assert "tls=yes" in str(caught.value) or "hung up without a word" in str(caught.value)


def test_tls_with_a_publisher_that_has_none_ends_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = TcpLink(parse_uri(f"tcp://127.0.0.1:{server.getsockname()[1]}?tls=yes"))
        start = datetime.datetime.now()
        with pytest.raises(SourceTimeoutError, match="does not speak TLS"):
            link.open(0.3)
        assert datetime.datetime.now() - start < datetime.timedelta(seconds=DEADLINE_S)
