"""Coordinates of charts, and how numbers are written."""

import math

import pytest

from onnx_merge.html import number_text
from onnx_merge.html.charts import CURVE_HEIGHT, CURVE_WIDTH, error_level, histogram, loss_curve, network_chart
from onnx_merge.html.frontier_chart import frontier_chart
from onnx_merge.html.reproduction import call, command


def layer(size, kept, macs=100, macs_kept=50):
    return {"size": size, "kept": kept, "macs": macs, "macs_kept": macs_kept}


def test_layers_are_drawn_in_proportion():
    chart = network_chart([layer(64, 32), layer(16, 16, 25, 25)], ["e1", "whole"], ["a", "b"], ["g0", ""])
    wide, narrow = chart.before
    assert math.isclose(narrow.height, wide.height / 2, rel_tol=1e-3)  # the square root of a quarter
    assert math.isclose(chart.after[0].height, wide.height / 2, rel_tol=1e-3)  # half is kept
    assert math.isclose(chart.costs[1].height, chart.costs[0].height / 4, rel_tol=1e-2)
    assert math.isclose(chart.costs_after[0].height, chart.costs[0].height / 2, rel_tol=1e-2)
    for bar in (*chart.before, *chart.costs):
        assert (
            bar.x >= 0 and bar.x + bar.width <= chart.width and bar.y >= 0 and bar.y + bar.height <= chart.height + 1e-9
        )


def test_many_layers_stay_apart():
    chart = network_chart([layer(8, 8)] * 900, ["e1"] * 900, ["a"] * 900, [""] * 900)
    lefts = [bar.x for bar in chart.before]
    assert all(b - a > chart.before[0].width for a, b in zip(lefts, lefts[1:], strict=False))


def test_no_layers_and_empty_layers():
    assert network_chart([], [], [], []).before == []
    network_chart([layer(0, 0, 0, 0)], ["e1"], ["a"], [""])


@pytest.mark.parametrize("error, level", [(None, "e0"), (0.0, "e1"), (0.01, "e2"), (0.05, "e3"), (0.2, "e4")])
def test_colours_of_errors(error, level):
    assert error_level(error) == level


def test_loss_curves_have_common_axes():
    found = loss_curve([{"channels": 0, "nsr": 10.0}, {"channels": 8, "nsr": 1e-4}], 8, 4)
    (left, top), (right, bottom) = found.dots
    assert left == CURVE_WIDTH - right and top == CURVE_HEIGHT - bottom and found.chosen == CURVE_WIDTH / 2
    beyond = loss_curve([{"channels": 0, "nsr": 1e9}, {"channels": 8, "nsr": 0.0}], 8, 4)
    assert beyond.dots == found.dots
    assert loss_curve([], 8, 4) is None and loss_curve([{"channels": 1, "nsr": None}], 8, 4) is None


def test_a_histogram():
    found = histogram([0.01, 0.1, 1.0], [3, 6])
    assert [bar.height for bar in found.bars] == [found.height / 2, found.height] and found.most == 6
    assert [text for _, text in found.ticks] == ["0.01", "0.1", "1"]
    assert [x for x, _ in found.ticks] == [0, found.width / 2, found.width]
    assert histogram([], []) is None and histogram([1, 2], [0]) is None
    assert len(histogram([0.2, 0.21], [1]).ticks) == 2


def point(keep, cost, quality, frontier=True, knee=False, status="done"):
    values = {"macs_ratio": cost, "accuracy": quality}
    return {"keep": keep, "frontier": frontier, "knee": knee, "status": status, **values}


def test_a_frontier():
    points = [point(0.3, 0.1, 50.0), point(0.5, 0.25, 90.0, knee=True), point(0.9, 0.8, 80.0, frontier=False)]
    found = frontier_chart("t", points, "macs_ratio", 91.0, reversed_quality=False, quality="accuracy")
    assert [dot.kind for dot in found.dots] == ["on", "on", "knee", "off"] and len(found.line.split()) == 2
    by_quality = sorted(found.dots, key=lambda dot: dot.y)
    assert by_quality[0].label == "0.5" and by_quality[-1].label == "0.3" and found.original[1] < by_quality[0].y
    assert [dot.x for dot in found.dots] == sorted(dot.x for dot in found.dots)
    turned = frontier_chart("t", points, "macs_ratio", 0.0, reversed_quality=True, quality="accuracy")
    assert max(turned.dots, key=lambda dot: dot.y).label == "0.5"
    assert frontier_chart("t", [], "macs_ratio", 1.0, reversed_quality=False, quality="accuracy") is None
    assert frontier_chart("t", points[:1], "macs_ratio", 50.0, reversed_quality=False, quality="accuracy").rows


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("count", 0, "0"), ("count", 999, "999"), ("count", 1000, "1.00 k"), ("count", 9.996e5, "1.00 M"),
        ("count", 2_083_456, "2.08 M"), ("count", 12.34e9, "12.3 G"), ("count", 345e12, "345 T"), ("count", None, "–"),
        ("byte_size", 12, "12 bytes"), ("byte_size", 306_023, "306 kB"), ("byte_size", 1.2e9, "1.20 GB"),
        ("percent", 0.0, "0%"), ("percent", 0.031, "3.1%"), ("percent", 0.1534, "15.3%"), ("percent", 1.0, "100%"),
        ("percent", 0.00042, "0.042%"), ("percent", 1e-9, "<0.0001%"), ("percent", 0.9999, "100%"),
        ("significant", -0.5, "−0.5"), ("significant", 1234.5, "1.23e+03"), ("significant", None, "–"),
        ("signed", -0.2, "−0.20"), ("signed", 0.5, "+0.50"),
        ("milliseconds", 0.0449, "0.045 ms"), ("milliseconds", 12.34, "12.3 ms"), ("milliseconds", 1234, "1,234 ms"),
        ("seconds", 0.42, "0.42 s"), ("seconds", 200, "3 min 20 s"), ("seconds", 59.4, "59 s"),
    ],
)  # fmt: skip
def test_numbers(name, value, text):
    assert getattr(number_text, name)(value) == text


def test_nouns():
    assert number_text.plural(1, "group") == "1 group" and number_text.plural(1200, "group") == "1,200 groups"


def test_how_to_repeat():
    assert command([]) == "" and command(["a b.onnx", "--keep", "0.5"]) == "onnx-merge 'a b.onnx' --keep 0.5"
    long = command(["in.onnx", "o.onnx", "-v", "--exclude", "a", "b", "--keep", "0.5", "--labels", "x" * 50])
    assert long.split(" \\\n")[1:3] == ["    -v", "    --exclude a b"]
    assert call({"keep": 0.5, "lambda": 0.8}, "in.onnx", "") == "onnx_merge.optimize('in.onnx', keep=0.5, lambda_=0.8)"
    lines = call({"keep": 0.5, "calib": "from Python", "exclude": ["x" * 50]}, "in.onnx", "out.onnx").splitlines()
    assert lines[1:4] == ["    'in.onnx',", "    'out.onnx',", "    keep=0.5,"] and "    calib=...," in lines
