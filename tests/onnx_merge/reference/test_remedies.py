"""Every reason that the code gives has a remedy, and every example is one."""

import ast
from pathlib import Path

import pytest

from onnx_merge.inspection.inspect import inspect_model
from onnx_merge.reference.remedies import REMEDIES
from passes.interface.reason import KINDS, NODE, TENSOR, Reason

ROOT = Path(__file__).parents[3]
DETAIL = {"Refusal": 0, "why": 0, "freeze": 1, "planned": 0, "saying": 0, "Reason": 2}
"""Function -> position of the detail among its arguments."""
RETURNED = ("_why_not_sliced", "_obstacle", "without_rule", "why_called")
"""Functions that return the detail of an operator's reason."""
ELSEWHERE = ("gradients", "reconstruction")
"""Folders whose reasons are about layers that are not refined, not about channels."""
SAMPLE = {"TENSOR": TENSOR, "NODE": NODE, "INSIDE": "is read inside a control-flow body"}


def text_of(node):
    """A string of the source, with a word for what an f-string fills in; None where it is no string."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            made = [""]
            for value in values:
                parts = text_of(value.value if isinstance(value, ast.FormattedValue) else value) or ["7"]
                made = [start + part for start in made for part in parts]
            return made
        case ast.Name(id=name) if name in SAMPLE:
            return [SAMPLE[name]]
        case ast.IfExp(body=body, orelse=other):
            return (text_of(body) or []) + (text_of(other) or [])
    return None


def reasons():
    """(file, reason) of every call that states one."""
    for path in sorted((ROOT / "passes").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path.parent.name in ELSEWHERE or not any(f"{name}(" in source for name in (*DETAIL, *RETURNED)):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and node.name in RETURNED:
                returned = [text_of(one.value) for one in ast.walk(node) if isinstance(one, ast.Return)]
                for text in sum(filter(None, returned), []):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", Reason("operator", "n", text, "Op", "t")
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in DETAIL or len(node.args) <= DETAIL[name]:
                continue
            kind = "plan" if name == "planned" else "operator"
            if name == "Reason":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno} has no plain kind"
                kind = node.args[0].value
            for text in text_of(node.args[DETAIL[name]]) or []:
                if not text.startswith("has no gradient"):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", Reason(kind, "n", text, "Op", "t")


REASONS = list(reasons())


def remedy_for(reason):
    """The first remedy that covers a reason, as on the page."""
    return next((remedy for remedy in REMEDIES if remedy.covers(reason)), None)


def test_reasons_are_found():
    assert len(REASONS) > 90 and {reason.kind for _, reason in REASONS} == set(KINDS)


@pytest.mark.parametrize(("where", "reason"), REASONS, ids=[f"{where} {r.detail[:20]}" for where, r in REASONS])
def test_every_reason_has_a_remedy(where, reason):
    assert remedy_for(reason) is not None, f"{where}: add a remedy for {reason.kind} {reason.detail!r}"


def test_every_remedy_is_for_some_reason():
    used = {id(remedy_for(reason)) for _, reason in REASONS}
    grouped = "c (Conv) loses channels inside its groups, not whole groups"  # in a variable
    assert [one.example for one in REMEDIES if id(one) not in used] == [grouped]


def test_reasons_of_a_real_model_have_one():
    found = inspect_model(ROOT / "models" / "digits_cnn.onnx")
    given = [group.reason for group in found.groups if group.reason]
    assert given and all(remedy_for(reason) for reason in given)
