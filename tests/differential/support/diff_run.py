"""Puts a model through the project's public interfaces, and keeps what the passes found out on the way."""

import contextlib
import io
import re
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import onnx

import onnx_merge
from onnx_merge.cli.main import main
from onnx_merge.errors import OnnxMergeError
from passes.pipeline import Compressed, Compressor

DOCUMENTED = {0, 2, 3, 4, 5}
WAYS = ("lossless", "keep-one", "merge", "default")
EXACT = ("lossless", "keep-one")
"""Ways whose results compute what the original computes."""
KEEPS = (0.5, 0.3, 0.6, 0.75)


def ways_of(seed):
    """The ways of a graph of the suite: all are merged, one in two is compressed losslessly, one in four kept as it is,
    and one in eight solved on samples."""
    often = {"lossless": 2, "keep-one": 4, "default": 8}
    return tuple(w for w in WAYS if seed % often.get(w, 1) == often.get(w, 1) // 2)


@dataclass(frozen=True)
class Outcome:
    """``code``: the exit code; ``said``: the line of an error; ``groups``: (name, size, kept, status, method) of the
    report; ``compressed``: what the passes found."""

    way: str
    code: int
    said: str = ""
    model: onnx.ModelProto | None = None
    groups: tuple[tuple[str, int, int, str, str], ...] = ()
    compressed: Compressed | None = None


def options_of(way: str, seed: int) -> dict[str, object]:
    """Of `onnx_merge.optimize`."""
    keep = KEEPS[seed // 8 % len(KEEPS)]  # 8: all of them in each way of `ways_of`
    return {
        "lossless": {"lossless": True},
        "keep-one": {"keep": 1.0, "method": "merge"},
        "merge": {"keep": keep, "method": "merge", "allocation": ("uniform", "auto")[seed // 4 % 2]},
        "default": {"keep": keep, "calib_samples": 8},
    }[way] | {"check_n": 4}


@contextlib.contextmanager
def watched():
    """The results of `Compressor.compress` while this is open."""
    found, original = [], Compressor.compress

    def compress(self, settings, *outer):
        found.append(original(self, settings, *outer))
        return found[-1]

    Compressor.compress = compress
    try:
        yield found
    finally:
        Compressor.compress = original


def run(model: onnx.ModelProto, way: str, seed: int) -> Outcome:
    """Through Python."""
    with watched() as seen:
        try:
            made, result = onnx_merge.optimize(model, **options_of(way, seed))
        except OnnxMergeError as error:
            return Outcome(way, error.exit_code, str(error), compressed=seen[-1] if seen else None)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            return Outcome(way, 1, f"internal error: {type(error).__name__}: {error} ({where})")
    groups = tuple((g.name, g.size, g.kept, g.status, g.method) for g in result.groups)
    return Outcome(way, 0, model=made, groups=groups, compressed=seen[-1])


def run_by_command(model: onnx.ModelProto, way: str, seed: int) -> Outcome:
    """Through the command line, in this process."""
    with tempfile.TemporaryDirectory() as name, watched() as seen:
        folder = Path(name)
        onnx.save(model, folder / "in.onnx")
        arguments = [str(folder / "in.onnx"), str(folder / "out.onnx"), "--quiet"]
        for option, value in options_of(way, seed).items():
            arguments += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        made = onnx.load(folder / "out.onnx") if code == 0 else None
        there = {path.name for path in folder.iterdir()} - {"in.onnx", "out.onnx"}
    said = re.sub(r"\s+", " ", err.getvalue()).strip()
    if there or (code != 0) != (made is None):
        return Outcome(way, 1, f"internal error: left {sorted(there)} behind")
    return Outcome(way, code, said, made, compressed=seen[-1] if seen else None)
