"""Which operators turn what a detector's last layers say into boxes: what 8 bits do not resolve, in any format.

Going up from an output, all between it and the nearest layers with learned weights is looked at. It is decode
arithmetic when an exponential, a softmax or a grid is in it; moves and a sigmoid alone are not. A weighted layer that
reads a softmax is part of it: there weights are the values of the bins (Li et al., "Generalized Focal Loss", 2020).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["DECODED_ROLES", "Step", "decode_arithmetic"]

DECODED_ROLES = ("boxes", "keypoints", "raw")
"""Roles of outputs whose numbers are places in the picture; `raw` has them and the scores in one tensor."""

WEIGHTED, MOVE, CURVE, ARITHMETIC, SOFTMAX, EXPONENTIAL = range(6)

_MOVES = (
    "reshape flatten transpose concat concatenation slice strided_slice split split_v squeeze unsqueeze expand_dims "
    "pack unpack gather identity cast"
)
_KINDS = {
    **dict.fromkeys(("conv", "convtranspose", "gemm", "matmul"), WEIGHTED),
    **dict.fromkeys(("conv_2d", "depthwise_conv_2d", "transpose_conv", "fully_connected", "batch_matmul"), WEIGHTED),
    **dict.fromkeys(_MOVES.split(), MOVE),
    **dict.fromkeys(("sigmoid", "logistic", "clip", "relu", "relu6", "hardsigmoid", "tanh"), CURVE),
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "square", "neg", "maximum", "minimum"), ARITHMETIC),
    **dict.fromkeys(("max", "min", "sqrt", "sum", "reducesum", "reduce_max", "reduce_min"), ARITHMETIC),
    **dict.fromkeys(("softmax",), SOFTMAX),
    **dict.fromkeys(("exp", "log"), EXPONENTIAL),
}
_WITHOUT_BIAS = ("gemm", "matmul", "fully_connected", "batch_matmul")  # exporters add it behind them


@dataclass(frozen=True, slots=True)
class Step:
    """An operator as every format has it.

    kind: its name in the format, in lower case. outputs, inputs: names of tensors; inputs only those that depend on
    the picture. constant: how many numbers the largest operand has that does not, 0 without one.
    """

    kind: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    constant: int = 0


def decode_arithmetic(steps: Sequence[Step], roles: Mapping[str, str]) -> list[str]:
    """Return the first outputs of the operators to leave in float, in the order of `steps`.

    steps: all operators of the graph in order of execution. roles: role -> output name, as in a manifest.
    An output in one piece (role `raw`) that joins several layers is left in float from where they are joined: boxes
    and scores would share one scale.
    """
    makers = {name: step for step in steps for name in step.outputs}
    found: set[int] = set()
    for role in DECODED_ROLES:
        if role in roles:
            above = _above(makers, roles[role])
            joins = role == "raw" and any(step.kind.startswith("concat") for step in above)
            if joins or any(_is_decoding(step, makers) for step in above):
                found |= {id(step) for step in above}
    return [step.outputs[0] for step in steps if id(step) in found]


def _above(makers: Mapping[str, Step], output: str) -> list[Step]:
    """The operators between an output and the layers that are learned, or what is not known here."""
    found: list[Step] = []
    to_see: Iterable[str] = [output]
    while to_see:
        made = [makers[name] for name in to_see if name in makers]
        fresh = {id(step): step for step in made if step not in found and _continues(step, makers)}
        found += fresh.values()
        to_see = [name for step in fresh.values() for name in step.inputs]
    return found


def _continues(step: Step, makers: Mapping[str, Step]) -> bool:
    kind = _KINDS.get(step.kind)
    return kind is not None and (kind != WEIGHTED or _is_expectation(step, makers))


def _is_expectation(step: Step, makers: Mapping[str, Step]) -> bool:
    """Whether a weighted layer adds up the bins of a softmax, which is moved at most in between."""
    if len(step.inputs) != 1:
        return False
    above = makers.get(step.inputs[0])
    while above is not None and _KINDS.get(above.kind) == MOVE and len(above.inputs) == 1:
        above = makers.get(above.inputs[0])
    return above is not None and _KINDS.get(above.kind) == SOFTMAX


def _is_decoding(step: Step, makers: Mapping[str, Step]) -> bool:
    kind = _KINDS[step.kind]
    if kind in (SOFTMAX, EXPONENTIAL):
        return True
    bias = step.kind == "add" and any(makers[name].kind in _WITHOUT_BIAS for name in step.inputs if name in makers)
    return kind == ARITHMETIC and step.constant > 1 and not bias
