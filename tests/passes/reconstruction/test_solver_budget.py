"""The number of samples on which a layer pair is solved."""

import numpy as np
import pytest
from netkit import net
from unitkit import cut_units

from passes.reconstruction.solver_budget import samples_for
from passes.settings.reconstruction_tuning import ReconstructionTuning
from passes.settings.tuning import TUNING

LIMITS = TUNING.reconstruction
EACH = LIMITS.step_passes * LIMITS.typical_steps
"""Passes through a unit until it is solved."""


def conv_unit(side, batch="N", hidden=64):
    """3x3 convolutions 3 -> ``hidden`` -> 2 over ``side`` x ``side`` places."""
    places = f"{side},{side}"
    body = f"""net (float[{batch},3,{places}] x) => (float[{batch},2,{places}] y) {{
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  z = Relu(a)  y = Conv<pads=[1,1,1,1]>(z, y_w, y_b)
    }}"""
    return net(body, a_w=(hidden, 3, 3, 3), a_b=(hidden,), y_w=(2, hidden, 3, 3), y_b=(2,))


def samples(model, given, kept, tuning=LIMITS):
    typing, units, keep = cut_units(model, {"a": np.arange(kept)})
    (found,) = samples_for(typing, units.values(), keep, given, tuning).values()
    return found


@pytest.mark.parametrize(
    ("side", "kept", "expected"),
    [
        (32, 16, LIMITS.most_places * 9 * 16 / 32**2),  # plenty of places already
        (16, 32, LIMITS.pair_samples),
        (4, 32, LIMITS.fewest_places * 9 * 32 / 4**2),
        (4, 8, LIMITS.fewest_places * 9 * 8 / 4**2),  # a unit that loses more channels needs fewer
        (2, 64 - 1, 1000),  # all there are
    ],
)
def test_as_many_as_the_features_that_stay_are_worth(side, kept, expected):
    assert samples(conv_unit(side), 1000, kept) == pytest.approx(expected)


def test_a_layer_that_reads_nothing_of_one_sample():
    """Differences of neighbouring rows: a single row has none."""
    body = """net (float[N,6] x) => (float[M,3] y) {
        r = Slice(x, one, most, zero)  a = MatMul(r, a_w)  z = Relu(a)  y = MatMul(z, y_w)
    }"""
    ends = dict(zero=np.array([0]), one=np.array([1]), most=np.array([999]))
    typing, units, keep = cut_units(net(body, a_w=(6, 16), y_w=(16, 3), **ends), {"a": np.arange(8)})
    for name in ("r", "a", "z", "y"):
        typing.graph.info.shapes[name] = (0, *typing.graph.info.shapes[name][1:])
    (found,) = samples_for(typing, units.values(), keep, 1000, LIMITS).values()
    assert found == LIMITS.fewest_places * 8


def test_a_batch_that_is_fixed_changes_nothing():
    assert samples(conv_unit(4, batch=5), 1000, 32) == samples(conv_unit(4), 1000, 32)


def test_together_the_units_of_a_model_take_no_more_than_they_may():
    side, kept = 4, 32
    macs = side**2 * 9 * kept * (3 + 2)
    hundred, none = (ReconstructionTuning(pair_multiply_adds=work) for work in (100 * EACH * macs, 1.0))
    assert samples(conv_unit(side), 1000, kept, hundred) == pytest.approx(100)
    assert samples(conv_unit(side), 1000, kept, none) == none.fewest_pair_samples


def test_each_unit_has_what_it_needs_where_all_together_may_take_it():
    """One number of samples for all would give the one with few places too few."""
    model = net(
        """net (float[N,3,32,32] x) => (float[N,2] y) {
            a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)
            g = GlobalAveragePool(b)  f = Flatten(g)  c = Gemm<transB=1>(f, c_w, c_b)  cr = Relu(c)
            y = Gemm<transB=1>(cr, y_w, y_b)
        }""",
        **dict(a_w=(64, 3, 3, 3), a_b=(64,), b_w=(8, 64, 3, 3), b_b=(8,)),
        **dict(c_w=(40, 8), c_b=(40,), y_w=(2, 40), y_b=(2,)),
    )
    typing, units, keep = cut_units(model, {"a": np.arange(16), "c": np.arange(20)})
    wide, narrow = LIMITS.most_places * 9 * 16 / 32**2, LIMITS.fewest_places * 20
    work = wide * 32**2 * 9 * 16 * (3 + 8) + narrow * 20 * (8 + 2)
    tuning = ReconstructionTuning(pair_multiply_adds=1.001 * EACH * work)
    assert list(samples_for(typing, units.values(), keep, 2000, tuning).values()) == pytest.approx([wide, narrow])
