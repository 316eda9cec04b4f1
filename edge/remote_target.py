"""Which target of a bundle a server's model is: the one whose outputs have the names that the server's have."""

import math
from collections.abc import Mapping

import numpy as np

from edge.engines.base import Engine
from edge.errors import ManifestError
from edge.manifest import Manifest
from edge.tensor import TensorSpec

__all__ = ["matching_target"]


def matching_target(manifest: Manifest, engine: Engine) -> str:
    """Return the name of the first target whose outputs the engine has, all of them by name.

    Raises: ManifestError, naming both sides, when there is none, when the sizes of the input image differ, or when the
    server takes whole numbers and the manifest's pixels are not.
    """
    have = {spec.name for spec in engine.output_specs}
    fitting = [name for name, target in manifest.targets.items() if target.outputs and have >= _names(target.outputs)]
    if not fitting:
        wanted = {", ".join(sorted(_names(target.outputs))): name for name, target in manifest.targets.items()}
        raise ManifestError(
            f"the server's model gives {', '.join(sorted(have))}; {manifest.name} has "
            + "; ".join(f"{outputs or 'no named outputs'} ({name})" for outputs, name in wanted.items()),
            "serve a file of this very bundle, or correct the target's outputs in its manifest",
        )
    size_wh, images = manifest.input.size_wh, [spec for spec in engine.input_specs if spec.layout]
    if size_wh and images and images[0].size_wh != tuple(size_wh):
        served = "x".join(map(str, images[0].size_wh))
        raise ManifestError(
            f"the server's model takes images of {served} px, {manifest.name} is for {size_wh[0]}x{size_wh[1]} px",
            "serve a file of this very bundle",
        )
    for spec in images:
        _check_dtype(manifest, spec)
    return fitting[0]


def _check_dtype(manifest: Manifest, spec: TensorSpec) -> None:
    """A server says no scale of its integers, so that pixels must be what they are there, or those shifted."""
    if spec.dtype.kind not in "iu":
        return
    limits, contract = np.iinfo(spec.dtype), manifest.input
    for mean, std in zip(contract.mean, contract.std, strict=True):
        low, high = -mean / std, (255 * contract.scale - mean) / std
        if not (limits.min <= low and high <= limits.max and math.isclose(high - low, 255)):
            raise ManifestError(
                f"the server's model takes {spec.dtype}, and pixels of {manifest.name} become {low:g} to {high:g}",
                "serve a model of float input, or one that scales pixels by itself and a manifest that says so",
            )


def _names(outputs: Mapping[str, str]) -> set[str]:
    return set(outputs.values())
