"""From which error of the outputs on a solution is discarded."""

from types import SimpleNamespace

import numpy as np
import pytest

from passes.reconstruction import reconstruct
from passes.reconstruction.reconstruct import Reconstruction, diverges
from passes.settings.tuning import TUNING
from passes.surgery.apply_plan import Solution


@pytest.mark.parametrize(("times", "found"), [(3.999, False), (4.001, True), (np.nan, True)])
def test_outputs_diverge_beyond_four_times_their_norm(monkeypatch, times, found):
    """By default. All outputs of real numbers count together, each with its own size."""
    before = {"y": np.array([[3.0, 0.0]]), "z": np.array([[4.0]]), "k": np.array([[1]])}
    error = {"y": np.array([[0.0, 0.6 * 5 * times]]), "z": np.array([[0.8 * 5 * times]])}
    after = {"y": before["y"] + error["y"], "z": before["z"] + error["z"], "k": np.array([[10**6]])}
    models = iter([before, after])
    monkeypatch.setattr(reconstruct, "apply_plans", lambda *_: None)
    monkeypatch.setattr(reconstruct, "_of_tensors", lambda _: next(models))
    typing = SimpleNamespace(graph=SimpleNamespace(model=None, outputs=list(before)))
    variant = SimpleNamespace(engine=lambda model: lambda _: model, feeds=[{"x": np.zeros((1, 2))}], tuning=TUNING)
    assert diverges(typing, Reconstruction([], Solution()), variant) == found
