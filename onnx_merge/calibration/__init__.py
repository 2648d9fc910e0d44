"""Samples: the user's, from wherever they come, or made-up ones; which are fitted to, and which are held out."""
