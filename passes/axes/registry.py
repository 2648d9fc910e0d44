"""Registers the rule, the facts and the gradient of each op type."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from passes.axes.gradient_context import Backward, Gradient, Slope, elementwise_gradient
from passes.axes.op_facts import ABSENT, OpFacts
from passes.axes.rule_context import Op

Rule = Callable[[Op], None]
Key = tuple[str, str]
"""(domain, op type); the standard domain is ``""``."""
_RULES: dict[Key, Rule] = {}
_FACTS: dict[Key, OpFacts] = {}
_GRADIENTS: dict[Key, Gradient | str] = {}
_FUSED = re.compile(
    r".*(Fused|Gelu|Attention|LayerNormalization|Bias|RotaryEmbedding|NhwcConv|GroupNorm|TransposeMatMul).*"
)
"""What onnxruntime's optimizer writes in the place of several standard ops. Those of the domain com.microsoft.nchwc are
laid out for the kernels of one processor."""
_QUANTISED = re.compile(r"Q[A-Z]|.*([Qq]uantize|Integer|NBits|Bnb4|FpQ4)")


def rule(*ops: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of every op type in ``ops``."""

    def register(function: Rule) -> Rule:
        for op in ops:
            if (domain, op) in _RULES:
                raise ValueError(f"{op} has two rules")
            _RULES[domain, op] = function
        return function

    return register


def facts(*ops: str, known: OpFacts, domain: str = "") -> None:
    """Register the facts ``known`` of every op type in ``ops``. `ABSENT` claims no fact."""
    for op in ops:
        if (domain, op) in _FACTS:
            raise ValueError(f"{op} has its facts twice")
        _FACTS[domain, op] = known


def gradient(*ops: str, domain: str = "") -> Callable[[Gradient], Gradient]:
    """Register the decorated function as the gradient of every op type in ``ops``."""

    def register(function: Gradient) -> Gradient:
        _register_gradient(ops, function, domain)
        return function

    return register


def slope(*ops: str, domain: str = "") -> Callable[[Slope], Slope]:
    """Register the decorated function as the derivative of ops that are functions of each value of input 0."""

    def register(function: Slope) -> Slope:
        _register_gradient(ops, elementwise_gradient(function), domain)
        return function

    return register


def zero_gradient(*ops: str) -> None:
    """State that the gradient of every standard op type in ``ops`` is zero: they are constant between their steps."""
    _register_gradient(ops, _zero, "")


def no_gradient(*ops: str, why: str) -> None:
    """State that the standard op types in ``ops`` have no gradient. ``why`` follows the name of the node."""
    _register_gradient(ops, why, "")


def _zero(back: Backward) -> None:
    """Give no input a gradient."""


def _register_gradient(ops: Iterable[str], found: Gradient | str, domain: str) -> None:
    for op in ops:
        if (domain, op) in _GRADIENTS:
            raise ValueError(f"{op} has two gradients")
        _GRADIENTS[domain, op] = found


@cache
def _load() -> None:
    """Import all modules of `passes.axes.rules`."""
    package = importlib.import_module("passes.axes.rules")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def rules() -> dict[Key, Rule]:
    """Every rule."""
    _load()
    return _RULES


def every_fact() -> dict[Key, OpFacts]:
    """The facts of every op, also of ops without a rule."""
    _load()
    return _FACTS


def gradients() -> dict[Key, Gradient | str]:
    """Every gradient, or why there is none."""
    _load()
    return _GRADIENTS


@contextmanager
def rules_undone_on_error() -> Iterator[None]:
    """What is registered in the block is kept only if the block raises nothing. Our own rules come first, so that a
    second rule of an op is blamed on the block."""
    _load()
    tables: tuple[dict[Key, object], ...] = (_RULES, _FACTS, _GRADIENTS)  # type: ignore[assignment]
    before = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, kept in zip(tables, before, strict=True):
            table.clear()
            table.update(kept)
        raise


def find_gradient(domain: str, op: str) -> Gradient | str:
    """The gradient of an op, or why it has none, to follow the name of a node."""
    return gradients().get(_key(domain, op), "has no gradient rule")


def find_rule(domain: str, op: str) -> Rule | None:
    """The rule of an op. None if there is none: its axes are then frozen."""
    return rules().get(_key(domain, op))


def facts_of(domain: str, op: str) -> OpFacts:
    """The facts of an op."""
    return every_fact().get(_key(domain, op), ABSENT)


def _key(domain: str, op: str) -> Key:
    return "" if domain == "ai.onnx" else domain, op


def is_quantised(op: str) -> bool:
    """Whether an op computes with quantised numbers, by its name: QLinearConv, MatMulInteger, MatMulNBits, ..."""
    return _QUANTISED.match(op) is not None


def without_rule(domain: str, op: str) -> str:
    """Why the axes of an op without a rule are frozen."""
    if is_quantised(op):
        return "is quantised: compress first, then quantise"
    if domain == "com.microsoft.nchwc" or domain == "com.microsoft" and _FUSED.fullmatch(op):
        return "is fused by onnxruntime: compress first, then optimise"
    return "has no axis rule"
