"""A small KServe v2 server over HTTP whose model doubles four numbers, and that fails in every way asked of it."""

import json
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

HEAD_LENGTH = "Inference-Header-Content-Length"
METADATA = {
    "name": "double",
    "platform": "stand-in",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
}


class StandIn:
    """The server; its attributes may be changed while it runs.

    delays_s: of the next answers, one each. hang_ups: how many of the next inferences end without an answer.
    answer_id: what it answers to, None for the request's own. refuse: status and text of every inference.
    answer: instead of the usual JSON. trickle_s: between the bytes of an answer's head.
    requests: the id of every inference that arrived. headers: those of the last request.
    """

    def __init__(self, port: int = 0, tls: tuple[Path, Path] | None = None) -> None:
        self.metadata = json.loads(json.dumps(METADATA))
        self.ready, self.json_only, self.hang_ups, self.trickle_s = True, False, 0, 0.0
        self.delays_s: list[float] = []
        self.answer_id: str | None = None
        self.refuse: tuple[int, str] | None = None
        self.answer: object | None = None
        self.values = lambda x: 2 * x
        self.declared: dict[str, object] = {}
        self.requests: list[str] = []
        self.headers: dict[str, str] = {}
        self.connections: list = []
        handler = type("Handler", (_Handler,), {"stand_in": self})
        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def drop_connections(self) -> None:
        """Hang up on everybody."""
        for connection in self.connections:
            try:
                connection.shutdown(2)
            except OSError:
                pass
        self.connections.clear()

    def close(self) -> None:
        """Stop listening and hang up on everybody."""
        self._server.shutdown()
        self._server.server_close()
        self.drop_connections()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def setup(self) -> None:
        super().setup()
        self.stand_in.connections.append(self.connection)

    def log_message(self, *words: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass  # the client went, as some tests want

    def do_GET(self) -> None:
        self.stand_in.headers = dict(self.headers)
        if self.path.endswith("/ready"):
            return self._say(
                200 if self.stand_in.ready else 400, {} if self.stand_in.ready else {"error": "not loaded"}
            )
        if self.path.rstrip("/").endswith(self.stand_in.metadata["name"]) or "/versions/" in self.path[-12:]:
            return self._say(200, self.stand_in.metadata)
        return self._say(404, {"error": f"no {self.path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.stand_in.headers = dict(self.headers)
        if not self.path.endswith("/infer"):
            return self._say(404, {"error": "no shared memory here"})
        return self._infer(body)

    def _infer(self, body: bytes) -> None:
        server, length = self.stand_in, self.headers[HEAD_LENGTH]
        if server.json_only and length:
            return self._say(422, {"detail": "cannot read binary tensors"})
        request = json.loads(body[: int(length)] if length else body)
        server.requests.append(request["id"])
        if server.refuse:
            return self._say(server.refuse[0], {"error": server.refuse[1]})
        if server.hang_ups:
            server.hang_ups -= 1
            self.close_connection = True
            return None
        if server.delays_s:
            time.sleep(server.delays_s.pop(0))
        x = np.array(struct.unpack("<4f", body[int(length) :]) if length else request["inputs"][0]["data"], np.float32)
        y = np.asarray(server.values(x))
        said = {"name": "y", "datatype": "FP32", "shape": [1, *y.shape], **server.declared}
        answer = {"model_name": "double", "id": server.answer_id or request["id"], "outputs": [said]}
        if not length:
            return self._say(200, {**answer, "outputs": [{**said, "data": y.tolist()}]})
        said["parameters"] = {"binary_data_size": y.nbytes}
        if server.answer is not None:
            return self._say(200, server.answer)
        return self._say(200, answer, y.tobytes())

    def _say(self, status: int, answer: dict, binary: bytes = b"") -> None:
        text = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(text) + len(binary)}\r\n"
        head += f"{HEAD_LENGTH}: {len(text)}\r\n\r\n" if binary else "\r\n"
        answered = head.encode() + text + binary
        if self.stand_in.trickle_s:
            for byte in head.encode():
                self.wfile.write(bytes([byte]))
                time.sleep(self.stand_in.trickle_s)
            answered = text + binary
        self.wfile.write(answered)
