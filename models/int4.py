"""Rounds a model's matrices to 4 bits as the engine does with its quantizer `rtn`: for every 32 weights of a row, 16 evenly
spaced numbers `scale · (code − zero)` from the least weight to the greatest, scale and zero being 16-bit floats.

Written anew in numpy, so that what the engine packs, unpacks and multiplies with is compared with something else.
"""

import numpy as np
import torch

GROUP = 32
TOP = np.float32(15)
# A group that is nearly one value has a grid that reaches to 0: see src/quantize/grid.rs.
NARROW = np.float32(16384)


def rounded_rows(weights):
    """Float32 [rows, cols] → the numbers that the codes of each group stand for, float32 [rows, cols]."""
    out = np.empty_like(weights)
    for first in range(0, weights.shape[1], GROUP):
        group = weights[:, first : first + GROUP]
        low, high = group.min(1, keepdims=True), group.max(1, keepdims=True)
        narrow = (high - low) * NARROW <= np.maximum(abs(low), abs(high)) * TOP
        zero = np.float32(0)
        low, high = np.where(narrow, np.minimum(low, zero), low), np.where(narrow, np.maximum(high, zero), high)
        scale = (high - low) / TOP
        assert (scale > 0).all()
        zero = (-low / scale).astype(np.float16).astype(np.float32)
        scale = scale.astype(np.float16).astype(np.float32)
        codes = np.rint(np.clip(group * (np.float32(1) / scale) + zero, np.float32(0), TOP))
        out[:, first : first + GROUP] = scale * (codes - zero)
    assert out.dtype == np.float32
    return out


def round_to_int4(model):
    """Rounds every matrix of the model in place, but for learned positions and the routers of experts."""
    for name, weight in model.named_parameters():
        router = name.endswith((".mlp.gate.weight", ".block_sparse_moe.gate.weight"))
        if weight.ndim != 2 or router or "wpe" in name:
            continue
        # GPT-2's are stored as [inputs, outputs].
        turned = name.startswith("transformer.h.")
        values = (weight.T if turned else weight).contiguous().numpy()
        rounded = torch.from_numpy(rounded_rows(values))
        weight.copy_(rounded.T if turned else rounded)
    return model
