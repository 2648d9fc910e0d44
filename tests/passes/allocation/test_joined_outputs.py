"""Outputs whose channels a Concat joins lose what they lose apart, whatever lies between the Concat and the output."""

import numpy as np
import pytest
from allocatekit import drafted, kept
from netkit import array_of, engine, feeds, ints, net, observer
from unitkit import Quiet

from passes.allocation.sensitivity import Sensitivity
from passes.analysis.analyse import analyse
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.weight_variant import WeightVariant

HEADS = """
    t = Conv<pads=[1,1,1,1]>(x, t_w)  tr = Relu(t)  u = Conv<strides=[2,2],pads=[1,1,1,1]>(tr, u_w)  ur = Relu(u)
    o1 = Conv(tr, o1_w)  b1 = Conv(tr, b1_w)  c1 = Conv(tr, c1_w)
    o2 = Conv(ur, o2_w)  b2 = Conv(ur, b2_w)  c2 = Conv(ur, c2_w)
"""
SIZES = dict(
    t_w=(12, 3, 3, 3), o1_w=(1, 12, 1, 1), b1_w=(4, 12, 1, 1), c1_w=(5, 12, 1, 1),
    u_w=(8, 12, 3, 3), o2_w=(1, 8, 1, 1), b2_w=(4, 8, 1, 1), c2_w=(5, 8, 1, 1),
)  # fmt: skip
WEIGHTS = {name: array_of(net("net (float[N] x) => (float[N] y) { y = Relu(x) }", **SIZES), name) for name in SIZES}
WEIGHTS["b1_w"] = 30 * WEIGHTS["b1_w"]  # boxes in pixels
APART = """float[N,1,6,6] o1, float[N,4,6,6] b1, float[N,5,6,6] c1,
           float[N,1,3,3] o2, float[N,4,3,3] b2, float[N,5,3,3] c2"""
SCORED = APART.replace(" o", " so").replace(" c", " sc")
SCORES = "so1 = Sigmoid(o1) sc1 = Sigmoid(c1) so2 = Sigmoid(o2) sc2 = Sigmoid(c2)"
KINDS = "k1 = Concat<axis=1>(o1, b1, c1) k2 = Concat<axis=1>(o2, b2, c2)"
LEVELS = """
    fo1 = Reshape(o1, one) fo2 = Reshape(o2, one) o = Concat<axis=2>(fo1, fo2)
    fb1 = Reshape(b1, four) fb2 = Reshape(b2, four) b = Concat<axis=2>(fb1, fb2)
    fc1 = Reshape(c1, five) fc2 = Reshape(c2, five) c = Concat<axis=2>(fc1, fc2)
"""
BY_KIND = "float[N,1,45] o, float[N,4,45] b, float[N,5,45] c"
BOTH_KINDS = "float[N,10,6,6] k1, float[N,10,3,3] k2"
JOINED = {
    "kinds": (APART, "", BOTH_KINDS, KINDS),
    "scores": (SCORED, SCORES, BOTH_KINDS, SCORES + KINDS.replace("(o", "(so").replace(" c", " sc")),
    "sigmoid": (
        SCORED.replace(" b", " sb"),
        SCORES + " sb1 = Sigmoid(b1) sb2 = Sigmoid(b2)",
        "float[N,6,6,10] s1, float[N,3,3,10] s2",
        KINDS + "p1 = Transpose<perm=[0,2,3,1]>(k1) p2 = Transpose<perm=[0,2,3,1]>(k2)"
        "s1 = Sigmoid(p1) s2 = Sigmoid(p2)",
    ),
    "levels": (
        BY_KIND,
        LEVELS,
        "float[N,45,10] y",
        KINDS + "f1 = Reshape(k1, flat) f2 = Reshape(k2, flat) l = Concat<axis=2>(f1, f2)"
        "y = Transpose<perm=[0,2,1]>(l)",
    ),
    "levels first": (BY_KIND, LEVELS, "float[N,10,45] y", LEVELS + "y = Concat<axis=1>(o, b, c)"),
    "decoded": (
        APART.replace(" b", " db"),
        "m = Mul(b1, stride) db1 = Add(m, offset) e = Mul(b2, stride) db2 = Add(e, offset)",
        "float[N,10,6,6] y1, float[N,10,3,3] y2",
        KINDS + "a1, r1, e1 = Split<axis=1>(k1, cuts) m1 = Mul(r1, stride) d1 = Add(m1, offset)"
        "y1 = Concat<axis=1>(a1, d1, e1) a2, r2, e2 = Split<axis=1>(k2, cuts) m2 = Mul(r2, stride) d2 = Add(m2, offset)"
        "y2 = Concat<axis=1>(a2, d2, e2)",
    ),
}  # fmt: skip
CONSTANTS = dict(
    flat=ints(0, 10, -1), one=ints(0, 1, -1), four=ints(0, 4, -1), five=ints(0, 5, -1), cuts=ints(1, 4, 5),
    stride=np.full((1, 1, 1, 1), 8, np.float32), offset=np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1),
)  # fmt: skip


def detector(outputs, tail):
    body = f"net (float[N,3,6,6] x) => ({outputs}) {{ {HEADS} {tail} }}"
    return net(body, **WEIGHTS, **{n: v for n, v in CONSTANTS.items() if n in body})


def lost(model):
    """Group name -> width -> loss, each group alone."""
    found = analyse(model, (), observer, Quiet(), engine)
    live = [group for group in found.groups if not group.frozen]
    variant = WeightVariant(found.typing, [feeds(model, 6, seed) for seed in (1, 2)], engine)
    statistics = variant.channel_statistics(live)
    settings = PlanSettings("reconstruct", "auto", norms=found.folded.norms, statistics=statistics)
    return Sensitivity(variant, len(live)).alone(Planner(found.typing, settings), live)


@pytest.mark.parametrize("how", JOINED)
def test_they_lose_the_same(how):
    outputs, tail, joined, joining = JOINED[how]
    apart, together = lost(detector(outputs, tail)), lost(detector(joined, joining))
    assert set(apart) == {"t", "u"}
    assert together == {name: pytest.approx(losses, rel=1e-4) for name, losses in apart.items()}


def test_the_widths_are_the_same():
    apart, joined = (kept(drafted(detector(*JOINED["levels"][i : i + 2]), keep=0.6)) for i in (0, 2))
    assert apart == joined and apart["t"] < 12 and apart["u"] < 8
