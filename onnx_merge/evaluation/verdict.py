"""Fidelity of a result's outputs, and the verdict that follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from numpy.typing import NDArray

from onnx_merge.evaluation.thresholds import THRESHOLDS
from onnx_merge.tuning.evaluation import CLASS_CHANGES

Word = Literal["good", "bad", "untested"]
UNKNOWN_KIND_TEXT = "class scores or quantities? See --labels and --metric"
"""What is asked where only values say that an output holds class scores, and the two measures disagree."""
MAX_LOSS = 1e6
"""Largest loss; larger ones are treated as equal to it."""


@dataclass(frozen=True, slots=True)
class OutputFidelity:
    """Fidelity of one output. For classes (distributions, scores, labels) ``changed`` decides, otherwise ``nsr``."""

    name: str
    nsr: float | None = None
    """Noise over signal, see `passes.numerics.noise_to_signal`. None without a signal, and for labels."""
    kl: float | None = None
    """Kullback-Leibler divergence of the result's distributions from the original's: mean over samples, in nats."""
    changed: float | None = None
    """Share of the samples that change class, or of the places that count; see
    `onnx_merge.evaluation.class_changes`."""
    changed_low: float | None = None
    changed_high: float | None = None
    """Ends of the 95% interval of that share."""
    tested: bool = True
    """Whether the samples test the output: if not, a small loss has no meaning."""
    reason: str | None = None
    """Why the samples do not test the output."""
    likely: tuple[float, float] | None = None
    """Lower and upper bound of the share, each at confidence 80%. A verdict needs one of them beyond the limit."""
    nsr_error: float | None = None
    """Standard error of ``nsr``, relative to ``nsr``."""
    spared: bool = False
    """Whether the values look like class scores, few of which change. Noise alone does then not make the output bad."""
    told_by_values: bool = False
    """Whether nothing but the values says that the output holds class scores. Those of a regression in large units look
    alike, so that noise counts, too."""
    constant: bool = False
    """Whether the output is the same for every sample, before and after. If other outputs vary, the samples are not the
    cause."""
    moves: tuple[tuple[int, int, int], ...] = ()
    """(class before, class after, number of places), the most frequent first, where classes change."""
    by_sample: NDArray[Any] | None = field(default=None, compare=False, repr=False)
    """Noise over signal of each sample (samples,), whose mean is ``nsr``; None where the samples test no channel."""

    @property
    def severity(self) -> float:
        """The loss divided by the limit above which a result is bad."""
        if self.changed is not None:
            return self.changed / THRESHOLDS.changed
        return min((self.nsr or 0.0) / THRESHOLDS.bad_nsr, MAX_LOSS)

    @property
    def is_bad(self) -> bool:
        """Whether the loss significantly exceeds the limit for this number of samples."""
        return self.exceeds(THRESHOLDS.changed, THRESHOLDS.bad_nsr)

    def exceeds(self, changed: float, nsr: float) -> bool:
        """Whether the loss exceeds the given limits.

        With classes: significantly more than the share ``changed`` changes class. Without: noise over signal is above
        ``nsr``.
        """
        if self.changed is not None:
            # Changes of class count even if the samples show few classes.
            low = self.likely[0] if self.likely else self.changed
            return low > changed and not (self.told_by_values and (self.nsr or 0.0) <= THRESHOLDS.nsr)
        return self.tested and not self.spared and (self.nsr or 0.0) > nsr

    @property
    def doubt(self) -> str | None:
        """Why the output is not known to be good, in a few words; None if it is."""
        if not self.tested:
            return self.reason or "the samples do not test it"
        noise = self.nsr or 0.0
        if self.changed is None:
            limit = THRESHOLDS.nsr
            return (
                f"noise/signal {noise:.2g}; above {limit:g} it depends on the task; see --metric"
                if noise > limit
                else None
            )
        low, high = self.likely or (0.0, 0.0)
        many, unsure = high > THRESHOLDS.changed, low <= THRESHOLDS.changed < high
        if self.told_by_values and not unsure and (many or noise > THRESHOLDS.bad_nsr):
            return f"{100 * self.changed:.1f}% change class, noise/signal {noise:.2g}: {UNKNOWN_KIND_TEXT}"
        return f"too few samples to tell whether more than {THRESHOLDS.changed:.0%} change class" if many else None


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Fidelity of all outputs of a result to the original's."""

    cosine: float
    """Mean over samples and outputs of the cosine between the flattened outputs; 1 is best."""
    relative_l2: float
    """|result - original| / |original|, mean over outputs."""
    top1_agreement: float | None
    """Share of the samples (0 to 1) that keep their top class; None for models that are no classifiers."""
    samples: int
    source: str
    """Description of the samples, as in the report."""
    provider: str
    outputs: tuple[OutputFidelity, ...] = ()
    """The worst output first."""
    fitted: int | None = None
    """Number of samples that the layers were fitted to and that are not measured on; None if there are none."""
    fitted_made_up: bool = False
    """Whether those were made up, also where the measured samples are the user's."""
    in_sample: bool = False
    """Whether the measured samples are among those that the layers were fitted to."""
    real: bool = True
    """Whether the samples are the user's. Made-up samples cannot show that a result is good."""
    exact: bool = False
    """Whether the result is equal to the original up to rounding by construction."""
    classes: NDArray[Any] | None = field(default=None, compare=False, repr=False)
    """Class of each sample before and after (2, samples); None for models that are no classifiers."""
    unlike_training: bool = False
    """Whether the user's samples look unlike what the model was trained on, see `onnx_merge.evaluation.doubts`."""
    accuracy_lost: tuple[float, int] | None = None
    """By how much accuracy fell on all labelled samples, as a share of these, and their number; None without labels."""

    @property
    def worst(self) -> OutputFidelity | None:
        """The output that determines the verdict."""
        return self.outputs[0] if self.outputs else None

    @property
    def held_out(self) -> int:
        """Number of measured samples that no layer was fitted to."""
        return 0 if self.in_sample else self.samples

    @property
    def changed(self) -> float | None:
        """Largest share that changes class; None if an output holds no classes."""
        shares = [output.changed for output in self.varying]
        return None if not shares or None in shares else max(share or 0.0 for share in shares)

    @property
    def nsr(self) -> float | None:
        """Largest noise over signal, of the outputs that the samples test if there are any."""
        found = [(output.tested, output.nsr) for output in self.varying if output.nsr is not None]
        return min(max(found)[1], MAX_LOSS) if found else None

    @property
    def kl(self) -> float | None:
        """Largest divergence of class distributions, in nats."""
        return max((output.kl for output in self.outputs if output.kl is not None), default=None)

    @property
    def loss(self) -> float:
        """The number by which results are compared; 0 is best: what is `lost`, or the squared relative error if no
        output varies over the samples."""
        return min(self.relative_l2**2, MAX_LOSS) if self.lost is None else self.lost

    @property
    def lost(self) -> float | None:
        """The share of classes changed; if an output holds no classes, noise over signal, or the share of another
        output if that is larger. None if no output varies over the samples."""
        shares = [output.changed for output in self.varying if output.changed is not None]
        known = [self.changed] if self.changed is not None else [self.nsr, *shares]
        return max((one for one in known if one is not None), default=None)

    @property
    def loses_accuracy(self) -> bool:
        """Whether accuracy fell significantly by more than the share of samples that may change class. It falls by at
        most that share, but labels show a loss where too few classes occur to judge the outputs."""
        if self.accuracy_lost is None:
            return False
        # Imported here: it needs SciPy, and a table without labels does not.
        from onnx_merge.evaluation.class_changes import share_bounds

        share, count = self.accuracy_lost
        low, _ = share_bounds(max(0.0, share) * count, count, 1 - CLASS_CHANGES.one_sided_confidence)
        return low > THRESHOLDS.changed

    @property
    def varying(self) -> list[OutputFidelity]:
        """Outputs that vary over the samples, or all outputs if none varies."""
        return [output for output in self.outputs if not output.constant] or list(self.outputs)

    @property
    def verdict(self) -> Word:
        """The verdict as one word: bad if any output is bad or accuracy falls too far, good if all outputs are known
        to be good."""
        return judged(self)[0]

    @property
    def why(self) -> str:
        """Reason of the verdict, in a few words."""
        return judged(self)[1]


def judged(close: Fidelity) -> tuple[Word, str]:
    """Return the verdict and its reason."""
    if close.accuracy_lost is not None:  # labels say that they are classes
        close = replace(close, outputs=tuple(replace(o, told_by_values=False) for o in close.outputs))
    limits = (
        (THRESHOLDS.changed, THRESHOLDS.bad_nsr)
        if close.real or close.exact
        else (THRESHOLDS.made_up, THRESHOLDS.made_up)
    )
    bad = next((o for o in close.outputs if o.exceeds(*limits)), None)
    if bad is not None:
        return "bad", _loss_text(bad, close)
    if close.loses_accuracy and close.accuracy_lost is not None:
        return "bad", f"accuracy falls by {100 * close.accuracy_lost[0]:.1f} points, limit {100 * THRESHOLDS.changed:g}"
    if close.exact:
        return "good", "the result computes what the original does"
    doubtful = next((o for o in close.varying if o.doubt), None)
    if not close.real:
        aside = next((o for o in close.varying if not o.tested), None)
        detail = f": {_named(aside, close)}{aside.reason}" if aside else ""
        return "untested", f"made-up samples{detail}; give your own with --calib"
    if close.in_sample:
        return "untested", "measured on the samples that it was fitted to; give more"
    if close.unlike_training:
        return "untested", "the samples look unlike the training data: see above"
    if doubtful is not None:
        return "untested", f"{_named(doubtful, close)}{doubtful.doubt}"
    return ("good", _loss_text(close.outputs[0], close)) if close.outputs else ("untested", "nothing was compared")


def in_order(outputs: Iterable[OutputFidelity]) -> tuple[OutputFidelity, ...]:
    """Sort outputs: bad ones first, then those that are not tested, then good ones, constant ones last."""
    return tuple(sorted(outputs, key=lambda o: (o.constant, not o.is_bad, o.doubt is None, -o.severity)))


def _named(output: OutputFidelity, close: Fidelity) -> str:
    return f"{output.name}: " if len(close.outputs) > 1 else ""


def _loss_text(output: OutputFidelity, close: Fidelity) -> str:
    if output.changed is not None:
        limit = THRESHOLDS.changed if close.real else THRESHOLDS.made_up
        text = f"{100 * output.changed:.1f}% change class, limit {limit:.0%}"
    else:
        limit = THRESHOLDS.made_up if not close.real else THRESHOLDS.bad_nsr if output.is_bad else THRESHOLDS.nsr
        text = f"noise/signal {output.nsr or 0:.3g}, limit {limit:g}"
    return f"{_named(output, close)}{text}"
