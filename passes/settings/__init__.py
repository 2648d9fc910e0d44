"""What is to be done to a model."""
