"""A reason is a value: its text names the place, its general form is the same wherever it holds."""

import pytest
from architectures import ARCHITECTURES
from netkit import observer
from reasontexts import without_names
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.analysis.ungrouped import every_ungrouped
from passes.axes import algebra
from passes.channels.scale_propagation import obstacle
from passes.interface.reason import INSIDE, KINDS, NODE, OUTPUT, TENSOR, Reason, axis_of, overridden, planned, text
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.settings.compress import CompressSettings, exclusions

READ_BY = Reason("norm", "y", "its output is read by", "Relu", "/r")
OTHERS = Reason("norm", "x", "its input has other readers", place="/l")
CASES = [
    (Reason("operator", "/a", "normalises over it", "Softmax"), "/a (Softmax) normalises over it"),
    (
        Reason("operator", "/r", f"takes a size from {TENSOR}, whose numbers cannot be corrected", "Reshape", "n"),
        "/r (Reshape) takes a size from n, whose numbers cannot be corrected",
    ),
    (Reason("scale", "/act/Erf", "", "Erf"), "no scale passes through /act/Erf (Erf)"),
    (Reason("size", "/r", "", "Reshape", axis_of("/x", 2)), "/r (Reshape) computes with the size of axis 2 of /x"),
    (Reason("size", "", "", OUTPUT, axis_of("x", 2)), "the graph's output computes with the size of axis 2 of x"),
    (
        Reason("size", "", "", "a control-flow body", axis_of("x", 0)),
        "a control-flow body computes with the size of axis 0 of x",
    ),
    (Reason("size", "", "is dynamic", place=axis_of("x", 2)), "axis 2 of x is dynamic"),
    (Reason("tensor", "logits", "is a graph output"), "logits is a graph output"),
    (Reason("tensor", "h", INSIDE), "h is read inside a control-flow body"),
    (Reason("tensor", "h", "comes from outside its control-flow body"), "h comes from outside its control-flow body"),
    (Reason("tensor", "p", "is an output of its control-flow body"), "p is an output of its control-flow body"),
    (Reason("tensor", "w", "is read outside its control-flow body too"), "w is read outside its control-flow body too"),
    (overridden("w"), "w may be overridden by callers"),
    (Reason("layer", "/qk", "multiplies two activations"), "/qk multiplies two activations"),
    (Reason("layer", "/l", "feeds them back to itself"), "/l feeds them back to itself"),
    (Reason("layer", "/m", f"the shape of what {NODE} makes is unknown"), "the shape of what /m makes is unknown"),
    (Reason("weights", "/l", "weights are quantised"), "the weights of /l are quantised"),
    (Reason("weights", "/l", "bias differs from sample to sample"), "the bias of /l differs from sample to sample"),
    (Reason("weights", "/l", "constant is shared", place="w"), "w of /l is shared"),
    (Reason("constant", "w", "is read by several nodes"), "w is read by several nodes"),
    (Reason("norm", "", "it is in training mode"), "it is in training mode"),
    (
        Reason("norm", "x", "its input does not come from a layer with weights"),
        "x does not come from a layer with weights",
    ),
    (Reason("norm", "y", "nothing reads its output"), "nothing reads y"),
    (Reason("norm", "y", "its output is read from outside"), "y is read from outside"),
    (OTHERS, "x is also read by /l"),
    (READ_BY, "y is read by /r (Relu)"),
    (Reason("norm", "", "", causes=(OTHERS, READ_BY)), "x is also read by /l; y is read by /r (Relu)"),
    (Reason("coupled", "/a", "shared by 3 layers", place="/b"), "shared by 3 layers, /a and /b among them"),
    (Reason("coupled", "", "concatenated", place="/c"), "concatenated with other channels in /c"),
    (Reason("excluded", "", "excluded by '^a$'"), "excluded by '^a$'"),
    (planned(f"samples do not show them in {TENSOR}", place="r"), "samples do not show them in r"),
    (planned("pruned only", Reason("scale", "/s", "", "Erf")), "pruned only: no scale passes through /s (Erf)"),
    (algebra.RESHAPE.saying("cuts 12 across 8"), "a reshape cuts 12 across 8"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "words"), CASES, ids=[words for _, words in CASES])
def test_text(reason, words):
    assert text(reason) == str(reason) == words
    assert str(reason.general) == without_names(words)
    assert reason.general.general == reason.general


def test_all_kinds_have_a_text():
    assert {reason.kind for reason, _ in CASES} == set(KINDS) and len(KINDS) <= 12
    assert text(None) is None


def test_reasons_that_differ_by_names_only_are_one_in_general():
    one, other = (Reason("scale", name, "", "Erf") for name in ("/a", "/b"))
    assert one != other and one.general == other.general and one.general != Reason("scale", "/a", "", "Tanh").general
    assert planned("pruned only", one).general == planned("pruned only", other).general


def test_names_stay_as_they_are():
    """Also those that look like a part of a text."""
    odd = Reason("operator", "my (odd) layer", "masks it", "Where")
    assert (str(odd), str(odd.general)) == ("my (odd) layer (Where) masks it", "Where masks it")
    assert str(Reason("layer", TENSOR, "pads")) == f"{TENSOR} pads"
    assert str(Reason("norm", "its output", "nothing reads its output")) == "nothing reads its output"
    failed = Reason("operator", "r", "rule failed: KeyError: '{}'", "Tanh")
    assert str(failed) == "r (Tanh) rule failed: KeyError: '{}'"


def every_reason(found):
    """All that is said of a model by the axes, the folding, the groups, the layers without one, and the plans."""
    for part, _ in found.parts():
        axes = part.typing.axes.values()
        yield from (a.reason for terms_of in axes for term in terms_of for a in algebra.atoms(term))
        yield from part.typing.refused.values()
        yield from part.unfolded.values()
        for group in part.groups:
            yield from (group.frozen, group.coupled, group.unmixable, obstacle(group))
        planner = Planner(part.typing, PlanSettings())
        for settings in (CompressSettings(), CompressSettings(coupled=False)):
            plans = planner.plans(part.groups, exclusions(part.groups, settings), lambda group: group.size // 2 + 1)
            yield from (plan.reason for plan in plans)
    yield from (layer.reason for layer in every_ungrouped(found))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_reason_is_of_a_known_kind_and_grouped_as_its_text(name):
    found = analyse(ARCHITECTURES[name].model, {}, observer, Quiet())
    reasons = {reason for reason in every_reason(found) if reason is not None}
    assert all(type(reason) is Reason and reason.kind in KINDS for reason in reasons)
    assert {str(r.general): r.general for r in reasons} == {without_names(str(r)): r.general for r in reasons}
    assert len({str(r.general) for r in reasons}) == len({r.general for r in reasons})
