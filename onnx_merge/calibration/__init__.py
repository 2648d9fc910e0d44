"""Calibration samples: reading the user's, generating synthetic ones, and splitting them into fitting and held-out
parts."""
