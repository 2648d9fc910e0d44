"""Solves two layers together, with what is between them, on samples."""
