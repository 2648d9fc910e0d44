"""Run models with onnxruntime: choose a provider, create sessions, and reduce its errors to one line.

onnxruntime takes a third of a second to import and can print warnings on machines without a GPU. It is therefore
imported on first use, with its output suppressed. No other module imports it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import io
import os
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

from onnx_merge.errors import InputError, OnnxMergeError, UsageError, one_line
from onnx_merge.io.save import needs_external_data, save_atomically
from onnx_merge.runtime.custom_operators import library_path

Array = NDArray[Any]
Optimisation = Literal["none", "basic", "extended", "all"]
SILENT = 4
"""onnxruntime's log level "fatal": errors are raised, not printed."""
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "bfloat16": BFLOAT16,
    "string": np.dtype(object),
    **{n: np.dtype(n) for n in ("float16", "bool", "int8", "int16", "int32", "int64")},
    **{n: np.dtype(n) for n in ("uint8", "uint16", "uint32", "uint64")},
}
"""onnxruntime's name of an element type -> NumPy type."""
CUDA_OPTIONS = {
    "use_tf32": "0",  # its 10-bit mantissa has larger errors than the differences that we measure
    "cudnn_conv_algo_search": "HEURISTIC",  # the default times every algorithm at every new shape
}


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """The execution provider that models run on."""

    name: Literal["cpu", "cuda"]
    reason: str
    """Why this provider was chosen, for the report."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model, as declared."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    """A dynamic dimension is its symbol, or None if it has none."""


CPU = ProviderChoice("cpu", "asked for")


def available_provider(requested: Literal["auto", "cpu", "cuda"] = "auto") -> ProviderChoice:
    """The provider to run on. Whether CUDA works is tested once, without output on standard error.

    Raises
    ------
    UsageError: CUDA was requested and does not work on this machine.
    """
    if requested == "cpu":
        return CPU
    works, reason = _cuda()
    if works:
        return ProviderChoice("cuda", reason)
    if requested == "cuda":
        raise UsageError(f"CUDA does not work here: {reason}; use --provider auto or cpu")
    return ProviderChoice("cpu", reason)


_limit: ContextVar[int | None] = ContextVar("threads", default=None)


@contextlib.contextmanager
def threads_limited(threads: int | None) -> Iterator[None]:
    """In the block, new sessions have this many threads within an operator, unless they are given another number."""
    token = _limit.set(threads)
    try:
        yield
    finally:
        _limit.reset(token)


_libraries: ContextVar[tuple[str, ...]] = ContextVar("libraries", default=())


@contextlib.contextmanager
def custom_operators(libraries: Sequence[str]) -> Iterator[None]:
    """In the block, new sessions load the operators of ``libraries``; see `library_path`.

    Raises
    ------
    InputError: one of them is not an operator library.
    """
    token = _libraries.set(tuple(map(library_path, libraries)))
    try:
        for path in _libraries.get():
            try:
                _onnxruntime().SessionOptions().register_custom_ops_library(path)
            except Exception as error:
                problem = f"{path} of --custom-ops is no library of operators that onnxruntime can load"
                raise InputError(f"{problem}: {_runtime_line(error)}") from error
        yield
    finally:
        _libraries.reset(token)


class Session:
    """A loaded model.

    Parameters
    ----------
    model: a model, its bytes, or the path of its file.
    provider: where to run it; the CPU by default.
    threads: within an operator; by default those of `threads_limited`, otherwise onnxruntime's choice (one for each
        core).
    optimisation: onnxruntime's graph optimisation level. Levels differ in rounding, so outputs are compared only
        between sessions of the same level.
    spinning: whether threads wait actively between operators. This is faster, but slows other computations.
    arena: whether CPU memory comes from onnxruntime's arena, as in deployment. The arena never shrinks, and an output,
        which is part of it, keeps all of it allocated. Without it, a run allocates only what its tensors need.

    Raises
    ------
    OnnxMergeError: onnxruntime cannot load the model, or is not installed.
    """

    def __init__(
        self,
        model: onnx.ModelProto | bytes | str | os.PathLike[str],
        provider: ProviderChoice = CPU,
        *,
        threads: int | None = None,
        optimisation: Optimisation = "all",
        spinning: bool = True,
        arena: bool = False,
    ) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = SILENT
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{_LEVELS[optimisation]}")
        options.intra_op_num_threads = threads or _limit.get() or 0
        options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for library in _libraries.get():
            options.register_custom_ops_library(library)
        source: bytes | str
        if isinstance(model, onnx.ModelProto):
            source = self._serialise(model)
        else:
            source = model if isinstance(model, bytes) else os.fspath(model)
        providers: list[Any] = ["CPUExecutionProvider"]
        if provider.name == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", CUDA_OPTIONS))
        try:
            # Without fallback, which prints, and would silently use another provider.
            self._session = ort.InferenceSession(source, options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise OnnxMergeError(f"onnxruntime cannot load the model: {_runtime_line(error)}") from error
        self.provider, self.optimisation = provider, optimisation
        declared = (*self._session.get_inputs(), *self._session.get_outputs())
        self._has_bfloat16 = any(t.type == "tensor(bfloat16)" for t in declared)

    def _serialise(self, model: onnx.ModelProto) -> bytes | str:
        """The model's bytes; for a model over 2 GB, the path of a temporary file that is deleted with the session."""
        if not needs_external_data(model):
            content: bytes = model.SerializeToString()
            return content
        folder = tempfile.mkdtemp(prefix="onnx_merge-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return os.fspath(save_atomically(model, Path(folder, "model.onnx")).path)

    @functools.cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs that `run` must be fed.

        Raises
        ------
        OnnxMergeError: an input is not a tensor of numbers or strings.
        """
        infos = [_tensor_info(i) for i in self._session.get_inputs()]
        for info, declared in zip(infos, self._session.get_inputs(), strict=True):
            if info is None:
                raise OnnxMergeError(f"input {declared.name!r} is a {declared.type}, which cannot be fed from arrays")
        return tuple(i for i in infos if i is not None)

    @functools.cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs that are tensors, as declared; actual shapes may differ.

        A sequence of maps, as scikit-learn's classifiers return probabilities, counts as a tensor: see `run`.
        """
        declared = self._session.get_outputs()
        return tuple(o for o in (_tensor_info(d) or _maps_info(d) for d in declared) if o is not None)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Values of ``outputs`` for one batch of inputs; by default of all tensors among the outputs, in the model's
        order.

        A sequence of maps is returned as an array with a row for each map; the columns are in the order of the maps'
        keys.

        Raises
        ------
        OnnxMergeError: a feed is missing, or has the wrong type or shape; or an operator fails.
        """
        names = [o.name for o in self.outputs] if outputs is None else list(outputs)
        try:
            if self._has_bfloat16:
                return dict(zip(names, self._run_bfloat16(feeds, names), strict=True))
            values = self._session.run(names or None, dict(feeds))  # onnxruntime takes an empty list as all outputs
            if not names:
                return {}
            return {n: _rows(v) if isinstance(v, list) else v for n, v in zip(names, values, strict=True)}
        except Exception as error:
            raise OnnxMergeError(f"onnxruntime cannot run the model: {_runtime_line(error)}") from error

    def _run_bfloat16(self, feeds: Mapping[str, Array], names: list[str]) -> Iterator[Array]:
        """Like `run`, by way of onnxruntime's OrtValue, because its NumPy interface does not support bfloat16."""
        make = _onnxruntime().OrtValue
        values = {
            name: make.ortvalue_from_numpy_with_onnx_type(a.view(np.uint16), onnx.TensorProto.BFLOAT16)
            if a.dtype == BFLOAT16
            else make.ortvalue_from_numpy(a)
            for name, a in feeds.items()
        }
        for value in self._session.run_with_ort_values(names, values):
            if value.data_type() != "tensor(bfloat16)":
                yield value.numpy()
                continue
            shape = tuple(value.shape())
            raw = (ctypes.c_uint16 * int(np.prod(shape))).from_address(value.data_ptr()) if 0 not in shape else ()
            yield np.array(raw, np.uint16).view(BFLOAT16).reshape(shape)


def loaded(
    model: onnx.ModelProto,
    provider: ProviderChoice = CPU,
    optimisation: Optimisation = "all",
    *,
    spinning: bool = True,
) -> Session:
    """A session at the given optimisation level; at the level "basic" if onnxruntime's higher optimisations break the
    model.

    The default is all optimisations, as in deployment. The session's ``optimisation`` is the level that worked; results
    must be loaded at the same one.

    Raises
    ------
    OnnxMergeError: onnxruntime cannot load the model at either level.
    """
    try:
        return Session(model, provider, optimisation=optimisation, spinning=spinning)
    except OnnxMergeError:
        if optimisation in ("extended", "all"):
            with contextlib.suppress(OnnxMergeError):
                return Session(model, provider, optimisation="basic", spinning=spinning)
        raise


_LEVELS = {"none": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}


def _tensor_info(declared: Any) -> TensorInfo | None:
    """The tensor; None for sequences, maps, optionals and element types that NumPy cannot represent."""
    element = re.fullmatch(r"tensor\((\w+)\)", declared.type)
    known = element is not None and element[1] in DTYPES
    return TensorInfo(declared.name, DTYPES[element[1]], tuple(declared.shape)) if element and known else None


def _maps_info(declared: Any) -> TensorInfo | None:
    """A sequence of maps from labels to floats as a tensor (samples, labels); None for anything else."""
    maps = re.fullmatch(r"seq\(map\((int64|string),tensor\(float\)\)\)", declared.type)
    return TensorInfo(declared.name, DTYPES["float"], (None, None)) if maps else None


def _rows(maps: list[dict[Any, float]]) -> Array:
    values = [[row[key] for key in sorted(row)] for row in maps]
    return np.array(values, np.float32).reshape(len(values), len(values[0]) if values else 0)


def _runtime_line(error: Exception) -> str:
    """onnxruntime's error message on one line, without error numbers and source locations."""
    text = one_line(str(error), limit=4000)
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\S*onnxruntime_src/\S+:\d+ [^()]*\([^()]*\)\s*(const )?", "", text)
    text = re.sub(
        r"ONNX Runtime only \*guarantees\*.*?Opset (\d+) .*?Current", r"opset \1 is too new for it. Current", text
    )
    return text or type(error).__name__


@functools.cache
def _onnxruntime() -> Any:
    """The onnxruntime module, imported silently: its search for devices can print irrelevant warnings."""
    try:
        with _silence():
            return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise OnnxMergeError(f"onnxruntime cannot be imported: {error}; reinstall it with pip") from error


@functools.cache
def default_threads() -> int | None:
    """The default number of threads within an operator on the CPU; None if the operating system does not show it.

    onnxruntime has no function that returns it, and does not log it. The threads that a session starts are therefore
    counted. The thread that calls `Session.run` works with them, and is included.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return None
    _onnxruntime()  # the import starts threads too
    before = len(list(tasks.iterdir()))
    session = Session(_probe())
    started = len(list(tasks.iterdir())) - before
    del session
    return started + 1 if started >= 0 else None


def _probe() -> onnx.ModelProto:
    """A minimal model with a convolution."""
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> probe (float[1,1,2,2] x) => (float[1,1,2,2] y)'
        "<float[1,1,1,1] w = {2}> { y = Conv(x, w) }"
    )


@functools.cache
def _cuda() -> tuple[bool, str]:
    """Whether a model with a convolution runs on CUDA, and the device or the reason why not."""
    device = _first_device()
    if not device:
        return False, "no NVIDIA device"
    ort = _onnxruntime()
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return False, f"{device} is here, but the installed onnxruntime is the CPU build: install onnxruntime-gpu"
    x = np.ones((1, 1, 2, 2), np.float32)
    with _silence():
        ort.preload_dlls()
        try:
            session = Session(_probe(), ProviderChoice("cuda", "probe"))
            on_device = session._session.get_providers()[0] == "CUDAExecutionProvider"
            works = on_device and bool(np.allclose(session.run({"x": x})["y"], 2 * x))
            problem = "onnxruntime could not load its CUDA provider"
        except OnnxMergeError as error:
            works, problem = False, str(error)
    if works:
        return True, device
    return False, f"{device} is here, but {problem}: are CUDA and cuDNN installed (pip install onnx_merge[gpu])?"


def _first_device() -> str:
    """The name of the first NVIDIA device, empty if there is none. The driver is asked, since onnxruntime would print
    errors."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:  # no driver
        return ""
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return ""
    if cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, 128, device):
        return "an NVIDIA device"
    return name.value.decode(errors="replace")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress standard output and error, both from Python and from C."""
    with contextlib.ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "wb"))
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):  # the parent process closed it
                copy = os.dup(descriptor)
                stack.callback(os.close, copy)
                stack.callback(os.dup2, copy, descriptor)
                os.dup2(null.fileno(), descriptor)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield
