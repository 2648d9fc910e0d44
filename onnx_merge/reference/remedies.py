"""Why channels stay, what that means, and what a user can do: a remedy for every reason that the passes give."""

from __future__ import annotations

import re
from dataclasses import dataclass

from passes.interface.reason import INSIDE, Kind, Reason


@dataclass(frozen=True)
class Remedy:
    """``kinds``: of the reasons; ``details``: an expression that matches the whole of their details; ``example``: as a
    table shows one; ``meaning`` and ``remedy``: sentences for the user."""

    kinds: tuple[Kind, ...]
    details: str
    example: str
    meaning: str
    remedy: str

    def covers(self, reason: Reason) -> bool:
        """Whether this is the remedy for ``reason``, apart from its causes."""
        return reason.kind in self.kinds and re.fullmatch(self.details, reason.detail, re.DOTALL) is not None


SIMPLIFY = "Fold what is constant first: `onnxslim IN OUT` or `onnxsim IN OUT`. Sizes that never vary: `--fix-shape`."
INHERENT = "Nothing: that is how the network works."
REMEDIES = (
    Remedy(
        ("tensor",),
        "is a graph (input|output)",
        "logits is a graph output",
        "The interface of the model stays as it is.",
        "Nothing, unless nobody uses an output: remove it from the model, and the layers behind it go too.",
    ),
    Remedy(
        ("tensor",),
        "begins or ends a residual stream",
        "h begins or ends a residual stream",
        "A transformer's stream starts from these channels, or gives them out. Where it is cut, a layer is added "
        "between the two.",
        "Nothing is in the way of the stream itself.",
    ),
    Remedy(
        ("override",),
        "may be overridden by callers",
        "w may be overridden by callers",
        "The weight is also listed among the inputs, so a caller may give another one.",
        "Remove it from the inputs: export with `keep_initializers_as_inputs=False`.",
    ),
    Remedy(
        ("operator",),
        r"takes sizes from \{tensor\}, which callers may override|takes a size from \{tensor\}, .*",
        "r (Reshape) takes sizes from s, which callers may override",
        "A size that an input gives cannot follow the channels.",
        "Give the input its value: `--fix-input NAME=VALUE`.",
    ),
    Remedy(
        ("size",),
        "is dynamic",
        "axis 2 of x is dynamic",
        "A size that varies is a number of places or samples, not of channels.",
        "Nothing, or `--fix-shape NAME:SIZES` if it never varies where the model is used.",
    ),
    Remedy(
        ("size",),
        "",
        "n (Mul) computes with the size of axis 1 of x",
        "A number made of the size of the axis is used for something other than a shape. It would change.",
        SIMPLIFY,
    ),
    Remedy(
        ("operator",),
        "has no axis rule",
        "s (Foo) has no axis rule",
        "The tool does not know which axes of this op belong together, and guesses nothing.",
        "Write a rule, ten lines in most cases: [plug-ins.md](plug-ins.md). Or export with standard operators.",
    ),
    Remedy(
        ("operator",),
        "is fused by onnxruntime: compress first, then optimise",
        "a (Attention) is fused by onnxruntime: compress first, then optimise",
        "onnxruntime's optimizer put one op of its own in the place of several standard ones. Layers fused with "
        "activations, sums or transposes are taken apart again; this op is not.",
        "Compress the model as it was exported, and optimise the result.",
    ),
    Remedy(
        ("operator",),
        "rule failed: .*",
        "s (Foo) rule failed: KeyError: 0",
        "A fault of the tool, or a model that is not valid.",
        "Please report it.",
    ),
    Remedy(
        ("operator", "weights"),
        ".*quantise.*",
        "c (QLinearConv) is quantised: compress first, then quantise",
        "Quantised weights are cut where a rule allows it, but not merged or solved.",
        "Compress the float model, then quantise: `--then int8` does both in one run.",
    ),
    Remedy(
        ("operator",),
        "is a local function|is a function at .*",
        "f (Block) is a function at ai.onnx opset 17, the model is at 18, and Resize differs between them",
        "A function of the model could not be inlined.",
        "Convert the model to the function's opset, or export without functions.",
    ),
    Remedy(
        ("tensor", "operator"),
        f"{INSIDE}|comes from outside its control-flow body|is an output of its control-flow body|"
        "is read outside its control-flow body too|reads its weights inside a control-flow body",
        "h is read inside a control-flow body",
        "The body of an If, Loop or Scan is compressed by itself; what passes in and out of it stays.",
        "If the condition never varies, give it its value: `--fix-input NAME=VALUE`. The branch joins the model.",
    ),
    Remedy(
        ("operator",),
        "normalises over it|attends along it|masks it|turns pairs of it|turns a part of each head",
        "n (LayerNormalization) normalises over it",
        "Each value depends on all channels of the axis: the stream of a LayerNorm, the places of an attention. The "
        "stream of a transformer, which only norms and linear layers read, shrinks where losses are measured on "
        "samples: mixtures take the place of its channels.",
        "Where `onnx-merge inspect` calls the stream *project only*: leave `--method` and `--allocation` at `auto`. "
        "Elsewhere nothing: that is how the network works. Layers inside the block can still shrink, such as the "
        "hidden ones of an MLP.",
    ),
    Remedy(
        ("operator",),
        "reduces over it|has it in a constant only|makes it from nothing|reads it as a parameter|mixes this axis|"
        "does not say what it holds|depends on its order|runs along it|turns it round, sample by sample|reverses it|"
        "takes every so-manyth of it|takes some of it, by a step|takes a part of it,? (whose|and) .*|pads it|"
        "repeats it|picks indices from it|puts values at indices of it|indexes with it|"
        "has indices of a length that varies|interpolates it|rearranges blocks of it|"
        "spreads (an axis to )?it at some sizes|computes numbers, not features",
        "t (TopK) depends on its order",
        "The op uses the places along the axis: their order, their number, or their neighbours.",
        INHERENT,
    ),
    Remedy(
        ("operator",),
        r"its input \d+ is computed from .*|.*the shape of .* is unknown|"
        "has parameters that are computed from the data|axis .* of shape .*|cannot hold .*|has an operand with .* axes|"
        "has an input of .* axes for an output of .*",
        "r (Reshape) its input 1 is computed from the data",
        "The tool needs a number, or a shape, that it cannot find before the model runs.",
        SIMPLIFY,
    ),
    Remedy(
        ("operator",),
        "returns flat indices|returns its scores|multiplies a scalar|crops by coordinates|has no elements here|"
        "moves groups of channels by offsets of their own|keeps keys and values of earlier tokens|"
        r"normalises by the batch \(training_mode=1\)|may drop elements at random \(training_mode\)|"
        "is stored sparse|is not an initializer",
        "m (MaxPool) returns flat indices",
        "The rule does not know the op in this form.",
        "Export in evaluation mode, or in another form: the reason names what is in the way. Or write a rule.",
    ),
    Remedy(
        ("operator",),
        "loses channels inside its groups, not whole groups",
        "c (Conv) loses channels inside its groups, not whole groups",
        "Of a grouped convolution either channels inside the groups go, or whole groups.",
        "Nothing: the channels inside can still go.",
    ),
    Remedy(
        ("operator",),
        "ties axes of .*|cuts .* across .*|takes copies of other channels for concatenated ones",
        "r (Reshape) cuts 3 across 8",
        "The op joins or splits axes in a way in which no channel stays one.",
        INHERENT,
    ),
    Remedy(
        ("operator",),
        "has weights that (?!stand on).*",
        "c (Conv) has weights that are not finite",
        "NaN or infinite weights: nothing can be said about such a layer.",
        "Look at the training run or the export.",
    ),
    Remedy(
        ("scale", "operator"),
        "|makes them of constants whose scale it does not pass on|makes them of two constants at once|"
        "adds the same to all of them",
        "no scale passes through a (Sigmoid)",
        "Merging by weights moves a scale through the op, which lets none pass. Its channels can be removed.",
        "Let layers be solved on samples, which needs no scale: `--method auto` with `--calib`.",
    ),
    Remedy(
        ("layer",),
        "multiplies two activations|sums over them without weights|mixes neighbouring channels|"
        "feeds them back to itself|multiplies them with two constants",
        "q multiplies two activations",
        "No layer's weights read these channels, so nothing can take them over. They can be removed.",
        INHERENT,
    ),
    Remedy(
        ("weights",),
        "weights are .*|constant is (not an initializer|shared)|bias differs from sample to sample",
        "the weights of c are computed in the graph",
        "They cannot be written anew, for instance since they are made by other operators.",
        SIMPLIFY,
    ),
    Remedy(
        ("constant",),
        "is read by several nodes|is read in two ways",
        "w is read by several nodes",
        "Layers share a weight, so that what suits one reader would change another. Channels can be removed, and "
        "merged where the same factors suit all readers.",
        INHERENT,
    ),
    Remedy(
        ("coupled",),
        "shared by .* layers|concatenated",
        "shared by 3 layers, a and b among them",
        "Layers share the channels, as in a residual stream: they lose the same ones.",
        "Nothing is in the way. `--no-coupled` leaves such groups whole.",
    ),
    Remedy(
        ("excluded",),
        "excluded by .*|read by what .* excludes|coupled",
        "excluded by 'head'",
        "`--exclude`, `--exclude-inputs` or `--no-coupled` took it out.",
        "Exclude less.",
    ),
    Remedy(
        ("plan",),
        ".* channels are to be kept",
        "16 channels are to be kept",
        "At this share the width comes out as all channels, often since widths are multiples of the kernels' block.",
        "A smaller `--keep`, or `--align 1`, which may be slower.",
    ),
    Remedy(
        ("plan",),
        "no channel is free",
        "no channel is free",
        "None is dead, constant, or a multiple of another, so none goes with `--lossless`.",
        "`--keep 0.9` or `--max-drop 1` with samples.",
    ),
    Remedy(
        ("plan",),
        "no channel is known to be dead, and copies cannot be merged",
        "no channel is known to be dead, and copies cannot be merged: q multiplies two activations",
        "`--lossless` removes what is zero here. Copies, multiples and other constants were not looked for, since no "
        "weights could take over what they carry; the text says why.",
        "`--keep 0.9` or `--max-drop 1` with samples.",
    ),
    Remedy(
        ("plan",),
        "samples do not show them in .*|merged only",
        "merged only: samples do not show them in h",
        "No sample reaches the tensor, or its values are not read by a layer that can be solved.",
        "Give samples that take this way through the model.",
    ),
    Remedy(
        ("plan",),
        "pruned only|no kept channel has a cosine of .* or more|"
        "no scale passes from its producers to its consumers for any pair of channels|nothing reads them",
        "pruned only: no kept channel has a cosine of 0.1 or more",
        "Channels went, but nothing takes over what they carried; the text says why.",
        "Let layers be solved on samples (`--calib`). With `--method merge`, a lower `--threshold`.",
    ),
    Remedy(
        ("operator",),
        "multiplies activations: it has no weights of its own|"
        "slides over its channels: its filter is one for all of them|"
        "makes channels of which each is tied to a place of its own|makes a single channel of what no layer makes|"
        "works on channels that no layer's weights make|has weights that stand on no channels",
        "m (MatMul) multiplies activations: it has no weights of its own",
        "The layer is in no group: it makes no channels of its own.",
        INHERENT,
    ),
    Remedy(
        ("norm", "layer"),
        ".*",
        "its output is read by s (Softmax)",
        "A BatchNormalization is not folded into a layer. It stays, and its channels can go like others.",
        INHERENT,
    ),
)
"""In the order in which they are looked up: the first that covers a reason is its remedy."""

HEAD = """\
# Why is a group left alone?

A group that keeps all its channels, or whose channels are removed but not merged, has a reason in the table of a run,
in the reports, and in `onnx-merge inspect`. These are all of them. `python -m onnx_merge.reference` writes this page
from `onnx_merge/reference/remedies.py`, and a test asserts that no reason is missing.

| what the table says, for example | what it means | what you can do |
| --- | --- | --- |
"""


def remedies_page() -> str:
    """docs/left-alone.md."""
    rows = (f"| `{one.example}` | {one.meaning} | {one.remedy} |\n" for one in REMEDIES)
    return HEAD + "".join(row.replace("\\", "") for row in rows)
