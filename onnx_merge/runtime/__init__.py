"""The interface to onnxruntime: providers, sessions, threads and custom operators. No other package imports
onnxruntime."""
