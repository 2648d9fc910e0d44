"""Makes tiny packages with entry points, as an installer would leave them."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser

MODEL = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
net (float[N,16] x) => (float[N,4] y) {
    [first] a = Gemm<transB = 1>(x, w1, b1)
    [act] b = com.microsoft.SampleOp(a)
    [head] y = Gemm<transB = 1>(b, w2, b2)
}
"""
"""The op between the layers has no rule of ours."""
SIZES = {"w1": (32, 16), "b1": (32,), "w2": (4, 32), "b2": (4,)}
RULE = """
from onnx_merge import register_rule
from passes.axes.op_facts import OpFacts
from passes.axes.rule_context import Op
from passes.axes.rules.elementwise import same_axes

@register_rule("SampleOp", domain="com.microsoft", facts=OpFacts(pointwise=True))
def sample_op(op: Op) -> None:
    same_axes(op)
"""
AT_LEAST = """
from dataclasses import dataclass, replace
from onnx_merge import register_pass
from passes.allocation.allocator import Allocation
from passes.analysis.known import Analysis
from passes.interface.model_pass import PassResult, WorkingModel

@dataclass(frozen=True)
class AtLeast:
    count: int
    name = "at least"
    requires = (Analysis, Allocation)

    def run(self, model):
        found = model[Allocation]
        sizes = {group.atom: group.size for group in model[Analysis].groups}
        widths = {a: max(width, min(self.count, sizes[a])) for a, width in found.widths.items()}
        return PassResult(model.knowing(replace(found, widths=widths)), notes=("narrow groups stay",))

def register():
    register_pass(AtLeast(20), after="allocate")
"""


def network():
    """The model, with the same random weights every time."""
    model = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    return model


def install(folder: Path, name: str, code: str, entry_points: str) -> None:
    """Put a module ``name`` and the metadata of a package ``name`` 1.2 in ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)
