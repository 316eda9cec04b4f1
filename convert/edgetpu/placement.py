"""Which operators of a quantized .tflite file would run on the Edge TPU: a report before anything is compiled."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.edgetpu.graph import Graph, multiply_adds, parameter_bytes, read_graph
from convert.edgetpu.rules import Limit, limit_of
from edge.engines.litert import EDGE_TPU_OP

__all__ = ["USABLE_CACHE_BYTES", "PlacedOp", "Placement", "placement", "placement_text"]

USABLE_CACHE_BYTES = 6_900_000  # of 8 MB; the compiled instructions take the rest
_LARGE_MOVE = 1 << 15  # values; the limit is not documented, this only keeps small ones out of the report
_ONE_PART = "the compiler makes one Edge TPU part only"


@dataclass(frozen=True, slots=True)
class PlacedOp:
    """One operator and where it would run. output: name of the first tensor it makes; why and cure: "" when mapped."""

    index: int
    name: str
    output: str
    mapped: bool
    multiply_adds: int
    why: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each operator of a file would run.

    refusals: what the compiler would refuse the whole file for. compiled: the file is the compiler's own output.
    parameter_bytes: constants of the operators on the Edge TPU. doubt: what may still stay on the CPU, "" for nothing.
    """

    file: str
    ops: tuple[PlacedOp, ...]
    refusals: tuple[Limit, ...]
    compiled: bool
    parameter_bytes: int
    doubt: str = ""

    @property
    def mapped_count(self) -> int:
        """How many operators would run on the Edge TPU."""
        return sum(op.mapped for op in self.ops)

    @property
    def first_unmapped(self) -> PlacedOp | None:
        """The first operator that stays on the CPU, None when all are mapped."""
        return next((op for op in self.ops if not op.mapped), None)

    @property
    def multiply_add_share(self) -> float:
        """The share of multiply-adds on the Edge TPU in [0, 1], 0 where nothing has any."""
        total = sum(op.multiply_adds for op in self.ops)
        return sum(op.multiply_adds for op in self.ops if op.mapped) / total if total else 0.0

    @property
    def fits_cache(self) -> bool:
        """Whether the parameters fit the on-chip memory, so that none are streamed at each run."""
        return self.parameter_bytes <= USABLE_CACHE_BYTES

    @property
    def facts(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return {
            "file": self.file,
            "compiled": self.compiled,
            "refusals": [refusal._asdict() for refusal in self.refusals],
            "operators": len(self.ops),
            "mapped": self.mapped_count,
            "multiply_add_share": round(self.multiply_add_share, 4),
            "parameter_bytes": self.parameter_bytes,
            "fits_cache": self.fits_cache,
            "doubt": self.doubt,
            "first_unmapped": asdict(self.first_unmapped) if self.first_unmapped else None,
            "ops": [asdict(op) for op in self.ops],
        }


def placement(tflite_file: Path) -> Placement:
    """Return where each operator of a .tflite file would run, from the file alone.

    Raises: ModelError when the file cannot be read.
    """
    graph = read_graph(tflite_file)
    if any(op.name == EDGE_TPU_OP for op in graph.ops):
        return _compiled(tflite_file.name, graph)
    limits = _limits(graph)
    parts = _parts(graph, [limit is None for limit in limits])
    first = min((part for part, limit in zip(parts, limits, strict=True) if limit is None), default=0)
    blockers = _blockers(graph, parts, limits, first)
    placed = []
    for i, (op, limit, blocker) in enumerate(zip(graph.ops, limits, blockers, strict=True)):
        if limit is None and parts[i] != first:
            output = graph.ops[blocker].outputs[0].name
            limit = Limit(f"behind {blocker} {graph.ops[blocker].name} '{output}': {_ONE_PART}", "cure that operator")
        why, cure = limit or ("", "")
        placed.append(PlacedOp(i, op.name, op.outputs[0].name, limit is None, multiply_adds(op), why, cure))
    size = parameter_bytes([op for op, on in zip(graph.ops, placed, strict=True) if on.mapped])
    return Placement(tflite_file.name, tuple(placed), tuple(_refusals(graph)), False, size, _doubt(graph, placed))


def placement_text(facts: dict[str, Any]) -> str:
    """Return `Placement.facts`, as report.json has them too, as a table for a terminal."""
    ops, file = facts["ops"], facts["file"]
    total = sum(op["multiply_adds"] for op in ops)
    lines = [f"{file}: {facts['mapped']} of {len(ops)} operators on the Edge TPU"]
    if facts["compiled"]:
        lines[0] = f"{file} is compiled for the Edge TPU already: {len(ops) - 1} operators on the CPU"
    elif total:
        lines[0] += f", {100 * facts['multiply_add_share']:.1f} % of {total / 1e6:.1f} million multiply-adds"
    lines += [f"the compiler would refuse this file: {limit['why']}; {limit['cure']}" for limit in facts["refusals"]]
    if facts["mapped"] and not facts["compiled"]:
        verdict = "they fit" if facts["fits_cache"] else "the rest is streamed at each run, which is slower"
        lines.append(
            f"parameters there: {facts['parameter_bytes'] / 1e6:.2f} MB of about {USABLE_CACHE_BYTES / 1e6:.1f} MB"
            f" on-chip memory: {verdict}"
        )
    if facts["doubt"]:
        lines.append(facts["doubt"])
    names = sorted({op["name"] for op in ops})
    width = max([len(name) for name in names] + [8])
    lines += ["", f"{'operator':<{width}}  Edge TPU   CPU"]
    for name in names:
        on = sum(op["mapped"] for op in ops if op["name"] == name)
        off = sum(not op["mapped"] for op in ops if op["name"] == name)
        lines.append(f"{name:<{width}}  {on:>8}  {off:>4}")
    return "\n".join(lines + _reasons(ops)) + "\n"


def _reasons(ops: Sequence[dict[str, Any]]) -> list[str]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for op in ops:
        if not op["mapped"]:
            groups.setdefault(op["why"], []).append(op)
    lines = ["", "on the CPU, in the model's order:"] if groups else []
    for why, members in groups.items():
        name = f"{members[0]['index']} {members[0]['name']} '{members[0]['output']}'"
        if len({member["name"] for member in members}) > 1:
            name = f"{len(members)} operators from {name} on"
        elif len(members) > 1:
            name += f" and {len(members) - 1} more"
        cures = list(dict.fromkeys(member["cure"] for member in members))
        lines += [f"- {name}: {why}", *(f"  cure: {cure}" for cure in cures)]
    return lines


def _compiled(name: str, graph: Graph) -> Placement:
    placed = []
    for i, op in enumerate(graph.ops):
        on = op.name == EDGE_TPU_OP
        why, cure = ("", "") if on else ("left on the CPU by the compiler", "see the report of the uncompiled file")
        placed.append(PlacedOp(i, op.name, op.outputs[0].name, on, multiply_adds(op), why, cure))
    size = parameter_bytes([op for op in graph.ops if op.name == EDGE_TPU_OP])
    return Placement(name, tuple(placed), (), True, size)


def _limits(graph: Graph) -> list[Limit | None]:
    """What keeps each operator off the Edge TPU; a DEQUANTIZE is there for the float operator that reads it."""
    limits = [limit_of(op) for op in graph.ops]
    readers = {number: i for i, numbers in enumerate(graph.inputs) for number in numbers}
    for i, op in enumerate(graph.ops):
        reader = readers.get(graph.outputs[i][0])
        limit = None if reader is None else limits[reader]
        if op.name == "DEQUANTIZE" and reader is not None and limit is not None:
            limits[i] = Limit(f"{reader} {graph.ops[reader].name} behind it computes in float", limit.cure)
    return limits


def _parts(graph: Graph, able: Sequence[bool]) -> list[int]:
    """Number each operator's part of the graph as TensorFlow Lite cuts it up for a delegate.

    Part by part, every operator that is ready and of the same side (Edge TPU or CPU) as the first ready one joins.
    """
    waiting = {i: set(numbers) for i, numbers in enumerate(graph.inputs)}
    made = {number for numbers in graph.outputs for number in numbers}
    ready = {number for numbers in graph.inputs for number in numbers} - made
    parts = [0] * len(able)
    part = 0
    while waiting:
        side = None
        moved = True
        while moved:
            moved = False
            for i in sorted(waiting):
                if waiting[i] <= ready and side in (None, able[i]):
                    side = able[i]
                    parts[i] = part
                    ready |= set(graph.outputs[i])
                    del waiting[i]
                    moved = True
        if side is None:  # a loop: no valid file has one
            break
        part += 1
    return parts


def _blockers(graph: Graph, parts: Sequence[int], limits: Sequence[Limit | None], first: int) -> list[int]:
    """For each operator the first one before it that ends the Edge TPU's part, itself when there is none."""
    maker = {number: i for i, numbers in enumerate(graph.outputs) for number in numbers}
    blockers = list(range(len(parts)))
    for i in range(len(parts)):
        own = [i] if limits[i] is not None and parts[i] > first else []
        before = [maker[number] for number in graph.inputs[i] if maker.get(number, i) < i]
        inherited = [blockers[j] for j in before if parts[j] > first]
        blockers[i] = min(own + inherited, default=i)
    return blockers


def _doubt(graph: Graph, placed: Sequence[PlacedOp]) -> str:
    moves = [
        (math.prod(op.outputs[0].shape), on)
        for op, on in zip(graph.ops, placed, strict=True)
        if on.mapped and on.name in ("RESHAPE", "TRANSPOSE")
    ]
    size, largest = max(moves, key=lambda move: move[0], default=(0, None))
    if largest is None or size < _LARGE_MOVE:
        return ""
    where = f"{largest.index} {largest.name} '{largest.output}'"
    return f"not certain: large reshapes and transposes may stay on the CPU; the largest is {where}, {size} values"


def _refusals(graph: Graph) -> list[Limit]:
    found = []
    activations = [tensor.dtype for op in graph.ops for tensor in op.outputs]
    if "int8" not in activations and "uint8" not in activations:
        found.append(Limit("it is not quantized", "quantize it with --precision int8-io"))
    if graph.open_tensor:
        found.append(
            Limit(f"tensor '{graph.open_tensor}' has no fixed size", "export with a fixed batch and image size")
        )
    if graph.graph_count > 1:
        found.append(
            Limit(f"it holds {graph.graph_count} graphs", "export without loops and conditions, with one signature")
        )
    return found
