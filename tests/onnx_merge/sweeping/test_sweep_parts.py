"""What a sweep is made of: shares, the frontier and its knee, files, tables, the picture."""

import csv
import io
import json
import math
import warnings
from dataclasses import replace

import pytest

from onnx_merge.config.options import Options
from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.evaluation.verdict import Fidelity, OutputFidelity
from onnx_merge.io.model_source import FileInfo
from onnx_merge.latency.measure import Latency
from onnx_merge.metrics.measure import Measured
from onnx_merge.sweeping import executors
from onnx_merge.sweeping.files import SweepFiles, shares
from onnx_merge.sweeping.frontier import frontier, knee
from onnx_merge.sweeping.plot import draw
from onnx_merge.sweeping.result import Point, Sweep
from onnx_merge.sweeping.table import render
from passes.cost.cost import Cost

COLUMNS = [
    "keep", "status", "frontier", "knee", "macs", "macs_ratio", "params", "params_ratio", "bytes", "bytes_ratio",
    "accuracy", "top1_agreement", "cosine", "relative_l2", "ware", "latency_before_ms", "latency_ms", "latency_ratio",
    "seconds", "file", "sha256", "reason", "verdict", "worst_output", "nsr", "kl",
    "changed", "changed_low", "changed_high", "metric",
]  # fmt: skip
KEYS = [
    "schema_version", "version", "input", "folder", "before", "metric", "metric_name", "knee", "frontier", "points",
    "seconds", "seed",
    "argv", "provider", "notes", "environment",
]  # fmt: skip


class Pipe(io.StringIO):
    encoding = "utf-8"


def point(keep, macs, accuracy=None, top1=None, nsr=0.2, **changes):
    """Of a classifier that keeps the class of a share ``top1`` of the samples, or of what is none."""
    file = FileInfo(f"keep-{keep:.2f}.onnx", "ab")
    classes = {} if top1 is None else {"kl": 0.1, "changed": 1 - top1, "changed_low": 0.0, "changed_high": 1.0}
    close = Fidelity(0.9, 0.1, top1, 64, "random", "cpu", (OutputFidelity("y", nsr, **classes),))
    measured = None if accuracy is None else Accuracy(99.0, accuracy, 500)
    return replace(
        Point(keep, "done", None, file, Cost(macs, macs, macs, 5, {}), close, measured, (), 0.1, 1.5), **changes
    )


def timed(after):
    return (Latency(2.0, after, 2.5, after, after / 2, "cpu", 1, 1, 30),)


def swept(*points, **changes):
    before = Cost(1000, 1000, 1000, 9, {"Conv": 9})
    known = {"accuracy": 99.0 if any(p.accuracy for p in points) else None, "seconds": {"load": 0.1}}
    some = Sweep(
        "0",
        FileInfo("net.onnx", "cd"),
        "sizes",
        before,
        points=points,
        seed=0,
        argv=(),
        provider="cpu",
        notes=(),
        **known,
    )
    return replace(some, **changes)


KNEED = (
    point(0.3, 100, 60.0),
    point(0.4, 200, 90.0),
    point(0.5, 300, 95.0),
    point(0.6, 400, 94.0),
    point(0.7, 500, 98.0),
)


def test_what_is_dominated_is_not_on_the_frontier():
    assert frontier([3, 1, 2, 4], [5, 1, 4, 5]) == [1, 2, 0]
    assert frontier([1, 1], [2, 3]) == [1] and frontier([1, 1], [3, 3]) == [0] and frontier([], []) == []


def test_the_knee_is_farthest_from_the_chord():
    assert knee([1, 2, 3, 4, 5], [0, 6, 8, 9, 10]) == 1
    assert knee([1, 2, 3, 4, 5], [0, 1, 8, 9, 10]) == 2
    # Both axes count alike, whatever their units.
    assert knee([1e6, 2e6, 3e6, 4e6, 5e6], [0.90, 0.96, 0.98, 0.99, 1.0]) == 1
    # A dominated point does not move the ends.
    assert knee([1, 2, 3, 4, 5, 9], [0, 6, 8, 9, 10, 10]) == 1


def test_frontiers_without_a_knee():
    assert knee([1, 2, 3], [1, 2, 3]) is None  # straight
    assert knee([1, 2, 3], [0, 1, 10]) is None  # it sags
    assert knee([1, 2], [1, 2]) is None and knee([], []) is None or knee([1], [1]) == 0
    assert knee([1, 2, 3], [5, 5, 4]) == 0  # the smallest is the best


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((0.3, 0.9, 7), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        ((0.5, 1, 2), (0.5, 1.0)),
        ((0.3, 0.9, 10), (0.3, 0.37, 0.43, 0.5, 0.57, 0.63, 0.7, 0.77, 0.83, 0.9)),
        ((0.125, 0.5, 4), (0.125, 0.25, 0.375, 0.5)),
        ((0.5, 0.52, 5), (0.5, 0.505, 0.51, 0.515, 0.52)),
    ],
)
def test_shares_are_what_file_names_show(tmp_path, asked, found):
    assert shares(*asked) == found
    files = SweepFiles("in.onnx", tmp_path, found, Options(keep=0.5))
    assert [float(files.model(keep).stem.removeprefix("keep-")) for keep in found] == list(found)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((0.3, 0.9, 1), "steps must be at least 2, not 1: for one result"),
        ((0.9, 0.3, 7), "0.9 is not below 0.3"),
        ((0.5, 0.5, 2), "0.5 is not below 0.5"),
        ((0, 0.5, 2), "from must be above 0"),
        ((0.5, 1.5, 2), "to must be above 0 and at most 1, not 1.5"),
        ((math.nan, 0.5, 2), "from must be above 0"),
        ((0.5, 0.500001, 9), "are too many"),
    ],
)
def test_shares_that_make_no_sense(asked, said):
    with pytest.raises(UsageError, match=said):
        shares(*asked)


def test_the_folder_is_gone_if_nothing_is_in_it(tmp_path):
    files = SweepFiles("in.onnx", tmp_path / "new", (0.5,), Options(keep=0.5))
    with files.made():
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with pytest.raises(ZeroDivisionError), files.made():
        (tmp_path / "new" / "a").touch()
        raise ZeroDivisionError
    assert (tmp_path / "new" / "a").exists()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(OnnxMergeError, match="cannot be made"), replace(files, folder=tmp_path / "link").made():
        pass


def test_columns_and_keys_are_stable():
    failed = Point(0.2, "failed", "nothing, and why")
    some = swept(failed, *KNEED, point(0.8, 700, 99.0, latency=timed(1.0)))
    rows = list(csv.DictReader(io.StringIO(some.to_csv())))
    assert list(rows[0]) == COLUMNS and [row["keep"] for row in rows] == [
        "0.2",
        "0.3",
        "0.4",
        "0.5",
        "0.6",
        "0.7",
        "0.8",
    ]
    assert (rows[0]["status"], rows[0]["reason"], rows[0]["macs"]) == ("failed", "nothing, and why", "")
    assert [row["keep"] for row in rows if row["knee"] == "True"] == ["0.4"]
    assert [row["frontier"] for row in rows] == ["False", "True", "True", "True", "False", "True", "True"]
    assert rows[1]["file"] == "keep-0.30.onnx" and rows[1]["macs_ratio"] == "0.1" and rows[6]["latency_ratio"] == "0.5"
    found = json.loads(some.to_json())
    assert list(found) == KEYS and list(found["points"][0]) == [*COLUMNS, "latency"]
    assert found["metric"] == "accuracy" and found["knee"] == 0.4 and found["frontier"] == [0.3, 0.4, 0.5, 0.7, 0.8]
    assert found["before"]["accuracy"] == 99.0 and found["before"]["macs"] == 1000
    assert found["points"][6]["latency"]["after_ms"] == 1.0 and found["points"][0]["latency"] is None


def test_the_quality_is_the_best_that_is_known():
    assert swept(point(0.5, 1, 90.0, 0.5)).metric == "accuracy"
    assert swept(point(0.5, 1, None, 0.5)).metric == "top1_agreement"
    assert swept(point(0.5, 1)).metric == "nsr"
    assert swept(point(0.5, 1, None, 0.5), point(0.6, 2)).metric == "nsr"  # which all of them have
    assert swept(point(0.5, 1, fidelity=None), Point(0.6, "failed", "why")).metric is None
    unknown = point(0.5, 1, fidelity=Fidelity(math.nan, 0.1, None, 64, "random", "cpu"))
    assert json.loads(swept(unknown).to_json())["points"][0]["cosine"] is None


def test_of_noise_less_is_better():
    some = swept(point(0.4, 100, nsr=0.5), point(0.6, 300, nsr=0.01), point(0.8, 600, nsr=0.02))
    assert [p.keep for p in some.frontier] == [0.4, 0.6]
    lines = render(some, Pipe()).splitlines()
    assert lines[0].split()[-2:] == ["noise/signal", "verdict"] and lines[2].split()[-1] == "0"
    assert [line.split()[4:] for line in lines[3:5]] == [["0.5", "bad"], ["0.01", "good"]]
    assert draw(some)[:4] == b"\x89PNG"


def test_the_verdict_is_a_column_of_its_own():
    rows = list(csv.DictReader(io.StringIO(swept(point(0.4, 100, nsr=0.5), point(0.6, 300, nsr=0.01)).to_csv())))
    assert [(row["status"], row["verdict"], row["nsr"]) for row in rows] == [
        ("done", "bad", "0.5"),
        ("done", "good", "0.01"),
    ]


def test_a_metric_goes_before_all_others():
    values = (0.5, 0.9, 0.95, math.inf)
    points = [point(k / 10, 100 * k, 90.0, metric=Measured("f1", 0.99, v, 5)) for k, v in enumerate(values, 1)]
    some = swept(Point(0.05, "failed", "why"), *points)
    assert some.metric == "metric" and some.knee is points[1] and some.frontier == tuple(points[:3])
    found = json.loads(some.to_json())
    assert (found["metric"], found["metric_name"], found["before"]["metric"]) == ("metric", "f1", 0.99)
    assert [p["metric"] for p in found["points"]] == [None, 0.5, 0.9, 0.95, None]
    assert [row["metric"] for row in csv.DictReader(io.StringIO(some.to_csv()))] == ["", "0.5", "0.9", "0.95", ""]
    lines = render(some, Pipe()).splitlines()
    assert lines[0].split()[-2] == "f1" and lines[2].split()[-1] == "0.99" and lines[5].split()[4] == "0.9"
    assert draw(some).startswith(b"\x89PNG")
    infinite = [replace(p, metric=Measured("$psnr", math.inf, 20.0, 5)) for p in points]
    assert draw(swept(*infinite)).startswith(b"\x89PNG") and "inf" in render(swept(*infinite), Pipe())


def test_what_missed_the_gate_is_not_on_the_frontier():
    some = swept(*(replace(p, status="rejected", reason="too far off") for p in KNEED[:2]), *KNEED[2:])
    assert [p.keep for p in some.frontier] == [0.5, 0.7] and some.knee is None


def test_the_table_has_a_line_for_each_share():
    some = swept(Point(0.2, "failed", "no channel is free"), *KNEED, notes=("a note",))
    lines = render(some, Pipe()).splitlines()
    assert lines[0] == "note: a note" and lines[1].split() == ["keep", "MACs", "params", "bytes", "accuracy", "verdict"]
    assert lines[3].split() == ["original", "1.000", "1.000", "1,000", "99.00%"]
    assert lines[4].split() == ["0.2", "-", "-", "-", "-", "-", "failed:", "no", "channel", "is", "free"]
    assert lines[6].split() == ["0.4", "0.200", "0.200", "200", "90.00%", "bad", "<-", "knee"]
    assert lines[-2].startswith("knee      keep 0.4:") and lines[-1].startswith("written   sizes:")
    timed_one = render(swept(point(0.5, 300, None, 0.25, latency=timed(1.0)), point(0.6, 400, None, 0.5)), Pipe())
    assert "same class" in timed_one and "25.00%" in timed_one and "2.00 ms" in timed_one and "1.00 ms" in timed_one
    assert "knee      none" in timed_one
    both = (*timed(1.0), replace(timed(3.0)[0], before_ms=6.0, batch=8))
    lines = render(swept(point(0.5, 300, None, 0.25, latency=both), point(0.6, 400, None, 0.5)), Pipe()).splitlines()
    assert "batch 1" in lines[0] and "batch 8" in lines[0] and "latency" not in lines[0]
    assert lines[2].split()[5:] == ["2.00", "ms", "6.00", "ms"]
    assert lines[3].split()[5:9] == ["1.00", "ms", "3.00", "ms"]
    assert lines[4].split()[5:] == ["-", "-", "bad"]
    assert "nothing was written" in render(swept(Point(0.2, "failed", "x " * 300)), Pipe())
    assert max(map(len, render(swept(Point(0.2, "failed", "x " * 300)), Pipe()).splitlines())) <= 120


def test_a_reason_that_does_not_fit_stands_below_the_table():
    reason = "top-1 agreement is 0.984, below --min-top1 0.999: see keep-0.30.rejected.onnx"
    rejected = replace(point(0.3, 300, 95.0), status="rejected", reason=reason)
    lines = render(swept(rejected, *KNEED), Pipe()).splitlines()
    assert f"keep 0.3  rejected: {reason}" in lines and lines[3].split()[-1] == "rejected"
    assert not any(line.startswith("keep 0.4") for line in lines)


def test_batches_that_do_not_fit_are_left_out_by_name(monkeypatch):
    taken = tuple(replace(timed(1.0)[0], batch=batch) for batch in (1, 8, 64))
    some = swept(replace(point(0.3, 300, 95.0, latency=taken), status="rejected", reason="x" * 70), *KNEED)
    monkeypatch.setenv("COLUMNS", "80")
    screen = Pipe()
    screen.isatty = lambda: True
    text = render(some, screen)
    assert "batch 1" in text and "(shortened to fit, without batch 8 and batch 64; -v shows all)" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text and "rejected" in text
    assert "batch 64" in render(some, screen, verbose=True)


@pytest.mark.parametrize("status", ["done", "rejected"])
def test_the_picture(status):
    points = [replace(p, latency=timed(p.keep), status=status) for p in KNEED]
    name = FileInfo("$x_{ 模型.onnx", None)
    with warnings.catch_warnings(record=True) as caught:
        content = draw(swept(*points, input=name))
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and not caught
    assert draw(swept(point(0.5, 0, fidelity=None), before=Cost(0, 0, 0, 0, {})))[:4] == b"\x89PNG"
    assert len(draw(swept(*(point(k / 100, k, 50.0 + k) for k in range(20, 50)))))


def test_executors():
    with executors.executor() as one, executors.executor(2) as two:
        assert isinstance(one, executors.InProcess) and isinstance(two, executors.Processes)
    for arguments, said in (((0, None), "jobs must be at least 1"), ((2, "tcp://a:1"), "contradict each other")):
        with pytest.raises(UsageError, match=said), executors.executor(*arguments):
            pass


def test_a_cluster_needs_dask(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'onnx_merge\[cluster\]'"), executors.executor(1, "tcp://a:1"):
        pass


def test_addresses_that_make_no_sense():
    pytest.importorskip("distributed")
    for address in ("", "nonsense", "tcp://host", "host:port"):
        with pytest.raises(UsageError, match="must be the address of a Dask scheduler"), executors.executor(1, address):
            pass
