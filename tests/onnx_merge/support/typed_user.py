"""A program of a user that calls all of the public interface, for mypy; it is never run."""

from pathlib import Path

import onnx

from onnx_merge import (
    FidelityError,
    InputError,
    Inspection,
    NotCompressibleError,
    OnnxMergeError,
    Options,
    Point,
    Result,
    StructureError,
    Sweep,
    UnverifiedError,
    UsageError,
    Verification,
    __version__,
    inspect_model,
    optimize,
    register_pass,
    register_rule,
    sweep,
    verify,
)
from passes.axes.op_facts import OpFacts
from passes.axes.rule_context import Op
from passes.interface.model_pass import PassResult, WorkingModel


class Unchanged:
    """A pass."""

    name = "unchanged"
    requires: tuple[type, ...] = ()

    def run(self, model: WorkingModel) -> PassResult:
        """Return the model as it is."""
        return PassResult(model)


@register_rule("Mine", domain="mine", facts=OpFacts(pointwise=True))
def mine(op: Op) -> None:
    """Tie all axes."""
    op.put_out_all(op.put_all(0))


def compress(path: Path) -> tuple[onnx.ModelProto, Result]:
    """Compress a file, however little of it can go."""
    register_pass(Unchanged(), after="plan")
    try:
        return optimize(path, path.with_suffix(".smaller.onnx"), keep=0.6, exclude=["head"])
    except (UsageError, InputError, FidelityError, NotCompressibleError):
        return optimize(path, lossless=True)
    except (UnverifiedError, StructureError, OnnxMergeError) as error:
        code: int = error.exit_code
        raise SystemExit(code) from error


def report(path: Path) -> list[str]:
    """Lines about a model."""
    model, result = compress(path)
    page: Path = result.html("page.html", force=True)
    saved: Path = result.save("smaller.onnx")
    lines = [f"{__version__} {page} {saved} {result.after.params / result.before.params:.2f} {len(model.graph.node)}"]
    lines += [f"{group.name}: {group.kept} of {group.size} {group.reason or ''}" for group in result.groups]
    if result.fidelity is not None:
        lines.append(f"{result.fidelity.verdict} {result.fidelity.cosine}")
    found: Inspection = inspect_model(model)
    lines += [f"{group.name} {group.status} {group.macs_share:.2f}" for group in found.matching("conv")]
    several: Sweep = sweep(path, "sizes", steps=3, labels="test.npz")
    points: list[Point] = [point for point in several.points if point.status == "done"]
    lines += [f"{point.keep} {point.cost.macs}" for point in points if point.cost is not None]
    again: Verification = verify(saved, path, labels="test.npz")
    lines += [f"{check.quantity} {check.keeps}" for check in again.checks]
    options = Options.make({"keep": 0.5})
    return [*lines, f"{options.keep}"]
