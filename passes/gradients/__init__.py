"""Differentiates an ONNX graph into an ONNX graph (reverse mode)."""
