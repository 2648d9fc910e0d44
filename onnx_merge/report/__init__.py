"""What is reported of a run: JSON and terminal tables."""
