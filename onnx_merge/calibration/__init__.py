"""Calibration samples: load the user's, generate synthetic ones, and hold out some of them."""
