"""The analysis of a model: its channel groups, and the layers in no group."""
