"""An axis rule of one's own, for an op that has none: onnxruntime's SampleOp, which returns its input.

python examples/own_op_rule.py model.onnx

Without a rule all axes that the op touches are frozen, and `onnx-merge inspect` says so. The rule says which axes of
the inputs and outputs hold the same channels. docs/adding-an-op.md explains rules and facts. To have the rule in every
run of the command line, put it in a package with an entry point: see docs/plug-ins.md.
"""

from __future__ import annotations

import sys

from onnx_merge import inspect_model, register_rule
from passes.axes.op_facts import OpFacts
from passes.axes.rule_context import Op


@register_rule("SampleOp", domain="com.microsoft", facts=OpFacts(pointwise=True))
def sample_op(op: Op) -> None:
    """X: a b c ... -> Y: a b c ...: each value of Y comes from the value of X at the same place.

    `op.scales(Scaling.LINEAR)` would say that a scale passes, too, so that channels can be merged. Without it they can
    still be removed, and layers be solved anew.
    """
    letters = op.put_all(0)
    op.put_out_all(letters)


if __name__ == "__main__":
    for group in inspect_model(sys.argv[1]).groups:
        print(f"{group.name}: {group.size} channels, {group.status}{f': {group.reason}' if group.reason else ''}")
