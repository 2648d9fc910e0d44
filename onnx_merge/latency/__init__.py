"""How long models take to run, and the widths at which kernels run fast."""
