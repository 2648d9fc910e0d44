"""Numerical routines on arrays, independent of ONNX: norms, similarities, clustering, regression.

Channels are rows: ``rows`` (C, D) holds for each of C channels the D weights that produce it. Every function takes any
float array. It computes on float32 rows with float64 sums, in an order that does not depend on the number of threads.
Only ``best_match`` leaves its similarities to BLAS. It treats differences within BLAS's rounding as ties.
"""
