"""The reference page of options and JSON keys, written from their definitions."""
