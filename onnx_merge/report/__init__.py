"""Reports of a run: JSON files and terminal tables."""
