"""Seconds of axis inference and planning against the number of nodes.

    python benchmarks/scaling.py [NODES...]

The model is a chain of gated residual blocks whose sizes are computed in the graph: ten nodes a block, one coupled
group over all of them and one inside each. With linear growth, every row has the same microseconds per node.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from passes.pipeline import compress
from passes.settings.compress import CompressSettings

SIZES = (100, 300, 1000, 3000, 10000)
CHANNELS = 16


def residual_chain(blocks: int, seed: int = 0) -> onnx.ModelProto:
    """A stem, ``blocks`` times ten nodes, and a last Conv."""
    rng = np.random.default_rng(seed)
    weights: list[onnx.TensorProto] = []

    def weight(name: str, out: int, read: int) -> str:
        values = rng.standard_normal((out, read, 1, 1)) / np.sqrt(read)
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    nodes = [make_node("Conv", ["x", weight("stem", CHANNELS, 3)], ["h0"])]
    for b in range(blocks):
        nodes += [
            make_node("Conv", [f"h{b}", weight(f"a{b}", CHANNELS, CHANNELS)], [f"c{b}"]),
            make_node("Relu", [f"c{b}"], [f"r{b}"]),
            make_node("GlobalAveragePool", [f"r{b}"], [f"p{b}"]),
            make_node("Shape", [f"p{b}"], [f"s{b}"]),
            make_node("Reshape", [f"p{b}", f"s{b}"], [f"q{b}"]),
            make_node("Sigmoid", [f"q{b}"], [f"g{b}"]),
            make_node("Mul", [f"r{b}", f"g{b}"], [f"m{b}"]),
            make_node("Conv", [f"m{b}", weight(f"d{b}", CHANNELS, CHANNELS)], [f"e{b}"]),
            make_node("Add", [f"h{b}", f"e{b}"], [f"t{b}"]),
            make_node("Relu", [f"t{b}"], [f"h{b + 1}"]),
        ]
    nodes.append(make_node("Conv", [f"h{blocks}", weight("head", 4, CHANNELS)], ["y"]))
    ends = [make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", c, 8, 8]) for n, c in (("x", 3), ("y", 4))]
    return make_model(make_graph(nodes, "chain", ends[:1], ends[1:], weights), opset_imports=[make_opsetid("", 17)])


def main(sizes: list[int]) -> None:
    """Print a row for each size."""
    compress(residual_chain(2), CompressSettings(keep=0.6))  # compiles the kernels
    print("  nodes  normalise    infer     plan  us/node")
    for size in sizes:
        model = residual_chain(size // 10)
        seconds = compress(model, CompressSettings(keep=0.6)).seconds
        stages = [seconds["normalise"], seconds["fold"] + seconds["infer"], seconds["plan"]]
        count = len(model.graph.node)
        print(f"{count:7d}" + "".join(f"{s:9.2f}" for s in stages).rjust(29) + f"{1e6 * sum(stages) / count:9.0f}")


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or list(SIZES))
