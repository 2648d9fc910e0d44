"""What a student loses does not depend on which outputs a Concat joins."""

import numpy as np
import pytest
from netkit import array_of, engine, net, observer
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.imitation_loss import ImitationLoss
from passes.reconstruction.student import student_of
from passes.settings.distillation_tuning import DistillationTuning
from passes.surgery.apply_plan import Solution

TRUNK = """a = Conv(x, a_w)  ar = Relu(a)  b = Conv(ar, b_w)  br = Relu(b)
           s = MaxPool<kernel_shape=[2,2],strides=[2,2]>(br)"""
SIZES = dict(
    a_w=(12, 3, 1, 1), b_w=(10, 12, 1, 1), big_w=(4, 10, 1, 1), one_w=(1, 10, 1, 1), few_w=(5, 10, 1, 1),
    big2_w=(4, 10, 1, 1), few2_w=(5, 10, 1, 1), one2_w=(1, 10, 1, 1),
)  # fmt: skip
HEADS = """big = Conv(br, big_w)  one = Conv(br, one_w)  few = Conv(br, few_w)
           big2 = Conv(s, big2_w)  one2 = Conv(s, one2_w)  few2 = Conv(s, few2_w)"""
JOINING = """k = Concat<axis=1>(big, one, few)  p = Transpose<perm=[0,2,3,1]>(k)
             l = Concat<axis=1>(big2, one2, few2)  q = Transpose<perm=[0,2,3,1]>(l)"""
APART = """float[N,4,4,4] big, float[N,1,4,4] one, float[N,5,4,4] few,
           float[N,4,2,2] big2, float[N,1,2,2] one2, float[N,5,2,2] few2"""


def made(outputs, joining="", **more):
    model = net(f"net (float[N,3,4,4] x) => ({outputs}) {{ {TRUNK} {HEADS} {joining} }}", **SIZES, **more)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("big"):
            tensor.raw_data = (40 * array_of(model, tensor.name)).tobytes()
    return model


def loss_of(model):
    """(loss of the outputs, gradients of a step with half of the channels gone)."""
    found = analyse(model, (), observer, Quiet(), engine)
    live = [group for group in found.groups if group.name in "ab"]
    planner = Planner(found.typing, PlanSettings("prune", "l1"))
    student = student_of(found.typing, [planner.plan(group, group.size // 2) for group in live], Solution())
    feeds = [{"x": np.random.default_rng(k).standard_normal((8, 3, 4, 4)).astype(np.float32)} for k in range(2)]
    loss = ImitationLoss(student, feeds, range(2), engine, 1, 1e9, DistillationTuning())
    return loss.measured(range(2), student.values), next(loss.slopes([0], student.values, 0.0))


def test_it_is_the_same_apart_and_joined():
    apart, slopes = loss_of(made(APART))
    joined, found = loss_of(made("float[N,4,4,10] p, float[N,2,2,10] q", JOINING))
    assert apart > 0.1 and joined == pytest.approx(apart, rel=1e-5)
    assert found.keys() == slopes.keys()
    for name, slope in slopes.items():
        np.testing.assert_allclose(found[name], slope, atol=1e-5 * np.abs(slope).max())
