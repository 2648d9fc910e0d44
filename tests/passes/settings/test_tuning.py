"""Tunables: each says what it trades, and what a compressor is given reaches the code that goes by it."""

import ast
import itertools
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest
from allocatekit import compressed, model_of

from passes.numerics.tuning import GaussNewtonTuning, NumericsTuning, RidgeTuning, ShrinkageTuning, SubsetTuning
from passes.settings.allocation_tuning import AllocationTuning, SensitivityTuning
from passes.settings.reconstruction_tuning import ReconstructionTuning
from passes.settings.statistics_tuning import MemoryTuning, StatisticsTuning
from passes.settings.transform_tuning import RedundancyTuning
from passes.settings.tuning import TUNING, Tuning

ROOT = Path(__file__).parents[3]
TUNABLES = {
    node.name: node
    for package in ("onnx_merge", "passes")
    for path in sorted((ROOT / package).rglob("*.py"))
    if re.search(r"^class \w*(Tuning|Thresholds)\b", text := path.read_text(encoding="utf-8"), re.MULTILINE)
    for node in ast.parse(text).body
    if isinstance(node, ast.ClassDef) and node.name.endswith(("Tuning", "Thresholds"))
}


def test_every_tunable_is_followed_by_a_sentence():
    assert {"Tuning", "RidgeTuning", "ShapeTuning", "SizeSearchTuning", "VerdictThresholds"} <= TUNABLES.keys()
    silent = []
    for node in TUNABLES.values():
        assert ast.get_docstring(node)
        assert [ast.unparse(decorator) for decorator in node.decorator_list] == ["dataclass(frozen=True)"]
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            documented = isinstance(after, ast.Expr) and isinstance(getattr(after.value, "value", None), str)
            if isinstance(field, ast.AnnAssign) and not documented and not field.annotation.id.endswith("Tuning"):
                silent.append(f"{node.name}.{field.target.id}")
    assert not silent


def sentences(node):
    """Field -> what is said of it, in its own sentence and in that of its class."""
    for field, after in itertools.pairwise(node.body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            yield field.target.id, f"{ast.get_docstring(node)} {after.value.value}".lower()


def test_every_tunable_says_where_its_value_comes_from():
    said = {f"{node.name}.{field}": text for node in TUNABLES.values() for field, text in sentences(node)}
    assert "RidgeTuning.strengths" in said
    origins = re.compile(r"settled\s+on|not\s+tuned")
    assert not [field for field, text in said.items() if not origins.search(text)]


def sections(tuning):
    yield tuning
    for field in fields(tuning):
        value = getattr(tuning, field.name)
        if is_dataclass(value):
            yield from sections(value)


def test_nothing_changes_a_tuning():
    for section in sections(TUNING):
        for field in fields(section):
            with pytest.raises(FrozenInstanceError):
                setattr(section, field.name, 0)


SCARCE = StatisticsTuning(ample_samples=10**6)
"""However many samples there are, they count as few, and covariances are shrunk."""


def numerics(statistics=TUNING.statistics, **changes):
    return Tuning(statistics=statistics, numerics=NumericsTuning(**changes))


CHANGES = {
    "allocation": Tuning(allocation=AllocationTuning(width_choices=2)),
    "sensitivity": Tuning(sensitivity=SensitivityTuning(shares=(0.9, 0.1))),
    "reconstruction": Tuning(reconstruction=ReconstructionTuning(damping=10.0)),
    "statistics": Tuning(statistics=StatisticsTuning(prediction_ridge=10.0)),
    "redundancy": Tuning(redundancy=RedundancyTuning(parallel_tolerance=10.0)),
    "memory": Tuning(memory=MemoryTuning(fewest_samples=10**6)),
    "ridge": numerics(ridge=RidgeTuning(strengths=(1e6,))),
    "subset": numerics(subset=SubsetTuning(most_greedy=1)),
    "gauss-newton": numerics(gauss_newton=GaussNewtonTuning(least_gain=1.0)),
    "shrinkage": numerics(SCARCE, shrinkage=ShrinkageTuning(factors=(10.0,))),
}


@pytest.fixture(scope="module")
def results():
    """By what is said of statistics, with nothing else changed."""
    tunings = (TUNING, Tuning(statistics=SCARCE))
    return {tuning.statistics: compressed(model_of(), tuning=tuning, keep=0.5).model for tuning in tunings}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_given_reaches_the_code(name, results):
    tuning = CHANGES[name]
    before = results.get(tuning.statistics, results[TUNING.statistics])
    assert compressed(model_of(), tuning=tuning, keep=0.5).model != before
