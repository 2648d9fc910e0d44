"""Model files: reading, checking and writing them."""
