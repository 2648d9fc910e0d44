"""onnxruntime: providers, sessions, threads and custom operators. Nothing else imports it."""
