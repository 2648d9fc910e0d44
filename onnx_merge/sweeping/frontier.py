"""Find the Pareto frontier of several results, and its knee."""

from __future__ import annotations

from collections.abc import Sequence

TINY = 1e-9
"""Distances from the chord, with both axes scaled to 0..1, up to this one are rounding errors."""


def frontier(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Indices of the points that no other point dominates, the cheapest first: none costs at most as much and is
    better.

    Of equal points the first is kept.
    """
    found: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -qualities[i])):
        if not found or qualities[i] > qualities[found[-1]]:
            found.append(i)
    return found


def knee(costs: Sequence[float], qualities: Sequence[float]) -> int | None:
    """Index of the frontier's point farthest above the chord between its ends, with both axes scaled to 0..1.

    This is the knee of a discrete set of points as defined by Kneedle (Satopää et al., "Finding a 'Kneedle' in a
    Haystack", ICDCSW 2011), without its smoothing, for which a sweep has too few points. A single point is its own
    knee. A frontier without a point above its chord has none.
    """
    points = frontier(costs, qualities)
    if len(points) == 1:
        return points[0]
    if len(points) < 3:
        return None
    first, last = points[0], points[-1]
    heights = {
        i: (qualities[i] - qualities[first]) / (qualities[last] - qualities[first])
        - (costs[i] - costs[first]) / (costs[last] - costs[first])
        for i in points[1:-1]
    }
    best = max(heights, key=lambda i: heights[i])
    return best if heights[best] > TINY else None
