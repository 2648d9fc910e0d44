"""Reasons without names, so that the same one is found to hold in many places."""

from __future__ import annotations

import re

GENERAL = (
    (r"(no scale passes through) .+ \((\w+)\)", r"\1 \2"),
    (r".+ \((\w+)\) (computes with) the sizes of .+", r"\1 \2 its size"),
    (r".+? \(([A-Za-z]\w*)\) (.+)", r"\1 \2"),
    (r"the graph's output (computes with) the sizes of .+", r"a graph output \1 its size"),
    (r".+ (may be overridden by callers)", r"an input \1"),
    (r".+ (is a graph (?:in|out)put|is read inside a control-flow body)", r"it \1"),
    (r".+ (comes from outside its|is an output of its) (control-flow body)", r"it \1 \2"),
    (r".+ (is read outside its control-flow body too)", r"it \1"),
    (r"axis \d+ of .+ (is dynamic)", r"it \1"),
    (r".+ (multiplies (?:two|stacks) .+|mixes neighbouring channels|pads .+|transposes its input)", r"a node \1"),
    (r"the weights of .+ (are computed in the graph)", r"a layer's weights \1"),
    (r".+ of .+ (is not an initializer|is shared)", r"a layer's constant \1"),
    (r".+ (is read by several nodes|is read in two ways)", r"a constant \1"),
    (r".+ (does not come from a layer with weights)", r"its input \1"),
    (r".+ is also read by .+", "its input has other readers"),
    (r".+ (is read by) .+ \((\w+)\)", r"its output \1 \2"),
    (r".+ (is read from outside)", r"its output \1"),
    (r"(concatenated) with other channels in .+", r"\1"),
)
"""Reasons, and what is left of them without the names of nodes and tensors."""


def general(reason: str) -> str:
    """``reason`` without the names of nodes and tensors, so that it is the same wherever it holds."""
    if "; " in reason:
        return "; ".join(map(general, reason.split("; ")))
    for form, short in GENERAL:
        found = re.fullmatch(form, reason)
        if found:
            return found.expand(short)
    return reason
