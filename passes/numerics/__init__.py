"""Numerical routines on arrays, independent of ONNX: norms, similarities, clustering, regression.

Channels are rows: ``rows`` (C, D) holds for each of C channels the D weights that produce it. Every function takes any
float array. It computes on float32 rows with float64 sums, in an order that does not depend on the number of threads.
Only ``best_match`` leaves its similarities to BLAS. It treats differences within BLAS's rounding as ties.
"""

from .arrays import RowSet
from .mixing import mix_columns
from .norms import median_distances, row_norms
from .reprune import elect, elect_kernels
from .similarity import best_match, parallel_classes

__all__ = [
    "RowSet",
    "best_match",
    "elect",
    "elect_kernels",
    "median_distances",
    "mix_columns",
    "parallel_classes",
    "row_norms",
]
