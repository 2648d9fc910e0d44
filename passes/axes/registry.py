"""The table of op rules: one small function for each op type, registered by decorator."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from functools import cache

from passes.axes.rule_context import Op

Rule = Callable[[Op], None]
_RULES: dict[tuple[str, str], Rule] = {}
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


@cache
def rules() -> dict[tuple[str, str], Rule]:
    """Every rule by (domain, op type); all modules of `passes.axes.rules` are loaded."""
    package = importlib.import_module("passes.axes.rules")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _RULES


def find_rule(domain: str, op: str) -> Rule | None:
    """The rule of an op, or nothing: then its axes freeze."""
    return rules().get(("" if domain == "ai.onnx" else domain, op))


def is_quantised(op: str) -> bool:
    """Whether an op computes with quantised numbers, by its name: QLinearConv, MatMulInteger, MatMulNBits, ..."""
    return _QUANTISED.match(op) is not None


def without_rule(op: str) -> str:
    """Why the axes of an op that has no rule freeze."""
    return "is quantised: merge first, then quantise" if is_quantised(op) else "has no axis rule"
