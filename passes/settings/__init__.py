"""Settings and tunables of the passes."""
