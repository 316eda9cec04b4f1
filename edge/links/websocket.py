"""The reader's end of `ws://`: one message a frame, both ways."""

import asyncio
import contextlib
import ssl

import aiohttp
import msgspec

from edge.errors import ConfigError, EdgeError, EndOfStreamError, SourceTimeoutError
from edge.links.base import Framing
from edge.uri import Uri

__all__ = ["WebSocketLink", "WebSocketLinkOptions"]

_MOST_BYTES = 1 << 20
_PING_S = 10.0
_MOST_UNSENT = 16
_OTHER_HOST = (62, 64)  # OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
_REFUSED = {403: "pages of this origin may not connect", 503: "as many readers as may be are connected"}


class WebSocketLinkOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """ca: whose signature of a wss:// certificate is trusted, instead of the system's."""

    ca: str = ""


class WebSocketLink:
    """`ws://host:port` or `wss://host:port`; runs an event loop of its own whenever it is called, and no thread.

    Raises: ConfigError for a wrong address or option, or a file that holds no certificate.
    """

    framing: Framing = "message"
    two_way = True

    def __init__(self, uri: Uri) -> None:
        host, port = uri.host_port()
        host = host or "127.0.0.1"
        self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._url = f"{uri.scheme}://{self._where}/"
        options = uri.options(WebSocketLinkOptions)
        if options.ca and uri.scheme != "wss":
            raise ConfigError(f"{uri.safe_text} has ca= without TLS", f"write wss://{self._where}?ca=...")
        self._tls = _context(options.ca) if uri.scheme == "wss" else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._receiving: asyncio.Task[aiohttp.WSMessage] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def open(self, timeout_s: float) -> None:
        """Connect, and with TLS check who answers.

        Raises: SourceTimeoutError when nobody answers, ConfigError for a wrong certificate.
        """
        self.close()
        self._loop = asyncio.new_event_loop()
        try:
            self._open(self._loop, timeout_s)
        except EdgeError:
            self.close()
            raise

    def receive(self, timeout_s: float) -> bytes:
        """Return one message, b"" when none came within `timeout_s`.

        Raises: EndOfStreamError when the publisher hung up, with what it said.
        """
        if self._loop is None or self._ws is None:
            raise EndOfStreamError("the connection is closed", "open it again")
        if self._receiving is None:
            self._receiving = self._loop.create_task(self._ws.receive())
        self._loop.run_until_complete(asyncio.wait({self._receiving}, timeout=timeout_s))
        if not self._receiving.done():
            return b""
        message, self._receiving = self._receiving.result(), None
        if message.type is aiohttp.WSMsgType.TEXT:
            return message.data.encode()
        if message.type is aiohttp.WSMsgType.BINARY:
            return message.data
        said = str(message.extra or "") if message.type is aiohttp.WSMsgType.CLOSE else ""
        raise EndOfStreamError(f"{self._where} hung up ({said or 'without a word'})", "check that it still runs")

    def send(self, data: bytes) -> None:
        """Send one message, the next time `receive` is called or at once while it waits."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(self._begin_sending, data)

    def close(self) -> None:
        """Hang up."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            loop.run_until_complete(self._hang_up())
        finally:
            loop.close()

    def _open(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        """Raises: as `open`."""
        try:
            loop.run_until_complete(asyncio.wait_for(self._connect(), timeout_s))
        except aiohttp.ClientConnectorCertificateError as exc:
            why = getattr(exc.certificate_error, "verify_message", exc.certificate_error)
            cure = f"give the certificate it was signed with: wss://{self._where}?ca=FILE"
            if getattr(exc.certificate_error, "verify_code", 0) in _OTHER_HOST:
                cure = "connect by a name or address that stands in the certificate"
            raise ConfigError(f"the certificate of {self._where} is not trusted ({why})", cure) from exc
        except aiohttp.WSServerHandshakeError as exc:
            why = _REFUSED.get(exc.status, f"HTTP status {exc.status}")
            raise SourceTimeoutError(f"{self._where} refuses ({why})", "check what listens there") from exc
        except aiohttp.ClientResponseError as exc:
            raise SourceTimeoutError(f"{self._where} does not speak WebSocket", "use the publisher's scheme") from exc
        except aiohttp.ServerDisconnectedError as exc:
            raise SourceTimeoutError(f"{self._where} hung up", "use wss:// if it has a certificate") from exc
        except (aiohttp.ClientError, OSError, ValueError, asyncio.TimeoutError) as exc:
            why = getattr(exc, "strerror", None) or str(exc) or "timed out"
            raise SourceTimeoutError(f"nobody answers at {self._where} ({why})", "start harrier run there") from exc

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession()
        self._ws = await self._session.ws_connect(
            self._url, ssl=self._tls or True, heartbeat=_PING_S, max_msg_size=_MOST_BYTES, autoclose=False
        )

    async def _hang_up(self) -> None:
        ws, self._ws = self._ws, None
        session, self._session = self._session, None
        tasks = [*self._sending] + ([self._receiving] if self._receiving is not None else [])
        self._receiving = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if ws is not None:
            with contextlib.suppress(asyncio.TimeoutError, aiohttp.ClientError, OSError):
                await asyncio.wait_for(ws.close(), 0.2)
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # for the transport to close

    def _begin_sending(self, data: bytes) -> None:
        if self._loop is None or self._ws is None or len(self._sending) >= _MOST_UNSENT:
            return
        task = self._loop.create_task(self._send(self._ws, data))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, ws: aiohttp.ClientWebSocketResponse, data: bytes) -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):  # gone, which `receive` will say
            if data[:1] == b"{":
                await ws.send_str(data.decode().rstrip("\n"))
            else:
                await ws.send_bytes(data)


def _context(ca: str) -> ssl.SSLContext:
    """Of a client that trusts the system's authorities, or those in the file only."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as exc:  # no such file, or no certificate in it
        raise ConfigError(f"{ca} holds no certificate ({exc})", "give a PEM file") from exc
