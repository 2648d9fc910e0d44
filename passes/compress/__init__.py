"""The second half of the pipeline: from channel groups to a smaller model."""
