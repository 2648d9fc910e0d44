"""Tunables of inputs: the search for sizes at which a model runs, the memory of samples, batches and model files.

They bound time and memory. Higher values find sizes for more models and take longer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSearchTuning:
    """Sizes of dynamic dimensions at which a model runs (`onnx_merge.inputs.assignments` and the modules it uses). Not
    tuned: bounds that usual models stay far below."""

    runs: int = 500
    """Maximum number of runs of a search. A model that runs at small sizes needs four."""
    small_first: int = 8
    """Number of small sizes tried before the requirements of nodes are analysed, which takes longer than a run at a
    small size."""
    small_beside_given: int = 16
    """Number of small sizes tried in addition to those that the user gave."""
    elements: int = 2**22
    """Maximum number of elements of all inputs. Volumes with typical image edges would not fit into memory."""
    step_elements: int = 2**26
    """Maximum number of elements that the inputs and outputs of one node hold: attention between all pixels of an image
    grows with the square of their number."""
    witnesses: int = 4
    """Maximum number of assignments at which shapes are inferred. Each may show a size that the others leave open, and
    takes a run."""
    largest_edge: int = 1024
    """Largest edge of an image that the requirements of nodes lead to."""
    largest_length: int = 4096
    """Largest length of a sequence that they lead to."""
    largest_batch: int = 64
    """Largest batch that they lead to."""
    longest_signal: int = 2**18
    """Maximum length of a signal with one or two channels."""
    longest_sequence: int = 3000
    """Maximum length, except for one-channel signals; attention over more positions would take too much memory."""
    constraints: int = 8
    """Maximum number of constraints that are met one after another."""
    inferences: int = 200
    """Maximum number of shape inferences."""
    constant_elements: int = 2**16
    """Maximum number of elements of constants whose values are read."""
    neighbours_below: int = 16
    """The neighbours of a size below this one are tried too."""
    exhaustive: int = 100
    """Every size up to this one is tried, since a model may be fixed to any of them."""


@dataclass(frozen=True)
class IntegerInputTuning:
    """Values that integer inputs may have (`onnx_merge.inputs.integer_inputs`). Not tuned: bounds that usual models
    stay far below."""

    range_length: int = 16
    """Assumed length of a Range whose end is not constant, since dynamic sizes are made up."""
    integer_elements: int = 2**16
    """Maximum number of elements of an integer constant whose values are read: bounds found against time."""
    other_elements: int = 4096
    """Maximum number of elements of any other constant whose values are read."""


@dataclass(frozen=True)
class SampleMemoryTuning:
    """Memory of samples (`onnx_merge.inputs.memory_fit`): low values exceed ``--memory-limit``, high ones leave samples
    out. Not tuned: shares and counts that leave most of the memory to the activations."""

    smaller_edges: tuple[int, ...] = (192, 160, 128, 96, 64)
    """Candidate image edges in pixels below the default, if nobody fixed them. Multiples of 32 suit networks that halve
    the resolution five times."""
    fitting_samples: int = 32
    """Images are small enough if this many samples fit into memory."""
    samples_share: int = 8
    """The samples themselves take at most one part in this many of the memory limit."""
    disk_share: int = 8
    """Temporary files take at most one part in this many of the free disk space. Each process of a sweep has its own
    files."""
    batch_share: int = 4
    """One batch of a comparison takes at most one part in this many of the memory limit."""
    comparison_bytes: int = 16
    """Bytes for each output element during a comparison: both outputs in float64, their difference, and its square."""
    random_bytes: int = 256 * 2**20
    """Maximum number of bytes of random samples. 64 photographs fit; 64 medical volumes do not."""
    unused_bytes: int = 2**26
    """Freed memory that may stay with the process between two runs of models, for the next ones: memory against time.
    """
    reused_bytes: int = 2**27
    """Freed memory at the end of the heap that stays with the process during the runs of a model: memory against time.
    """
    stored_bytes: int = 2**25
    """Arrays of at least this many bytes stay in the file: memory against time."""
    skipped_bytes: int = 2**20
    """Bytes read at a time to skip to the next row of a file."""


@dataclass(frozen=True)
class BatchTuning:
    """Size of a run (`onnx_merge.runtime.batching`): time against memory. Not tuned: a batch of 8 MB, at a hundred
    times that, takes less than 1 GB."""

    bytes: int = 8 * 2**20
    """Maximum bytes of the inputs of one run. Activations take about a hundred times as much memory."""
    samples: int = 128
    """Maximum number of samples of one run."""


@dataclass(frozen=True)
class ModelFileTuning:
    """How model files are written and read (`onnx_merge.io`). Not tuned: bounds far from what usual models have."""

    headroom: int = 64 * 2**20
    """Bytes reserved below the protobuf limit for nodes and names, whose exact size is not computed."""
    searched: int = 2**28
    """Bytes of the largest model file in a folder that is searched for the name of a data file before that is removed.
    Not tuned: models with external data are smaller."""
    inline_bytes: int = 1024
    """Tensors smaller than this stay in the .onnx file, because shape inference reads them there."""
    hashed_bytes: int = 2**20
    """Bytes of a file that are hashed at a time: memory against time."""


@dataclass(frozen=True)
class WholeRunsTuning:
    """How it is seen whether rows of the inputs are samples (`onnx_merge.whole_runs`). Not tuned: few random draws show
    that rows mix, and rounding is far below what a mixed row changes."""

    rows: int = 4
    """Rows of a run in which the first is changed, unless the model ran at more."""
    draws: int = 4
    """Random inputs that are tried: an edge of a graph may end at few nodes."""
    tolerance: float = 1e-3
    """A row whose values change by less has not changed."""


INPUT_SEARCH = InputSearchTuning()
INTEGER_INPUTS = IntegerInputTuning()
SAMPLE_MEMORY = SampleMemoryTuning()
BATCHES = BatchTuning()
MODEL_FILES = ModelFileTuning()
WHOLE_RUNS = WholeRunsTuning()
