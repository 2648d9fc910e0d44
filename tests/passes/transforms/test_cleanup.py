"""Unread nodes and constants are removed; recorded shapes are updated."""

import onnx
from netkit import net
from onnx import helper

from passes.transforms.cleanup import cleanup, drop_dead_nodes

BODY = "net (float[N,3] x) => (float[N,4] y) { d = Relu(x)  e = Mul(d, k)  a = MatMul(x, w)  y = Relu(a) }"


def test_dead_nodes_and_their_weights_go():
    model = cleanup(net(BODY, w=(3, 4), k=(3,)))
    assert [n.output[0] for n in model.graph.node] == ["a", "y"]
    assert [t.name for t in model.graph.initializer] == ["w"]


def test_nodes_stay_in_order_and_what_a_body_reads_is_alive():
    model = net(
        """net (float[3] x, bool c) => (float[3] y) {
            d = Relu(x)  e = Neg(x)
            y = If(c) <then_branch = f () => (float[3] t) { t = Abs(d) },
                          else_branch = g () => (float[3] u) { u = Neg(x) }>
        }"""
    )
    drop_dead_nodes(model.graph)
    assert [n.output[0] for n in model.graph.node] == ["d", "y"]


def test_one_output_that_is_read_keeps_a_node():
    model = net("net (float[N,4] x) => (float[N,2] y) { a, b = Split<axis=1>(x)  y = Relu(b) }", opset=11)
    assert [n.op_type for n in cleanup(model).graph.node] == ["Split", "Relu"]


def test_shapes_are_inferred_anew_where_there_were_any():
    model = net(BODY, w=(3, 4), k=(3,))
    assert not cleanup(model).graph.value_info
    model.graph.value_info.append(helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["N", 99]))
    (info,) = [v for v in cleanup(model).graph.value_info if v.name == "a"]
    assert [d.dim_value or d.dim_param for d in info.type.tensor_type.shape.dim] == ["N", 4]


def test_before_ir_version_4_initializers_are_inputs_too():
    model = net(BODY, opset=8, ir_version=3, w=(3, 4), k=(3,))
    model.graph.input.append(helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, [3]))
    assert [v.name for v in cleanup(model).graph.input] == ["x", "w"]
