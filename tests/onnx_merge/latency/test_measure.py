"""Latency measured side by side, with a simulated clock: no test depends on real time."""

import json
from functools import partial

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.cli import compress
from onnx_merge.cli import main as cli
from onnx_merge.compression.benchmark import benchmark, declared_batch
from onnx_merge.compression.optimize import optimize
from onnx_merge.config.options import Options
from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.latency import interleaved_timing, measure
from onnx_merge.latency.interleaved_timing import interleaved
from onnx_merge.latency.measure import Latency, compare_latency, latency_ratio, latency_summary
from onnx_merge.runtime import probing
from onnx_merge.runtime.probing import default_threads
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.compression import TIMING

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
KEYS = ["before_ms", "after_ms", "before_p90_ms", "after_p90_ms", "ratio", "provider", "threads", "batch", "runs"]
WARM_UP = TIMING.warm_up_runs


def network(batch="N"):
    """Two layers, of which the first can lose channels."""
    text = f"""{HEAD} net (float[{batch},16] x) => (float[{batch},4] y) {{
        a = MatMul(x, w1)  b = Relu(a)  y = MatMul(b, w2) }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, size in {"w1": (16, 32), "w2": (32, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    return model


class Machine:
    """A clock, and calls that move it; ``log`` has their names in order."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def clock(self):
        return self.now

    def call(self, name, seconds):
        """``seconds``: of every call, or an iterator of those of one after the other."""

        def run(*_):
            self.log.append(name)
            self.now += seconds if isinstance(seconds, float) else next(seconds)

        return run


def measured(machine, seconds_of, **settings):
    """Rounds, and the log after the warm-up; "|" is where it waits for the process to be idle."""
    calls = [machine.call(name, seconds) for name, seconds in seconds_of.items()]
    rounds = interleaved(calls, clock=machine.clock, settle=lambda: machine.log.append("|"), **settings)
    return rounds, "".join(machine.log[len(calls) * WARM_UP :])


def test_models_take_turns_and_the_first_of_a_round_changes():
    machine = Machine()
    rounds, log = measured(machine, {"A": 1.0, "B": 2.0}, seconds=100, max_rounds=6)
    assert log == "|A|B|B|A" * 3
    assert machine.log[: 2 * WARM_UP] == ["A"] * WARM_UP + ["B"] * WARM_UP
    assert rounds == [((1.0,), (2.0,))] * 6


def test_three_models_take_turns():
    _, log = measured(Machine(), {"A": 1.0, "B": 1.0, "C": 1.0}, seconds=100, max_rounds=5)
    assert log == "|A|B|C|B|C|A|C|A|B|A|B|C|B|C|A"


def test_a_turn_is_some_runs_of_which_the_first_does_not_count():
    rounds, log = measured(Machine(), {"A": 2.0**-7, "B": 2.0**-6}, seconds=9, max_rounds=5)  # 3 of 1/64 s
    assert log == ("|AAAA|BBBB|BBBB|AAAA" * 3)[: 5 * 10]
    assert rounds == [((2.0**-7,) * 3, (2.0**-6,) * 3)] * 5
    rounds, _ = measured(Machine(), {"A": 2.0**-12}, seconds=9)
    assert len(rounds[0][0]) == TIMING.burst_runs
    slow = iter([0.25] * WARM_UP + [0.5, 0.25, 0.25] * 5)
    rounds, _ = measured(Machine(), {"A": slow}, seconds=9, max_rounds=5)
    assert rounds[0] == ((0.5,),)  # of long runs, each counts
    waking = iter([2.0**-5] * WARM_UP + [0.5, 2.0**-5] * 5)
    rounds, _ = measured(Machine(), {"A": waking}, seconds=9, max_rounds=5)
    assert rounds == [((2.0**-5,),)] * 5


def test_time_is_bounded_but_there_are_enough_runs():
    machine = Machine()
    assert len(measured(machine, {"A": 60.0, "B": 60.0}, seconds=10)[0]) == TIMING.fewest_rounds
    machine = Machine()
    rounds, _ = measured(machine, {"A": 0.25, "B": 0.25}, seconds=10)
    assert TIMING.fewest_rounds < len(rounds) < TIMING.most_rounds and machine.now <= 10.5
    assert len(measured(Machine(), {"A": 0.002, "B": 0.002}, seconds=10)[0]) == TIMING.most_rounds


def test_a_clock_that_stands_still():
    rounds = interleaved([lambda: None, lambda: None], max_rounds=5, clock=lambda: 0.0, settle=lambda: None)
    assert latency_summary(rounds)[1].ratio == 1


def test_waiting_ends_also_where_something_goes_on_computing(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(interleaved_timing.time, "perf_counter", machine.clock)
    monkeypatch.setattr(interleaved_timing.time, "process_time", lambda: 2 * machine.now)
    monkeypatch.setattr(interleaved_timing.time, "sleep", machine.call("sleep", 2.0**-7))
    interleaved_timing._settle()
    assert TIMING.settle_seconds <= machine.now < 2 * TIMING.settle_seconds
    monkeypatch.setattr(interleaved_timing.time, "process_time", lambda: 0.0)
    machine.log.clear()
    interleaved_timing._settle()
    assert machine.log == ["sleep"]


@pytest.mark.parametrize("tick", [0.001, 0.004, 0.01])
@pytest.mark.parametrize("begun", [0.0, 0.3, 0.9])
def test_threads_that_look_for_work_are_waited_for_however_coarse_the_clock(monkeypatch, tick, begun):
    """A thread computes for 40 ms more; its time is counted in ticks, the first of which has ``begun`` by a share."""
    machine = Machine()

    def counted():
        return (min(machine.now, 0.04) + begun * tick) // tick * tick

    def sleep(seconds):
        machine.now += seconds

    monkeypatch.setattr(interleaved_timing.time, "perf_counter", machine.clock)
    monkeypatch.setattr(interleaved_timing.time, "process_time", counted)
    monkeypatch.setattr(interleaved_timing.time, "sleep", sleep)
    interleaved_timing._settle()
    assert 0.04 <= machine.now < 0.1


def test_medians_and_percentiles():
    before = [k / 1000 for k in range(1, 12)]
    first, second = latency_summary([((b,), (b / 2,)) for b in before])
    assert (first.median_ms, first.p90_ms, first.ratio) == (6.0, 10.0, 1.0)
    assert (second.median_ms, second.p90_ms, second.ratio) == (3.0, 5.0, 0.5)
    assert latency_summary([((0.001, 0.002, 0.006), (0.001, 0.004, 0.001))])[0].median_ms == 2.0


def test_the_ratio_survives_a_slow_machine_and_disturbed_runs():
    # Twice as slow from the sixth round on, and a disturbance each.
    rounds = [((1.0,), (0.5,))] * 5 + [((2.0,), (1.0,))] * 6
    rounds[0], rounds[7] = ((9.0,), (0.5,)), ((2.0,), (9.0,))
    assert latency_summary(rounds)[1].ratio == 0.5
    assert latency_summary([((1.0, 1.0, 1.0), (0.5, 0.5, 9.0))])[1].ratio == 0.5


def test_real_models():
    model, feeds = network(), {"x": np.zeros((3, 16), np.float32)}
    timed = compare_latency([model, model.SerializeToString(), model], feeds, threads=1, seconds=0.01)
    assert len(timed.models) == 3 and timed.runs >= TIMING.fewest_rounds
    assert (timed.batch, timed.threads, timed.provider) == (3, 1, "cpu")
    assert timed.models[0].ratio == 1.0
    assert all(0 < m.median_ms <= m.p90_ms and m.ratio > 0 for m in timed.models)
    assert latency_ratio(model, model, feeds, seconds=0.01) > 0


def test_sessions_use_the_threads(monkeypatch):
    made = []
    monkeypatch.setattr(measure, "Session", lambda m, p, **settings: made.append((p, settings)) or Session(m, p))
    feeds = {"x": np.zeros((1, 16), np.float32)}
    compare_latency([network(), network()], feeds, CPU, 2, seconds=0.01)
    assert made == [(CPU, {"threads": 2, "deployed": True})] * 2
    assert compare_latency([network()], feeds, CPU, seconds=0.01).threads == default_threads()


def test_threads_are_counted_where_the_system_tells(monkeypatch, tmp_path):
    found = default_threads()
    assert found is None or found >= 1
    monkeypatch.setattr(probing, "Path", lambda *parts: tmp_path / "none")
    assert default_threads.__wrapped__() is None


def test_what_makes_no_sense_is_refused():
    feeds = {"x": np.zeros((1, 16), np.float32)}
    with pytest.raises(UsageError, match="no model"):
        compare_latency([], feeds)
    with pytest.raises(UsageError, match="threads must be at least 1, not 0"):
        compare_latency([network()], feeds, threads=0)
    with pytest.raises(UsageError, match="above 0 seconds, not 0"):
        compare_latency([network()], feeds, seconds=0)
    with pytest.raises(OnnxMergeError, match="cannot run"):
        compare_latency([network()], {"x": np.zeros((1, 7), np.float32)})


# The whole tool.


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "interleaved", partial(interleaved, max_rounds=5))


def check(entry):
    assert [key for key in entry if key != "batches"] == KEYS
    assert all(entry[key] > 0 for key in KEYS if key not in ("provider", "threads"))
    assert entry["before_ms"] <= entry["before_p90_ms"] and entry["after_ms"] <= entry["after_p90_ms"]


def test_from_the_command_line(tmp_path, monkeypatch, capsys, quick):
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "in.onnx")
    common = ["--keep", "0.5", "--method", "merge", "--report", "r.json", "--force"]
    assert cli.main(["in.onnx", "out.onnx", "--benchmark", "1,8", "--threads", "2", *common]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    check(found["latency"])
    assert [(e["batch"], e["threads"]) for e in found["latency"]["batches"]] == [(1, 2), (8, 2)]
    assert found["latency"]["batch"] == 1 and "benchmark" in found["seconds"]
    for entry in found["latency"]["batches"]:
        check(entry)
    assert "latency (batch 1)" in text and "latency (batch 8)" in text and text.count("90th percentile") == 2
    assert "runs of each model, in turns (cpu, threads: 2)" in text
    assert cli.main(["in.onnx", "out.onnx", *common]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["latency"] is None
    assert "latency" not in capsys.readouterr().out


@pytest.mark.parametrize("order", ["--benchmark in.onnx out.onnx", "in.onnx --benchmark out.onnx --keep 0.5"])
def test_without_a_value_it_takes_no_file_name(tmp_path, monkeypatch, order):
    monkeypatch.chdir(tmp_path)
    files, options, _ = compress.parse(order.split())
    assert files == ["in.onnx", "out.onnx"] and options.benchmark == ()
    assert compress.parse(["in.onnx", "--benchmark", "4", "out.onnx"])[:1] == (["in.onnx", "out.onnx"],)
    assert compress.parse(["in.onnx", "--", "--benchmark", "out.onnx"][:3])[1].benchmark is None


def test_from_python(quick):
    _, result = optimize(network(), keep=0.5, method="merge", benchmark=True, threads=1)
    (measured,) = result.latency
    assert isinstance(measured, Latency) and (measured.batch, measured.threads, measured.provider) == (1, 1, "cpu")
    assert measured.runs >= 5 and measured.ratio > 0
    assert optimize(network(), keep=0.5, method="merge")[1].latency == ()


def test_a_fixed_batch(quick):
    _, result = optimize(network(4), keep=0.5, method="merge", benchmark=True)
    assert [entry.batch for entry in result.latency] == [4]
    assert not [note for note in result.notes if "latency" in note]
    _, result = optimize(network(4), keep=0.5, method="merge", benchmark=(1, 4, 8))
    assert [entry.batch for entry in result.latency] == [4]
    assert "latency was not measured at batch size 1, 8: the model's is 4" in result.notes


def test_a_batch_that_is_dynamic_in_name_only(quick):
    model = network()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 32]), "shape"))
    model.graph.node[2].input[0] = "c"
    model.graph.node.insert(2, onnx.helper.make_node("Reshape", ["b", "shape"], ["c"]))
    _, result = optimize(model, keep=0.5, method="merge", benchmark=(1, 8))
    assert [entry.batch for entry in result.latency] == [1]
    assert any(note.startswith("latency was not measured at batch size 8: onnxruntime") for note in result.notes)


def test_a_model_that_cannot_be_run():
    model = network()
    model.graph.node[1].domain = "unheard.of"
    model.opset_import.append(onnx.helper.make_opsetid("unheard.of", 1))
    comparison = comparison_with(model, Options(keep=0.5, benchmark=(), unverified=True), CPU)
    assert benchmark([network()], comparison) == ((), ("latency was not measured: the model cannot be run",))


def test_the_users_samples_are_fed_over_and_over(tmp_path):
    samples = np.arange(48, dtype=np.float32).reshape(3, 16)
    np.savez(tmp_path / "s.npz", x=samples, labels=np.array([0, 1, 2]))
    comparison = comparison_with(network(), Options(keep=0.5, labels=tmp_path / "s.npz"), CPU)
    np.testing.assert_array_equal(comparison.samples.batch(5)["x"], samples[[0, 1, 2, 0, 1]])
    assert comparison_with(network(), Options(keep=0.5), CPU).samples.batch(7)["x"].shape == (7, 16)


def test_fixed_batches():
    def info(*shape):
        return TensorInfo("x", np.dtype(np.float32), shape)

    assert declared_batch([info("N", 3)]) is None and declared_batch([info(None, 3), info(1, 3)]) is None
    assert declared_batch([info(4, 3), info()]) == 4 and declared_batch([info()]) == 1


def test_values():
    def made(value):
        return Options.make({"benchmark": value}).benchmark

    assert made(True) == () and made(False) is None and made(None) is None and made("auto") == ()
    assert made(8) == (8,) and made("1, 8,32") == (1, 8, 32) and made([1, 8, 1]) == (1, 8)
    for wrong in ("x", "1,,2", "-1", "1.5", "", 1.5, [], [True], 0, "0", [4, -1]):
        with pytest.raises(UsageError, match=r"^benchmark must be "):
            made(wrong)
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(UsageError, match=r"^threads must be "):
            Options.make({"threads": wrong})
