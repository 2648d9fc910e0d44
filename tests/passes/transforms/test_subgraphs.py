"""Layers inside If, Loop and Scan shrink like others: the body of a result computes what the body of its twin does."""

import numpy as np
import onnx
import pytest
from architectures import ARCHITECTURES
from netkit import TOLERANCE, check, compressed, feeds, net, observer, session

from passes.allocation.allocator import TargetError
from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.graph.nodes import subgraphs
from passes.interface.errors import PassError
from passes.interface.reason import text
from passes.settings.target import Target
from passes.transforms.canonicalize import canonicalize

NAMES = ["if-layers", "if-recurrent", "loop-layers", "scan-layers", "nested-layers", "if-weights"]
CAPTURED = "{} is read inside a control-flow body"
SHARED = "{} is read outside its control-flow body too"
GIVEN = "{} comes from outside its control-flow body"
RESULT = "{} is an output of its control-flow body"
WIDTHS = {
    "if-layers": {
        "y/then_branch/a": 12,
        "y/then_branch/b": 8,
        "y/then_branch/t": RESULT.format("t"),
        "y/else_branch/a_1": 1,
        "y/else_branch/a_1 #2": 3,
        "y/else_branch/u": RESULT.format("u"),
    },
    "if-recurrent": {
        "c": 4,
        "d": CAPTURED.format("d"),
        "y": "y is a graph output",
        "z/then_branch/an": 5,
        "z/then_branch/l": 4,
        "z/then_branch/t": RESULT.format("t"),
        "z/else_branch/u": RESULT.format("u"),
    },
    "loop-layers": {"a": 6, "b": CAPTURED.format("b"), "y/body/m": 7, "y/body/k": GIVEN.format("b")},
    "scan-layers": {"c": 4, "y": "y is a graph output", "h/body/i": 5, "h/body/j": RESULT.format("next")},
    "nested-layers": {
        "a": 6,
        "b": "y (Loop) has no axis rule",
        "y/body/m": 5,
        "y/body/k": CAPTURED.format("k"),
        "y/body/s": CAPTURED.format("s_w"),
        "y/body/next/then_branch/p": 6,
        "y/body/next/then_branch/q": SHARED.format("s_w"),
        "y/body/next/then_branch/o": SHARED.format("s_w"),
        "y/body/next/then_branch/t": RESULT.format("t"),
        "y/body/next/else_branch/u": RESULT.format("u"),
    },
}
"""By group: the channels that stay of it at half width, or why all of them do."""


def same(model, other, seed=1):
    """Whether two models give the same, to rounding, whichever branch is taken."""
    one, two = session(model), session(other)
    for batch in (1, 3):
        for flag in (True, False):
            inputs = feeds(model, batch, seed)
            if "flag" in inputs:
                inputs["flag"] = np.array(flag)
            for a, b in zip(one.run(None, inputs), two.run(None, inputs), strict=True):
                np.testing.assert_allclose(a, b, atol=TOLERANCE * np.abs(a).max())


@pytest.mark.parametrize("name", WIDTHS)
def test_layers_in_bodies_are_groups_with_the_place_in_their_names(name):
    result = compressed(ARCHITECTURES[name].model, keep=0.5)
    found = {p.group.name: len(p.keep) if p.shrinks else text(p.reason) for p in result.every_plan}
    assert found == WIDTHS[name]


@pytest.mark.parametrize("settings", [{"keep": 0.5}, {"keep": 0.3, "method": "prune"}, {"keep": 0.75}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_shrunk_model_equals_its_twin(name, settings):
    result = compressed(ARCHITECTURES[name].model, **settings)
    assert any(one.shrinks for one in result.inside)
    twin = result.twin()
    check(twin)
    same(twin, result.model)


@pytest.mark.parametrize("name", NAMES)
def test_what_keeps_all_changes_nothing(name):
    model = ARCHITECTURES[name].model
    assert compressed(model, keep=1.0).model == model


@pytest.mark.parametrize("name", NAMES)
def test_bodies_keep_what_they_are_given_and_give(name):
    model = ARCHITECTURES[name].model
    after = compressed(model, keep=0.5).model

    def interfaces(graph):
        for node in graph.node:
            for body in sorted(subgraphs(node), key=lambda graph: graph.name):
                yield [*body.input], [*body.output]
                yield from interfaces(body)

    assert [*interfaces(after.graph)] == [*interfaces(model.graph)]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_unique(name):
    result = compressed(ARCHITECTURES[name].model, keep=0.5)

    def defined(graph):
        yield from (v.name for v in (*graph.initializer, *(i for i in graph.input)))
        for node in graph.node:
            yield from (n for n in node.output if n)
            for body in subgraphs(node):
                yield from defined(body)

    for model in (result.model, result.twin()):
        names = [n for n in defined(model.graph)]
        assert len(names) == len(set(names))


def count(model):
    """Parameters and multiply-adds."""
    found = cost(Graph(canonicalize(model), {}, observer), observer)
    return found.params, found.macs


def test_what_stands_in_bodies_costs_something():
    """Of an If the larger branch counts, of a Loop of three rounds all three."""
    then, other = 12 * 24 + 24 * 16 + 16 * 3, 12 * 10 + 10 * 3
    assert count(ARCHITECTURES["if-layers"].model) == (then + 24 + 16 + 3 + 12 * 10 + 10 + 30, max(then, other))
    once, rounds = 6 * 12 + 12 * 8, 2 * 8 * 14
    assert count(ARCHITECTURES["loop-layers"].model) == (once + 20 + rounds + 22, once + 3 * rounds)


def test_a_constant_that_only_a_body_reads_moves_there():
    """The cut copy has a name that tells where it is; the vector that both branches read stays outside."""
    after = compressed(ARCHITECTURES["if-layers"].model, keep=0.5).model
    assert {t.name for t in after.graph.initializer} == {"ty_b"}
    (then, other) = subgraphs(after.graph.node[0])
    assert {t.name for t in then.initializer} == {
        f"y/then_branch/{n}" for n in ("ta_w", "ta_b", "tb_w", "tb_b", "ty_w")
    }
    assert count(after)[0] == sum(int(np.prod(t.dims)) for t in (*then.initializer, *other.initializer)
                                  if t.data_type == onnx.TensorProto.FLOAT) + 3  # fmt: skip


@pytest.mark.parametrize("kind", ["params", "macs"])
@pytest.mark.parametrize("allocation", ["uniform", "auto"])
@pytest.mark.parametrize("name, near", [("if-layers", 0.1), ("if-recurrent", 0.05), ("loop-layers", 0.05)])
def test_targets_count_the_bodies(name, near, allocation, kind):
    model = ARCHITECTURES[name].model
    result = compressed(model, target=Target(kind, 0.6, near), allocation=allocation)
    before, after = (count(m)[kind == "macs"] for m in (model, result.model))
    assert abs(after / before - 0.6) <= near + 0.01
    same(result.twin(), result.model)


def test_a_target_out_of_reach_is_refused():
    with pytest.raises(TargetError, match="the nearest that can be reached"):
        compressed(ARCHITECTURES["if-layers"].model, target=Target("macs", 0.01))


def test_layers_in_bodies_can_be_named():
    model = ARCHITECTURES["if-layers"].model
    kept = {p.group.name: len(p.keep) for p in compressed(model, keep=0.5, exclude=("then_branch/a$",)).every_plan}
    assert kept["y/then_branch/a"] == 24 and kept["y/then_branch/b"] == 8
    result = compressed(model, keep=1.0, keep_layers=(("then_branch/b", 0.25),))
    assert {p.group.name: len(p.keep) for p in result.every_plan if p.shrinks} == {"y/then_branch/b": 4}
    with pytest.raises(PassError, match="matches no layer"):
        compressed(model, keep=0.5, exclude=("elsewhere",))


def test_what_is_free_in_a_body_goes_without_loss():
    """Two of six hidden units are multiples of others; the branch has its weights as Constant nodes."""
    rng = np.random.default_rng(0)
    first, last = rng.standard_normal((6, 5)).astype(np.float32), rng.standard_normal((4, 6)).astype(np.float32)
    first[4], first[5] = 2 * first[0], 3 * first[1]
    model = net(
        """net (float[N,5] x, bool flag) => (float[N,4] y) {
            y = If(flag) <then_branch = yes () => (float[N,4] t) {
                              a = Gemm<transB=1>(x, a_w)  ar = Relu(a)  t = Gemm<transB=1>(ar, t_w) },
                          else_branch = no () => (float[N,4] u) { u = Gemm<transB=1>(x, u_w) }>
        }""",
        u_w=(4, 5),
    )  # fmt: skip
    branch = next(g for g in subgraphs(model.graph.node[0]) if g.name == "yes")
    weights = [onnx.helper.make_node("Constant", [], [n], value=onnx.numpy_helper.from_array(a, n))
               for n, a in (("a_w", first), ("t_w", last))]  # fmt: skip
    nodes = [*weights, *branch.node]
    del branch.node[:]
    branch.node.extend(nodes)
    result = compressed(model, lossless=True)
    assert {p.group.name: len(p.keep) for p in result.every_plan if p.shrinks} == {"y/then_branch/a": 4}
    same(model, result.model)
    assert result.model.graph.initializer[0].name == "u_w"


def test_other_branches_are_left_as_they_are():
    """What a branch without weights holds is not even renamed."""
    model = ARCHITECTURES["if-weights"].model
    before, after = (
        next(body for node in m.graph.node for body in subgraphs(node) if body.name == "no")
        for m in (model, compressed(model, keep=0.5).model)
    )
    assert before == after
