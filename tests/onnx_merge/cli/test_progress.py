"""The line of progress: stage, group, time left, and never wider than the screen."""

import io
import sys

import pytest
from rich.cells import cell_len

from onnx_merge.cli.progress import StageProgress, progress_shown
from passes.interface.steps import listening, steps


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_stage_then_its_groups_then_the_time_left():
    clock = Clock()
    shown = StageProgress(clock)
    assert shown.line(80) == "start"
    shown.begin("allocate")
    assert shown.line(80) == "allocate"
    shown.step("/layer1/Conv", 0, 4)
    assert shown.line(80) == "allocate 1 of 4  /layer1/Conv"
    clock.now = 10.0
    shown.step("/layer2/Conv", 1, 4)
    assert shown.line(80) == "allocate 2 of 4  /layer2/Conv  about 30 s left"
    clock.now = 400.0
    shown.step("/layer3/Conv", 2, 4)
    assert shown.line(80).endswith("about 7 min left")
    clock.now = 20_000.0
    assert shown.line(80).endswith("about 5.6 h left")
    shown.begin("plan")
    assert shown.line(80) == "plan"
    shown.step("a", 0, 2)
    assert "left" not in shown.line(80)  # the time is that of the new stage


@pytest.mark.parametrize("width", range(10, 90, 7))
def test_a_long_name_is_cut_in_front(width):
    clock = Clock()
    shown = StageProgress(clock)
    shown.begin("reconstruct")
    shown.step("x", 0, 120)
    clock.now = 5.0
    shown.step("/features/\N{CJK UNIFIED IDEOGRAPH-6F22}" * 9 + "/Conv", 60, 120)
    assert cell_len(shown.line(width)) <= width
    if width >= 60:
        assert "reconstruct 61 of 120" in shown.line(width) and "/Conv  about 5 s left" in shown.line(width)


def test_loops_tell_whoever_listens():
    heard = []
    assert list(steps([3, 5], str)) == [3, 5]
    with listening(lambda *step: heard.append(step)):
        assert list(steps([3, 5], str)) == [3, 5]
    assert list(steps([7], str)) == [7]
    assert heard == [("3", 0, 2), ("5", 1, 2)]


@pytest.mark.parametrize("quiet, terminal, term", [(True, True, "xterm"), (False, False, "vt"), (False, True, "dumb")])
def test_nothing_is_shown_where_nobody_looks(monkeypatch, quiet, terminal, term):
    stream = Screen() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    with progress_shown(quiet) as progress:
        progress("allocate")
        list(steps([1], str))
    assert stream.getvalue() == ""


def test_a_terminal_shows_it(monkeypatch):
    stream = Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with progress_shown(False) as progress:
        progress("allocate")
        for _ in steps(["[bold]a[/bold]"], str):
            break
    assert "start" in stream.getvalue() or "allocate" in stream.getvalue()
