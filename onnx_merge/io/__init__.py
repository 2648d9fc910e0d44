"""Read, check and write model files."""
