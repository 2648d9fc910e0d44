"""A result shows itself in a notebook, and writes itself to files."""

import json

import onnx
import pytest
from pagekit import Page
from smallnet import names, network

from onnx_merge import optimize
from onnx_merge.errors import UsageError
from onnx_merge.html.run_page import run_page


@pytest.fixture
def outcome(here):
    return optimize(network(), keep=0.5)


def test_the_card(outcome):
    _, result = outcome
    card = Page(result._repr_html_())
    assert result.fidelity.why in card.text and "channels were removed" in card.text
    assert all(group.name in card.text for group in result.groups)
    assert not card.all("script") and not card.all("img") and not card.all("link")
    assert len(card.source) < 20_000


def test_the_report_is_that_of_the_json(outcome):
    _, result = outcome
    assert result.report == json.loads(result.to_json())


def test_files_by_their_endings(outcome, here):
    model, result = outcome
    assert result.save("small.onnx").name == "small.onnx"
    assert onnx.load(here / "small.onnx") == model
    result.save("r.json")
    assert json.loads((here / "r.json").read_text("utf-8")) == result.report
    result.save("r.html")
    assert (here / "r.html").read_text("utf-8") == run_page(result.report)
    assert names(here) == ["in.onnx", "r.html", "r.json", "small.onnx"]


def test_files_that_exist_stay(outcome, here):
    _, result = outcome
    for name in ("a.onnx", "a.json", "a.html"):
        (here / name).write_text("old")
        with pytest.raises(UsageError, match="exists"):
            result.save(name)
        assert (here / name).read_text() == "old"
        result.save(name, force=True)
        assert (here / name).read_text("utf-8", "replace") != "old"
    with pytest.raises(UsageError, match=r"end the name in \.onnx"):
        result.save("a.txt")


def test_the_input_is_never_overwritten(here):
    _, result = optimize("in.onnx", keep=0.5)
    before = (here / "in.onnx").read_bytes()
    with pytest.raises(UsageError, match="the input itself"):
        result.save("in.onnx", force=True)
    assert (here / "in.onnx").read_bytes() == before
