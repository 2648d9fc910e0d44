"""Runs of the tool on CUDA beside those on the CPU, and latency on the GPU by number format, batch size and block.

    python benchmarks/gpu.py [MODEL.onnx...] [--keep 0.6] [--skip runs|latency] [--json OUT.json]

Without MODEL the shipped digits model and a ResNet-50 of random weights at 224 x 224, which is made, serve.

runs     seconds of a whole run on each provider and which one `auto` takes; the share of equal widths; the noise over
         signal that both reports state; how far the outputs of both results are apart (noise over signal, on the CPU)
latency  milliseconds of the original and of merged results whose widths are multiples of a block (MACs beside it), at
         batch sizes 1, 8 and 64, from NumPy array to NumPy array, with cuDNN's default search: float32 without TF32,
         TF32 (onnxruntime's default) and float16

Exit code 0 if CUDA works here and all runs end well, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_merge.errors import OnnxMergeError
from onnx_merge.latency.measure import compare_latency
from onnx_merge.runtime.devices.faster_provider import faster_provider
from onnx_merge.runtime.number_formats import convert
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.runtime import DEVICE

BLOCKS = (8, 32, 64)
BATCHES = (1, 8, 64)
FORMATS = {"float32": {"NVIDIA_TF32_OVERRIDE": "0"}, "TF32": {}, "float16": {}}
"""Number format -> environment of the process that measures it."""
DIGITS = Path(__file__).parents[1] / "models" / "digits_cnn.onnx"


def resnet50(path: Path) -> Path:
    """A ResNet-50 (He et al. 2016) of random weights, whose activations keep their size."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[TensorProto] = []

    def constant(value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(value.astype(np.float32), f"w{len(weights)}"))
        return weights[-1].name

    def op(kind: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"t{len(nodes)}"], f"{kind}{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    def conv(x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, gain: float = 1.0) -> str:
        weight = constant(rng.normal(0, (2 / (inputs * kernel**2)) ** 0.5, (outputs, inputs, kernel, kernel)))
        y = op("Conv", x, weight, strides=[stride] * 2, pads=[kernel // 2] * 4)
        scale, shift = constant(np.abs(rng.normal(gain, 0.1 * gain, outputs))), constant(rng.normal(0, 0.1, outputs))
        return op("BatchNormalization", y, scale, shift, constant(np.zeros(outputs)), constant(np.ones(outputs)))

    x = op("MaxPool", op("Relu", conv("x", 3, 64, 7, 2)), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for k in range(blocks):
            stride = first if k == 0 else 1
            y = op("Relu", conv(x, channels, width, 1))
            y = conv(op("Relu", conv(y, width, width, 3, stride)), width, 4 * width, 1, gain=0.3)
            x = op("Relu", op("Add", y, x if k else conv(x, channels, 4 * width, 1, stride)))
            channels = 4 * width
    y = op("Gemm", op("Flatten", op("GlobalAveragePool", x)), constant(rng.normal(0, 0.02, (channels, 1000))))
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", 3, 224, 224]), (y, ["N", 1000]))
    ]
    graph = helper.make_graph(nodes, "resnet50", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def compressed(model: Path, out: Path, *options: str) -> tuple[float, dict[str, Any]]:
    """Seconds of a run in a process of its own, and its report.

    Raises
    ------
    RuntimeError: the run failed; with its last line.
    """
    report = out.with_suffix(".json")
    command = [sys.executable, "-m", "onnx_merge", str(model), str(out), "--no-gate", "-q", "--report", str(report)]
    start = time.perf_counter()
    run = subprocess.run([*command, *options], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if run.returncode:
        raise RuntimeError(run.stderr.strip().rpartition("\n")[2])
    return seconds, json.loads(report.read_text())


def runs(model: Path, folder: Path, keep: float) -> dict[str, Any]:
    """One row: the model compressed on each provider."""
    row: dict[str, Any] = {"model": model.stem}
    widths, outputs = [], []
    for provider in ("cuda", "cpu"):
        out = folder / f"{model.stem}.{provider}.onnx"
        seconds, report = compressed(model, out, "--keep", str(keep), "--provider", provider)
        print(f"{model.stem} on {provider}: {seconds:.1f} s", flush=True)
        row[provider] = round(seconds, 1)
        row[f"nsr {provider}"] = report["fidelity"]["outputs"][0]["nsr"]
        widths.append([group["kept"] for group in report["groups"]])
        session = Session(out)
        shape = [d if isinstance(d, int) else 8 for d in session.inputs[0].shape]
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        outputs.append(next(iter(session.run({session.inputs[0].name: x}).values())))
    cuda, cpu = outputs
    shape = [d if isinstance(d, int) else DEVICE.timed_samples for d in session.inputs[0].shape]
    feeds = {session.inputs[0].name: np.zeros(shape, np.float32)}
    row["auto"] = faster_provider(onnx.load(model), feeds, shape[0], available_provider("cuda"))[0].name
    row["same widths"] = sum(a == b for a, b in zip(*widths, strict=True)) / max(1, len(widths[0]))
    row["apart"] = float(np.square(cuda - cpu).sum() / np.square(cpu - cpu.mean(0)).sum())
    return row


def latencies(model: Path, folder: Path, keep: float) -> Iterator[dict[str, Any]]:
    """A row for each number format and batch size. Each format is measured in a process of its own."""
    files, macs = [model], [1.0]
    for block in BLOCKS:
        out = folder / f"{model.stem}.block{block}.onnx"
        options = ("--method", "merge", "--allocation", "uniform", "--provider", "cpu", "--align", str(block))
        _, report = compressed(model, out, "--keep", str(keep), *options)
        files.append(out)
        macs.append(report["after"]["macs"] / report["before"]["macs"])
    yield {"model": model.stem, "MACs": dict(zip(("original", *BLOCKS), macs, strict=True))}
    for name, environment in FORMATS.items():
        command = [sys.executable, __file__, "--timed", name, *map(str, files)]
        run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr.strip().rpartition("\n")[2])
        yield from map(json.loads, run.stdout.splitlines())


def timed(name: str, files: Sequence[Path]) -> None:
    """Print a JSON line for each batch size: milliseconds of ``files`` in the number format ``name``."""
    models = [onnx.load(path) for path in files]
    if name == "float16":
        models = [convert(model, "fp16", {}) for model in models]
    cuda, declared = available_provider("cuda"), Session(files[0]).inputs[0]
    for batch in BATCHES:
        x = np.random.default_rng(0).normal(size=(batch, *declared.shape[1:])).astype(np.float32)
        found = compare_latency(models, {declared.name: x}, cuda, seconds=2.0)
        ms = {key: round(one.median_ms, 3) for key, one in zip(("original", *BLOCKS), found.models, strict=True)}
        print(json.dumps({"format": name, "batch": batch, "ms": ms}), flush=True)


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--keep", type=float, default=0.6)
    parser.add_argument("--skip", choices=["runs", "latency"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--timed", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.timed:
        timed(given.timed, given.models)
        return 0
    try:
        print(available_provider("cuda").reason, flush=True)
    except OnnxMergeError as error:
        print(error)
        return 1
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = given.models or [DIGITS, resnet50(folder / "resnet50.onnx")]
        for model in models if given.skip != "runs" else ():
            rows.append(runs(model, folder, given.keep))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        for row in latencies(models[-1], folder, given.keep) if given.skip != "latency" else ():
            rows.append(row)
            cells = row.get("ms") or {key: round(value, 3) for key, value in row["MACs"].items()}
            label = f"{row['format']:8} batch {row['batch']:3}" if "ms" in row else f"{row['model']}, MACs"
            print(f"{label:24}" + "".join(f"{key!s:>10} {value:8}" for key, value in cells.items()), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
