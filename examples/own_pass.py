"""A pass of one's own: every channel group keeps at least so many channels.

python examples/own_pass.py models/digits_cnn.onnx smaller.onnx

The pass stands behind `allocate`, which decides on the widths, and before `plan`, which chooses the channels.
To have it in every run of the command line, put it in a package with an entry point: see docs/plug-ins.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from onnx_merge import optimize, register_pass
from passes.allocation.allocator import Allocation
from passes.analysis.known import Analysis
from passes.interface.model_pass import PassResult, WorkingModel


@dataclass(frozen=True)
class MinimumWidth:
    """Gives every group at least ``channels`` channels."""

    channels: int
    name = "minimum width"
    requires = (Analysis, Allocation)  # facts that earlier passes found

    def run(self, model: WorkingModel) -> PassResult:
        """Return the model with other widths. The graph, and what was given, stay as they are."""
        allocation = model[Allocation]
        lowest = {group.atom: min(self.channels, group.size) for group in model[Analysis].groups}
        widths = {atom: max(width, lowest[atom]) for atom, width in allocation.widths.items()}
        raised = sum(widths[atom] != width for atom, width in allocation.widths.items())
        note = f"{raised} groups keep {self.channels} channels, more than allocated"
        return PassResult(model.knowing(replace(allocation, widths=widths)), notes=(note,) if raised else ())


def register(channels: int = 24) -> None:
    """Make the pass part of every compression. An entry point may name this function."""
    register_pass(MinimumWidth(channels), after="allocate")


if __name__ == "__main__":
    register()
    _, result = optimize(sys.argv[1], sys.argv[2], keep=0.4, method="merge", gate=False)
    print(*result.notes, sep="\n")
    print({group.name: group.kept for group in result.groups})
