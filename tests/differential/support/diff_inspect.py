"""`inspect` against what a run did: the same groups, sizes and statuses."""

from diff_judge import Fault

import onnx_merge
from onnx_merge.errors import OnnxMergeError


def inspected(case, outcomes) -> list[Fault]:
    """What `inspect` says otherwise than the runs."""
    try:
        seen = onnx_merge.inspect_model(case.model)
    except OnnxMergeError as error:
        return [Fault("inspect", f"exit {error.exit_code}", str(error)[:300])]
    except Exception as error:
        return [Fault("inspect", "internal error", f"{type(error).__name__}: {error}"[:300])]
    return [Fault(o.way, kind, detail) for o in outcomes if o.groups for kind, detail in _differences(seen, o)]


def _differences(seen, outcome):
    reported = [(g.name, g.size) for g in seen.groups]
    found = [(name, size) for name, size, *_ in outcome.groups]
    if reported != found:
        yield "inspect names other groups", f"{sorted({*reported} ^ {*found})[:6]}"
        return
    for g, (name, size, kept, status, method) in zip(seen.groups, outcome.groups, strict=True):
        if (g.status == "frozen") != (status == "frozen"):
            yield "inspect calls frozen what is not, or not what is", f"{name}: {g.status}, in the run {status}"
        if status == "frozen" and not g.reason:
            yield "frozen without a reason", name
        if method == "merge" and g.status == "prune-only":
            yield "merged what inspect calls prune-only", name
        if not 0 < kept <= size or (kept < size) != (status == "shrunk"):
            yield "numbers of a group do not fit", f"{name}: {kept} of {size}, {status}"
