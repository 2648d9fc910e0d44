"""All tunables of the passes. Each says its trade-off and the data it was chosen on, in the module that defines it.

"Settled on" names the measurements that chose a value. "Not tuned" says that none did, and where the value's order of
magnitude comes from. "Test images" are those of CIFAR-10, by which the accuracy and divergence of a ResNet-56 and a
VGG-16 were judged (docs/allocation.md, docs/reconstruction.md). Figures there are no estimate for other models.
"""

from __future__ import annotations

from dataclasses import dataclass

from passes.numerics.tuning import NUMERICS, NumericsTuning
from passes.settings.allocation_tuning import AllocationTuning, SensitivityTuning
from passes.settings.distillation_tuning import DistillationTuning
from passes.settings.reconstruction_tuning import PlaceTuning, ReconstructionTuning
from passes.settings.sample_tuning import SampleMatchingTuning
from passes.settings.statistics_tuning import MemoryTuning, StatisticsTuning
from passes.settings.transform_tuning import RedundancyTuning, TransformTuning
from passes.shapes.tuning import SHAPES, ShapeTuning


@dataclass(frozen=True)
class Tuning:
    """Tunables of all passes."""

    allocation: AllocationTuning = AllocationTuning()
    sensitivity: SensitivityTuning = SensitivityTuning()
    reconstruction: ReconstructionTuning = ReconstructionTuning()
    places: PlaceTuning = PlaceTuning()
    distillation: DistillationTuning = DistillationTuning()
    matching: SampleMatchingTuning = SampleMatchingTuning()
    statistics: StatisticsTuning = StatisticsTuning()
    redundancy: RedundancyTuning = RedundancyTuning()
    memory: MemoryTuning = MemoryTuning()
    transforms: TransformTuning = TransformTuning()
    shapes: ShapeTuning = SHAPES
    numerics: NumericsTuning = NUMERICS


TUNING = Tuning()
"""The default tunables. A `Compressor` with other tunables still reads these from here:
`RedundancyTuning.constant_width`, `ShrinkageTuning.dead_variance`, `LinearAlgebraTuning`, `GradientTuning`,
`MatchTuning` in `passes.planning.criteria`, `ShapeTuning`, `TransformTuning`, `AllocationTuning.target_deviation`,
`StatisticsTuning.fewest_batch_samples`, and `NoiseTuning`, by which results are judged."""
