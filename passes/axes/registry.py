"""Registers the rule and the facts of each op type."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from functools import cache

from passes.axes.op_facts import ABSENT, OpFacts
from passes.axes.rule_context import Op

Rule = Callable[[Op], None]
Key = tuple[str, str]
"""(domain, op type); the standard domain is ``""``."""
_RULES: dict[Key, Rule] = {}
_FACTS: dict[Key, OpFacts] = {}
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


def without_rule(op: str) -> str:
    """Why the axes of an op without a rule are frozen."""
    return "is quantised: merge first, then quantise" if is_quantised(op) else "has no axis rule"
