"""Many results of one model, at falling sizes."""
