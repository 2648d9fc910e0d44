"""Applies limits to a result: the user's own ones and, on the user's own samples, the verdict."""

from __future__ import annotations

import itertools

from onnx_merge.config.options import Options
from onnx_merge.errors import FidelityError, UsageError
from onnx_merge.evaluation.verdict import Fidelity
from passes.settings.compress import EFFORTS


def gate(close: Fidelity | None, options: Options, chosen: bool = False) -> FidelityError | None:
    """Return the error with which the run ends, or None if the result is within all limits. ``chosen``: how much goes
    is the default, not the user's word.

    Raises
    ------
    UsageError: ``min_top1`` or ``max_kl`` is set, and the model is no classifier.
    """
    if close is None:
        return None
    missed = [*_outputs(close, options), *_classes(close, options)]
    if close.verdict == "bad" and close.real and not options.accepts_bad(chosen):
        higher = dict(itertools.pairwise(EFFORTS)).get(options.effort) if options.reconstructs else None
        more = f"--effort {higher} may mend it, " if higher else ""
        missed.append(f"the outputs are not what they were: {close.why}; {more}--no-gate writes the model all the same")
    return FidelityError(" and ".join(missed)) if missed else None


def _outputs(close: Fidelity, options: Options) -> list[str]:
    missed = []
    if options.min_cosine is not None and not close.cosine >= options.min_cosine:
        missed.append(f"the cosine of the outputs is {close.cosine:.6f}, below --min-cosine {options.min_cosine:g}")
    if options.max_nsr is not None:
        limit = f"--max-nsr {options.max_nsr:g}"
        if close.nsr is None:
            reason = close.worst.reason if close.worst else "nothing was compared"
            missed.append(f"noise over signal cannot be compared with {limit}: {reason}")
        elif not close.nsr <= options.max_nsr:
            missed.append(f"noise over signal is {close.nsr:.4g}, above {limit}")
    return missed


def _classes(close: Fidelity, options: Options) -> list[str]:
    missed = []
    if options.min_top1 is not None:
        if close.top1_agreement is None:
            raise UsageError("--min-top1 needs a model with one output of class scores: use --max-nsr instead")
        if not close.top1_agreement >= options.min_top1:
            share = f"{close.top1_agreement:.4f}"
            missed.append(f"the top class stays the same for a share of {share}, below --min-top1 {options.min_top1:g}")
    if options.max_kl is not None:
        if close.kl is None:
            raise UsageError("--max-kl needs a model whose outputs hold classes: use --max-nsr instead")
        if not close.kl <= options.max_kl:
            missed.append(f"the KL divergence of the outputs is {close.kl:.4g}, above --max-kl {options.max_kl:g}")
    return missed
