"""KServe v2 over gRPC, with the protocol's messages as tritonclient brings them."""

import math
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from edge.config import EngineSection
from edge.engines.kserve import KserveEngine
from edge.engines.kserve_address import KserveAddress
from edge.engines.kserve_link import CONNECT_S, Encoding, Exchange, LinkError, Trouble, told
from edge.engines.kserve_memory import Region
from edge.engines.kserve_tensors import Answer, RemoteModel, check_tensor, datatype_of, remote_model
from edge.errors import EngineError
from edge.uri import Uri

__all__ = ["GrpcLink", "grpc_engine"]

_TROUBLES: dict[grpc.StatusCode, Trouble] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "late",
    grpc.StatusCode.UNAVAILABLE: "broken",  # it may have run, for all we know
    grpc.StatusCode.CANCELLED: "broken",
    grpc.StatusCode.NOT_FOUND: "absent",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "absent",
    grpc.StatusCode.UNAUTHENTICATED: "forbidden",
    grpc.StatusCode.PERMISSION_DENIED: "forbidden",
}
_NEVER_SENT = ("failed to connect", "errors resolving", "DNS resolution failed")  # gRPC has no code for it
_TYPED_CONTENTS = {  # where servers put what they do not send raw
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "BOOL": "bool_contents",
}


def grpc_engine(uri: Uri, options: EngineSection) -> KserveEngine:
    """Return the engine `kserve+grpc://host:port/model` means.

    Raises: ConfigError, EngineError, EngineLostError.
    """
    return KserveEngine(uri, options, GrpcLink)


class GrpcLink:
    """One channel. See `edge.engines.kserve_link.Link` for the contract.

    A call that is late is cancelled, and what the server still answers to it is dropped by gRPC.
    """

    encodings: tuple[Encoding, ...] = ("shared", "binary")

    def __init__(self, address: KserveAddress) -> None:
        self._address = address
        self._name = {"name": address.model, "version": address.options.version}
        settings: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.min_reconnect_backoff_ms", int(CONNECT_S * 1e3)),  # which is also how long one attempt may take
            ("grpc.use_local_subchannel_pool", 1),  # else a new channel inherits how long the old one means to wait
        ]
        if address.options.authority:
            settings.append(("grpc.default_authority", address.options.authority))
        if address.options.tls:
            credentials = grpc.ssl_channel_credentials(_authorities(address))
            self._channel = grpc.secure_channel(address.host_port, credentials, settings)
        else:
            self._channel = grpc.insecure_channel(address.host_port, settings)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def describe(self, until_s: float) -> RemoteModel:
        """Return the model's description once it is ready.

        Raises: LinkError, EngineError.
        """
        self.check_ready(until_s)
        metadata = self._call(self._stub.ModelMetadata, service_pb2.ModelMetadataRequest(**self._name), until_s)
        try:
            config = self._call(self._stub.ModelConfig, service_pb2.ModelConfigRequest(**self._name), until_s).config
        except LinkError as exc:
            if exc.trouble == "late":
                raise
            config = model_config_pb2.ModelConfig()  # Triton alone has one
        return remote_model(_metadata_of(metadata), _config_of(config))

    def check_ready(self, until_s: float) -> None:
        """Ask whether the model is ready.

        Raises: LinkError.
        """
        try:
            answer = self._call(self._stub.ModelReady, service_pb2.ModelReadyRequest(**self._name), until_s)
        except LinkError as exc:
            if exc.trouble == "refused":
                raise LinkError("absent", exc.text) from exc
            raise
        if not answer.ready:
            raise LinkError("absent", "the model is not loaded")

    def register(self, region: Region, until_s: float) -> None:
        """Let the server use shared memory.

        Raises: LinkError.
        """
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=f"/{region.name}", offset=0, byte_size=region.nbytes
        )
        self._call(self._stub.SystemSharedMemoryRegister, request, until_s)

    def unregister(self, name: str, until_s: float) -> None:
        """Let the server forget shared memory.

        Raises: LinkError.
        """
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        self._call(self._stub.SystemSharedMemoryUnregister, request, until_s)

    def infer(self, exchange: Exchange, request_id: str, until_s: float) -> None:
        """Refill the outputs from the inputs.

        Raises: LinkError, EngineError.
        """
        request = service_pb2.ModelInferRequest(
            model_name=self._address.model, model_version=self._address.options.version, id=request_id
        )
        for i, (spec, array) in enumerate(zip(exchange.model.inputs, exchange.inputs, strict=True)):
            tensor = request.inputs.add(name=spec.name, datatype=datatype_of(spec), shape=spec.shape)
            if exchange.input_region:
                _place(tensor, exchange.input_region, i, array.nbytes)
            else:
                request.raw_input_contents.append(array.tobytes())
        for i, (spec, array) in enumerate(zip(exchange.model.outputs, exchange.outputs, strict=True)):
            tensor = request.outputs.add(name=spec.name)
            if exchange.output_region:
                _place(tensor, exchange.output_region, i, array.nbytes)
        answer = self._call(self._stub.ModelInfer, request, until_s)
        if answer.id not in (request_id, ""):
            raise LinkError("broken", "it answered another request")
        _read_answer(answer, exchange)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _call(self, method: Callable[..., Any], request: Any, until_s: float) -> Any:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise LinkError("late", "the time is over")
        try:
            return method(request, timeout=left_s, metadata=tuple(self._address.headers().items()))
        except grpc.RpcError as exc:
            text = exc.details() or exc.code().name
            trouble = "unsent" if text.startswith(_NEVER_SENT) else _TROUBLES.get(exc.code(), "refused")
            raise LinkError(trouble, told(text, self._address)) from exc
        except ValueError as exc:  # the channel was closed
            raise LinkError("unsent", told(exc, self._address)) from exc


def _read_answer(answer: Any, exchange: Exchange) -> None:
    left = {spec.name: i for i, spec in enumerate(exchange.model.outputs)}
    for place, output in enumerate(answer.outputs):
        if output.name not in left:
            raise EngineError(f"the server's answer has {output.name} unasked", "update the server")
        i = left.pop(output.name)
        spec, is_open = exchange.model.outputs[i], output.name in exchange.model.open_outputs
        check_tensor(Answer(output.name, output.datatype, output.shape), spec, is_open)
        raw = answer.raw_output_contents[place] if place < len(answer.raw_output_contents) else b""
        if exchange.output_region and not raw:
            continue  # it is there
        if answer.raw_output_contents:
            if len(raw) % spec.dtype.itemsize:
                raise EngineError(f"the server's answer has {len(raw)} bytes as {output.name}", "update the server")
            values = np.frombuffer(raw, spec.dtype)
        else:
            values = np.array(getattr(output.contents, _TYPED_CONTENTS.get(output.datatype, "")), spec.dtype)
        if values.size != math.prod(output.shape):
            raise EngineError(f"the server's answer has {values.size} values as {output.name}", "update the server")
        exchange.refill(i, values.reshape(output.shape))
    if left:
        raise EngineError(f"the server's answer has no {', '.join(left)}", "start again once the model is right")


def _place(tensor: Any, region: Region, i: int, nbytes: int) -> None:
    tensor.parameters["shared_memory_region"].string_param = region.name
    tensor.parameters["shared_memory_offset"].int64_param = region.offsets[i]
    tensor.parameters["shared_memory_byte_size"].int64_param = nbytes


def _metadata_of(message: Any) -> dict[str, Any]:
    def tensors(found: Any) -> list[dict[str, Any]]:
        return [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in found]

    return {"name": message.name, "inputs": tensors(message.inputs), "outputs": tensors(message.outputs)}


def _config_of(message: Any) -> dict[str, Any]:
    formats = model_config_pb2.ModelInput.Format
    return {
        "input": [{"name": tensor.name, "format": formats.Name(tensor.format)} for tensor in message.input],
        "parameters": {key: {"string_value": value.string_value} for key, value in message.parameters.items()},
    }


def _authorities(address: KserveAddress) -> bytes | None:
    """The PEM of whom we trust: gRPC knows those that are compiled into it, not the system's."""
    address.tls_context()  # says what is wrong with ca=
    path = address.options.ca or ssl.get_default_verify_paths().cafile
    return Path(path).expanduser().read_bytes() if path else None
