"""The original model as onnxruntime runs it: on which provider, at which input sizes, in which batches."""
