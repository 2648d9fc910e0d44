"""Networks of every kind with their batch, height, width and length left open: right at each of three sizes.

Result and unshrunk twin have the original's shapes wherever the original runs, and are equal.
"""

import numpy as np
import pytest
from architectures import ARCHITECTURES
from dynamic_sizes import opened
from netkit import as_array, engine, session

from onnx_merge.errors import InputError, OnnxMergeError
from onnx_merge.inputs.assignments import find_assignments
from onnx_merge.inputs.feeds import feeds_at, index_bounds
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.runtime.session import Session
from passes.pipeline import compress
from passes.settings.compress import CompressSettings

AXES = {2: {0: "N", 1: "L"}, 3: {0: "N", 2: "L"}, 4: {0: "N", 2: "H", 3: "W"}}
"""Rank of an input -> its axes that are left open, where the network runs so."""
ONLY_BATCH = dict.fromkeys(AXES, {0: "N"})


def with_sizes(model):
    """The model with as many axes open as it runs with, and sizes at which it runs."""
    for axes in (AXES, ONLY_BATCH):
        dynamic = opened(model, axes)
        try:
            found = find_assignments(Session(dynamic), model=dynamic)
        except InputError:
            pytest.skip("it takes strings")
        except OnnxMergeError:
            continue
        if len(found.found) > 1:
            return dynamic, found
    pytest.skip("it runs at one size only")


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_it_is_right_at_every_size(name):
    model, found = with_sizes(ARCHITECTURES[name].model)
    result = compress(model, CompressSettings(keep=0.5, assignments=found.witnesses), RunObserver(), engine=engine)
    if not result.shrinks:
        return
    original, after, twin = session(model), session(result.model), session(result.twin())
    for assignment in found.witnesses[-3:]:
        feeds = feeds_at(Session(model).inputs, assignment, 0, index_bounds(model))
        for wanted, value, target in zip(*(s.run(None, feeds) for s in (original, after, twin)), strict=True):
            shape, a, b = as_array(wanted).shape, as_array(value), as_array(target)
            assert a.shape == b.shape == shape, assignment
            if a.dtype.kind == "f":
                finite = np.isfinite(b)
                error = np.abs(a[finite] - b[finite]).max(initial=0) / max(np.abs(b[finite]).max(initial=0), 1e-6)
                assert error <= ARCHITECTURES[name].tolerance * 2, assignment
