"""KServe v2 over HTTP with the binary tensor extension, or as JSON where a server does not know that.

Not with tritonclient.http: that brings gevent, and its timeouts are those of single reads, so that an answer that
trickles in is never late.
"""

import http.client
import math
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from edge.config import EngineSection
from edge.engines.kserve import KserveEngine
from edge.engines.kserve_address import KserveAddress
from edge.engines.kserve_connection import Connection
from edge.engines.kserve_link import CONNECT_S, Encoding, Exchange, LinkError, Trouble, told
from edge.engines.kserve_memory import Region
from edge.engines.kserve_tensors import Answer, RemoteModel, check_tensor, datatype_of, remote_model
from edge.errors import EngineError
from edge.uri import Uri

__all__ = ["HttpLink", "http_engine"]

_TROUBLES: dict[int, Trouble] = {
    401: "forbidden",
    403: "forbidden",
    404: "absent",
    429: "absent",
    502: "absent",
    503: "absent",
    504: "absent",
}
_MOST_ERROR_BYTES = 4096
_HEAD_LENGTH = "Inference-Header-Content-Length"


def http_engine(uri: Uri, options: EngineSection) -> KserveEngine:
    """Return the engine `kserve+http://host:port/model` means.

    Raises: ConfigError, EngineError, EngineLostError.
    """
    return KserveEngine(uri, options, HttpLink)


class HttpLink:
    """One kept-alive connection. See `edge.engines.kserve_link.Link` for the contract."""

    encodings: tuple[Encoding, ...] = ("shared", "binary", "json")

    def __init__(self, address: KserveAddress) -> None:
        self._address = address
        self._tls = address.tls_context()
        self._model = quote(address.path)
        self._connection: Connection | None = None

    def describe(self, until_s: float) -> RemoteModel:
        """Return the model's description once it is ready.

        Raises: LinkError, EngineError.
        """
        self.check_ready(until_s)
        metadata = self._json(self._model, until_s)
        try:
            config = self._json(f"{self._model}/config", until_s)
        except LinkError as exc:
            if exc.trouble in ("late", "unsent", "broken"):
                raise
            config = {}  # Triton alone has one
        try:
            return remote_model(metadata, config)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise self._unreadable(exc) from exc

    def check_ready(self, until_s: float) -> None:
        """Ask whether the model is ready.

        Raises: LinkError.
        """
        try:
            with self._exchange(until_s) as connection:
                self._ask(connection, "GET", f"{self._model}/ready").read()
        except LinkError as exc:
            if exc.trouble == "refused":  # Triton says 400 of a model it has not
                raise LinkError("absent", exc.text) from exc
            raise

    def register(self, region: Region, until_s: float) -> None:
        """Let the server use shared memory.

        Raises: LinkError.
        """
        body = msgspec.json.encode({"key": f"/{region.name}", "offset": 0, "byte_size": region.nbytes})
        with self._exchange(until_s) as connection:
            self._ask(connection, "POST", f"/v2/systemsharedmemory/region/{region.name}/register", body).read()

    def unregister(self, name: str, until_s: float) -> None:
        """Let the server forget shared memory.

        Raises: LinkError.
        """
        with self._exchange(until_s) as connection:
            self._ask(connection, "POST", f"/v2/systemsharedmemory/region/{name}/unregister").read()

    def infer(self, exchange: Exchange, request_id: str, until_s: float) -> None:
        """Refill the outputs from the inputs.

        Raises: LinkError, EngineError.
        """
        body = _request_body(exchange, request_id)
        blocks = exchange.inputs if exchange.encoding == "binary" else []
        with self._exchange(until_s) as connection:
            response = self._ask(connection, "POST", f"{self._model}/infer", body, blocks)
            try:
                self._read_answer(response, exchange, request_id)
            except (AttributeError, KeyError, TypeError, ValueError, msgspec.DecodeError) as exc:
                raise self._unreadable(exc) from exc

    def close(self) -> None:
        """Hang up."""
        if self._connection:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _exchange(self, until_s: float) -> Iterator[Connection]:
        """A connection for one request; where its answer was not read to the end, what still comes is dropped."""
        connection: Connection | None = None
        try:
            if self._connection is None or not self._connection.usable():
                self.close()
                address = self._address
                self._connection = Connection(address.host, address.port, self._tls, CONNECT_S, until_s)
            connection = self._connection
            connection.until_s, connection.sent = until_s, False
            yield connection
        except BaseException as exc:
            if connection is None or not connection.complete:
                self.close()
            if isinstance(exc, ssl.SSLCertVerificationError):
                raise EngineError(
                    f"the certificate of {self._address.host_port} is not trusted ({exc.verify_message})",
                    "give ca=FILE of whoever signed it, and the name it was issued for as the host",
                ) from exc
            if isinstance(exc, http.client.BadStatusLine) and not isinstance(exc, OSError):
                raise self._unreadable(exc) from exc
            if isinstance(exc, TimeoutError):
                raise LinkError("late" if connection else "unsent", "it takes no connection") from exc
            if isinstance(exc, OSError | http.client.HTTPException):
                sent = connection is not None and connection.sent
                raise LinkError("broken" if sent else "unsent", told(exc, self._address)) from exc
            raise

    def _ask(
        self, connection: Connection, method: str, path: str, body: bytes = b"", blocks: list[np.ndarray] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request whose body is `body` and then `blocks`; return the answer once its head is here."""
        arrays = [_bytes_of(block) for block in blocks or ()]
        size = len(body) + sum(array.nbytes for array in arrays)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address.options.authority or self._address.host_port}"]
        lines += [f"{name}: {value}" for name, value in self._address.headers().items()]
        if method == "POST":
            kind = "application/octet-stream" if arrays else "application/json"
            lines += [f"Content-Type: {kind}", f"Content-Length: {size}"]
        if arrays:
            lines.append(f"{_HEAD_LENGTH}: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        connection.send([memoryview(head + body), *arrays])
        response = connection.receive()
        if response.status != 200:
            said = _error_in(response.read(_MOST_ERROR_BYTES)) or f"HTTP {response.status}"
            raise LinkError(_TROUBLES.get(response.status, "refused"), told(said, self._address))
        return response

    def _json(self, path: str, until_s: float) -> Any:
        with self._exchange(until_s) as connection:
            try:
                return msgspec.json.decode(self._ask(connection, "GET", path).read())
            except msgspec.DecodeError as exc:
                raise self._unreadable(exc) from exc

    def _read_answer(self, response: http.client.HTTPResponse, exchange: Exchange, request_id: str) -> None:
        length = response.getheader(_HEAD_LENGTH)
        answer = msgspec.json.decode(response.read(None if length is None else int(length)))
        if answer.get("id", request_id) != request_id:
            raise LinkError("broken", "it answered another request")
        left = {spec.name: i for i, spec in enumerate(exchange.model.outputs)}
        for output in answer["outputs"]:  # binary ones follow in this order
            if output["name"] not in left:
                raise EngineError(f"the server's answer has {output['name']} unasked", "update the server")
            _read_output(response, output, left.pop(output["name"]), exchange)
        if left:
            raise EngineError(f"the server's answer has no {', '.join(left)}", "start again once the model is right")

    def _unreadable(self, exc: Exception) -> EngineError:
        return EngineError(
            f"{self._address.host_port} does not answer as KServe v2 does ({told(exc, self._address)})",
            "check host and port; gRPC has another port than HTTP",
        )


def _request_body(exchange: Exchange, request_id: str) -> bytes:
    inputs: list[dict[str, Any]] = []
    outputs: list[dict[str, Any]] = []
    for i, (spec, array) in enumerate(zip(exchange.model.inputs, exchange.inputs, strict=True)):
        inputs.append({"name": spec.name, "shape": spec.shape, "datatype": datatype_of(spec)})
        if exchange.encoding == "json":
            inputs[-1]["data"] = array.ravel().tolist()
        elif exchange.input_region:
            inputs[-1]["parameters"] = _placed(exchange.input_region, i, array.nbytes)
        else:
            inputs[-1]["parameters"] = {"binary_data_size": array.nbytes}
    for i, (spec, array) in enumerate(zip(exchange.model.outputs, exchange.outputs, strict=True)):
        outputs.append({"name": spec.name})
        if exchange.output_region:
            outputs[-1]["parameters"] = _placed(exchange.output_region, i, array.nbytes)
        elif exchange.encoding != "json":
            outputs[-1]["parameters"] = {"binary_data": True}
    return msgspec.json.encode({"id": request_id, "inputs": inputs, "outputs": outputs})


def _placed(region: Region, i: int, nbytes: int) -> dict[str, Any]:
    return {
        "shared_memory_region": region.name,
        "shared_memory_offset": region.offsets[i],
        "shared_memory_byte_size": nbytes,
    }


def _read_output(response: http.client.HTTPResponse, said: dict[str, Any], i: int, exchange: Exchange) -> None:
    spec, name, parameters = exchange.model.outputs[i], said["name"], said.get("parameters", {})
    check_tensor(Answer(name, said["datatype"], said["shape"]), spec, name in exchange.model.open_outputs)
    if exchange.output_region and "data" not in said and "binary_data_size" not in parameters:
        return  # it is there
    size = parameters.get("binary_data_size")
    if size is None:
        exchange.refill(i, np.array(said["data"], spec.dtype).reshape(said["shape"]))
        return
    expected = math.prod(said["shape"]) * spec.dtype.itemsize
    if size != expected:
        raise EngineError(f"the server's answer has {size} bytes as {name}, not {expected}", "update the server")
    if exchange.outputs[i].shape != tuple(said["shape"]):
        exchange.outputs[i] = np.empty(said["shape"], spec.dtype)
    into = _bytes_of(exchange.outputs[i])
    while into:
        count = response.readinto(into)
        if not count:
            raise http.client.IncompleteRead(b"")
        into = into[count:]


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _error_in(body: bytes) -> str:
    """What {"error": ...} says, or FastAPI's {"detail": ...}; else the text as it is."""
    try:
        answer = msgspec.json.decode(body)
        return str(answer.get("error") or answer.get("detail") or "")
    except (AttributeError, msgspec.DecodeError):
        return body.decode(errors="replace").strip()
