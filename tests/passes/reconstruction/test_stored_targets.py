"""Targets of the joint refinement are kept in a file where they are read often enough."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import engine, net, observer
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.interface.errors import RunError
from passes.reconstruction import distillation
from passes.reconstruction.distillation import Preparation, distil
from passes.reconstruction.step_schedule import StepSchedule
from passes.reconstruction.weight_variant import WeightVariant
from passes.settings.distillation_tuning import DistillationTuning
from passes.settings.tuning import TUNING
from passes.statistics.tensor_store import ScratchSpace
from passes.surgery.apply_plan import Solution


def scratch_of(monkeypatch, steps, joined, room=10**6, side=1):
    """The disk space for targets of six batches, of which steps and tried rates read 1.5 ``steps`` times ``joined``."""
    model = net("net (float[N,3,H,H] x) => (float[N,2,H,H] y) { a = Conv(x, a_w)  ar = Relu(a)  y = Conv(ar, y_w) }",
                a_w=(4, 3, 1, 1), y_w=(2, 4, 1, 1))  # fmt: skip
    typing = analyse(model, (), observer, Quiet(), engine).typing
    feeds = [{"x": np.zeros((2, 3, side, side), np.float32)}] * 6
    tuning = replace(TUNING, distillation=DistillationTuning(tried_share=0.25, last_share=0.25))
    variant = WeightVariant(
        typing, feeds, engine, moment_limit=1000.0, tuning=tuning, scratch=ScratchSpace("folder", room)
    )
    given = []

    def loss(*arguments):
        given.append(arguments[-1])
        raise RunError("no more is asked here")

    monkeypatch.setattr(distillation, "ImitationLoss", loss)
    found = distil(Preparation(variant, feeds[:1], StepSchedule(steps, 2, joined)), [], Solution())
    assert str(found.reason) == "no more is asked here"
    return given[0]


@pytest.mark.parametrize(("steps", "joined"), [(8, 1), (4, 2)])
def test_they_are_kept_from_two_reads_on(monkeypatch, steps, joined):
    assert scratch_of(monkeypatch, steps, joined) == ScratchSpace("folder", 8 * 1000.0)
    assert scratch_of(monkeypatch, steps, joined, room=5000) == ScratchSpace("folder", 5000)
    assert scratch_of(monkeypatch, steps - 1, joined) is None


def test_each_image_has_two_shifted_copies_to_read(monkeypatch):
    assert scratch_of(monkeypatch, 24, 1, side=16) is not None
    assert scratch_of(monkeypatch, 23, 1, side=16) is None
