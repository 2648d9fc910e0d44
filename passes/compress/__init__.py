"""From the channel groups of a model to a smaller model: the second half of the pipeline."""
