"""What a graph is: a typed view of an ONNX model, the axis algebra, the op rules, and patches."""
