"""Reconstruction: what samples say of the channels decides which stay, and gives their readers new weights."""
