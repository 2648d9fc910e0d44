"""The runner: it goes through passes in order, names the one that fails, and checks the graph after each."""

import contextvars
import pickle
import time
from dataclasses import dataclass

import onnx
import onnx.parser
import pytest

from passes.interface.errors import PassError, RunError
from passes.interface.model_pass import PassResult, WorkingModel
from passes.interface.runner import GraphCheckError, StageTimer, checking_graphs, run_passes


@dataclass(frozen=True)
class Count:
    value: int


class Step:
    """A pass that does what ``action`` says."""

    def __init__(self, name, action, requires=()):
        self.name, self.action, self.requires = name, action, requires

    def run(self, model):
        return self.action(model)


def model(nodes="y = Relu(x)", ir_version=8):
    text = f'<ir_version: {ir_version}, opset_import: ["" : 17]> net (float[N,3] x) => (float[N,3] y) {{ {nodes} }}'
    return WorkingModel(onnx.parser.parse_model(text))


def rewritten(nodes, **options):
    return Step("rewrite", lambda m: PassResult(m.having(model(nodes, **options).proto), changed=True))


def fails(error):
    def action(_):
        raise error

    return Step("fails", action)


UNCHANGED = Step("nothing", PassResult)
COUNT = Step("count", lambda m: PassResult(m.knowing(Count(len(m.proto.graph.node))), reasons={"y": "a"}, notes=("n",)))
UNSOUND = "y = Relu(nowhere)"


def test_facts_reasons_and_notes_of_all_passes_are_returned():
    second = Step("second", lambda m: PassResult(m, reasons={"z": "b"}, notes=("o",)), (Count,))
    result = run_passes([COUNT, second], model("t = Relu(x) y = Relu(t)"))
    assert result.model[Count] == Count(2) and not result.changed
    assert result.reasons == {"y": "a", "z": "b"} and result.notes == ("n", "o")
    assert run_passes([rewritten("y = Neg(x)"), UNCHANGED], model()).changed


def test_what_is_given_stays_as_it_is():
    given = model()
    run_passes([COUNT, rewritten("y = Neg(x)")], given)
    assert given == model() and given.get(Count) is None


def test_a_later_fact_replaces_the_earlier_of_its_type():
    assert model().knowing(Count(1)).knowing(Count(2))[Count] == Count(2)


def test_what_a_pass_requires_must_be_known():
    with pytest.raises(PassError, match="pass 'needy' requires Count: run the pass that finds it first"):
        run_passes([UNCHANGED, Step("needy", PassResult, (Count,)), COUNT], model())
    with pytest.raises(PassError, match="Count of the model is not known"):
        model()[Count]


@pytest.mark.parametrize("error", [PassError("no such layer"), RunError("too large"), KeyError("y")])
def test_the_failing_pass_is_named_and_the_error_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught:
        run_passes([UNCHANGED, COUNT, fails(error)], model())
    assert caught.value is error and error.__notes__ == ["in pass 'fails', after nothing, count"]


def test_the_first_pass_has_none_before_it():
    with pytest.raises(ValueError, match="odd") as caught:
        run_passes([fails(ValueError("odd"))], model())
    assert caught.value.__notes__ == ["in pass 'fails', the first"]


def test_a_pass_that_makes_an_invalid_graph_is_named():
    with pytest.raises(GraphCheckError, match="pass 'rewrite' made an invalid graph: .*nowhere"):
        run_passes([UNCHANGED, rewritten(UNSOUND)], model())


def test_a_graph_that_was_invalid_before_is_no_fault_of_a_pass():
    assert run_passes([rewritten(UNSOUND)], model(UNSOUND)).changed


def test_initializers_need_not_be_inputs_between_passes():
    """As they had to be up to IR 3: the last pass sees to it."""

    def with_weight(given):
        changed = model("y = Add(x, w)", ir_version=3).proto
        changed.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [3], [1, 2, 3]))
        return PassResult(given.having(changed), changed=True)

    assert run_passes([Step("weight", with_weight)], model(ir_version=3)).changed


def unsound_elsewhere(wanted):
    """An unsound pass in a context of its own, where graphs are checked if ``wanted``."""

    def run():
        with checking_graphs(wanted):
            return run_passes([rewritten(UNSOUND)], model())

    return contextvars.Context().run(run)


def test_graphs_are_checked_where_that_is_wanted():
    assert unsound_elsewhere(False).changed
    with pytest.raises(GraphCheckError):
        unsound_elsewhere(True)


def test_a_block_inside_does_not_end_the_checks_of_the_one_around_it():
    with checking_graphs(), checking_graphs(False), pytest.raises(GraphCheckError):
        run_passes([rewritten(UNSOUND)], model())


def test_every_pass_is_a_stage():
    shown = []
    timer = StageTimer(shown.append)
    run_passes([UNCHANGED, COUNT, UNCHANGED], model(), timer)
    assert shown == ["nothing", "count", "nothing"] and list(timer.seconds) == ["nothing", "count"]
    assert pickle.loads(pickle.dumps(timer)).seconds == {}, "times belong to the process"


def test_stages_that_are_entered_again_are_summed():
    timer = StageTimer()
    for _ in range(2):
        with timer("convert"):
            time.sleep(0.01)
    assert timer.total()["total"] >= timer.seconds["convert"] >= 0.02
