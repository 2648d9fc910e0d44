"""Which channels that norms read can be mixed: only norms and linear layers may meet them."""

import numpy as np
import pytest
from netkit import net, observer
from normkit import CENTRED, KINDS, RMS, WIDTH, prenorm

from passes.analysis.analyse import analyse
from passes.interface.runner import StageTimer


def group(model, name="e"):
    found = analyse(model, (), observer, StageTimer(lambda stage: None))
    return next(g for g in found.groups if g.name == name)


@pytest.mark.parametrize(("op", "biased"), KINDS)
def test_a_prenorm_stream_can_be_mixed(op, biased):
    found = group(prenorm(op, biased))
    assert found.frozen is None and found.unmixable is None
    assert str(found.normalised).endswith(" over it")
    assert {name: (norm.scale, norm.bias, norm.centred) for name, norm in found.norms.items()} == {
        f"n{k}": (f"s{k}", f"o{k}" if biased else "", op in CENTRED) for k in range(3)
    }


@pytest.mark.parametrize(
    "head",
    [
        "t = Transpose<perm=[1,0,2]>(n2)  y = MatMul(t, y_w)",
        "m = ReduceMean<keepdims=0>(n2, one)  y = MatMul(m, y_w)",
        "p = Gather<axis=1>(n2, first)  y = MatMul(p, y_w)",
        "c = Cast<to=1>(n2)  h = Mul(c, half)  y = MatMul(h, y_w)",
        "a = MatMul(n2, y_w)  b = MatMul(n2, z_w)  y = Add(a, b)",
    ],
)
def test_moves_of_what_is_normalised_pass(head):
    model = prenorm(head=head, one=np.array([1]), first=np.array(0), half=np.array(0.5, np.float32), z_w=(WIDTH, 7))
    found = group(model)
    assert found.frozen is None and {*found.norms} >= {"n0", "n1", "n2"}
    assert all(step.read in found.norms for step in found.steps if step.consumed)


@pytest.mark.parametrize(
    "head",
    [
        "y = MatMul(x2, y_w)",  # reads what the norm subtracts
        "s = Add(n2, x2)  y = MatMul(s, y_w)",  # as in post-norm transformers
        "s = Add(n2, k)  y = MatMul(s, y_w)",
        "s = Mul(n2, k)  y = MatMul(s, y_w)",
        "s = Relu(n2)  y = MatMul(s, y_w)",
        "s = Mul(n2, n2)  y = MatMul(s, y_w)",
        "s = LayerNormalization(n2, k)  y = MatMul(s, y_w)",
        "s = Concat<axis=0>(n2, rows)  y = MatMul(s, y_w)",
        "s = Pad(n2, pads, k0)  y = MatMul(s, y_w)",
        "s = Mul(n2, rows1)  y = MatMul(s, y_w)",
        "s = Mul(n2, zero)  y = MatMul(s, y_w)",
        "y = Identity(n2)",
        "t = Transpose<perm=[1,0]>(table)  y = MatMul(n2, t)",  # the table is read in two ways
    ],
)
def test_what_does_not_go_with_rotations_freezes(head):
    """Its layers are too few for an identity layer beside them."""
    rows = (1, 5, WIDTH)
    model = prenorm(
        head=head,
        hidden=4,
        k=(WIDTH,),
        rows=rows,
        pads=np.array([0, 1, 0, 0, 0, 0]),
        k0=np.array(1, np.float32),
        rows1=(5, 1),
        zero=np.array(0, np.float32),
    )
    assert group(model).frozen is not None


def test_rms_norms_leave_the_mean_so_that_it_can_be_read():
    assert group(prenorm(RMS, False, head="y = MatMul(x2, y_w)")).frozen is None


@pytest.mark.parametrize(
    "norm",
    [
        "n = LayerNormalization<axis=-2>(a, s)",
        "n, m = LayerNormalization(a, s)  z = ReduceSum(m)",
        "c = Relu(computed)  n = LayerNormalization(a, c)",
        "n = LayerNormalization(a, one)",
    ],
)
def test_other_norms_freeze(norm):
    body = f"net (float[N,5,6] x, float[8] computed) => (float[] y) {{ a = MatMul(x, w)  {norm}  y = MatMul(n, v) }}"
    model = net(body, 23, 11, w=(6, 8), v=(8, 4), s=(5, 8) if "-2" in norm else (8,), one=(1,))
    assert group(model, "a").frozen is not None


@pytest.mark.parametrize(("bias", "pads", "free"), [(True, 1, False), (True, 0, True), (False, 1, True)])
def test_padded_convolutions_do_not_read_a_bias(bias, pads, free):
    """Their zeros are no output of the norm."""
    head = f"t = Transpose<perm=[0,2,1]>(n2)  y = Conv<pads=[{pads},{pads}]>(t, c_w)"
    assert (group(prenorm(biased=bias, head=head, c_w=(7, WIDTH, 3))).frozen is None) == free


def test_norms_with_and_without_a_mean_do_not_share_a_stream():
    other = RMS.replace("RMSN", "n3 = RMSN") + "(x2, s3)"
    model = prenorm(
        head=f"{other}  a = MatMul(n2, y_w)  b = MatMul(n3, z_w)  y = Add(a, b)", s3=(WIDTH,), z_w=(WIDTH, 7)
    )
    assert group(model).frozen is not None


def test_a_norm_between_two_layers_is_enough():
    body = "net (float[N,6] x) => (float[] y) { a = Gemm(x, w)  n = LayerNormalization(a, s)  y = Gemm(n, v) }"
    assert group(net(body, 23, 11, w=(6, 8), v=(8, 4), s=(8,)), "a").norms.keys() == {"n"}
