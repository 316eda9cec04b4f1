"""Whether a target of a bundle, or a bare model file, can run here, told without loading it."""

from pathlib import Path

import msgspec

from edge.config import EngineSection
from edge.doctor.board import jetson_of
from edge.doctor.edge_tpus import edge_tpu_trouble
from edge.doctor.interpreters import Interpreter
from edge.doctor.machine import Machine
from edge.doctor.nvidia import compute_capability, tensorrts_of
from edge.engine_needs import Board, misfit
from edge.engines.edgetpu import find_tpus
from edge.engines.edgetpu_delegate import choose
from edge.engines.portable import RunnerError
from edge.engines.tflite_ops import EDGE_TPU_OP, read_ops
from edge.manifest import Manifest, Target
from edge.registry import PLUGS

__all__ = ["Trouble", "file_trouble", "target_trouble"]

Trouble = tuple[str, str] | None
"""What keeps a model from running and its cure; None when nothing is known to."""

_LITERTS = ("ai_edge_litert", "tflite_runtime", "tensorflow")
_ENGINES = (".engine", ".plan")


def target_trouble(
    machine: Machine, folder: Path, manifest: Manifest, target: Target, runs: Interpreter | None, options: EngineSection
) -> Trouble:
    """Return what keeps a bundle's target from running in the interpreter `runs`."""
    file = folder / target.file
    trouble = file_trouble(machine, file, runs, options)
    if trouble or file.suffix.lower() not in _ENGINES or options.rebuild == "auto" or runs is None:
        return trouble
    jetson, sm = jetson_of(machine), compute_capability(machine)
    if not sm:  # not told: then it is not compared
        needs = {key: value for key, value in target.needs.items() if key != "sm"}
        target = msgspec.structs.replace(target, needs=needs)
    board = Board(sm, tensorrts_of(runs), jetson.l4t or None if jetson else None, runs.machine)
    cause = misfit(target, manifest, folder, board)
    cure = f'harrier build {folder} --on-device  # or rebuild = "auto" under [engine]'
    return (cause, cure) if cause else None


def file_trouble(machine: Machine, file: Path, runs: Interpreter | None, options: EngineSection) -> Trouble:
    """Return what keeps a model file from running in the interpreter `runs`, as far as packages and devices go."""
    suffix = file.suffix.lower().lstrip(".")
    modules: frozenset[str] = runs.modules if runs else frozenset()
    where = f" in {runs.executable}" if runs else ""
    if file.suffix.lower() in _ENGINES:
        if runs and tensorrts_of(runs):
            return None
        cure = 'python = "/usr/bin/python3"  # under [engine], where JetPack brings it; or another target'
        if options.python:
            cure = "sudo apt install python3-libnvinfer  # on a Jetson, for /usr/bin/python3; or another target"
        return f"TensorRT is not installed{where}", cure
    if not file.is_file():
        return f"there is no file {file.name}", "pull or convert the bundle again"
    plug = PLUGS["engines"].get(suffix)
    if plug and (missing := [name for name in plug.modules if name not in modules]):
        return f"{', '.join(missing)} is not installed{where}", f"pip install 'harrier-edge[{plug.extra}]'"
    if suffix == "tflite":
        if not modules & set(_LITERTS):
            return f"neither ai-edge-litert nor tflite-runtime is installed{where}", "pip install ai-edge-litert"
        if EDGE_TPU_OP in read_ops(str(file)).custom:
            return _without_edge_tpu(machine, options.device)
    return None


def _without_edge_tpu(machine: Machine, wanted: str) -> Trouble:
    fatal = [trouble for trouble in edge_tpu_trouble(machine) if trouble.fatal]
    spoilt = {trouble.place for trouble in fatal}  # "" for the machine
    tpus = find_tpus(str(machine.root))
    if "" in spoilt or all(tpu.place in spoilt for tpu in tpus):
        return fatal[0].cause, fatal[0].cure
    try:
        _, chosen = choose(wanted, tpus, None)
    except RunnerError as exc:
        return exc.cause, exc.cure
    if chosen is not None and chosen.place in spoilt:
        trouble = next(trouble for trouble in fatal if trouble.place == chosen.place)
        return trouble.cause, trouble.cure
    return None
