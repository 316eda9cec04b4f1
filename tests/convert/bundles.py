"""A float model as the converter's steps get it, and pictures that a small classifier tells apart."""

from pathlib import Path

import cv2
import numpy as np
import onnx

from convert.float_model import FLOAT_ONNX, FloatModel, write_manifest
from edge.manifest import DecoderSection, InputContract, Manifest, Target

CONTRACT = InputContract(resize="stretch", scale=1 / 64, mean=(2.0, 2.0, 2.0))


def coarse_pictures(folder: Path, count: int) -> list[Path]:
    """Pictures of coarse coloured noise: they differ in colour, which is what the small classifier sees."""
    noise, paths = np.random.default_rng(3), []
    for i in range(count):
        coarse = noise.integers(0, 256, (4, 5, 3), np.uint8) // 2 + noise.integers(0, 128, 3, np.uint8)
        paths.append(folder / f"{i}.png")
        cv2.imwrite(str(paths[-1]), cv2.resize(coarse, (50, 40), interpolation=cv2.INTER_NEAREST))
    return paths


def classifier_bundle(folder: Path, network: onnx.ModelProto, score_threshold: float = 0.25) -> FloatModel:
    """The network as the float ONNX file of a new folder."""
    target = Target(file="float.onnx", outputs={"scores": network.graph.output[0].name})
    decoder = DecoderSection(family="classification", score_threshold=score_threshold)
    manifest = Manifest(name="net", targets={FLOAT_ONNX: target}, input=CONTRACT, decoder=decoder)
    return float_bundle(folder, network, manifest)


def float_bundle(folder: Path, network: onnx.ModelProto, manifest: Manifest) -> FloatModel:
    """The same under a manifest whose one target is float.onnx."""
    folder.mkdir()
    onnx.save(network, folder / "float.onnx")
    write_manifest(folder, manifest)
    return FloatModel(folder, manifest, [], folder / "float.onnx", folder / "probe.npz", (), {})
