"""The task's own measure of a model: built-in metrics, and functions of the user."""
