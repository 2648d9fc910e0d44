"""The forms that texts of reasons have, read back: an oracle for what is left of one without names."""

import re

FORMS = (
    (r"(no scale passes through) .+ \((\w+)\)", r"\1 \2"),
    (r".+ \((\w+)\) (computes with) the size of axis \d+ of .+", r"\1 \2 its size"),
    (r"the graph's output (computes with) the size of axis \d+ of .+", r"a graph output \1 its size"),
    (r"(a control-flow body computes with) the size of axis \d+ of .+", r"\1 its size"),
    (r".+? \((\w+)\) (takes (?:a size|sizes) from) .+?(, w.+)", r"\1 \2 a tensor\3"),
    (r".+? \(([A-Za-z]\w*)\) (.+)", r"\1 \2"),
    (r".+ (may be overridden by callers)", r"an input \1"),
    (r".+ (is a graph (?:in|out)put|is read inside a control-flow body)", r"it \1"),
    (r".+ (comes from outside its|is an output of its) (control-flow body)", r"it \1 \2"),
    (r".+ (is read outside its control-flow body too)", r"it \1"),
    (r"axis \d+ of .+ (is dynamic)", r"it \1"),
    (r".+ (sums over them without weights)", r"a node \1"),
    (r".+ (multiplies .+|mixes neighbouring channels|pads .+|transposes its input|feeds them back .+)", r"a node \1"),
    (r"(the shape of what) .+ (makes is unknown)", r"\1 a node \2"),
    (r"the weights of .+ (are (?:computed in the graph|quantised))", r"a layer's weights \1"),
    (r"the bias of .+ (differs from sample to sample)", r"a layer's bias \1"),
    (r".+ of .+ (is not an initializer|is shared)", r"a layer's constant \1"),
    (r".+ (is read by several nodes|is read in two ways)", r"a constant \1"),
    (r".+ (does not come from a layer with weights)", r"its input \1"),
    (r".+ is also read by .+", "its input has other readers"),
    (r"nothing reads .+", "nothing reads its output"),
    (r".+ (is read by) .+ \((\w+)\)", r"its output \1 \2"),
    (r".+ (is read from outside)", r"its output \1"),
    (r"(concatenated) with other channels in .+", r"\1"),
    (r"(shared by \d+ layers), .+ among them", r"\1"),
    (r"(samples do not show them in) .+", r"\1 a tensor"),
)


def without_names(text):
    """``text`` without the names of nodes and tensors."""
    start, colon, rest = text.partition(": ")
    if colon and start in ("pruned only", "merged only", "coupled"):
        return f"{start}: {without_names(rest)}"
    if "; " in text:
        return "; ".join(map(without_names, text.split("; ")))
    for form, short in FORMS:
        found = re.fullmatch(form, text)
        if found:
            return found.expand(short)
    return text
