"""Reverse-mode differentiation of a part of a graph: the result is a model that computes values and gradients.

Forward nodes are copied once, and backward nodes read their tensors. Only nodes on the way from a tensor that a
gradient is asked for to a differentiated output get backward nodes (Griewank & Walther, Evaluating Derivatives, 2008).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from passes.axes.gradient_context import Backward
from passes.axes.gradient_writer import GraphWriter, NewerOpsetError
from passes.axes.registry import find_gradient
from passes.gradients.errors import NoGradientError
from passes.gradients.losses import ScalarLoss
from passes.gradients.segment import GraphCut, cut, element_types, is_real
from passes.graph.model import Graph, Node
from passes.interface.errors import Refusal
from passes.interface.reason import Reason

NAME = "gradients"
"""Name of the graphs that are written here."""


@dataclass(frozen=True)
class GradientModel:
    """``model``: the differentiated part of the graph.

    ``gradients``: tensor -> output with the gradient with respect to it. ``seeds``: differentiated tensor -> input with
    the gradient of a scalar with respect to it. ``losses``: outputs with the losses, scalars, in the order given; none
    if they were not asked for.
    """

    model: onnx.ModelProto
    gradients: Mapping[str, str]
    seeds: Mapping[str, str]
    losses: Sequence[str]


def gradient_model(
    graph: Graph,
    wrt: Collection[str],
    *,
    seeded: Collection[str] = (),
    losses: Sequence[ScalarLoss] = (),
    sources: Collection[str] = (),
    kept: Collection[str] = (),
    with_losses: bool = True,
) -> GradientModel:
    """A model that computes the gradients of sum_i <s_i, y_i> + sum_j L_j with respect to the tensors ``wrt``.

    The tensors y_i are ``seeded``, and their s_i, of the same shapes, become inputs. The L_j are ``losses``, which add
    inputs for their targets.

    ``wrt``: inputs, initializers or computed tensors. ``sources``: tensors or initializers that the model starts from
    instead of computing or storing them. ``kept``: forward tensors that are outputs too. ``with_losses``: whether the
    losses are outputs; their gradients alone take less time.

    Inputs are those of the graph that are read, then ``sources``, the initializers in ``wrt`` (so that new weights can
    be given at every run), seeds and targets. Outputs are ``kept``, the losses and the gradients. Numbers of half
    precision become float32, inputs and outputs too. A dynamic batch stays dynamic.

    Raises
    ------
    NoGradientError: an op on the way has no gradient, or a tensor in ``wrt`` does not reach the outputs.
    """
    try:
        return _Differentiation(graph, wrt, seeded, losses, sources, kept, with_losses).result()
    except NewerOpsetError as error:  # what joins the gradients of nodes, or a loss
        raise NoGradientError(Reason("tensor", next(iter(wrt)), str(error))) from error


class _Differentiation:
    def __init__(
        self,
        graph: Graph,
        wrt: Collection[str],
        seeded: Collection[str],
        losses: Sequence[ScalarLoss],
        sources: Collection[str],
        kept: Collection[str],
        with_losses: bool,
    ) -> None:
        self._graph, self._wrt, self._seeded = graph, list(dict.fromkeys(wrt)), list(dict.fromkeys(seeded))
        self._losses, self._with_losses, self._kept = losses, with_losses, list(dict.fromkeys(kept))
        self._ends = dict.fromkeys([*self._seeded, *(loss.tensor for loss in losses)])
        stored = {t.name for t in graph.model.graph.initializer}
        fed = list(dict.fromkeys([*sources, *(n for n in self._wrt if n in stored)]))
        self._cut: GraphCut = cut(graph, [*self._ends, *self._kept], fed)
        self._kinds = element_types(graph)
        self._write = GraphWriter(graph.opset, _prefix(graph))
        self._parts: dict[str, list[str]] = {}
        self._moved = self._reached()

    def result(self) -> GradientModel:
        seeds = {name: self._write.named(f"seed.{name}") for name in self._seeded}
        for name, seed in seeds.items():
            self._parts.setdefault(name, []).append(seed)
        losses: list[str] = []
        for loss in self._losses:
            value, slope = loss.terms(self._write, self._kind(loss.tensor))
            losses += [value] if self._with_losses else []
            self._parts.setdefault(loss.tensor, []).append(slope)
        for index in reversed(self._cut.nodes):
            self._step(self._graph.nodes[index], self._cut.nodes[index])
        found = {name: self._write.named(name) for name in self._wrt}
        self._write.nodes.extend(helper.make_node("Identity", [self._total(n)], [given]) for n, given in found.items())
        return GradientModel(self._model(seeds, losses, found), found, seeds, losses)

    def _reached(self) -> set[str]:
        """The tensors of real numbers on a way from one of ``wrt`` to a differentiated output, through such tensors."""
        found = set(self._wrt)
        for index in self._cut.nodes:
            node = self._graph.nodes[index]
            if not found.isdisjoint((*node.inputs, *node.captures)):
                found.update(n for n in node.outputs if n and self._is_real(n))
        used = set(self._ends)
        for index in reversed(self._cut.nodes):
            node = self._graph.nodes[index]
            if not used.isdisjoint(node.outputs):
                used.update(n for n in (*node.inputs, *node.captures) if n and self._is_real(n))
        for name in self._wrt:
            if name not in used:
                raise NoGradientError(Reason("tensor", name, "has no gradient: no differentiated output depends on it"))
        return found & used

    def _is_real(self, name: str) -> bool:
        return is_real(self._kinds[name]) if name in self._kinds else name not in self._graph.integers

    def _kind(self, name: str) -> int:
        return self._kinds.get(name, onnx.TensorProto.FLOAT)

    def _step(self, node: Node, forward: onnx.NodeProto) -> None:
        """Write the backward nodes of ``node``, if an output has a gradient and an input is asked for one."""
        given = {k: self._total(n) for k, n in enumerate(node.outputs) if n in self._parts}
        asked = frozenset(k for k, n in enumerate(node.inputs) if n in self._moved)
        if not given or not (asked or node.captures & self._moved):
            return
        rule = find_gradient(node.domain, node.op)
        if isinstance(rule, str):
            raise NoGradientError(Reason("operator", node.label, rule, op=node.op))
        back = Backward(self._graph, node, self._write, given, asked, self._kind, forward)
        try:
            rule(back)
        except (Refusal, NewerOpsetError) as refusal:
            raise NoGradientError(Reason("operator", node.label, str(refusal), op=node.op)) from refusal
        for k, gradient in back.given.items():
            if k in asked:
                self._parts.setdefault(node.inputs[k], []).append(gradient)

    def _total(self, name: str) -> str:
        """The sum of the gradients that readers of ``name`` have given; zeros if none has."""
        parts = self._parts.get(name)
        if parts is None:
            zero = np.zeros((), helper.tensor_dtype_to_np_dtype(self._kind(name)))
            return self._write.op("Expand", self._write.constant(zero), self._write.shape(name))
        while len(parts) > 1:
            parts[:2] = [self._write.op("Add", parts[0], parts[1])]
        return parts[0]

    def _model(self, seeds: Mapping[str, str], losses: Sequence[str], found: Mapping[str, str]) -> onnx.ModelProto:
        source, write = self._graph.model, self._write
        model = onnx.ModelProto(ir_version=max(source.ir_version, 4))  # before, constants had to be inputs too
        model.opset_import.extend(source.opset_import)
        model.functions.extend(source.functions)
        made = model.graph
        made.name = NAME
        made.node.extend(self._cut.nodes.values())
        made.node.extend(_needed(write.nodes, {*losses, *found.values()}))
        made.initializer.extend(self._cut.constants)
        made.initializer.extend(write.constants)
        read = {n for node in made.node for n in node.input}
        made.sparse_initializer.extend(t for t in source.graph.sparse_initializer if t.values.name in read)
        inputs = [self._info(name, name) for name in self._cut.inputs]
        inputs += [self._info(seed, name) for name, seed in seeds.items()]
        for loss in self._losses:
            inputs += [self._info(name, loss.tensor) for name in loss.inputs]
        made.input.extend({value.name: value for value in inputs}.values())
        made.output.extend(self._info(name, name) for name in self._kept)
        for loss, value in zip(self._losses if self._with_losses else (), losses, strict=True):
            made.output.append(helper.make_tensor_value_info(value, self._kind(loss.tensor), ()))
        made.output.extend(self._info(given, name) for name, given in found.items())
        return model

    def _info(self, name: str, like: str) -> onnx.ValueInfoProto:
        """Input or output ``name``, of the type and rank of ``like``; sizes are given for constants only."""
        shape, fixed = self._graph.shape(like), like in self._graph.initializers
        dims = None if shape is None else [int(n) if fixed else None for n in shape]
        return helper.make_tensor_value_info(name, self._kind(like), dims)


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes among ``nodes`` that the tensors ``outputs`` depend on, in their order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def _prefix(graph: Graph) -> str:
    """What no name of the graph begins with."""
    names = {n for node in graph.nodes for n in (*node.inputs, *node.outputs)} | {*graph.inputs}
    prefix = "d"
    while any(name.startswith(f"{prefix}.") for name in names):
        prefix += "d"
    return f"{prefix}."
