"""Samples: augmented, matched to recorded statistics, kept in files, and how many are needed."""
