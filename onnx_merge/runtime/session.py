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
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError
from onnx_merge.io.save import needs_external_data, save_atomically
from onnx_merge.runtime.onnxruntime_import import onnxruntime, runtime_line
from onnx_merge.runtime.providers import CPU, ProviderChoice, execution_providers
from onnx_merge.runtime.session_settings import session_options
from onnx_merge.runtime.stored_weights import stored_weights
from onnx_merge.runtime.tensor_info import BFLOAT16, TensorInfo, maps_info, rows_of_maps, tensor_info
from passes.samples.sample_files import release_pages
from passes.weights.stored_tensors import MAPPED

Array = NDArray[Any]
Optimisation = Literal["none", "basic", "extended", "all"]
CRASHING = ["MatmulTransposeFusion"]
"""Optimisations of onnxruntime that end the process: this one on a batch transposed before a comparison that MatMul
reads as numbers (seen in 1.31). A part cut out of a model may hold that where the whole model does not."""


COPYING = ["NchwcTransformer"]
"""Optimisations of onnxruntime that copy all weights into another layout."""


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
    arena: whether CPU memory comes from onnxruntime's arena, which never shrinks: the next run has it at once, and an
        output, which is part of it, keeps all of it allocated.
    deployed: whether the session is set up as in deployment, to measure latency. It has an arena. The few
        optimisations that can end the process are not left out, CUDA uses TF32 and cuDNN's default search, and
        TensorRT runs what it can where it is the provider.

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
        deployed: bool = False,
    ) -> None:
        ort = onnxruntime()
        options = session_options(threads)
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{_LEVELS[optimisation]}")
        options.enable_cpu_mem_arena, options.enable_mem_pattern = arena or deployed, deployed
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source: bytes | str
        # Where temporary files have no room, weights are in memory: there may be more of them than protobuf takes.
        fits = isinstance(model, onnx.ModelProto) and not needs_external_data(model, stored=False)
        self._stored = stored_weights(model) if isinstance(model, onnx.ModelProto) and fits else None
        if self._stored is not None:
            self._stored.give_to(options, on_cpu=provider.name == "cpu")
            source = self._stored.content
        elif isinstance(model, onnx.ModelProto):
            source = self._serialise(model)
        else:
            source = model if isinstance(model, bytes) else os.fspath(model)
        providers = execution_providers(provider, deployed)
        try:
            # Without fallback, which prints, and would silently use another provider.
            left_out = [] if deployed else CRASHING
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

    @functools.cached_property
    def takes_values(self) -> bool:
        """Whether all inputs and outputs are tensors that NumPy's arrays are made of: no strings, no bfloat16."""
        declared = (*self._session.get_inputs(), *self._session.get_outputs())
        infos = [tensor_info(one) for one in declared]
        return all(i is not None and not i.dtype.hasobject and i.dtype != BFLOAT16 for i in infos)

    @property
    def provider_used(self) -> str:
        """onnxruntime's name of the provider that comes first. It leaves out those that it cannot load."""
        found: str = self._session.get_providers()[0]
        return found

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
            release_pages()
            if self._stored is not None:
                MAPPED.note_read(self._stored.size)

    def run_on_device(self, feeds: Mapping[str, Any], device: str) -> list[Any]:
        """All outputs for OrtValues ``feeds``, as OrtValues: those of real numbers stay on ``device``.

        Raises
        ------
        OnnxMergeError: an operator fails.
        """
        binding = self._session.io_binding()
        try:
            for name, value in feeds.items():
                binding.bind_ortvalue_input(name, value)
            for declared in self._session.get_outputs():
                real = declared.type in ("tensor(float)", "tensor(float16)")
                binding.bind_output(declared.name, device if real else "cpu")
            self._session.run_with_iobinding(binding)
            return list(binding.get_outputs())
        except Exception as error:
            raise OnnxMergeError(f"onnxruntime cannot run the model: {runtime_line(error)}") from error

    def _run_bfloat16(self, feeds: Mapping[str, Array], names: list[str]) -> Iterator[Array]:
        """Run the model with onnxruntime's OrtValue, because its NumPy interface does not support bfloat16. Yields the
        outputs ``names``."""
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
    threads: int | None = None,
    spinning: bool = True,
    arena: bool = False,
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
        return Session(model, provider, threads=threads, optimisation=optimisation, spinning=spinning, arena=arena)
    except OnnxMergeError:
        if optimisation in ("extended", "all"):
            with contextlib.suppress(OnnxMergeError):
                return Session(model, provider, threads=threads, optimisation="basic", spinning=spinning, arena=arena)
        raise


_LEVELS = {"none": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}
