"""Tunables of the places where a detector finds objects: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectTuning:
    """How outputs are weighed by where objects are found (`passes.statistics.object_places`)."""

    share: float = 0.8
    """Share of a place's weight that follows its score. Not tuned: four fifths. The rest is for
    empty places, which are to stay empty."""
    fewest_places: int = 64
    """Places of an output from which on it can be a detector's. Not tuned: as `DistillationTuning.dense_places`."""
    found: float = 0.5
    """Score at which a place has an object. Not tuned: more likely than not."""
    most_found: float = 0.1
    """Largest share of places with an object. Not tuned: a tenth. Where more have one, the scores are those of a
    segmentation, or tell classes apart and not objects from the rest."""
    empty: float = 0.125
    """Score that half of the places have at most. Not tuned: an eighth. Sizes of boxes and distances are in 0..1, too,
    and few of them are large, but few are next to nothing."""
