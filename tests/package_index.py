"""A package index on 127.0.0.1 with one small wheel, for tests of what pip does to us."""

import hashlib
import threading
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

__all__ = ["PackageIndex", "wheel"]

WHEEL = "demo_model-1.0-py3-none-any.whl"


def wheel(members: Mapping[str, bytes]) -> bytes:
    """Return a wheel that pip accepts, with `members` stored uncompressed."""
    info = "demo_model-1.0.dist-info"
    head = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: demo-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {**members, **head, f"{info}/RECORD": b""}.items():
            archive.writestr(name, content)
    return out.getvalue()


class PackageIndex:
    """Serves `content` as the wheel. `ending` of a download: whole, cut, or stalled until `release`."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.ending = "whole"
        self.downloads = 0
        self.half_sent = threading.Event()
        self.release = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Let every download end and stop serving."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(index: "PackageIndex") -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/simple/demo-model/":
                    digest = hashlib.sha256(index.content).hexdigest()
                    page = f'<a href="/files/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode()
                    self._answer(200, "text/html", len(page))
                    self.wfile.write(page)
                elif self.path == f"/files/{WHEEL}":
                    index.downloads += 1
                    self._answer(200, "application/octet-stream", len(index.content))
                    self._send(index.content)
                elif self.path == "/redirect":
                    self.send_response(302)
                    self.send_header("Location", f"/files/{WHEEL}")
                    self.end_headers()
                else:
                    self.send_error(404)

            def _answer(self, code: int, kind: str, length: int) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(length))
                self.end_headers()

            def _send(self, content: bytes) -> None:
                half = len(content) // 2
                self.wfile.write(content[:half])
                self.wfile.flush()
                index.half_sent.set()
                if index.ending == "stalled":
                    index.release.wait(20)
                if index.ending != "cut":
                    try:
                        self.wfile.write(content[half:])
                    except OSError:  # the client is gone, as some tests want
                        return

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        return Handler
