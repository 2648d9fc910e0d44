"""Formats the comparison of outputs as lines of text."""

from __future__ import annotations

from onnx_merge.evaluation.verdict import Fidelity


def outputs_text(close: Fidelity) -> str:
    """Return the line on the outputs: the loss, and the samples on which it was measured."""
    words, worst = [], close.worst
    if close.nsr is not None:
        named = max(close.varying, key=lambda output: (output.nsr is not None, output.tested, output.nsr or 0.0))
        where = f" (worst: {named.name})" if len(close.outputs) > 1 else ""
        words.append(f"noise/signal {close.nsr:.3g}{where}{'' if named.tested else ', not tested'}")
    classes = max((o for o in close.outputs if o.changed is not None), key=lambda o: o.severity, default=None)
    if classes is not None and classes.changed is not None:
        low, high = (100 * (bound or 0.0) for bound in (classes.changed_low, classes.changed_high))
        words.append(f"classes changed {100 * classes.changed:.1f}% ({low:.1f}% to {high:.1f}%)")
    if close.kl is not None:
        words.append(f"KL {close.kl:.3g}")
    if not words:
        reason = f": {worst.reason}" if worst and worst.reason else ""
        words.append(f"relative error {close.relative_l2:.3g}, noise/signal unknown{reason}")
    return f"outputs   {', '.join(words)} on {_samples(close)}"


def _samples(close: Fidelity) -> str:
    kind = "" if close.real else "made-up "
    if close.in_sample:
        kind += "in-sample "
    elif close.fitted is not None:
        kind += "held-out "
    path = close.source.partition(" ")[2]
    of = f" of {path}" if path else ""
    others = "made-up ones fitted" if close.fitted_made_up and close.real else "fitted"
    fitted = f" ({close.fitted:,} {others})" if close.fitted is not None else ""
    return f"{close.samples:,} {kind}samples{of}{fitted} ({close.provider})"
