"""Arrays in, arrays out: norms, similarities, clusters and elections over channels. Nothing here knows of ONNX.

Channels are rows: ``rows`` (C, D) holds for each of C channels the D weights that produce it. Every function takes any
float array and computes on float32 rows with float64 sums, in an order that does not depend on the number of threads;
``best_match`` alone leaves its similarities to BLAS, and takes what BLAS may round differently for a tie.
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
