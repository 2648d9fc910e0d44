"""Finds tensors whose sizes depend on input values and not on input shapes alone, such as a number of detections."""

from __future__ import annotations

import onnx

SIZE_OPERANDS: dict[str, slice] = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "OneHot", "Unsqueeze", "Squeeze", "Split"), slice(1, None)),
    **dict.fromkeys(("Slice", "Pad", "Resize", "Upsample", "CenterCropPad", "Col2Im", "AffineGrid"), slice(1, None)),
    **dict.fromkeys(("Range", "ConstantOfShape", "BlackmanWindow", "HannWindow", "HammingWindow"), slice(0, None)),
    **dict.fromkeys(("DFT", "STFT", "MelWeightMatrix", "MaxUnpool"), slice(1, None)),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"), slice(1, None)),
    **dict.fromkeys(("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), slice(1, None)),
}
"""Op -> inputs whose values determine the output's size."""
COUNTING = {"NonZero", "NonMaxSuppression", "Unique", "Compress", "StringSplit", "TfIdfVectorizer", "ImageDecoder"}
"""Ops whose output size depends on the values of all their inputs."""


def value_sized(model: onnx.ModelProto) -> set[str]:
    """Return the tensors of the main graph whose sizes may depend on input values.

    Control-flow bodies and ops of other domains are not analysed: whatever depends on values there may have any size.
    """
    constant = {t.name for t in model.graph.initializer}
    computed = {v.name for v in model.graph.input} - constant
    """Tensors that depend on input values. Shapes do not depend on them."""
    sized: set[str] = set()
    for node in model.graph.node:
        read = _reads(node)
        outputs = [name for name in node.output if name]
        if node.op_type in ("Shape", "Size") and _standard(node):
            if sized & read:
                computed.update(outputs)
            continue
        operands = set(node.input[SIZE_OPERANDS[node.op_type]]) if node.op_type in SIZE_OPERANDS else set()
        opaque = not _standard(node) or len(read) > len(set(node.input)) or node.op_type.startswith("Sequence")
        counts = (node.op_type in COUNTING or opaque) and computed & read
        if computed & read:
            computed.update(outputs)
        if counts or computed & operands or sized & read:
            sized.update(outputs)
    return sized


def _standard(node: onnx.NodeProto) -> bool:
    bodies = any(a.HasField("g") or a.graphs for a in node.attribute)
    return node.domain in ("", "ai.onnx", "ai.onnx.ml") and not bodies


def _reads(node: onnx.NodeProto) -> set[str]:
    """Return the node's inputs and the outer tensors that its control-flow bodies read."""
    read = set(node.input)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            read |= {name for inner in body.node for name in _reads(inner)} | {v.name for v in body.output}
    return read
