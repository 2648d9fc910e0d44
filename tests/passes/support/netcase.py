"""How a small network of a kind that exporters write is added to the table in `architectures`."""

from dataclasses import dataclass

import onnx
from netkit import TOLERANCE, net


@dataclass(frozen=True)
class Architecture:
    """``groups``: how many groups shrink at least; ``tolerance``: of outputs computed in this precision."""

    model: onnx.ModelProto
    groups: int
    tolerance: float = TOLERANCE


ARCHITECTURES: dict[str, Architecture] = {}


def add(name, groups, body, tolerance=TOLERANCE, **weights):
    ARCHITECTURES[name] = Architecture(net(body, **weights), groups, tolerance)


def norm(name, n):
    """Weights of a BatchNormalization; in the text: ``BatchNormalization(x, {name}_scale, ...)``."""
    return {f"{name}_{part}": (n,) for part in ("scale", "bias", "mean", "var")}


def conv(name, *shape):
    return {f"{name}_w": shape, f"{name}_b": shape[:1]}
