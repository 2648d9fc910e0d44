"""Hidden units of LSTM, GRU and RNN are channels, whatever states the layers start from."""

from dataclasses import replace

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import (
    TOLERANCE,
    array_of,
    attr_of,
    compressed,
    difference,
    ints,
    net,
    node_of,
    run,
    shape_of,
    twin_check,
)
from nets_recurrent import layer
from onnx.reference import ReferenceEvaluator
from unitkit import engine

from passes.interface.reason import text
from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.transforms.canonicalize import canonicalize

BACK = "pruned only: {} feeds them back to itself"
RUNS = "{} (GRU) runs along it"
WIDTHS = {
    "lstm-zero-states": {"e": 6, "l": 5, "k": 7},
    "gru-stacked-states": {"g": RUNS.format("g"), "g #2": 4, "l": RUNS.format("l"), "l #2": 4, "k": 5},
    "lstm-full-of-ones": {"e": 6, "l": 5},
    "lstm-learned-states": {"e": 6, "l": 5},
    "rnn-constant-states": {"e": 6, "l": 5},
    "gru-computed-state": {"e": 5, "i": 4, "l": 5, "k": 4},
    "lstm-handed-on": {"a": 5, "k": 4},
    "lstm-given-states": {"e": 6, "l": "h is a graph input", "k": 4},
}
"""By group: the channels that stay of it at half width, or why all of them do."""


@pytest.mark.parametrize("name", WIDTHS)
def test_hidden_units_are_groups(name):
    result = compressed(ARCHITECTURES[name].model, keep=0.5)
    found = {p.group.name: len(p.keep) if p.shrinks else text(p.reason) for p in result.plans}
    assert found == {**WIDTHS[name], "y": "y is a graph output"}


def test_a_layer_says_why_its_units_cannot_be_merged():
    result = compressed(ARCHITECTURES["lstm-zero-states"].model, keep=0.5)
    (plan,) = (p for p in result.plans if p.group.name == "l")
    assert (plan.method, text(plan.reason)) == ("prune", BACK.format("l"))


def test_all_that_a_unit_has_goes_with_it():
    model = ARCHITECTURES["lstm-learned-states"].model
    result = twin_check(model, keep=0.5)
    kept = next(p.keep for p in result.plans if p.group.name == "l")
    assert len(kept) == 5 and attr_of(result.model, "l", "hidden_size") == 5
    for weight, blocks in {"l_b": 8, "l_p": 3, "h_v": 1}.items():
        whole = array_of(model, weight).reshape(blocks, 10)
        np.testing.assert_array_equal(array_of(result.model, weight).reshape(blocks, 5), whole[:, kept])
    rows = (np.arange(4)[:, None] * 10 + kept).ravel()
    np.testing.assert_array_equal(array_of(result.model, "l_r"), array_of(model, "l_r")[:, rows][:, :, kept])


@pytest.mark.parametrize("name", ["lstm-zero-states", "gru-stacked-states"])
def test_states_of_zeros_are_left_out(name):
    model = ARCHITECTURES[name].model
    normal = canonicalize(model)
    layers = [n for n in normal.graph.node if n.op_type in ("LSTM", "GRU")]
    assert all(len(n.input) <= 4 for n in layers)
    np.testing.assert_array_equal(run(normal)[0], run(model)[0])


def test_other_states_stay():
    """Ones, zeros that a caller may override, and what an op that makes something of zeros gives."""
    one = canonicalize(ARCHITECTURES["lstm-full-of-ones"].model)
    assert list(node_of(one, "l").input[4:]) == ["", "h0", "h0"]
    model = net(
        """net (float[5,2,6] x, float[1,2,4] h0 = {0,0,0,0,0,0,0,0}) => (float[5,1,2,4] y, float[5,1,2,4] z) {
            y = RNN<hidden_size=4>(x, w, r, , , h0)  e = Exp(zeros)  z = RNN<hidden_size=4>(x, w, r, , , e)
        }""",
        w=(1, 4, 6), r=(1, 4, 4), zeros=np.zeros((1, 2, 4), np.float32),
    )  # fmt: skip
    normal = canonicalize(model)
    assert [len(node_of(normal, name).input) for name in "yz"] == [6, 6]


def test_a_computed_state_follows():
    result = twin_check(ARCHITECTURES["lstm-full-of-ones"].model, keep=0.5)
    assert shape_of(result.model, "l_r") == (1, 20, 5)


def test_units_stay_that_give_most():
    """Every unit of the layer is made alike; those stay that are read, by the layer itself or by what follows."""
    model = net(
        """net (float[5,N,6] x) => (float[5,N,4] y) {
            l = LSTM<hidden_size=6>(x, l_w, l_r)  q = Squeeze(l, a1)  y = MatMul(q, y_w)
        }""",
        l_w=np.ones((1, 24, 6), np.float32), a1=np.array([1], np.int64),
        l_r=np.tile(np.float32([0.1, 3, 0.1, 0.1, 0.1, 0.1]), (1, 24, 1)),
        y_w=np.tile(np.float32([[0.1], [0.1], [4], [0.1], [3], [0.1]]), (1, 4)),
    )  # fmt: skip
    result = twin_check(model, keep=0.5, select="auto")
    assert next(p.keep for p in result.plans if p.group.name == "l").tolist() == [1, 2, 4]


def test_what_reads_pruned_units_is_solved_on_samples():
    """Nothing is merged into the layer itself; the layer behind makes up for what it loses."""
    rng = np.random.default_rng(0)
    model = net(
        """net (float[N,5,6] x) => (float[N,5,4] y) {
            t = Transpose<perm=[1,0,2]>(x)  l = GRU<hidden_size=8>(t, l_w, l_r, l_b)  q = Squeeze(l, a1)
            b = Transpose<perm=[1,0,2]>(q)  y = MatMul(b, y_w)
        }""",
        **layer("l", 3, 6, 8), a1=np.array([1], np.int64), y_w=(8, 4),
    )  # fmt: skip
    samples = CalibrationSamples({"x": rng.standard_normal((64, 5, 6)).astype(np.float32)}, True, engine)
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    result = compress(model, settings, samples=samples)
    pruned = compress(model, replace(settings, method="prune"))
    want, got, cut = (engine(m)(samples.feeds)["y"] for m in (model, result.model, pruned.model))
    np.testing.assert_allclose(got, engine(result.twin())(samples.feeds)["y"], atol=1e-5)
    assert [p.method for p in result.plans if p.shrinks] == ["prune"] and "y" in result.solution.errors
    assert np.square(got - want).sum() < 0.7 * np.square(cut - want).sum()


@pytest.mark.parametrize("kind, gates", [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("states", [False, True])
def test_the_batch_may_come_first(kind, gates, states):
    """onnxruntime knows no layout=1: the reference runs it."""
    given = (", , h0, h0" if kind == "LSTM" else ", , h0") if states else ""
    model = net(
        f"""net (float[N,5,6] x) => (float[N,5,4] y) {{
            e = MatMul(x, e_w)  s = Shape(x)  n = Gather<axis=0>(s, zero)  n1 = Unsqueeze(n, a0)
            hs = Concat<axis=0>(n1, c1, c10)  h0 = ConstantOfShape<value: tensor = float[1] {{1}}>(hs)
            l, last = {kind}<hidden_size=10, layout=1>(e, l_w, l_r, l_b{given})  q = Squeeze(l, a2)  y = MatMul(q, y_w)
        }}""",
        e_w=(6, 12), **layer("l", gates, 12, 10), y_w=(10, 4), zero=np.array(0, np.int64), a0=ints(0), a2=ints(2),
        c1=ints(1), c10=ints(10),
    )  # fmt: skip
    result = compress(model, CompressSettings(keep=0.5), engine=engine)
    assert {p.group.name: len(p.keep) for p in result.plans} == {"e": 6, "l": 5, "y": 4}
    assert difference(result.twin(), result.model, start=ReferenceEvaluator) <= TOLERANCE
