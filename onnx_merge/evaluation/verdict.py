"""How close a result's outputs are to the original's, and the word that follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onnx_merge.evaluation.thresholds import CHANGED, MADE_UP, NSR, NSR_BAD

Word = Literal["good", "bad", "untested"]
MOST = 1e6
"""Losses beyond it are all alike."""


@dataclass(frozen=True, slots=True)
class OutputFidelity:
    """What became of one output. Of classes (distributions, scores, labels) ``changed`` decides, else ``nsr``."""

    name: str
    nsr: float | None = None
    """Noise over signal, see `passes.numerics.noise_to_signal`; None where there is no signal, and for labels."""
    kl: float | None = None
    """Kullback-Leibler divergence of the result's distributions from the original's, mean over samples, in nats."""
    changed: float | None = None
    """Share that changes class, of the samples, or of their places that matter; see
    `onnx_merge.evaluation.class_changes`."""
    changed_low: float | None = None
    changed_high: float | None = None
    """Bounds of that share at 95%."""
    tested: bool = True
    """Whether the samples show what becomes of it: if not, small numbers say nothing."""
    reason: str | None = None
    """Why they do not."""
    likely: tuple[float, float] | None = None
    """Bounds of the share, each of which holds at 80%: a verdict is given where one of them is on its side."""
    nsr_error: float | None = None
    """Standard error of ``nsr``, relative to it."""
    spared: bool = False
    """Its values look like scores of classes, few of which change: noise alone does not make it bad."""
    constant: bool = False
    """It is the same for every sample, and stays so: no fault of the samples, where others vary."""

    @property
    def severity(self) -> float:
        """The loss in units of what makes a result bad."""
        if self.changed is not None:
            return self.changed / CHANGED
        return min((self.nsr or 0.0) / NSR_BAD, MOST)

    @property
    def is_bad(self) -> bool:
        """Whether it loses more than a good result may, beyond what chance makes of so many samples."""
        return self.exceeds(CHANGED, NSR_BAD)

    def exceeds(self, changed: float, nsr: float) -> bool:
        """Whether more than ``changed`` change class, beyond what chance makes of so many samples, or, where it has no
        classes, the noise over signal is above ``nsr``."""
        if self.changed is not None:
            # Of classes, changes are no less real where the samples show few of them.
            low = self.likely[0] if self.likely else self.changed
            return low > changed
        return self.tested and not self.spared and (self.nsr or 0.0) > nsr

    @property
    def doubt(self) -> str | None:
        """Why it is not known to be good, in a few words; None if it is."""
        if not self.tested:
            return self.reason or "the samples do not test it"
        if self.changed is not None and self.likely and self.likely[1] > CHANGED:
            return f"too few samples to tell whether more than {CHANGED:.0%} change class"
        if self.changed is None and (self.nsr or 0.0) > NSR:
            return f"noise/signal {self.nsr:.2g}; above {NSR:g} it depends on the task; see --metric"
        return None


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How close the result's outputs are to the original's."""

    cosine: float
    """Mean over samples and outputs of the cosine between the flattened outputs; 1 is best."""
    relative_l2: float
    """|result - original| / |original|, mean over outputs."""
    top1_agreement: float | None
    """Part of the samples (0 to 1) with the same largest score; None for models that are no classifiers."""
    samples: int
    source: str
    """Where the samples come from, as the report says it."""
    provider: str
    outputs: tuple[OutputFidelity, ...] = ()
    """The worst first."""
    fitted: int | None = None
    """Number of samples that the layers were fitted to, others than those measured on; None if there are none."""
    in_sample: bool = False
    """Whether those measured on are among those that the layers were fitted to."""
    real: bool = True
    """Whether the samples are the user's; made-up ones say nothing good."""
    exact: bool = False
    """Whether the result computes what the original does, up to rounding, by the way it was made."""

    @property
    def worst(self) -> OutputFidelity | None:
        """The output that decides."""
        return self.outputs[0] if self.outputs else None

    @property
    def held_out(self) -> int:
        """Samples measured on that nothing was fitted to."""
        return 0 if self.in_sample else self.samples

    @property
    def changed(self) -> float | None:
        """The largest share that changes class; None where an output holds no classes."""
        shares = [output.changed for output in self.varying]
        return None if not shares or None in shares else max(share or 0.0 for share in shares)

    @property
    def nsr(self) -> float | None:
        """The largest noise over signal: of outputs that the samples test, if there are some."""
        found = [(output.tested, output.nsr) for output in self.varying if output.nsr is not None]
        return min(max(found)[1], MOST) if found else None

    @property
    def kl(self) -> float | None:
        """The largest divergence of classes, in nats."""
        return max((output.kl for output in self.outputs if output.kl is not None), default=None)

    @property
    def loss(self) -> float:
        """The number that results are compared by, 0 is best: the share of classes changed; the noise over signal where
        an output holds no classes; the squared relative error where no output varies over the samples."""
        known = self.nsr if self.changed is None else self.changed
        return min(self.relative_l2**2, MOST) if known is None else known

    @property
    def varying(self) -> list[OutputFidelity]:
        """Outputs but those that are the same for every sample; all where none varies."""
        return [output for output in self.outputs if not output.constant] or list(self.outputs)

    @property
    def verdict(self) -> Word:
        """One word: bad as soon as one output is, good if all are known to be."""
        return judged(self)[0]

    @property
    def why(self) -> str:
        """What the verdict rests on, in a few words."""
        return judged(self)[1]


def judged(close: Fidelity) -> tuple[Word, str]:
    """The verdict, and why."""
    limits = (CHANGED, NSR_BAD) if close.real or close.exact else (MADE_UP, MADE_UP)
    bad = next((o for o in close.outputs if o.exceeds(*limits)), None)
    if bad is not None:
        return "bad", _loss_text(bad, close)
    if close.exact:
        return "good", "the result computes what the original does"
    doubtful = next((o for o in close.varying if o.doubt), None)
    if not close.real:
        aside = next((o for o in close.varying if not o.tested), None)
        detail = f": {_named(aside, close)}{aside.reason}" if aside else ""
        return "untested", f"made-up samples{detail}; give your own with --calib"
    if close.in_sample:
        return "untested", "measured on the samples that it was fitted to; give more"
    if doubtful is not None:
        return "untested", f"{_named(doubtful, close)}{doubtful.doubt}"
    return ("good", _loss_text(close.outputs[0], close)) if close.outputs else ("untested", "nothing was compared")


def in_order(outputs: Iterable[OutputFidelity]) -> tuple[OutputFidelity, ...]:
    """The worst first: bad ones, then those that are not tested, then good ones; constants last."""
    return tuple(sorted(outputs, key=lambda o: (o.constant, not o.is_bad, o.doubt is None, -o.severity)))


def _named(output: OutputFidelity, close: Fidelity) -> str:
    return f"{output.name}: " if len(close.outputs) > 1 else ""


def _loss_text(output: OutputFidelity, close: Fidelity) -> str:
    if output.changed is not None:
        text = f"{100 * output.changed:.1f}% change class, limit {CHANGED if close.real else MADE_UP:.0%}"
    else:
        limit = MADE_UP if not close.real else NSR_BAD if output.is_bad else NSR
        text = f"noise/signal {output.nsr or 0:.3g}, limit {limit:g}"
    return f"{_named(output, close)}{text}"
