"""Plans a group at a given width: the channels to keep, and how their readers compensate for the removed ones."""
