import numpy as np
import pytest
from decoder_reference import every_dtype, logistic

from edge.decoders.scores import sigmoid, stored_threshold
from edge.tensor import Quantization, TensorSpec

QUANTIZATIONS = [
    Quantization(1 / 256, -128),
    Quantization(float(np.float32(0.1)), 3),
    Quantization(1e-4, 0),
    None,
]


def spec_and_values(dtype, quantization):
    """Every value the dtype can store, or for float32 a fine and irregular grid."""
    kind = np.dtype(dtype)
    if kind == np.float16:
        values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    elif kind == np.float32:
        values = np.concatenate([np.linspace(-20, 20, 40001), np.arange(101) / 100]).astype(np.float32)
    else:
        info = np.iinfo(kind)
        values = np.arange(info.min, info.max + 1).astype(kind)
    values = values[np.isfinite(values)]
    return TensorSpec("scores", values.shape, kind, None, quantization if kind.kind in "iu" else None), values


@every_dtype
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.1, 0.3, 1 / 3, 0.5, 0.7, 0.999, 1.0])
def test_the_stored_threshold_loses_no_score_and_passes_few_others(dtype, quantization, logits, threshold):
    spec, values = spec_and_values(dtype, quantization)
    passed = values >= stored_threshold(spec, threshold, logits)
    real = spec.dequantize(values)
    scores = sigmoid(real) if logits else real
    wanted = scores >= np.float32(threshold)
    assert not (wanted & ~passed).any()
    excess = np.unique(scores[passed & ~wanted])
    assert (excess > 0.99 * threshold - 1e-4).all()
    assert len(excess) <= 1 or logits


def test_sigmoid_neither_overflows_nor_drifts():
    x = np.array([-1e38, -100, -5, 0, 5, 100, 1e38], np.float32)
    with np.errstate(all="raise", under="ignore"):
        y = sigmoid(x)
    np.testing.assert_allclose(y, [logistic(float(v)) for v in x], atol=1e-7)
