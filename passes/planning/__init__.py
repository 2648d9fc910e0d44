"""Which channels of a group stay at a given width, and what takes over from the others."""
