"""What the ops of a model multiply, and which of its constants are parameters; by hand, op by op."""

import numpy as np
import pytest
from netcase import built, op
from netkit import engine, net, observer
from onnx import TensorProto, helper
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.cost.cost import cost, node_macs, sample_macs
from passes.cost.footprint import macs_footprint, params_footprint
from passes.graph.model import Graph
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.samples.calibration_samples import CalibrationSamples
from passes.samples.sample_batches import with_sample_shapes
from passes.surgery.apply_plan import apply_plans

F, I8, U8 = TensorProto.FLOAT, np.int8, np.uint8
ONE, ZERO = np.array(1, np.float32), np.array(0, U8)


def of(model, kind, observed=()):
    """Multiply-adds of the node of the given op."""
    graph = Graph(model, observer=lambda *_: dict(observed))
    return sum(node_macs(graph, node) for node in graph.nodes if node.op == kind)


STANDARD = {
    "Conv": ("float[2,4,6,6] x", "y = Conv<group=2>(x, w)", {"w": (8, 2, 3, 3)}, 2 * 8 * 16 * 2 * 9),
    "ConvTranspose": ("float[2,4,6,6] x", "y = ConvTranspose(x, w)", {"w": (4, 8, 3, 3)}, 2 * 4 * 36 * 8 * 9),
    "Gemm": ("float[5,4] x", "y = Gemm<transA=1>(x, w)", {"w": (5, 7)}, 4 * 7 * 5),
    "MatMul": ("float[2,3,4] x", "y = MatMul(x, w)", {"w": (4, 7)}, 2 * 3 * 7 * 4),
    "LSTM": ("float[5,2,3] x", "y = LSTM<hidden_size=4, direction=\"bidirectional\">(x, w, r)",
             {"w": (2, 16, 3), "r": (2, 16, 4)}, 5 * 2 * 2 * 16 * (3 + 4)),
    "GRU": ("float[5,2,3] x", "y = GRU<hidden_size=4>(x, w, r)", {"w": (1, 12, 3), "r": (1, 12, 4)}, 5 * 2 * 12 * 7),
    "RNN": ("float[2,5,3] x", "y = RNN<hidden_size=4, layout=1>(x, w, r)",
            {"w": (1, 4, 3), "r": (1, 4, 4)}, 10 * 4 * 7),
    "Einsum": ("float[2,3,4] x", 'y = Einsum<equation="bij,jk->bik">(x, w)', {"w": (4, 7)}, 2 * 3 * 4 * 7),
    "ConvInteger": ("uint8[1,4,6,6] x", "y = ConvInteger(x, w)", {"w": np.ones((8, 4, 3, 3), U8)}, 8 * 16 * 4 * 9),
    "MatMulInteger": ("uint8[3,4] x", "y = MatMulInteger(x, w)", {"w": np.ones((4, 7), I8)}, 3 * 4 * 7),
    "QLinearMatMul": ("uint8[3,4] x", "y = QLinearMatMul(x, s, z, w, s, z, s, z)",
                      {"w": np.ones((4, 7), U8), "s": ONE, "z": ZERO}, 3 * 4 * 7),
    "QLinearConv": ("uint8[1,4,6,6] x", "y = QLinearConv(x, s, z, w, s, z, s, z, b)",
                    {"w": np.ones((8, 4, 3, 3), U8), "s": ONE, "z": ZERO, "b": np.ones(8, np.int32)},
                    8 * 16 * 36),
}  # fmt: skip


@pytest.mark.parametrize("kind", STANDARD)
def test_multiply_adds(kind):
    inputs, nodes, weights, expected = STANDARD[kind]
    model = net(f"net ({inputs}) => (float[] y) {{ {nodes} }}", **weights)
    found = analyse(model, {}, None, Quiet())
    assert of(model, kind) == expected == macs_footprint(found.typing).total
    sizes = [np.size(v) if isinstance(v, np.ndarray) else np.prod(v) for n, v in weights.items() if n in "wrb"]
    floats = sum(v.dtype == np.float32 for v in weights.values() if isinstance(v, np.ndarray | np.generic))
    assert cost(Graph(model)).params == sum(sizes) + floats == params_footprint(found.typing).total


def test_attention_counts_scores_and_values():
    body = "net (float[2,5,24] q, float[2,7,12] k, float[2,7,6] v) => (float[2,5,12] y) {{ y = {}(q, k, v) }}"
    text = body.format("Attention<q_num_heads=4, kv_num_heads=2>")
    assert of(net(text, opset=23, ir_version=10), "Attention", {"y": (2, 5, 12)}) == 2 * 5 * 7 * (24 + 12)
    text = "net (float[2,4,5,6] q, float[2,2,7,6] k, float[2,2,7,3] v) => (float[2,4,5,3] y) { y = Attention(q, k, v) }"
    assert of(net(text, opset=23, ir_version=10), "Attention", {"y": (2, 4, 5, 3)}) == 2 * 4 * 5 * 7 * (6 + 3)


def test_deformable_convolution():
    text = "net (float[1,4,6,6] x, float[1,18,4,4] o) => (float[1,8,4,4] y) { y = DeformConv(x, w, o) }"
    model = net(text, opset=19, ir_version=10, w=(8, 4, 3, 3))
    assert of(model, "DeformConv", {"y": (1, 8, 4, 4)}) == 8 * 16 * 4 * 9


MICROSOFT = {
    "FusedConv": ("x w", [1, 4, 6, 6], [1, 8, 4, 4], {"w": (8, 4, 3, 3)}, {"activation": "Relu"}, 8 * 16 * 36, 288),
    "FusedMatMul": ("x w", [4, 3], [3, 7], {"w": (4, 7)}, {"transA": 1}, 84, 28),
    "FusedGemm": ("x w", [3, 4], [3, 7], {"w": (4, 7)}, {"activation": "Relu"}, 84, 28),
    "DynamicQuantizeMatMul": ("x w s", [3, 4], [3, 7], {"w": np.ones((4, 7), I8), "s": (1,)}, {}, 84, 29),
    "DynamicQuantizeLSTM": ("x w r", [5, 2, 3], [5, 1, 2, 4],
                            {"w": np.ones((1, 3, 16), I8), "r": np.ones((1, 4, 16), I8)},
                            {"hidden_size": 4}, 5 * 2 * 16 * 7, 16 * 7),
    "MatMulNBits": ("x w s", [3, 32], [3, 7], {"w": np.ones((7, 1, 16), U8), "s": (7,)},
                    {"K": 32, "N": 7, "bits": 4, "block_size": 32}, 3 * 32 * 7, 7 * 32 + 7),
    "MultiHeadAttention": ("x x x", [2, 5, 12], [2, 5, 12], {}, {"num_heads": 3}, 2 * 2 * 5 * 5 * 12, 0),
    "Attention": ("x w b", [2, 5, 12], [2, 5, 8], {"w": (12, 24), "b": (24,)}, {"num_heads": 2},
                  2 * 5 * 12 * 24 + 2 * 2 * 5 * 5 * 8, 12 * 24 + 24),
}  # fmt: skip


@pytest.mark.parametrize("kind", MICROSOFT)
def test_ops_of_onnxruntime(kind):
    inputs, x, y, weights, attributes, macs, params = MICROSOFT[kind]
    nodes = [op(kind, inputs, "y", "com.microsoft", **attributes)]
    arrays = {k: v for k, v in weights.items() if isinstance(v, np.ndarray)}
    model = built(nodes, [("x", F, x)], [("y", F, y)], {**weights, **arrays}, **{"com.microsoft": 1})
    assert of(model, kind, {"y": tuple(y)}) == macs
    assert cost(Graph(model, observer=lambda *_: {"y": tuple(y)})).params == params


def test_an_op_of_another_domain_is_free():
    assert of(net("net (float[2,4] x) => (float[2,7] y) { y = custom.MatMul(x, w) }", w=(4, 7)), "MatMul") == 0


def test_what_is_a_parameter():
    """Quantised weights behind DequantizeLinear, and a table whose rows are dequantised, but no sizes, no indices."""
    body = """net (float[N,8] x, int64[N] i) => (float[N,4] y) {
        w = DequantizeLinear(w_q, s, z)  t = Transpose(w)  a = MatMul(x, t)  r = Reshape(a, shape)
        g = Gather(table, i)  e = DequantizeLinear(g, s, z)  h = Add(r, e)  k = Gather<axis=1>(h, at)  y = Add(k, b)
    }"""
    model = net(body, w_q=np.ones((6, 8), I8), s=np.array(0.1, np.float32), z=np.array(0, I8),
                table=np.ones((9, 6), I8), shape=np.array([-1, 6]), at=np.arange(4), b=(4,))  # fmt: skip
    expected = 48 + 54 + 1 + 4
    found = analyse(model, {}, None, Quiet())
    assert cost(Graph(model)).params == expected == params_footprint(found.typing).total


INTEGER_TYPES = ["INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "UINT64", "BOOL"]


@pytest.mark.parametrize("kind", INTEGER_TYPES)
def test_integers_that_no_layer_reads_are_no_parameters(kind):
    """Sizes and masks of whatever type; weights of the same type count."""
    held = helper.make_tensor("q", TensorProto.DataType.Value(kind), [4, 3], [1] * 12)
    for what, expected in (("y = Cast<to=1>(q)", 0), ("c = Cast<to=1>(q)  y = MatMul(x, c)", 12)):
        model = net(f"net (float[N,4] x) => (float[A,B] y) {{ {what} }}", opset=21, ir_version=10)
        model.graph.initializer.append(held)
        assert cost(Graph(model)).params == expected


RECURRENT = """net (float[T,N,6] x) => (float[T,N,4] y) {
    a = MatMul(x, a_w)  h, s = LSTM<hidden_size=10>(a, l_w, l_r)  one = Squeeze(h, at)  y = MatMul(one, y_w)
}"""


@pytest.mark.parametrize("widths", [(3, 7), (12, 1), (5, 10)])
def test_an_lstm_at_any_width_is_what_the_cut_model_costs(widths):
    model = net(RECURRENT, a_w=(6, 12), l_w=(1, 40, 12), l_r=(1, 40, 10), y_w=(10, 4), at=np.array([1]))
    found = analyse(model, {}, observer, Quiet())
    typing, groups = found.typing, [g for g in found.groups if not g.frozen]
    assert [g.size for g in groups] == [12, 10]
    planner = Planner(typing, PlanSettings("prune"))
    plans = [planner.plan(group, width) for group, width in zip(groups, widths, strict=True)]
    smaller = cost(Graph(apply_plans(typing, plans), {}, observer))
    at = {group.atom: width for group, width in zip(groups, widths, strict=True)}
    assert (macs_footprint(typing).at(at), params_footprint(typing).at(at)) == (smaller.macs, smaller.params)


@pytest.mark.parametrize("batch", [1, 8])
def test_multiply_adds_of_a_sample(batch):
    """Those of a fixed batch are those of all its samples."""
    model = net(f"net (float[{batch},4] x) => (float[{batch},7] y) {{ y = MatMul(x, w) }}", 17, w=(4, 7))
    assert sample_macs(Graph(model)) == 4 * 7


def test_multiply_adds_at_the_shapes_of_one_sample():
    """The shapes were found at two batch sizes, of which none is one."""
    model = net("net (float[N,4] x) => (float[N,7] y) { y = MatMul(x, w) }", w=(4, 7))
    graph = Graph(model, [{"x": (2, 4)}, {"x": (3, 4)}], observer)
    samples = CalibrationSamples({"x": np.zeros((40, 4), np.float32)}, False, engine)
    assert cost(graph).macs == sample_macs(with_sample_shapes(graph, samples)) == 4 * 7


POSITIONS = """net (float[N,L,6] x) => (float[N,L,5] y) {
    s = Shape(x)  n = Gather(s, one)  p = Range(zero, n, one)  f = Cast<to=1>(p)  c = Unsqueeze(f, axis)
    e = MatMul(c, e_w)  r = Relu(e)  b = MatMul(r, b_w)  a = MatMul(x, a_w)  h = Add(a, b)  y = MatMul(h, y_w)
}"""


@pytest.mark.parametrize("width", [8, 3])
def test_what_reads_no_sample_counts_once(width):
    """The embedding of L positions is computed once for all samples, so that a batch of one takes as much of it."""
    one, zero = np.array(1, np.int64), np.array(0, np.int64)
    weights = {"e_w": (1, 8), "b_w": (8, 4), "a_w": (6, 4), "y_w": (4, 5)}
    model = net(POSITIONS, one=one, zero=zero, axis=np.array([1]), **weights)
    found = analyse(model, {}, observer, Quiet())
    length = int(found.typing.graph.info.shapes["x"][1])
    expected = length * (1 * width + width * 4 + 6 * 4 + 4 * 5)
    group = next(g for g in found.groups if g.name == "e")
    plans = [Planner(found.typing, PlanSettings("prune")).plan(group, width)]
    assert macs_footprint(found.typing).at({group.atom: width}) == expected
    assert cost(Graph(apply_plans(found.typing, plans), {}, observer)).macs == expected


def test_clips_of_frames_count_for_each_frame():
    """Eight frames make a clip; the number of clips is no multiple of the number of frames."""
    body = """net (float[N,6] x) => (float[N,5] y) {
        c = Reshape(x, to)  h = MatMul(c, h_w)  b = Reshape(h, back)  y = MatMul(b, y_w)
    }"""
    model = net(body, h_w=(6, 4), y_w=(4, 5), to=np.array([-1, 8, 6]), back=np.array([-1, 4]))
    graph = Graph(model, [{"x": (16, 6)}, {"x": (24, 6)}], observer)
    assert cost(graph).macs == 6 * 4 + 4 * 5


TOWERS = """net (int64[T,L] t, float[I,6] x) => (float[T,I] y) {
    e = Gather(table, t)  p = ReduceMean<axes=[1], keepdims=0>(e)  a = MatMul(p, a_w)
    b = MatMul(x, b_w)  c = Transpose(b)  y = MatMul(a, c)
}"""


def test_two_towers_have_a_batch_each():
    """Of a pair of a text and an image. Lengths, which are no first axis, are no batch."""
    model = net(TOWERS, table=(9, 4), a_w=(4, 8), b_w=(6, 8))
    sizes = [{"t": (2, 7), "x": (5, 6)}, {"t": (3, 5), "x": (4, 6)}, {"t": (4, 7), "x": (7, 6)}]
    graph = Graph(model, sizes, observer)
    assert cost(graph).macs == 4 * 8 + 6 * 8 + 8
    found = analyse(model, sizes, observer, Quiet())
    assert macs_footprint(found.typing).total == 4 * 8 + 6 * 8 + 8
