"""Networks of different kinds whose activations, or weights, are large for the memory that they are given."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.parser

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'


@dataclass(frozen=True)
class Case:
    """``sizes`` of random weights, ``values`` of others; ``calib``: shape of the user's samples, if there are any."""

    text: str
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    calib: tuple[int, ...] | None = None

    def model(self) -> onnx.ModelProto:
        """The network, with the same random weights every time."""
        model = onnx.parser.parse_model(HEADER + self.text)
        rng = np.random.default_rng(0)
        for name, size in self.sizes.items():
            fan = max(1, int(np.prod(size[1:])))
            array = (rng.standard_normal(size, np.float32) / np.float32(np.sqrt(fan))).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        for name, array in self.values.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        onnx.checker.check_model(model)
        return model


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CONV = "Conv<pads=[1,1,1,1]>"
CASES = {
    "fully convolutional": Case(
        f"""net (float[N,3,H,W] x) => (float[N,2,H,W] y) {{
            a = {CONV}(x, a_w)  ar = Relu(a)  b = {CONV}(ar, b_w)  br = Relu(b)  y = Conv(br, y_w)
        }}""",
        dict(a_w=(16, 3, 3, 3), b_w=(16, 16, 3, 3), y_w=(2, 16, 1, 1)),
    ),
    "u-net": Case(
        f"""net (float[N,3,H,W] x) => (float[N,2,H,W] y) {{
            a = {CONV}(x, a_w)  ar = Relu(a)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(ar)
            b = {CONV}(p, b_w)  br = Relu(b)  u = ConvTranspose<strides=[2,2]>(br, u_w)
            k = Concat<axis=1>(ar, u)  c = {CONV}(k, c_w)  cr = Relu(c)  y = Conv(cr, y_w)
        }}""",
        dict(a_w=(16, 3, 3, 3), b_w=(32, 16, 3, 3), u_w=(32, 16, 2, 2), c_w=(16, 32, 3, 3), y_w=(2, 16, 1, 1)),
    ),
    "classifier at 320 x 320": Case(
        """net (float[N,3,320,320] x) => (float[N,10] y) {
            a = Conv<pads=[1,1,1,1]>(x, a_w)  ar = Relu(a)
            b = Conv<strides=[2,2]>(ar, b_w)  br = Relu(b)
            c = Conv<pads=[1,1,1,1], strides=[4,4]>(br, c_w)  cr = Relu(c)
            p = GlobalAveragePool(cr)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w)
        }""",
        dict(a_w=(24, 3, 3, 3), b_w=(32, 24, 1, 1), c_w=(48, 32, 3, 3), y_w=(10, 48)),
    ),
    "detector": Case(
        f"""net (float[N,3,192,192] x) => (
            float[N,4,96,96] boxes, float[N,6,96,96] scores, float[N,6,48,48] coarse
        ) {{
            a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, a_w)  ar = Relu(a)
            b = {CONV}(ar, b_w)  br = Relu(b)  c = Conv<pads=[1,1,1,1], strides=[2,2]>(br, c_w)  cr = Relu(c)
            boxes = Conv(br, box_w)  s = Conv(br, score_w)  scores = Sigmoid(s)  coarse = Conv(cr, coarse_w)
        }}""",
        dict(a_w=(24, 3, 3, 3), b_w=(32, 24, 3, 3), c_w=(32, 32, 3, 3), box_w=(4, 32, 1, 1), score_w=(6, 32, 1, 1))
        | dict(coarse_w=(6, 32, 1, 1)),
    ),
    "transformer": Case(
        """net (float[N,S,64] x) => (float[N,S,8] y) {
            q = MatMul(x, q_w)  k = MatMul(x, k_w)  v = MatMul(x, v_w)
            qs = Reshape(q, heads)  ks = Reshape(k, heads)  vs = Reshape(v, heads)
            qt = Transpose<perm=[0,2,1,3]>(qs)  kt = Transpose<perm=[0,2,3,1]>(ks)  vt = Transpose<perm=[0,2,1,3]>(vs)
            s = MatMul(qt, kt)  p = Softmax<axis=-1>(s)  o = MatMul(p, vt)
            ot = Transpose<perm=[0,2,1,3]>(o)  flat = Reshape(ot, joined)  m = MatMul(flat, o_w)  r = Add(x, m)
            h = MatMul(r, h_w)  hb = Add(h, h_b)  hr = Relu(hb)  d = MatMul(hr, d_w)  e = Add(r, d)  y = MatMul(e, y_w)
        }""",
        dict(q_w=(64, 64), k_w=(64, 64), v_w=(64, 64), o_w=(64, 64), h_w=(64, 256), h_b=(256,), d_w=(256, 64))
        | dict(y_w=(64, 8)),
        dict(heads=ints(0, 0, 8, 8), joined=ints(0, 0, 64)),
        calib=(48, 512, 64),
    ),
    "sound": Case(
        """net (float[N,1,T] x) => (float[N,6] y) {
            a = Conv<pads=[4,4], strides=[2]>(x, a_w)  ar = Relu(a)  b = Conv<pads=[4,4], strides=[2]>(ar, b_w)
            br = Relu(b)  c = Conv<pads=[4,4], strides=[4]>(br, c_w)  cr = Relu(c)
            p = GlobalAveragePool(cr)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w)
        }""",
        dict(a_w=(32, 1, 9), b_w=(32, 32, 9), c_w=(48, 32, 9), y_w=(6, 48)),
        calib=(64, 1, 80000),
    ),
    "recurrent": Case(
        """net (float[300,N,32] x) => (float[300,N,8] y) {
            h, last, cell = LSTM<hidden_size=48>(x, w, r)  s = Squeeze(h, one)
            a = MatMul(s, a_w)  ab = Add(a, a_b)  ar = Relu(ab)  y = MatMul(ar, y_w)
        }""",
        dict(w=(1, 192, 32), r=(1, 192, 48), a_w=(48, 256), a_b=(256,), y_w=(256, 8)),
        dict(one=ints(1)),
    ),
    "60 MB of weights": Case(
        """net (float[N,1024] x) => (float[N,16] y) {
            a = Gemm<transB=1>(x, a_w)  ar = Relu(a)  b = Gemm<transB=1>(ar, b_w)  br = Relu(b)
            c = Gemm<transB=1>(br, c_w)  cr = Relu(c)  y = Gemm<transB=1>(cr, y_w)
        }""",
        dict(a_w=(3072, 1024), b_w=(2560, 3072), c_w=(1536, 2560), y_w=(16, 1536)),
    ),
}
