"""The channels of a group: their weights, statistics, value bounds, scales, and which are redundant."""
