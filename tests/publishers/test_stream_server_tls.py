"""Who may connect: the rule for addresses other than loopback, tokens in URIs, TLS."""

import errno
import shutil
import ssl
import subprocess

import pytest
from stream_readers import DEADLINE_S, Reader, result, status, wait_for

from edge.errors import ConfigError
from edge.publishers.access import is_loopback, listen_options, tls_context, warn_if_open
from edge.publishers.tcp import TcpPublisher
from edge.uri import parse_uri
from edge.wire.messages import ClockMessage, HelloMessage


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a certificate for localhost, its key, and the key of another."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("own", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    key = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", str(folder / "own.key")]
    subprocess.run([*key, "-out", str(folder / "locked.key")], check=True, capture_output=True, timeout=60)
    (folder / "text.pem").write_text("this is no PEM file\n")
    return folder


def tls_reader(publisher: TcpPublisher, files, receive_buffer_bytes: int = 0) -> Reader:
    """A reader that has shaken hands and trusts this certificate only."""
    reader = Reader(publisher, receive_buffer_bytes=receive_buffer_bytes)
    context = ssl.create_default_context(cafile=files / "own.pem")
    reader.sock = context.wrap_socket(reader.sock, server_hostname="localhost")
    return reader


def served(files, options: str = "") -> TcpPublisher:
    return TcpPublisher(parse_uri(f"tcp://127.0.0.1:0?cert={files}/own.pem&key={files}/own.key{options}"))


def test_tls_readers_are_served_and_answered(files):
    publisher = served(files, "&token=sesame")
    with tls_reader(publisher, files) as first, tls_reader(publisher, files) as second:
        for reader in (first, second):
            reader.say(HelloMessage(token="sesame"), ClockMessage(reply=False, t_request_ns=5))
            assert reader.next().t_request_ns == 5
        for i in range(300):
            publisher.send(result(i))
            assert first.next().seq == second.next().seq == i
    publisher.close()
    assert publisher.failure == ""


def test_a_stalled_tls_reader_delays_no_other(files):
    publisher = served(files, "&format=json")
    with tls_reader(publisher, files), tls_reader(publisher, files) as quick:
        quick._binary, lines = False, quick.sock.makefile("rb")
        wait_for(lambda: len(publisher.clients) == 2, "the handshakes")
        for i in range(1, 101):
            publisher.send(result(i, "x" * 60_000))
            assert b'"seq":%d,' % i in lines.readline()
        assert len(publisher.clients) == 2  # a record begun was not taken up again with other bytes
        assert max(client.dropped for client in publisher.clients) > 50
        assert min(client.dropped for client in publisher.clients) == 0
    publisher.close(0.1)
    assert publisher.failure == ""


def test_the_kernel_keeps_no_backlog_of_small_messages_under_tls(files):
    publisher = served(files)
    with tls_reader(publisher, files, receive_buffer_bytes=2048) as reader:
        wait_for(lambda: publisher.clients, "the handshake")
        for i in range(3000):
            publisher.send(result(i))
            if i % 20 == 0:
                wait_for(lambda: not publisher._handover.awake, "the slot to be filled")
        seqs = [message.seq for message in reader.until("detections", 2999)]
    assert seqs == sorted(set(seqs))
    assert len(seqs) < 300
    publisher.close()


def test_a_token_that_does_not_come_ends_it_though_the_network_takes_nothing(files, monkeypatch):
    monkeypatch.setattr("edge.publishers.session._TOKEN_WITHIN_NS", 300_000_000)
    monkeypatch.setattr("edge.publishers.stream_client._unsent_bytes", lambda sock: 1)
    publisher = served(files, "&token=sesame")
    with tls_reader(publisher, files):
        wait_for(lambda: publisher.clients, "the handshake")
        wait_for(lambda: not publisher.client_count, "the end of patience")
    publisher.close()
    assert publisher.failure == ""


def test_a_kernel_that_does_not_tell_its_backlog_serves_tls_all_the_same(files, monkeypatch):
    def ioctl(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr("edge.publishers.stream_client.fcntl.ioctl", ioctl)
    publisher = served(files)
    publisher.send(status(7))
    with tls_reader(publisher, files) as reader:
        received = reader.next()
        assert received is not None
        assert received.seq == 7
    publisher.close(1.0)


def test_whoever_does_not_speak_tls_gets_nothing_and_disturbs_nobody(files, monkeypatch):
    monkeypatch.setattr("edge.publishers.stream_client._HANDSHAKE_WITHIN_NS", 1_000_000_000)
    publisher = served(files)
    publisher.send(status(1))
    with Reader(publisher) as plain, tls_reader(publisher, files) as good:
        plain.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert plain.sock.recv(100)[:1] in (b"", b"\x15")  # an alert of TLS at most
        assert good.next().seq == 1
    with Reader(publisher) as silent:
        wait_for(lambda: publisher.client_count == 1, "the connection")
        silent.sock.settimeout(DEADLINE_S)
        assert silent.sock.recv(100) == b""  # its patience with a handshake has an end
    publisher.close()
    assert publisher.failure == ""


def test_old_protocols_are_refused(files):
    options = listen_options(parse_uri(f"tcp://127.0.0.1:0?cert={files}/own.pem&key={files}/own.key"))
    assert tls_context(options).minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls_context(listen_options(parse_uri("tcp://127.0.0.1:0"))) is None


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("own.pem", "", "half of what TLS needs: give both"),
        ("", "own.key", "half of what TLS needs: give both"),
        ("none.pem", "own.key", r"cert=.*none.pem is not a file"),
        ("own.pem", "none.key", r"key=.*none.key is not a file"),
        ("text.pem", "own.key", r"cert=.*text.pem is no certificate"),
        ("own.pem", "text.pem", r"key=.*text.pem is no private key"),
        ("own.pem", "locked.key", r"key=.*locked.key is no private key.*without a password"),
        ("own.pem", "other.key", r"key=.*other.key is not the key of cert=.*own.pem"),
    ],
)
def test_wrong_tls_files_are_named(files, cert, key, words):
    query = "&".join(f"{name}={files}/{file}" for name, file in (("cert", cert), ("key", key)) if file)
    with pytest.raises(ConfigError, match=words) as caught:
        TcpPublisher.check(parse_uri(f"tcp://127.0.0.1:0?{query}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "[::]", "192.168.1.5", "robot.local", "127.0.0.1.example.com"])
def test_other_addresses_than_loopback_need_a_token_tls_or_a_clear_word(host):
    with pytest.raises(ConfigError, match=r"add token=SECRET, or cert=FILE&key=FILE for TLS, or insecure=true"):
        TcpPublisher(parse_uri(f"tcp://{host}:7788"))
    for option in ("token=sesame", "insecure=true"):
        TcpPublisher.check(parse_uri(f"tcp://{host}:7788?{option}"))


def test_tls_alone_opens_other_addresses(files):
    TcpPublisher.check(parse_uri(f"tcp://0.0.0.0:7788?cert={files}/own.pem&key={files}/own.key"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_is_known(host):
    assert is_loopback(host)


def test_insecure_is_warned_of_and_only_where_it_matters(caplog):
    for host, said in (("127.0.0.1", False), ("", True), ("192.168.1.5", True)):
        caplog.clear()
        uri = parse_uri(f"tcp://{host}:0?insecure=true")
        warn_if_open(uri, host, listen_options(uri))  # alone: a test opens no port to the network
        assert ("insecure" in caplog.text) == said


@pytest.mark.parametrize("token", ["s3same%26", "s3same"])
def test_a_token_never_shows(token, caplog):
    publisher = TcpPublisher(parse_uri(f"tcp://127.0.0.1:0?token={token}"))
    with pytest.raises(Exception) as caught:
        TcpPublisher(parse_uri(f"{publisher.address}?token={token}"))
    publisher.close()
    with pytest.raises(ConfigError) as wrong:
        TcpPublisher.check(parse_uri(f"tcp://0.0.0.0:1?max_clients=none&token={token}"))
    for text in (str(caught.value), str(wrong.value), publisher.address, caplog.text, repr(publisher.clients)):
        assert "s3same" not in text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("token=", "empty token: give token=SECRET"),
        ("token=" + "x" * 256, "more than 255 bytes"),
        ("control=on", "write control=view or control=all"),
        ("control=al", "did you mean 'all'"),
        ("max_clients=0", ">= 1"),
        ("tokn=x", "did you mean 'token'"),
    ],
)
def test_wrong_options_are_explained(query, words):
    with pytest.raises(ConfigError, match=words):
        TcpPublisher.check(parse_uri(f"tcp://127.0.0.1:7788?{query}"))
