"""Runs models in onnxruntime sessions, and reduces their errors to one line."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

from onnx_merge.errors import InputError, OnnxMergeError
from onnx_merge.io.save import needs_external_data, save_atomically
from onnx_merge.runtime.custom_operators import library_path
from onnx_merge.runtime.onnxruntime_import import onnxruntime, runtime_line
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.stored_weights import stored_weights
from onnx_merge.runtime.tensor_info import BFLOAT16, TensorInfo, maps_info, rows_of_maps, tensor_info
from passes.weights.stored_tensors import MAPPED

Array = NDArray[Any]
Optimisation = Literal["none", "basic", "extended", "all"]
SILENT = 4
"""onnxruntime's log level "fatal": errors are raised, not printed."""
CUDA_OPTIONS = {
    "use_tf32": "0",  # its 10-bit mantissa has larger errors than the differences that we measure
    "cudnn_conv_algo_search": "HEURISTIC",  # the default times every algorithm at every new shape
}


CRASHING = ["MatmulTransposeFusion"]
"""Optimisations of onnxruntime that end the process: this one on a batch transposed before a comparison that MatMul
reads as numbers (seen in 1.31). A part cut out of a model may hold that where the whole model does not."""


COPYING = ["NchwcTransformer"]
"""Optimisations of onnxruntime that copy all weights into another layout."""


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
                onnxruntime().SessionOptions().register_custom_ops_library(path)
            except Exception as error:
                problem = f"{path} of --custom-ops is no library of operators that onnxruntime can load"
                raise InputError(f"{problem}: {runtime_line(error)}") from error
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
        which is part of it, keeps all of it allocated. Without it, a run allocates only what its tensors need. Only
        with it are the optimisations those of deployment to the last: otherwise the few that can end the process are
        left out.

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
        ort = onnxruntime()
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
        self._stored = stored_weights(model) if isinstance(model, onnx.ModelProto) else None
        if self._stored is not None:
            self._stored.give_to(options, on_cpu=provider.name == "cpu")
            source = self._stored.content
        elif isinstance(model, onnx.ModelProto):
            source = self._serialise(model)
        else:
            source = model if isinstance(model, bytes) else os.fspath(model)
        providers: list[Any] = ["CPUExecutionProvider"]
        if provider.name == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", CUDA_OPTIONS))
        try:
            # Without fallback, which prints, and would silently use another provider.
            left_out = [] if arena else CRASHING
            if self._stored is not None:
                left_out = [*left_out, *COPYING]
            self._session = ort.InferenceSession(
                source, options, providers=providers, enable_fallback=0, disabled_optimizers=left_out
            )
        except Exception as error:
            raise OnnxMergeError(f"onnxruntime cannot load the model: {runtime_line(error)}") from error
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
        infos = [tensor_info(i) for i in self._session.get_inputs()]
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
        return tuple(o for o in (tensor_info(d) or maps_info(d) for d in declared) if o is not None)

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
            return {n: rows_of_maps(v) if isinstance(v, list) else v for n, v in zip(names, values, strict=True)}
        except Exception as error:
            raise OnnxMergeError(f"onnxruntime cannot run the model: {runtime_line(error)}") from error
        finally:
            if self._stored is not None:
                MAPPED.note_read(self._stored.size)

    def _run_bfloat16(self, feeds: Mapping[str, Array], names: list[str]) -> Iterator[Array]:
        """Like `run`, by way of onnxruntime's OrtValue, because its NumPy interface does not support bfloat16."""
        make = onnxruntime().OrtValue
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
    model: onnx.ModelProto | bytes | str | os.PathLike[str],
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
