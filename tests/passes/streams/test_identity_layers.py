"""Identity layers at the ends of residual streams: where they stand, what they do to a result, and that they go."""

import numpy as np
import pytest
from netkit import engine, net, observer
from normkit import KINDS, LAYER, RMS, TOKENS, WIDTH, postnorm, prenorm, thin, tokens

from passes.allocation.budget import BudgetScope, balanced
from passes.analysis.analyse import analyse
from passes.cost.cost import cost
from passes.cost.footprint import macs_footprint, params_footprint
from passes.graph.model import Graph
from passes.interface.runner import StageTimer
from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.blocks import Blocks
from passes.settings.compress import CompressSettings

WIDE = 100
"""Hidden units of an MLP whose weights are many beside those of an identity layer."""
ENDS = {
    "output": dict(head="y = Identity(n2)"),
    "sum": dict(head="a = Slice(n2, k0, k1, k1)  b = Slice(n2, k1, k2, k1)  c = Add(a, b)  y = MatMul(c, y_w)"),
    "function": dict(head="r = Relu(n2)  y = MatMul(r, y_w)"),
    "norm": dict(start="e0 = Add(e, places)  x0 = LayerNormalization(e0, g, h)"),
    "activation": dict(start="e0 = Add(e, places)  x0 = Relu(e0)"),
    "transposed": dict(
        start="e0 = Transpose<perm=[0,2,1]>(e)  r9 = Relu(e0)  t9 = Transpose<perm=[0,2,1]>(r9)  x0 = Add(t9, places)"
    ),
    "both": dict(start="e0 = Add(e, places)  x0 = Relu(e0)", head="y = Identity(n2)"),
}
CONSTANTS = dict(g=(WIDTH,), h=(WIDTH,), k0=np.array([0]), k1=np.array([1]), k2=np.array([2]))


def encoder(op=LAYER, biased=True, **ends):
    return prenorm(op, biased, hidden=WIDE, **{**CONSTANTS, **ends})


def analysed(model):
    return analyse(model, (), observer, StageTimer(lambda stage: None))


def reconstruct(model, stream, kept=0.5, **settings):
    chosen = dict(keep=1.0, keep_layers=((f"^{stream}$", kept),), method="reconstruct", select="auto", **settings)
    return compress(model, CompressSettings(**chosen), samples=CalibrationSamples(tokens(64), True, engine))


def mixed(model):
    """The streams of a model, as groups."""
    return [group for group in analysed(model).groups if group.normalised is not None]


def tensors(model):
    return [name for node in model.graph.node for name in node.output]


def names(model):
    return [node.name for node in model.graph.node if node.name.endswith(".projection")]


@pytest.mark.parametrize("end", ENDS)
def test_a_stream_can_be_mixed_up_to_its_ends(end):
    model = encoder(**ENDS[end])
    stream = next(group for group in mixed(model) if len(group.norms) >= 3)
    assert stream.size == WIDTH and stream.frozen is None
    assert len(analysed(model).typing.identities) == 1 + (end == "both")


@pytest.mark.parametrize(
    ("end", "op", "biased"), [*((end, LAYER, True) for end in ENDS), *(("both", *kind) for kind in KINDS[1:])]
)
def test_what_is_projected_equals_its_twin(end, op, biased):
    model = encoder(op, biased, **ENDS[end])
    streams = [group.name for group in mixed(model)]
    for draft in (False, True):
        result = reconstruct(model, f"({'|'.join(streams)})", draft=draft)
        assert all(len(plan.keep) == 6 for plan in result.plans if plan.group.name in streams)
        assert len(names(result.model)) == 1 + (end == "both")
        small, twin = (engine(m)(tokens(9))["y"] for m in (result.model, result.twin()))
        np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


@pytest.mark.parametrize(("op", "biased"), KINDS)
def test_an_output_of_a_thin_stream_is_restored(op, biased):
    """What the stream holds lies in the dimensions that six channels hold: its normalised channels are all there."""
    model = encoder(op, biased, head="y = Identity(n2)", **thin(op, hidden=WIDE))
    result = reconstruct(model, "e", draft=True)
    assert next(t.dims for t in result.model.graph.initializer if t.name == "table") == [TOKENS, 6]
    whole, less = (engine(m)(tokens(64, seed=5))["y"] for m in (model, result.model))
    np.testing.assert_allclose(less, whole, atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("settings", [dict(lossless=True), dict(keep=0.6), dict(keep=0.6, method="prune")])
def test_no_layer_is_left_where_the_stream_stays_whole(end, settings):
    model = encoder(**ENDS[end])
    chosen = CompressSettings(**{"method": "reconstruct", "allocation": "uniform", **settings})
    result = compress(model, chosen, samples=CalibrationSamples(tokens(64), True, engine))
    assert [plan.group.size for plan in result.plans if plan.shrinks] == ([] if "lossless" in settings else [WIDE] * 2)
    assert not names(result.model) and len(result.model.graph.node) == len(model.graph.node)
    assert [value.name for value in result.model.graph.output] == ["y"]
    assert tensors(result.model) == tensors(model)
    assert np.isfinite(engine(result.model)(tokens(9))["y"]).all()


def test_the_layers_are_counted_only_where_they_stay():
    model = encoder(**ENDS["both"])
    found, whole = analysed(model), cost(Graph(model))
    typing, stream = found.typing, next(group for group in found.groups if group.normalised is not None)
    assert (macs_footprint(typing).total, params_footprint(typing).total) == (whole.macs, whole.params)
    result = reconstruct(model, stream.name)
    assert macs_footprint(typing).at({stream.atom: 6}) == cost(Graph(result.model)).macs
    gone = 2 * 2 * 6 * WIDE + 2 * 6 + 3 * 2 * 6  # of two MLPs, their last biases, and the constants of three norms
    assert params_footprint(typing).at({stream.atom: 6}) == whole.params - gone + 2 * 6 * WIDTH


@pytest.mark.parametrize("kept", [WIDTH, 6])
def test_a_budget_is_spent_on_them_only_where_they_stay(kept):
    """Also where the stream's width is no longer open."""
    found = analysed(encoder(**ENDS["both"]))
    stream = next(group for group in found.groups if group.normalised is not None)
    hidden = [group for group in found.groups if group.size == WIDE]
    pool = BudgetScope(found.typing, hidden, {stream.atom: kept}, macs_footprint(found.typing))
    goal = pool.cost({group.atom: 40 for group in hidden})
    losses = {group.name: np.linspace(1, 0, WIDE + 1) ** 2 for group in hidden}
    assert pool.cost(balanced(pool, goal, losses, Blocks())) == goal


def test_channels_beside_the_stream_stay():
    """They could be cut alone, but then the identity layer would be one more layer."""
    groups = {group.name: group for group in analysed(encoder(**ENDS["both"])).groups}
    assert str(groups["e"].frozen) == "x0 begins or ends a residual stream"
    assert str(groups["n2.projection"].frozen) == "y is a graph output"


@pytest.mark.parametrize(
    "ends",
    [
        dict(head="y = MatMul(n2, y_w)"),  # its ends are layers already
        dict(head="s = LayerNormalization(n2, g)  y = MatMul(x2, y_w)"),  # a layer reads what the norms subtract
        dict(head="s = Softmax(x2)  y = MatMul(s, y_w)"),  # so does another op
        dict(head="a = MatMul(n2, y_w)  y = Concat<axis=-1>(a, x2)"),
    ],
)
def test_other_streams_are_left_alone(ends):
    assert not analysed(encoder(**ends)).typing.identities


def test_an_output_that_only_scales_is_read_in_the_streams_own_channels():
    """RMSNorm leaves the mean in the stream, so that layers may read it raw."""
    model = encoder(RMS, False, head="y = Identity(x2)")
    assert [group.name for group in mixed(model)] == ["e"]
    result = reconstruct(model, "e")
    small, twin = (engine(m)(tokens(9))["y"] for m in (result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


POSTNORM = {
    "read by layers": dict(),
    "moved": dict(head="t = Transpose<perm=[1,0,2]>(n2)  y = MatMul(t, y_w)"),
    "an output": dict(head="y = Identity(n2)"),
    "in parts": dict(
        head="a, b = Split<axis=1>(n2, parts)  c = MatMul(a, y_w)  d = MatMul(b, v_w)  y = Concat<axis=1>(c, d)",
        parts=np.array([2, 3]),
        v_w=(WIDTH, 7),
    ),
    "in parts by others": dict(
        head="a, b = Split<axis=1>(n2, p)  r = Relu(b)  c = MatMul(a, y_w)  d = MatMul(r, z)  y = Concat<axis=1>(c, d)",
        p=np.array([2, 3]),
        z=(WIDTH, 7),
    ),
    "with positions": dict(
        head="q = Add(n2, places)  k = MatMul(q, y_w)  v = MatMul(n2, v_w)  y = Add(k, v)", v_w=(WIDTH, 7)
    ),
}


OTHERS = {"in parts by others", "an output", "with positions"}
"""Where something else than layers reads the last norm."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", POSTNORM)
def test_each_norm_of_a_postnorm_transformer_ends_a_stream_and_begins_one(head, kind):
    """The layers that read a norm read it in the channels of the stream that it ends."""
    model = postnorm(*kind, hidden=WIDE, **POSTNORM[head])
    streams = [group.name for group in mixed(model)]
    assert len(streams) == 3
    result = reconstruct(model, f"({'|'.join(streams)})")
    shapes = {t.name: list(t.dims) for t in result.model.graph.initializer}
    assert [shapes[name] for name in ("table", "u_w0", "d_w0", "u_w1", "d_w1")] == [
        [TOKENS, 6], [6, WIDE], [WIDE, 6], [6, WIDE], [WIDE, 6],
    ]  # fmt: skip
    assert [shapes[name] for name in names(result.model)] == [
        [6, 6],
        [6, 6],
        *([[6, WIDTH]] if head in OTHERS else []),
    ]
    small, twin = (engine(m)(tokens(9))["y"] for m in (result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


@pytest.mark.parametrize("settings", [dict(lossless=True), dict(keep=0.6), dict(keep=0.6, method="prune")])
def test_no_layer_is_left_in_a_postnorm_transformer_whose_streams_stay_whole(settings):
    model = postnorm(hidden=WIDE)
    chosen = CompressSettings(**{"method": "reconstruct", "allocation": "uniform", **settings})
    result = compress(model, chosen, samples=CalibrationSamples(tokens(64), True, engine))
    assert not names(result.model) and tensors(result.model) == tensors(model)
    assert [plan.group.size for plan in result.plans if plan.shrinks] == ([] if "lossless" in settings else [WIDE] * 2)


def test_reasons_name_what_is_in_the_model():
    """A norm without a name is called by its output. An identity layer stands behind this one."""
    found = analysed(postnorm(hidden=WIDE, s0=np.full(WIDTH, np.inf, np.float32)))
    assert [str(group.frozen) for group in found.groups if group.name == "e"] == [
        "n0 (LayerNormalization) normalises over it"
    ]
    assert found.typing.identities == {"n0.projection", "n1.projection"}


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_one_stream_of_a_postnorm_transformer_is_cut_alone(cut):
    """The layers beside it lead from its channels to all, and back. Others are gone, and cost nothing."""
    model = postnorm(hidden=WIDE)
    found = analysed(model)
    stream = [group for group in found.groups if group.normalised is not None][cut]
    result = reconstruct(model, stream.name)
    assert len(names(result.model)) == (2 if cut == 1 else 1)
    assert macs_footprint(found.typing).at({stream.atom: 6}) == cost(Graph(result.model)).macs
    small, twin = (engine(m)(tokens(9))["y"] for m in (result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


def test_narrow_blocks_are_not_worth_a_layer():
    assert not analysed(postnorm(hidden=6)).typing.identities
    assert not analysed(prenorm(hidden=6, **{**CONSTANTS, **ENDS["both"]})).typing.identities


@pytest.mark.parametrize(("features", "layers"), [(8, 0), (8 * WIDTH, 1)])
def test_a_norm_of_heads_is_worth_a_layer_only_beside_many_weights_of_each(features, layers):
    """The layer would run once for each of the three heads."""
    body = f"""net (float[N,5,{features}] x) => (float[] y) {{
        a = MatMul(x, a_w)  h = Reshape(a, heads)  n = LayerNormalization(h, g)  s = Relu(n)
        r = Reshape(s, flat)  y = MatMul(r, y_w) }}"""
    sizes = dict(heads=np.array([0, 0, 3, WIDTH]), flat=np.array([0, 0, 3 * WIDTH]), y_w=(3 * WIDTH, 7))
    model = net(body, 17, g=(WIDTH,), a_w=(features, 3 * WIDTH), **sizes)
    assert len(analysed(model).typing.identities) == layers


def test_no_two_nodes_get_one_name():
    model = encoder(**ENDS["both"])
    for node in model.graph.node:
        node.name = "x0.projection" if node.output[0] == "r0" else node.output[0]
    result = reconstruct(model, next(group.name for group in mixed(model)))
    assert sum(name.startswith("x0.projection") for name in (node.name for node in result.model.graph.node)) == 2
    small, twin = (engine(m)(tokens(9))["y"] for m in (result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


def test_a_stream_of_unknown_shape_is_left_alone():
    start = "size = custom.Size(e)  dims = Cast<to=7>(size)  x0 = Reshape(e, dims)"
    assert not analysed(encoder(start=start, head="y = Identity(n2)")).typing.identities


def test_what_a_stream_would_need_is_left_to_layers_where_it_stays_whole():
    """Even where hidden units lose nothing, so that a tighter budget would do."""
    found = analysed(encoder(**ENDS["both"]))
    live = [group for group in found.groups if not group.frozen]
    pool = BudgetScope(found.typing, live, {}, macs_footprint(found.typing))
    goal = pool.cost({group.atom: 40 for group in live if group.size == WIDE})
    losses = {group.name: np.linspace(group.normalised is not None, 0, group.size + 1) for group in live}
    assert pool.cost(balanced(pool, goal, losses, Blocks())) == goal
