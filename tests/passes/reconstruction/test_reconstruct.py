"""Reconstruction from samples: exact surgery, exact recovery of what is redundant, and no harm elsewhere."""

import numpy as np
import onnx
import pytest
from architectures import ARCHITECTURES
from netkit import array_of, engine, net
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.layer_pairs.joint_refinement import refine
from passes.pipeline import compress
from passes.reconstruction import layerwise
from passes.reconstruction.layer_regression import regress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.reconstruction_tuning import ReconstructionTuning
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.batchnorm_recalibration import restandardised, transfer_solution
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.moments import Batch
from passes.statistics.segmented_execution import SegmentedRun
from passes.surgery.apply_plan import Solution

NAMES = [
    "flatten-gemm", "nhwc", "prelu-pad", "eca", "grouped", "attention-separate", "einsum-attention",
    "dense-concat", "depthwise", "c2f", "residual",
]  # fmt: skip


def samples_for(model, count=24, seed=0, real=True, **options):
    rng = np.random.default_rng(seed)
    constants = {t.name for t in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in constants:
            dims = [d.dim_value or count for d in value.type.tensor_type.shape.dim]
            feeds[value.name] = rng.standard_normal([count, *dims[1:]]).astype(np.float32)
    return CalibrationSamples(feeds, real, engine, **options)


def tuned(**changes):
    return Tuning(reconstruction=ReconstructionTuning(**changes))


LAYER_BY_LAYER = tuned(pair_operations=0.0)


def reconstruct(model, keep=0.5, samples=None, tuning=TUNING, **settings):
    samples = samples or samples_for(model)
    chosen = CompressSettings(keep=keep, method="reconstruct", select="auto", **settings)
    return compress(model, chosen, samples=samples, tuning=tuning)


def run(model, feeds):
    return np.concatenate([np.ravel(v) for v in engine(model)(feeds).values()])


@pytest.mark.parametrize("name", NAMES)
def test_the_shrunk_model_equals_its_twin(name):
    model = ARCHITECTURES[name].model
    samples = samples_for(model)
    result = reconstruct(model, samples=samples)
    assert any(plan.method == "reconstruct" for plan in result.plans)
    a, b = run(result.model, samples.feeds), run(result.twin(), samples.feeds)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


CHAIN = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)  y = Conv(br, y_w, y_b)
}"""


def chain(**weights):
    sizes = dict(a_w=(12, 6, 1, 1), a_b=(12,), b_w=(16, 12, 3, 3), b_b=(16,), y_w=(5, 16, 1, 1), y_b=(5,))
    return net(CHAIN, **{**sizes, **weights})


def test_what_is_redundant_is_recovered():
    """Six channels are mixtures of six others that no Relu bends: no cosine shows that, samples do."""
    rng = np.random.default_rng(0)
    base = np.abs(rng.standard_normal((6, 6, 1, 1))).astype(np.float32)
    mixed = np.einsum("kc,cijl->kijl", np.abs(rng.standard_normal((6, 6))), base).astype(np.float32)
    model = chain(a_w=np.concatenate([base, mixed]), a_b=np.zeros(12, np.float32))
    samples = samples_for(model)
    samples.feeds["x"][:] = np.abs(samples.feeds["x"])
    before = run(model, samples.feeds)
    settings = dict(keep=1.0, keep_layers=(("^a$", 0.5),))
    after = run(reconstruct(model, samples=samples, **settings).model, samples.feeds)
    np.testing.assert_allclose(after, before, atol=2e-2 * np.abs(before).max())


DECODER = """net (float[N,6,5,5] x) => (float[N,4,P,Q] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
    b = ConvTranspose<strides=[2,2],pads=[1,1,1,1],output_padding=[1,1]>(ar, b_w, b_b)  br = Relu(b)
    y = ConvTranspose<strides=[2,2],pads=[2,1,0,1]>(br, y_w, y_b)
}"""


def decoder(**weights):
    sizes = dict(a_w=(12, 6, 3, 3), a_b=(12,), b_w=(12, 10, 3, 3), b_b=(10,), y_w=(10, 4, 2, 2), y_b=(4,))
    return net(DECODER, **{**sizes, **weights})


def test_transposed_convolutions_are_solved_for():
    """The decoder's weights come back from anything, where no channel goes and nothing is solved together."""
    model = decoder()
    typing = analyse(model, (), None, Quiet()).typing
    layer = next(found for found in solvable_layers(typing).values() if found.node.label == "b")
    feeds = samples_for(model, 64).feeds
    flow = SegmentedRun(model, [{"x": x} for x in np.split(feeds["x"], 4)], engine)
    flow.reach(layer.output, [layer.data])
    batches = [Batch(live[layer.data], live[layer.output]) for live in flow.live]
    found = regress(layer, np.zeros((12, 10, 3, 3), np.float32), batches, engine)
    np.testing.assert_allclose(found.weights, array_of(model, "b_w"), atol=1e-3)
    np.testing.assert_allclose(found.bias, array_of(model, "b_b"), atol=1e-3)
    assert found.error < 1e-5 and found.strength <= 1e-3


def test_a_decoder_equals_its_twin():
    model = decoder()
    samples = samples_for(model)
    result = reconstruct(model, samples=samples)
    assert {"b", "y"} <= result.solution.errors.keys()
    a, b = run(result.model, samples.feeds), run(result.twin(), samples.feeds)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("make", [chain, decoder])
@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_it_comes_closer_than_a_merge(keep, make):
    model = make()
    seen, new = samples_for(model, 64), samples_for(model, 64, seed=1).feeds
    before = run(model, new)
    error = {
        method: np.linalg.norm(
            run(compress(model, CompressSettings(keep=keep, method=method), samples=seen).model, new) - before
        )
        for method in ("merge", "reconstruct")
    }
    assert error["reconstruct"] < 0.8 * error["merge"]


def overridden_bias(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("b_b", onnx.TensorProto.FLOAT, [16]))
    return model


BIASES = {
    "from callers": lambda: overridden_bias(chain(y_b=(5,))),
    "from the data": lambda: net(
        "net (float[N,6] x) => (float[N,5] y) { h = Gemm(x, h_w)  a = Gemm(x, a_w)  r = Relu(a)  b = Gemm(r, b_w, h)  "
        "s = Relu(b)  y = Gemm(s, y_w) }", h_w=(6, 16), a_w=(6, 12), b_w=(12, 16), y_w=(16, 5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BIASES)
def test_a_bias_that_is_not_known_is_not_solved_for(name):
    model = BIASES[name]()
    samples = samples_for(model)
    result = reconstruct(model, samples=samples)
    assert result.plans[0].shrinks
    a, b = run(result.model, samples.feeds), run(result.twin(), samples.feeds)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


def test_a_vector_is_no_batch_of_rows():
    """The first row goes on alone: its values are channels, however many rows there are."""
    body = """net (float[N,6] x) => (float[3] y) {
        a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)  v = Gather<axis=0>(br, row)
        y = MatMul(v, y_w)
    }"""
    model = net(body, 17, a_w=(6, 16), b_w=(16, 8), y_w=(8, 3), row=np.array(0))
    typing = analyse(model, (), None, Quiet(), engine).typing
    assert [layer.node.label for layer in solvable_layers(typing).values()] == ["a", "b"]
    samples = CalibrationSamples({"x": np.random.default_rng(0).standard_normal((64, 6), np.float32)}, True, engine)
    result = reconstruct(model, samples=samples)
    assert result.plans[0].shrinks and not result.notes


def test_the_error_is_reported():
    result = reconstruct(chain())
    errors = {plan.group.name: plan.error for plan in result.plans}
    assert 0 < errors["a"] < 1 and errors["y"] is None
    assert 0 < result.solution.ware < 1
    assert compress(chain(), CompressSettings(keep=0.5)).solution.ware is None


def test_the_same_seed_gives_the_same_bits():
    one, two = (reconstruct(chain()).model.SerializeToString(deterministic=True) for _ in range(2))
    assert one == two


def test_planted_copies_merge_losslessly():
    rng = np.random.default_rng(3)
    half = rng.standard_normal((6, 6, 1, 1)).astype(np.float32)
    model = chain(a_w=np.concatenate([half, 2 * half]), a_b=np.zeros(12, np.float32))
    samples = samples_for(model)
    result = reconstruct(model, 1.0, samples, keep_layers=(("^a$", 0.5),))
    before = run(model, samples.feeds)
    np.testing.assert_allclose(run(result.model, samples.feeds), before, atol=1e-5 * np.abs(before).max())


def test_memory_bounds_the_samples():
    result = reconstruct(chain(), samples=samples_for(chain(), 64, memory=10**6))
    assert any("of 64 samples" in note for note in result.notes)


def test_too_few_samples_merge_by_weights():
    result = reconstruct(chain(), samples=samples_for(chain(), 1))
    assert "too few samples" in result.notes[-1]
    assert {plan.method for plan in result.plans} <= {"merge", "prune", "none"}


NORMED = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w)  an = BatchNormalization(a, a_scale, a_bias, a_mean, a_var)  ar = Relu(an)
    b = Conv<pads=[1,1,1,1]>(ar, b_w)  bn = BatchNormalization(b, b_scale, b_bias, b_mean, b_var)  br = Relu(bn)
    y = Conv(br, y_w, y_b)
}"""
NORMED_SIZES = dict(a_w=(12, 6, 1, 1), b_w=(16, 12, 3, 3), y_w=(5, 16, 1, 1), y_b=(5,), **{
    f"{n}_{part}": (size,) for n, size in (("a", 12), ("b", 16)) for part in ("scale", "bias", "mean", "var")
})  # fmt: skip


def normed(transposed=False):
    nodes, sizes = NORMED, NORMED_SIZES
    if transposed:
        nodes = nodes.replace("b = Conv<", "b = ConvTranspose<")
        sizes = {**sizes, "b_w": (12, 16, 3, 3)}
    return net(nodes, **sizes)


def test_norms_standardise_by_the_samples():
    model = normed()
    analysis = analyse(model, (), None, Quiet())
    feeds = samples_for(model, 32).feeds
    seen = restandardised(analysis.before, analysis.typing, [feeds], engine)
    probe = normed()
    folded = seen.graph.model
    folded.graph.output.extend(type(probe.graph.output[0])(name=n) for n in ("an", "bn"))
    found = engine(folded)(feeds)
    for name, n in (("an", "a"), ("bn", "b")):
        values = found[name]
        np.testing.assert_allclose(values.mean((0, 2, 3)), array_of(model, f"{n}_bias"), atol=2e-3)
        np.testing.assert_allclose(values.std((0, 2, 3)), np.abs(array_of(model, f"{n}_scale")), rtol=2e-3)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_solution_that_changes_nothing_is_transferred_to_the_own_weights(transposed):
    model = normed(transposed)
    analysis = analyse(model, (), None, Quiet())
    seen = restandardised(analysis.before, analysis.typing, [samples_for(model, 32).feeds], engine)
    node = next(n for n in seen.graph.nodes if "b_w" in n.inputs)
    same = Solution({"b_w": seen.graph.array("b_w")}, {(node.outputs[0], 2): seen.graph.array(node.inputs[2])})
    moved = transfer_solution(same, seen, analysis.typing)
    np.testing.assert_allclose(moved.weights["b_w"], analysis.typing.graph.array("b_w"), rtol=1e-5)
    np.testing.assert_allclose(
        moved.biases[node.outputs[0], 2], analysis.typing.graph.array(node.inputs[2]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_synthetic_samples_of_a_normed_network(transposed):
    model = normed(transposed)
    samples = samples_for(model, 64, real=False)
    result = reconstruct(model, samples=samples)
    a, b = run(result.model, samples.feeds), run(result.twin(), samples.feeds)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


def unseen_error(model, count=128, keep=0.5, **settings):
    """Of the outputs on samples that were not seen, relative."""
    seen, new = samples_for(model, count), samples_for(model, count, seed=1).feeds
    before, after = run(model, new), run(reconstruct(model, keep, seen, **settings).model, new)
    return np.linalg.norm(after - before) / np.linalg.norm(before)


def both_errors(model, **settings):
    """(refined, layer by layer)."""
    return [unseen_error(model, tuning=tuning, **settings) for tuning in (TUNING, LAYER_BY_LAYER)]


@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_two_layers_at_once_come_closer_on_unseen_samples(keep):
    refined, layered = both_errors(chain(), keep=keep)
    assert refined < 0.95 * layered


@pytest.mark.parametrize("count, least, most", [(512, 0.1, 0.11), (4, 0.5, 1.0)])
def test_few_samples_hold_a_pair_near_its_layers(monkeypatch, count, least, most):
    """Many samples determine the first regression, and few do not: its ridge is then strong, and so is the damping."""
    seen = []

    def caught(pair, blocks, *given):
        seen.append([block.damping for block in blocks])
        return refine(pair, blocks, *given)

    monkeypatch.setattr(layerwise, "refine", caught)
    reconstruct(chain(), samples=samples_for(chain(), count))
    assert seen[0][0] == 0.1  # the first layer is not solved before: it reads what it always read
    assert least <= seen[0][1] <= most


def test_the_reported_error_is_that_of_both_layers():
    errors = {plan.group.name: plan.error for plan in reconstruct(chain()).plans}
    alone = {plan.group.name: plan.error for plan in reconstruct(chain(), tuning=LAYER_BY_LAYER).plans}
    assert 0 < errors["a"] < alone["a"] and 0 < errors["b"] < alone["b"]


STAGES = {
    "leaky": "z = LeakyRelu<alpha=0.1>(a)",
    "prelu": "z = PRelu(a, s)",
    "silu": "g = Sigmoid(a) z = Mul(a, g)",
    "clip": "z = Clip(a, , s_top)",
    "scaled": "r = Relu(a) z = Mul(r, s)",
    "none": "",
    "depthwise": "r = Relu(a) d = Conv<group=12,pads=[1,1,1,1]>(r, d_w) z = Relu(d)",
    "max-pool": "r = Relu(a) z = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r)",
    "average-pool": "z = AveragePool<kernel_shape=[2,2],strides=[2,2]>(a)",
    "global": "r = Relu(a) z = GlobalAveragePool(r)",
    "strided": "r = Relu(a) b = Conv<strides=[2,2],pads=[1,0,0,1]>(r, b_w) z = Relu(b)",
    "dilated": "r = Relu(a) b = Conv<dilations=[2,2],pads=[1,2,1,2]>(r, b_w, b_b) z = Relu(b)",
    "residual": "r = Relu(a) b = Conv<pads=[1,1,1,1]>(r, b_w) c = Conv(x, c_w) t = Add(b, c) z = Relu(t)",
    "inception": "r = Relu(a) b = Conv<pads=[1,1,1,1]>(r, b_w) c = Conv(r, c_w) t = Concat<axis=1>(b, c) z = Relu(t)",
}
STAGE_SIZES = dict(
    a_w=(12, 6, 3, 3), a_b=(12,), s=(12, 1, 1), s_top=np.array(0.7, np.float32), d_w=(12, 1, 3, 3),
    b_w=(10, 12, 3, 3), b_b=(10,), c_w=(10, 12, 1, 1), y_w=(5, 12, 3, 3), y_b=(5,),
)  # fmt: skip
HEADS = {
    "flatten": "r = Relu(a) z = Flatten(r) y = Gemm<transB=1>(z, y_w, y_b)",
    "mean": "r = Relu(a) z = ReduceMean<axes=[2,3],keepdims=0>(r) y = Gemm<transB=1>(z, y_w, y_b)",
}


def staged(name):
    sizes = dict(STAGE_SIZES)
    if name in HEADS:
        sizes["y_w"] = (5, 12 * 64 if name == "flatten" else 12)
        body, y = HEADS[name], "5"
    else:
        sizes["c_w"] = (10, 6 if name == "residual" else 12, 1, 1)
        sizes["y_w"] = (5, {"strided": 10, "dilated": 10, "residual": 10, "inception": 20}.get(name, 12), 3, 3)
        body = f"{STAGES[name]} y = Conv<pads=[1,1,1,1]>({'z' if STAGES[name] else 'a'}, y_w, y_b)"
        y = "5,P,Q"
    read = {n: size for n, size in sizes.items() if n[0] == "a" or f" {n}" in body}
    return net(f"net (float[N,6,8,8] x) => (float[N,{y}] y) {{ a = Conv<pads=[1,1,1,1]>(x, a_w, a_b) {body} }}", **read)


@pytest.mark.parametrize("name", [*STAGES, *HEADS])
def test_refined_with_every_stage_the_shrunk_model_equals_its_twin(name):
    model = staged(name)
    samples = samples_for(model, 32)
    result = reconstruct(model, samples=samples)
    assert any(plan.method == "reconstruct" for plan in result.plans)
    a, b = run(result.model, samples.feeds), run(result.twin(), samples.feeds)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("name", [n for n in (*STAGES, *HEADS) if n != "flatten"])
def test_refining_does_no_harm(name):
    refined, layered = both_errors(staged(name), count=64)
    assert refined < 1.01 * layered


def joined(first):
    """Two branches into a Relu that is mostly open, one mostly negative; the other comes ``first``, or last."""
    short, main = "s = Conv(x, s_w, s_b)", "a = Conv(x, a_w, a_b) r = Relu(a) m = Conv<pads=[1,1,1,1]>(r, m_w, m_b)"
    nodes = f"{short} {main}" if first else f"{main} {short}"
    body = f"{nodes} t = Add(m, s) q = Relu(t) y = Conv(q, y_w, y_b)"
    sizes = dict(a_w=(12, 6, 1, 1), a_b=(12,), m_w=(8, 12, 3, 3), s_w=(8, 6, 1, 1), y_w=(5, 8, 1, 1), y_b=(5,))
    shifts = {"m_b": np.full(8, -2, np.float32), "s_b": np.full(8, 3, np.float32)}
    return net(f"net (float[N,6,8,8] x) => (float[N,5,8,8] y) {{ {body} }}", **shifts, **sizes)


def test_what_is_added_later_is_not_taken_for_nothing():
    one, two = (unseen_error(joined(f), 64, 1.0, keep_layers=(("^a$", 0.5),)) for f in (True, False))
    assert two < 1.03 * one


def test_one_bias_for_all_channels():
    body = "a = Gemm(x, a_w, a_b) r = Relu(a) b = Gemm(r, b_w, b_b) z = Relu(b) y = Gemm(z, y_w)"
    sizes = dict(a_w=(6, 12), a_b=(1,), b_w=(12, 10), b_b=(1,), y_w=(10, 4))
    refined, layered = both_errors(net(f"net (float[N,6] x) => (float[N,4] y) {{ {body} }}", **sizes))
    assert refined < 1.01 * layered


def test_rows_of_a_sequence_count_like_samples():
    body = "a_m = MatMul(x, a_w) a = Add(a_m, a_b) r = Relu(a) y_m = MatMul(r, y_w) y = Add(y_m, y_b)"
    sizes = dict(a_w=(24, 48), a_b=(48,), y_w=(48, 24), y_b=(24,))
    errors = [
        unseen_error(net(f"net (float[N,{t}24] x) => (float[N,{t}24] y) {{ {body} }}", **sizes), count)
        for t, count in (("", 512), ("2,", 256))
    ]
    assert errors[1] < 1.05 * errors[0]


def test_a_layer_made_again_is_what_the_model_gives_with_its_new_weights():
    model = chain()
    feeds = samples_for(model, 8).feeds
    flow = SegmentedRun(model, [{"x": feeds["x"][:4]}, {"x": feeds["x"][4:]}], engine)
    flow.before("y", {"x", "ar"})
    before = flow.live[0]["ar"].copy()
    new = {"a_w": 2 * array_of(model, "a_w"), "b_w": -array_of(model, "b_w")}
    flow.arrays.update(new)
    flow.shifts["b", 2] = np.linspace(-1, 1, 16, dtype=np.float32)
    flow.again("br", "b")
    expected = engine(with_output(chain(b_w=new["b_w"], b_b=flow.shifts["b", 2]), "br"))(feeds)["br"]
    np.testing.assert_allclose(np.concatenate([live["br"] for live in flow.live]), expected, atol=1e-5)
    assert np.array_equal(flow.live[0]["ar"], before)
    flow.again("br", "a")
    expected = engine(with_output(chain(**new, b_b=flow.shifts["b", 2]), "br"))(feeds)["br"]
    np.testing.assert_allclose(np.concatenate([live["br"] for live in flow.live]), expected, atol=1e-5)


def with_output(model, name):
    model.graph.output.add(name=name)
    return model


def test_a_record_that_is_of_other_activations_is_not_used():
    """The norms say that channels lie far from where the samples put them, some above zero and some below."""
    wrong = np.where(np.arange(12) % 2, 30, -30).astype(np.float32)
    model = net(NORMED, **{**NORMED_SIZES, "a_mean": wrong})
    samples = samples_for(model, 64, real=False)
    before = run(model, samples.feeds)
    result = reconstruct(model, samples=samples, tuning=tuned(diverged=0.5))
    assert result.notes == ("the statistics of BatchNormalization do not fit the samples: they were not used",)
    assert np.linalg.norm(run(result.model, samples.feeds) - before) < 0.5 * np.linalg.norm(before)
    result = reconstruct(model, samples=samples, tuning=tuned(diverged=0.0))
    assert result.notes[-1] == "the outputs diverge on the samples: merged by weights"
    assert not any(plan.method == "reconstruct" for plan in result.plans)


def test_a_unit_that_is_too_wide_stays_as_it_was_solved():
    refined = reconstruct(chain()).solution.errors
    result = reconstruct(chain(), tuning=tuned(pair_operations=1e3))
    assert all(error > refined[layer] for layer, error in result.solution.errors.items())
    assert "were not solved together" in result.notes[0] and "would take too long" in result.notes[0]


def test_large_models_get_fewer_made_up_samples():
    few = tuned(made_up_multiply_adds=1.0)
    made_up, real = (
        reconstruct(chain(), samples=samples_for(chain(), 64, real=flag), tuning=few).notes for flag in (False, True)
    )
    assert made_up == ("reconstructed from 32 of 64 made-up samples: more take long for a model of this size",)
    assert real == ()


def test_nodes_with_names_may_stand_between_the_layers_of_a_unit():
    body = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
        a = Conv(x, a_w, a_b)  s = Sigmoid(a)  m = Mul(a, s)  y = Conv(m, y_w, y_b)
    }"""
    model = net(body, a_w=(12, 6, 1, 1), a_b=(12,), y_w=(5, 12, 1, 1), y_b=(5,))
    unnamed = reconstruct(model).model
    for index, node in enumerate(model.graph.node):
        node.name = f"node {index}"
    named = reconstruct(model).model
    assert array_of(named, "y_w").shape[1] < 12
    contents = ([t.raw_data for t in found.graph.initializer] for found in (named, unnamed))
    assert next(contents) == next(contents)
