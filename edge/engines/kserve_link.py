"""The contract of what carries requests to a KServe v2 server, over gRPC or HTTP, and what can go wrong there."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from edge.engines.kserve_address import KserveAddress
from edge.engines.kserve_memory import Region
from edge.engines.kserve_tensors import RemoteModel
from edge.uri import mask_secrets

__all__ = ["CONNECT_S", "Encoding", "Exchange", "Link", "LinkError", "Trouble", "told"]

Encoding = Literal["shared", "binary", "json"]
Trouble = Literal["unsent", "late", "broken", "absent", "forbidden", "refused"]

CONNECT_S = 3.0
_MOST_CHARACTERS = 200


class LinkError(Exception):
    """A request without an answer.

    trouble: "unsent": it surely never ran. "late": no answer in time. "broken": the connection ended before the
    answer. "absent": the server has not got the model just now. "forbidden": it does not know us. "refused": else.
    """

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble = trouble
        self.text = text


@dataclass(slots=True)
class Exchange:
    """The tensors of an engine and how they travel.

    inputs, outputs: an array a spec of `model`. Those in shared memory are views of input_region and output_region.
    """

    model: RemoteModel
    encoding: Encoding
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    input_region: Region | None = None
    output_region: Region | None = None

    def refill(self, i: int, values: np.ndarray) -> None:
        """Copy `values` (any shape and dtype that were checked) into output i, in place where the shape is the same."""
        if self.outputs[i].shape == values.shape:
            self.outputs[i][...] = values
        else:
            self.outputs[i] = np.array(values)


class Link(Protocol):
    """A connection to one server. Every call ends by `until_s` (CLOCK_MONOTONIC), with LinkError if need be."""

    encodings: tuple[Encoding, ...]

    def describe(self, until_s: float) -> RemoteModel:
        """Return the model's description once it is ready.

        Raises: LinkError; EngineError for a model this house cannot use.
        """

    def check_ready(self, until_s: float) -> None:
        """Ask whether the model is ready.

        Raises: LinkError when it is not.
        """

    def register(self, region: Region, until_s: float) -> None:
        """Let the server use shared memory.

        Raises: LinkError.
        """

    def unregister(self, name: str, until_s: float) -> None:
        """Let the server forget shared memory.

        Raises: LinkError.
        """

    def infer(self, exchange: Exchange, request_id: str, until_s: float) -> None:
        """Refill the outputs from the inputs. After an error no later answer to this request is ever read.

        Raises: LinkError; EngineError for an answer of other tensors than described.
        """

    def close(self) -> None:
        """Hang up; calling it twice is allowed."""


def told(text: object, address: KserveAddress) -> str:
    """Return the first line of what a server or library said, without our token."""
    line = next(iter(str(text).strip().splitlines()), "no reason given")[:_MOST_CHARACTERS]
    for secret in address.headers().values():
        line = line.replace(secret.removeprefix("Bearer "), "***")
    return mask_secrets("".join(character for character in line if character.isprintable()))
