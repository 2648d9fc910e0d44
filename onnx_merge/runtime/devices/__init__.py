"""Models on devices with memory of their own, such as GPUs: sessions are reused, and tensors stay there."""
