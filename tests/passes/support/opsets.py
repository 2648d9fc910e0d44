"""One small network in the form of every opset: attributes that became inputs, ops that got others' names."""

import numpy as np
import onnx
from netcase import conv, norm
from netkit import ints, net
from onnx import helper

NEWEST = onnx.defs.onnx_opset_version()
BODY = """net (float[N,3,8,8] x) => (float[N,5] y) {{
    a = Conv<pads=[1,1,1,1]>(x, a_w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)
    r = {clip}  o = {dropout}  l, m = {split}  s = {slice}  p = {pad}  j = Concat<axis=1>(l, p)
    c = Conv<pads=[1,1,1,1]>(j, c_w, c_b)  cr = Relu(c)  q = MaxPool<kernel_shape=[2,2], strides=[2,2]>(cr)
    u = {resize}  d = Conv(u, d_w, d_b)  v = {mean}  e = {squeeze}  z = {unsqueeze}  f = Reshape(z, flat)
    g = Gemm<transB=1>(f, g_w, g_b)  gr = Relu(g)  k = Gemm<transB=1>(gr, k_w, k_b)  y = Softmax<axis=1>(k)
}}"""
WEIGHTS = {
    "a_w": (12, 3, 3, 3), **norm("n", 12), **conv("c", 16, 12, 3, 3), **conv("d", 10, 16, 1, 1), "flat": ints(0, -1),
    **conv("g", 14, 80), **conv("k", 5, 14),
}  # fmt: skip
SCALES = {"scales": np.float32([1, 1, 2, 2])}
FORMS = {
    "clip": {
        7: ("Clip<min=0.0, max=6.0>(n)", {}),
        11: ("Clip(n, low, high)", {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}),
    },
    "dropout": {7: ("Dropout<ratio=0.4>(r)", {}), 12: ("Dropout(r, ratio)", {"ratio": np.array(0.4, np.float32)})},
    "split": {
        7: ("Split<axis=1, split=[6,6]>(o)", {}),
        13: ("Split<axis=1>(o, halves)", {"halves": ints(6, 6)}),
        18: ("Split<axis=1, num_outputs=2>(o)", {}),
    },
    "slice": {  # channels from the end, and a column off an axis whose end is not known
        7: ("Slice<axes=[1,3], starts=[-4,1], ends=[6,1000]>(m)", {}),
        10: ("Slice(m, lo, hi, at)", {"lo": ints(-4, 1), "hi": ints(6, 2**31 - 1), "at": ints(1, 3)}),
    },
    "pad": {  # two channels and a column of zeros
        7: ("Pad<pads=[0,2,0,1,0,0,0,0]>(s)", {}),
        11: ("Pad(s, pads)", {"pads": ints(0, 2, 0, 1, 0, 0, 0, 0)}),
        18: ("Pad(s, pads, , padded)", {"pads": ints(2, 1, 0, 0), "padded": ints(1, -1)}),
    },
    "resize": {
        7: ('Upsample<mode="nearest", scales=[1.0,1.0,2.0,2.0]>(q)', {}),
        9: ("Upsample(q, scales)", SCALES),
        10: ("Resize(q, scales)", SCALES),
        11: ("Resize(q, roi, scales)", {**SCALES, "roi": np.zeros(0, np.float32)}),
        13: ("Resize(q, , scales)", SCALES),
        18: ("Resize<axes=[2,3]>(q, , , sizes)", {"sizes": ints(8, 8)}),
    },
    "mean": {7: ("ReduceMean<axes=[3]>(d)", {}), 18: ("ReduceMean(d, last)", {"last": ints(-1)})},
    "squeeze": {7: ("Squeeze<axes=[3]>(v)", {}), 13: ("Squeeze(v, three)", {"three": ints(3)})},
    "unsqueeze": {7: ("Unsqueeze<axes=[3]>(e)", {}), 13: ("Unsqueeze(e, three)", {"three": ints(3)})},
}
"""By node: its form from an opset on, and the constants that it takes."""


def small_cnn(opset):
    """The same function in every opset from 7 on."""
    forms = {node: form[max(n for n in form if n <= opset)] for node, form in FORMS.items()}
    weights = WEIGHTS | {name: value for _, constants in forms.values() for name, value in constants.items()}
    body = BODY.format(**{node: text for node, (text, _) in forms.items()})
    model = net(body, opset, helper.find_min_ir_version_for([helper.make_opsetid("", opset)]), **weights)
    return listed(model) if model.ir_version < 4 else model


def listed(model, names=None):
    """``model`` with its initializers (those called ``names``) among the inputs, as it was the rule before IR 4."""
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in model.graph.initializer
        if names is None or t.name in names
    )
    return model
