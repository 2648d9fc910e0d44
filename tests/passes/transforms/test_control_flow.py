"""Bodies of If, Loop and Scan: what they capture stays whole and says so, their own tensors are left alone."""

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netcase import conv, norm
from netkit import array_of, compressed, net, node_of, twin_check

from passes.graph.nodes import node_reads
from passes.interface.reason import text

INSIDE = "is read inside a control-flow body"
WIDTHS = {
    "if-weights": {"a": 6, "b": f"br {INSIDE}", "c": f"c_w {INSIDE}", "d": 5},
    "loop": {"a": 6, "b": "z (Loop) has no axis rule", "k": f"k {INSIDE}", "c": 5},
    "scan": {"a": 6, "b": f"g {INSIDE}", "c": 5},
    "nested-bodies": {"a": 6, "b": f"br {INSIDE}", "d": f"d_w {INSIDE}", "c": 5},
    "if-squeeze": {"a": f"p {INSIDE}", "g": 5},
    "if-body": {"a": 6, "b": f"br {INSIDE}", "c": 5},
}
"""By group: the channels that stay of it at half width, or why all of them do."""


@pytest.mark.parametrize("name", WIDTHS)
def test_only_what_a_body_captures_stays(name):
    result = compressed(ARCHITECTURES[name].model, keep=0.5)
    found = {p.group.name: len(p.keep) if p.shrinks else text(p.reason) for p in result.plans}
    assert found == {**WIDTHS[name], "y": "y is a graph output"}


@pytest.mark.parametrize("name", [name for name in WIDTHS if name != "if-weights"])  # layers there: see test_bodies
def test_bodies_and_what_they_capture_are_untouched(name):
    model = ARCHITECTURES[name].model
    after = compressed(model, keep=0.5).model
    own = [node for node in model.graph.node if any(a.HasField("g") for a in node.attribute)]
    assert own
    for node in own:
        assert node_of(after, node.output[0]) == node
        for weight in node_reads(node) & {t.name for t in model.graph.initializer}:
            np.testing.assert_array_equal(array_of(after, weight), array_of(model, weight))


def test_new_tensors_take_no_name_that_a_body_uses():
    """The norm that is folded into layer `a` gives it a bias, whose name the branch has for something else."""
    model = net(
        """net (float[N,3,8,8] x, bool flag) => (float[N,8,8,8] y) {
            a = Conv<pads=[1,1,1,1]>(x, a_w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)
            b = Conv(r, b_w)  y = If(flag) <
                then_branch = yes () => (float[N,8,8,8] t) { bias = Neg(two)  t = Mul(b, bias) },
                else_branch = no () => (float[N,8,8,8] u) { u = Identity(b) }>
        }""",
        two=np.float32([2]), a_w=(12, 3, 3, 3), **norm("n", 12), b_w=(8, 12, 1, 1),
    )  # fmt: skip
    branch = model.graph.node[-1].attribute[0].g
    branch.node[0].output[0] = branch.node[1].input[1] = "a.bias"
    result = twin_check(model, keep=0.5)
    assert result.shrinks and node_of(result.model, "n").input[2] == "a.bias_1"


def test_a_body_may_read_what_a_norm_is_folded_into():
    """The weights of `a` are read in the branch as well: the norm behind `a` stays."""
    model = net(
        """net (float[N,3,8,8] x, bool flag) => (float[N,4,8,8] y) {
            a = Conv(x, a_w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)
            z = If(flag) <then_branch = yes () => (float[N,8,8,8] t) { t = Conv(x, a_w) },
                          else_branch = no () => (float[N,8,8,8] u) { u = Conv(x, a_w) }>
            s = Concat<axis=1>(r, z)  c = Conv(s, c_w, c_b)  cr = Relu(c)  y = Conv(cr, y_w, y_b)
        }""",
        a_w=(8, 3, 1, 1), **norm("n", 8), **conv("c", 10, 16, 1, 1), **conv("y", 4, 10, 1, 1),
    )  # fmt: skip
    result = twin_check(model, keep=0.5)
    assert {name: text(reason) for name, reason in result.unfolded.items()} == {
        "n": "a_w of a is shared; n is read by r (Relu)"
    }
    assert {p.group.name: text(p.reason) for p in result.plans}["a"] == f"a_w {INSIDE}"
    assert [p.group.name for p in result.plans if p.shrinks] == ["c"]


def test_sizes_that_a_body_computes_with_stay():
    """The branch divides by the root of a width, which nobody can rewrite there."""
    model = net(
        """net (float[N,3,8,8] x, bool flag) => (float[N,4,8,8] y, float root) {
            a = Conv(x, a_w, a_b)  ar = Relu(a)  b = Conv(ar, b_w)  br = Relu(b)
            sizes = Shape(br)  width = Gather<axis=0>(sizes, i1)  y = Conv(br, y_w)
            root = If(flag) <then_branch = yes () => (float t) { f = Cast<to=1>(width)  t = Sqrt(f) },
                             else_branch = no () => (float u) { u = Cast<to=1>(width) }>
        }""",
        **conv("a", 12, 3, 1, 1), b_w=(9, 12, 1, 1), y_w=(4, 9, 1, 1), i1=np.array(1, np.int64),
    )  # fmt: skip
    result = twin_check(model, keep=0.5)
    reasons = {p.group.name: text(p.reason) for p in result.plans}
    assert reasons == {
        "a": None,
        "b": "a control-flow body computes with the size of axis 1 of br",
        "y": "y is a graph output",
    }
