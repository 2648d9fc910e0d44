"""Describes the software and the machine that a report was made with."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from pathlib import Path

from onnx_merge.config.version import __version__
from onnx_merge.plugins.record import plugin_summary

LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "scipy")
"""Distributions whose versions are listed if they are installed."""


def environment() -> dict[str, str]:
    """Return versions of the software, the operating system and the processor, and the rules and passes of others that
    take part. What is not known is left out."""
    found = {"onnx_merge": __version__, "python": platform.python_version(), **_versions()}
    found["system"] = f"{platform.system()} {platform.machine()}".strip()
    found["processor"] = _processor()
    found["plugins"] = plugin_summary()
    return {key: value for key, value in found.items() if value}


@functools.cache
def _versions() -> dict[str, str]:
    """Of `LIBRARIES`. Read once: a process keeps the libraries that it has imported."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _processor() -> str:
    """Return the name of the processor, which `platform` does not know on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, platform.processor())
