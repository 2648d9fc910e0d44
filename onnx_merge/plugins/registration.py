"""The registry calls: an op rule or a pass of the user becomes part of every run in this process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from onnx_merge.errors import OnnxMergeError, UsageError, UserCodeError
from onnx_merge.plugins.record import current_origin, remember
from passes.axes import registry
from passes.axes.gradient_context import Gradient
from passes.axes.op_facts import ABSENT, OpFacts
from passes.axes.registry import Rule
from passes.axes.rule_context import Op
from passes.compress.custom_passes import add_pass
from passes.interface.errors import PassError, Refusal, RunError
from passes.interface.model_pass import Pass, PassResult, WorkingModel
from passes.interface.runner import GraphCheckError, checking_graphs, run_passes


def register_rule(
    *ops: str, domain: str = "", facts: OpFacts | None = None, gradient: Gradient | None = None
) -> Callable[[Rule], Rule]:
    """Register the decorated function as the axis rule of op types that have none.

    Parameters
    ----------
    ops: op types.
    domain: their domain, ``""`` for the standard one.
    facts: what else is known of the ops; None if nothing is, or if the facts of a standard op are known already.
    gradient: writes the gradient of the ops; without one, layers before such an op are not refined by gradients.

    Returns
    -------
    A decorator that returns the function as it is. The function is given the `Op` of a node, and states how its axes
    relate. It raises `Refusal` for a form that it does not know.

    Raises
    ------
    UsageError: an op has a rule, or its facts, already.
    """

    def register(function: Rule) -> Rule:
        names = [f"{domain}:{op}" if domain else op for op in ops]
        guarded = _guarded_rule(function, current_origin())
        try:
            with registry.rules_undone_on_error():
                registry.rule(*ops, domain=domain)(guarded)
                if facts is not None:
                    registry.facts(*ops, known=facts, domain=domain)
                else:
                    new = [op for op in ops if (domain, op) not in registry.every_fact()]
                    registry.facts(*new, known=ABSENT, domain=domain)
                if gradient is not None:
                    registry.gradient(*ops, domain=domain)(gradient)
        except ValueError as error:
            raise UsageError(f"the rule of {', '.join(names)} cannot be registered: {error}") from error
        for name in names:
            remember(f"rule {name}")
        return function

    return register


def register_pass(step: Pass, *, after: str) -> None:
    """Register a pass that takes part in every compression from now on.

    Parameters
    ----------
    step: the pass; it should hold no state, since a search for a size runs it many times.
    after: name of the pass that it follows: ``infer``, ``observe``, ``allocate``, ``plan``, ``reconstruct`` or
        ``shrink``. `observe` and `reconstruct` run only where there are samples to solve on, and `allocate` not with
        ``lossless``; a pass behind one that does not run does not run either. See docs/pipeline.md for the facts that
        each of them finds.

    Raises
    ------
    UsageError: it is no pass, there is no such place, or a pass of this name is registered already.
    """
    guarded = GuardedPass(step, current_origin())
    try:
        add_pass(guarded, after)
    except ValueError as error:
        raise UsageError(f"pass {guarded.name!r} cannot be registered: {error}") from error
    remember(f"pass {guarded.name}")


class GuardedPass:
    """A pass of the user. Its faults are reported as such, and the graphs that it makes are checked."""

    def __init__(self, step: Pass, origin: str) -> None:
        name: object = getattr(step, "name", None)
        requires: object = getattr(step, "requires", None)
        if isinstance(step, type) or not (isinstance(name, str) and isinstance(requires, tuple)):
            what = (
                f"the class {step.__name__}" if isinstance(step, type) else f"an object of type {type(step).__name__}"
            )
            raise UsageError(f"{what} is no pass: give an object with a name, a tuple requires, and a method run")
        if not callable(getattr(step, "run", None)):
            raise UsageError(f"pass {name!r} has no method run")
        self.name: str = name
        self.requires: tuple[type[Any], ...] = requires
        self._step, self._where = step, f"pass {name!r} ({origin})"

    def run(self, model: WorkingModel) -> PassResult:
        """Take the step of the user's pass.

        Raises
        ------
        UserCodeError: it fails, returns no `PassResult`, or makes an invalid graph.
        """
        try:
            with checking_graphs():
                return run_passes([_Typed(self._step)], model)
        except OnnxMergeError:
            raise
        except (GraphCheckError, PassError, RunError) as error:
            raise UserCodeError(f"{self._where}: {error}") from error
        except Exception as error:
            raise UserCodeError(f"{self._where} failed: {type(error).__name__}: {error}") from error


class _Typed:
    """A pass whose result is checked for its type."""

    def __init__(self, step: Pass) -> None:
        self.name, self.requires, self._run = step.name, step.requires, step.run

    def run(self, model: WorkingModel) -> PassResult:
        result: object = self._run(model)
        if not isinstance(result, PassResult):
            raise TypeError(f"run returned {type(result).__name__}, not PassResult")
        return result


def _guarded_rule(function: Rule, origin: str) -> Rule:
    """The rule, with its faults reported as those of the user's code."""

    @functools.wraps(function)
    def guarded(op: Op) -> None:
        try:
            function(op)
        except (Refusal, OnnxMergeError):
            raise
        except Exception as error:
            node = f"{op.node.label} ({op.node.op})"
            raise UserCodeError(f"the rule of {node} ({origin}) failed: {type(error).__name__}: {error}") from error

    return guarded
