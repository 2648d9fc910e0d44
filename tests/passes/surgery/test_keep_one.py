"""Where every channel is kept the model stays as it was, byte for byte."""

import numpy as np
import onnx
import pytest
from netkit import ints, net
from onnx import helper

from passes.pipeline import compress
from passes.settings.compress import CompressSettings


def decorated():
    """A model with all that a careless writer loses: metadata, doc strings, symbols, functions, value_info."""
    model = net(
        """net (float[batch,3,H,8] x) => (float[batch,10] y) {
            a = Conv<pads=[1,1,1,1]>(x, w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)
            r = local.Act(n)  k = Constant<value_floats=[2.0]>()  s = Mul(r, k)
            p = GlobalAveragePool(s)  t = Transpose(v)  f = Reshape(p, two)  y = Gemm(f, t)
        }""",
        w=(8, 3, 3, 3), n_scale=(8,), n_bias=(8,), n_mean=(8,), n_var=(8,), v=(10, 8), two=ints(-1, 8), unused=(3,),
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Relu", ["i"], ["o"], doc_string="inside")]
    model.functions.append(helper.make_function("local", "Act", ["i"], ["o"], body, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.producer_name, model.model_version, model.doc_string = "a test", 7, "of the model"
    model.metadata_props.add(key="classes", value="cat,dog")
    model.graph.doc_string = "of the graph"
    model.graph.node[0].doc_string = "of a node"
    model.graph.node[0].name = "first"
    model.graph.initializer[0].doc_string = "of a weight"
    model.graph.value_info.append(helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["batch", 8, "H", 8]))
    model.graph.metadata_props.add(key="k", value="v")
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("method", ["merge", "prune"])
@pytest.mark.parametrize("way", [{}, {"keep": 1.0}, {"keep": 0.5, "exclude": (".",)}])
def test_unchanged(method, way):
    model = decorated()
    result = compress(model, CompressSettings(method=method, **way))
    assert not result.shrinks and result.model is not model
    assert result.model.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_lossless_finds_nothing_to_do():
    model = decorated()
    result = compress(model, CompressSettings(lossless=True))
    assert result.model == model


def test_what_a_smaller_model_still_has():
    model = decorated()
    result = compress(model, CompressSettings(keep=0.5)).model
    assert result.doc_string == "of the model" and result.graph.doc_string == "of the graph"
    assert (result.producer_name, result.model_version) == ("a test", 7)
    assert result.metadata_props == model.metadata_props and result.graph.metadata_props == model.graph.metadata_props
    assert result.graph.input == model.graph.input and result.graph.output == model.graph.output
    assert result.graph.node[0].name == "first" and result.graph.node[0].doc_string == "of a node"
    assert {o.domain: o.version for o in result.opset_import}[""] == 17
    shapes = {
        v.name: [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in result.graph.value_info
    }
    assert shapes["r"][:2] == ["batch", 4]
    assert np.prod(next(t.dims for t in result.graph.initializer if t.name == "w")) == 4 * 27
