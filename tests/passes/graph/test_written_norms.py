"""Norms that exporters write in several nodes are found, and nothing else is taken for one."""

import numpy as np
import pytest
from netkit import net

from passes.graph.model import Graph
from passes.graph.written_norms import takes_part, written_norms

LAYER = """m = ReduceMean(x, last)  c = Sub(x, m)  q = Pow(c, two)  v = ReduceMean(q, last)  a = Add(v, eps)
    z = Sqrt(a)  w = Div(c, z)  t = Mul(w, s)  y = Add(t, o)"""
RMS = """q = Pow(x, two)  v = ReduceMean(q, last)  a = Add(v, eps)  z = Sqrt(a)  i = Div(one, z)  w = Mul(x, i)
    f = Cast<to=1>(w)  y = Mul(s, f)"""
FORMS = {
    "layer": (LAYER, True),
    "rms": (RMS, False),
    "square": (RMS.replace("Pow(x, two)", "Mul(x, x)"), False),
    "reciprocal": (RMS.replace("Div(one, z)", "Reciprocal(z)"), False),
    "quotient": (RMS.replace("i = Div(one, z)  w = Mul(x, i)", "w = Div(x, z)"), False),
    "second": (RMS.replace("Add(v, eps)", "Add(eps, v)").replace("Mul(x, i)", "Mul(i, x)"), False),
    "plain": (RMS.replace("f = Cast<to=1>(w)  y = Mul(s, f)", "y = Mul(w, s)"), False),
    "positive": (RMS.replace("last", "second"), False),
}
OTHERS = {
    "cube": RMS.replace("two", "three"),
    "first axis": RMS.replace("last", "first"),
    "both axes": RMS.replace("last", "every"),
    "no root": RMS.replace("z = Sqrt(a)", "z = Exp(a)"),
    "other values": RMS.replace("Mul(x, i)", "Mul(k, i)"),
    "no scale": RMS.replace("y = Mul(s, f)", "y = Relu(f)"),
    "scaled by data": RMS.replace("Mul(s, f)", "Mul(x, f)"),
    "epsilon from data": RMS.replace("eps", "k"),
    "mean of others": LAYER.replace("Sub(x, m)", "Sub(k, m)"),
    "turned": LAYER.replace("Sub(x, m)", "Sub(m, x)"),
    "numerator two": RMS.replace("one", "two"),
    "read twice": RMS.replace("y = Mul(s, f)", "g = Mul(s, f)  y = Add(g, z)"),
    "squares read": RMS.replace("y = Mul(s, f)", "g = Mul(s, f)  y = Add(g, q)"),
    "centre read": LAYER.replace("y = Add(t, o)", "g = Add(t, o)  y = Add(g, c)"),
}


def graph(body):
    numbers = dict(two=2.0, three=3.0, one=1.0, eps=1e-5)
    axes = dict(last=[-1], first=[1], second=[2], every=[1, 2])
    given = {name: np.array(value, np.float32) for name, value in numbers.items()}
    given |= {name: np.array(value, np.int64) for name, value in axes.items()}
    text = f"net (float[N,5,8] x, float[N,5,8] k) => (float[N,5,8] y) {{ {body} }}"
    used = {
        name: value
        for name, value in {**given, "s": (8,), "o": (8,)}.items()
        if f"{name})" in body or f"{name}," in body
    }
    return Graph(net(text, 18, **used))


@pytest.mark.parametrize("name", FORMS)
def test_the_forms_of_exporters(name):
    body, centred = FORMS[name]
    made = graph(body)
    (norm,) = written_norms(made)
    assert (norm.source, norm.output, norm.scale, norm.bias, norm.centred) == ("x", "y", "s", "o" * centred, centred)
    assert {made.nodes[k].outputs[0] for k in norm.nodes} >= {"q", "v", "a", "z", "w", "y"}
    add, k = norm.epsilon
    assert add.op == "Add" and add.inputs[k] == "eps"
    assert all(takes_part(made, node) for node in made.nodes if node.op == "ReduceMean")


@pytest.mark.parametrize("name", OTHERS)
def test_what_looks_like_one_is_none(name):
    """Or it is one that does not subtract a mean."""
    made = graph(OTHERS[name])
    assert not any(norm.centred or norm.source == "x" for norm in written_norms(made))
    assert not any(takes_part(made, node) for node in made.nodes if node.outputs[0] == "m")
