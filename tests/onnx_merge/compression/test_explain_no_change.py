"""The refusal names the groups in which only dead channels were looked for, and those that only mixtures can shrink."""

import pytest

from onnx_merge.compression.explain_no_change import explain_no_change
from onnx_merge.report.group_result import GroupResult
from passes.interface.reason import Reason, planned

FREE = planned("no channel is free")
COPIES = Reason("layer", "s", "multiplies two activations")
ONLY_DEAD = planned("no channel is known to be dead, and copies cannot be merged", COPIES)
START = "no channel is free (none is known to be dead, constant or parallel to another"
END = "): use --keep 0.9, which is not lossless"


def kept(name, reason):
    return GroupResult(name, 8, 8, "kept", reason, "none", None, ("a",), ("b",))


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        ({"a": FREE}, ""),
        ({"a": FREE, "q": ONLY_DEAD}, "; in q only dead ones were looked for, since s multiplies two activations"),
        (
            {"q": ONLY_DEAD, "r": ONLY_DEAD},
            "; in 2 groups, such as q, only dead ones were looked for, since s multiplies two activations",
        ),
    ],
)
def test_what_was_not_looked_for(reasons, said):
    groups = [kept(name, reason) for name, reason in reasons.items()]
    assert explain_no_change(True, groups) == START + said + END


@pytest.mark.parametrize(
    ("lossless", "remedy"),
    [(True, "use --keep 0.9, which is not lossless"), (False, "leave --method and --select at auto, with samples")],
)
def test_only_mixtures_can_shrink(lossless, remedy):
    reason = Reason("operator", "n", "normalises over it", "LayerNormalization")
    said = "no channel can be removed alone, only mixtures can: a: n (LayerNormalization) normalises over it"
    assert explain_no_change(lossless, [kept("a", reason)]) == f"{said}: {remedy}"
    assert "too small" in explain_no_change(False, [kept("a", reason), kept("b", planned("8 channels are to be kept"))])
