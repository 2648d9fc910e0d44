"""DeformConv on whole arrays. ONNX's reference implementation loops over all places, which takes a thousand times as
long, and computes in float32."""

from itertools import product

import numpy as np
from onnx.reference.op_run import OpRun


class DeformConv(OpRun):
    def _run(self, x, w, offset, b=None, mask=None, dilations=None, group=1, kernel_shape=None, offset_group=1,
             pads=None, strides=None):  # fmt: skip
        places = (len(x), offset_group, *w.shape[2:], *offset.shape[2:])
        at = _sampled(offset, places, dilations or (1, 1), strides or (1, 1), pads or (0, 0))
        seen = _between(x.reshape(*places[:2], -1, *x.shape[2:]), at, places)
        if mask is not None:
            seen *= mask.reshape(*places, 1)
        seen = np.moveaxis(seen, -1, 2).reshape(len(x), group, -1, *places[2:])
        y = np.einsum("ngiklhw,goikl->ngohw", seen, w.reshape(group, -1, *w.shape[1:]))
        y = y.reshape(len(x), -1, *places[4:])
        return ((y if b is None else y + b.reshape(-1, 1, 1)).astype(x.dtype),)


def _sampled(offset, places, dilations, strides, pads):
    """Row and column that each entry of the kernel reads, for each place of the output."""
    moved = np.moveaxis(offset.reshape(*places[:4], 2, *places[4:]), 4, 0).astype(np.float64)
    kernel, output = (np.ogrid[tuple(map(slice, sizes))] for sizes in (places[2:4], places[4:]))
    steps = zip(moved, kernel, output, dilations, strides, pads[:2], strict=True)
    return [own + k[..., None, None] * d + o * s - p for own, k, o, d, s, p in steps]


def _between(parts, at, places):
    """The values of ``parts`` (N, offset groups, channels, H, W) at rows and columns that are no integers, channels
    last: between four neighbours, of which those outside are zero."""
    owners, total = np.ogrid[tuple(map(slice, places))][:2], 0.0
    for corner in product((0, 1), repeat=2):
        near = [np.floor(a).astype(int) + c for a, c in zip(at, corner, strict=True)]
        inside = [(n >= 0) & (n < size) for n, size in zip(near, parts.shape[3:], strict=True)]
        share = np.prod([(1 - abs(a - n)) * i for a, n, i in zip(at, near, inside, strict=True)], axis=0)
        found = parts[*owners, :, *(n * i for n, i in zip(near, inside, strict=True))]
        total += found * share[..., None]
    return total
