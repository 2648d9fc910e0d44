"""Generates large models, compresses each, and prints weights, peak memory, seconds, and the stage with the peak.

    python benchmarks/large_models.py FOLDER [--mlp 3.0] [--llama 2.5] [--cnn 0.5] [--method merge|reconstruct]

Sizes are in GB of float32 weights; 0 leaves a model out. Models are written to FOLDER with external data, and stay
there. Memory is the resident set of the process that compresses, sampled 20 times a second; pages of mapped weights
count as far as they are in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

SAMPLES = 16


class Writer:
    """A model whose weights are written to a file as they are drawn."""

    def __init__(self, path: Path) -> None:
        self.path, self.nodes, self.initializers = path, list[onnx.NodeProto](), list[TensorProto]()
        self._data = path.with_suffix(".data").open("wb")
        self._rng = np.random.default_rng(0)

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        """A weight of normal numbers with the variance that keeps activations at one (He et al. 2015)."""
        spread = (
            scale if scale is not None else float(np.sqrt(2.0 / np.prod(shape[1:] if len(shape) > 2 else shape[:1])))
        )
        self._data.write(bytes(-self._data.tell() % 4096))
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        entries = {"location": self.path.with_suffix(".data").name, "offset": self._data.tell()}
        for first in range(0, shape[0], 256):  # in parts, which are all that is in memory
            part = self._rng.standard_normal((min(256, shape[0] - first), *shape[1:]), np.float32) * np.float32(spread)
            self._data.write(part.tobytes())
        for key, value in {**entries, "length": 4 * int(np.prod(shape))}.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    def small(self, name: str, value: np.ndarray) -> str:
        """A constant in the model's own file."""
        self.initializers.append(onnx.numpy_helper.from_array(value, name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node. Returns its output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def save(self, inputs: list[tuple[str, int, list[int | str]]], output: str, shape: list[int | str]) -> Path:
        """Write the model."""
        values = [helper.make_tensor_value_info(*each) for each in inputs]
        out = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "large", values, [out], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self._data.close()
        self.path.write_bytes(model.SerializeToString())
        return self.path


def mlp(path: Path, size: float, width: int = 8192) -> Path:
    """Fully connected layers of one width."""
    made, x = Writer(path), "x"
    layers = max(2, round(size * 1e9 / (4 * width * width)))
    for i in range(layers):
        x = made.op("Gemm", x, made.weight(f"w{i}", width, width), made.small(f"b{i}", np.zeros(width, np.float32)))
        x = made.op("Relu", x) if i + 1 < layers else x
    return made.save([("x", TensorProto.FLOAT, ["N", width])], x, ["N", width])


def llama(path: Path, size: float, width: int = 2048, heads: int = 16, tokens: int = 32) -> Path:
    """A decoder: embedding, blocks of attention and a gated MLP behind RMS norms, and a head of its own."""
    made, hidden, words = Writer(path), width * 11 // 4, 16000
    blocks = max(1, round((size * 1e9 / 4 - 2 * words * width) / (4 * width * width + 3 * width * hidden)))
    each = width // heads
    split = made.small("split", np.array([0, tokens, heads, each], np.int64))
    join = made.small("join", np.array([0, tokens, width], np.int64))
    two, tiny = made.small("two", np.array(2.0, np.float32)), made.small("tiny", np.array(1e-5, np.float32))
    scale = made.small("scale", np.array(each**-0.5, np.float32))
    mask = made.small("mask", np.triu(np.full((tokens, tokens), -1e9, np.float32), 1))

    def norm(x: str, name: str) -> str:
        mean = made.op("ReduceMean", made.op("Pow", x, two), axes=[-1])
        normal = made.op("Div", x, made.op("Sqrt", made.op("Add", mean, tiny)))
        return made.op("Mul", normal, made.small(name, np.ones(width, np.float32)))

    def linear(x: str, name: str, rows: int, columns: int) -> str:
        return made.op("MatMul", x, made.weight(name, rows, columns, scale=rows**-0.5))

    x = made.op("Gather", made.weight("embedding", words, width, scale=1.0), "ids")
    for i in range(blocks):
        y = norm(x, f"{i}.norm1")
        q, k, v = (
            made.op("Transpose", made.op("Reshape", linear(y, f"{i}.{n}", width, width), split), perm=[0, 2, 1, 3])
            for n in "qkv"
        )
        scores = made.op("MatMul", made.op("Mul", q, scale), made.op("Transpose", k, perm=[0, 1, 3, 2]))
        mixed = made.op("MatMul", made.op("Softmax", made.op("Add", scores, mask), axis=-1), v)
        mixed = made.op("Reshape", made.op("Transpose", mixed, perm=[0, 2, 1, 3]), join)
        x = made.op("Add", x, linear(mixed, f"{i}.o", width, width))
        y = norm(x, f"{i}.norm2")
        gate, up = linear(y, f"{i}.gate", width, hidden), linear(y, f"{i}.up", width, hidden)
        gated = made.op("Mul", made.op("Mul", gate, made.op("Sigmoid", gate)), up)
        x = made.op("Add", x, linear(gated, f"{i}.down", hidden, width))
    y = linear(norm(x, "norm"), "head", width, words)
    return made.save([("ids", TensorProto.INT64, ["N", tokens])], y, ["N", tokens, words])


def cnn(path: Path, size: float, width: int = 512, edge: int = 16) -> Path:
    """Residual blocks of two 3 x 3 convolutions."""
    made = Writer(path)
    blocks = max(1, round(size * 1e9 / (4 * 18 * width * width)))
    zeros = made.small("zeros", np.zeros(width, np.float32))

    def conv(x: str, name: str, inputs: int, scale: float | None = None) -> str:
        return made.op("Conv", x, made.weight(name, width, inputs, 3, 3, scale=scale), zeros, pads=[1, 1, 1, 1])

    x = made.op("Relu", conv("x", "stem", 3))
    for i in range(blocks):
        y = conv(made.op("Relu", conv(x, f"{i}.a", width)), f"{i}.b", width, scale=(9 * width * blocks) ** -0.5)
        x = made.op("Relu", made.op("Add", x, y))
    pooled = made.op("Flatten", made.op("GlobalAveragePool", x))
    y = made.op("Gemm", pooled, made.weight("head", width, 1000), made.small("bias", np.zeros(1000, np.float32)))
    return made.save([("x", TensorProto.FLOAT, ["N", 3, edge, edge])], y, ["N", 1000])


MODELS: dict[str, Callable[[Path, float], Path]] = {"mlp": mlp, "llama": llama, "cnn": cnn}


def resident() -> int:
    """Bytes of this process that are in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(model: Path, output: Path, options: dict[str, object]) -> dict[str, object]:
    """Compress in this process. Returns seconds and the peak, by stage too."""
    from onnx_merge.compression.optimize import run
    from onnx_merge.config.options import Options
    from onnx_merge.io.scratch_space import weights_in_files

    stage, peaks, ended = "start", dict[str, int](), threading.Event()

    def show(name: str) -> None:
        nonlocal stage
        stage = name

    def watch() -> None:
        while not ended.wait(0.05):
            peaks[stage] = max(peaks.get(stage, 0), resident())

    threading.Thread(target=watch, daemon=True).start()
    start = time.perf_counter()
    with weights_in_files():
        outcome = run(model, output, Options.make(options), progress=show)
    ended.set()
    worst = max(peaks, key=lambda name: peaks[name])
    result = outcome.result
    return {
        "seconds": time.perf_counter() - start,
        "peak": peaks[worst],
        "stage": worst,
        "stages": peaks,
        "times": result.seconds,
        "after": result.after.bytes,
        "nsr": result.fidelity.nsr if result.fidelity else None,
        "notes": result.notes,
    }


def rows(folder: Path, sizes: dict[str, float], methods: list[str], keep: float, verbose: bool) -> Iterator[str]:
    """A line for each model and method. Every run has a process of its own."""
    for name, size in sizes.items():
        if not size:
            continue
        path = folder / f"{name}-{size:g}.onnx"
        if not path.exists():
            MODELS[name](path, size)
        weights = path.stat().st_size + path.with_suffix(".data").stat().st_size
        for method in methods:
            options = {"keep": keep, "method": method, "force": True}
            if method == "reconstruct":
                options["calib_samples"] = SAMPLES
            given = json.dumps([str(path), str(folder / "out.onnx"), options])
            done = subprocess.run([sys.executable, __file__, "--child", given], capture_output=True, text=True)
            if done.returncode:
                yield f"{name:6} {method:12} failed: {done.stderr[-2000:]}"
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            ratio = (found["peak"] - 0.5e9) / weights
            yield (
                f"{name:6} {method:12} {weights / 1e9:6.2f} GB  peak {found['peak'] / 1e9:6.2f} GB  "
                f"(less 0.5: {ratio:4.2f} of the weights)  {found['seconds']:6.0f} s  {found['stage']}"
            )
            if verbose:
                yield json.dumps({k: v for k, v in found.items() if k not in ("peak", "stage")}, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    for name, size in (("mlp", 3.0), ("llama", 2.5), ("cnn", 0.5)):
        parser.add_argument(f"--{name}", type=float, default=size)
    parser.add_argument("--method", choices=("merge", "reconstruct"), nargs="*", default=["merge", "reconstruct"])
    parser.add_argument("--keep", type=float, default=0.7)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        model, output, options = json.loads(given.child)
        print(json.dumps(measured(Path(model), Path(output), options), default=float))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: getattr(given, name) for name in MODELS}
    for line in rows(given.folder, sizes, given.method, given.keep, given.verbose):
        print(line, flush=True)


if __name__ == "__main__":
    main()
