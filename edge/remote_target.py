"""Which target of a bundle a server's model is: the one whose outputs have the names that the server's have."""

from collections.abc import Mapping

from edge.engines.base import Engine
from edge.errors import ManifestError
from edge.manifest import Manifest

__all__ = ["matching_target"]


def matching_target(manifest: Manifest, engine: Engine) -> str:
    """Return the name of the first target whose outputs the engine has, all of them by name.

    Raises: ManifestError, naming both sides, when there is none, or when the sizes of the input image differ.
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
    return fitting[0]


def _names(outputs: Mapping[str, str]) -> set[str]:
    return set(outputs.values())
