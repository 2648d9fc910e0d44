"""What each op states of how it joins, moves, pools and multiplies values is true of it, by running it."""

import numpy as np
import pytest
from factkit import each, having, read
from families import FIRING

from passes.axes.op_facts import Joins, Moves, PoolWindow
from passes.axes.registry import facts_of

JOINED = {
    Joins.SUM: lambda arrays: np.sum(arrays, axis=0),
    Joins.DIFFERENCE: lambda arrays: arrays[0] - arrays[1],
    Joins.MEAN: lambda arrays: np.mean(arrays, axis=0),
    Joins.PRODUCT: lambda arrays: np.prod(arrays, axis=0),
    Joins.QUOTIENT: lambda arrays: arrays[0] / arrays[1],
    Joins.CHOICE: lambda arrays: np.where(*arrays),
}


@having(lambda known: known.joins)
def test_joins(case):
    for call, known in each(case):
        if known.joins is Joins.EXTREMUM:
            stacked = np.stack(np.broadcast_arrays(*call.inputs))
            assert ((call.output == stacked.min(0)) | (call.output == stacked.max(0))).all()
        elif known.joins is Joins.CONCATENATION:
            assert np.array_equal(np.sort(call.output, axis=None), np.sort(read(call)))
        else:
            expected = JOINED[known.joins](np.broadcast_arrays(*call.inputs))
            np.testing.assert_allclose(call.output, expected, rtol=1e-5)


@having(lambda known: known.broadcasts and known.joins)
def test_broadcasts(case):
    for call, _ in each(case):
        shapes = [value.shape for value in call.inputs if value is not None]
        assert np.broadcast_shapes(*shapes) == call.output.shape


@having(lambda known: known.moves)
def test_moves(case):
    for call, known in each(case):
        x, out = (
            call.inputs[0].ravel(),
            [v.ravel() for n, v in call().items() if n][: 1 if known.moves is Moves.SAME else None],
        )
        out = np.concatenate(out)
        match known.moves:
            case Moves.SAME | Moves.RESHAPED:
                assert np.array_equal(x, out)
            case Moves.PERMUTED:
                assert np.array_equal(np.sort(x), np.sort(out))
            case Moves.PICKED:
                assert np.isin(out, x).all()
                assert len(out) <= len(x)
            case Moves.GATHERED:
                assert np.isin(out, x).all()
            case Moves.REPEATED:
                assert set(out) == set(x)
            case Moves.PADDED:
                assert np.isin(x, out).all()
                assert np.isin(out, [*x, 0.0]).all()
            case Moves.JOINED:
                assert np.isin(x, out).all()
            case Moves.CONVERTED:
                np.testing.assert_allclose(out.astype(np.float64), x, atol=1)
            case Moves.QUANTISED:
                assert len(out) == len(x)


POOLED = {"mean": np.mean, "max": np.max}


@having(lambda known: known.pool is not None and known.pool.kind in POOLED)
def test_pools(case):
    for call, known in each(case):
        x, pooled = call.inputs[0], POOLED[known.pool.kind]
        match known.pool.window:
            case PoolWindow.ALL:
                axes = tuple(range(2, x.ndim))
            case PoolWindow.AXES:
                axes = tuple(call.node.attrs["axes"])
            case PoolWindow.KERNEL:
                window = tuple(call.node.attrs["kernel_shape"])
                assert call.output[0, 0].ravel()[0] == pytest.approx(pooled(x[(0, 0, *map(slice, window))]), rel=1e-5)
                continue
        np.testing.assert_allclose(call.output.ravel(), pooled(x, axis=axes).ravel(), rtol=1e-5, atol=1e-6)


@having(lambda known: known.affine)
def test_affine(case):
    for call, known in each(case):
        affine, x = known.affine(call.graph, call.node), call.inputs[0]
        shape = (*affine.a.shape, *[1] * (x.ndim - 1 - affine.a.ndim))
        expected = affine.a.reshape(shape) * x + affine.t.reshape(shape)
        np.testing.assert_allclose(call.output, expected, rtol=1e-4, atol=1e-5)


@having(lambda known: known.linear)
def test_linear_form(case):
    """Without its first output's weights a layer gives that output's bias."""
    for call, known in each(case):
        form = known.linear
        if 1 in call.data or call.inputs[1].ndim < 2 or call.node.inputs[0] in call.graph.constants:
            continue
        weights, axis = call.inputs[1].copy(), 0 if form.output_axis(call.node) == 0 else 1
        weights[(slice(None),) * axis + (0,)] = 0
        change = call(x1=weights)[call.node.outputs[0]] - call.output
        channel = 1 if form.convolves else -1
        groups = call.node.attrs.get("group", 1)
        reached = np.abs(np.moveaxis(change, channel, 0)).reshape(change.shape[channel], -1).max(1) > 0
        if groups == 1 or axis == 0:
            assert reached.nonzero()[0].tolist() == [0]
        else:
            assert reached.sum() == groups


@having(lambda known: known.macs and known.weights and not known.states)
def test_weights_multiply_and_biases_are_added(case):
    for call, known in each(case):
        zeros = {
            f"x{k}": call.inputs[k] * 0 for k in known.biases if k < len(call.inputs) and call.inputs[k] is not None
        }
        name = call.node.outputs[0]
        plain = call(**zeros)[name]
        for k in known.weights:
            if k < len(call.inputs):
                twice = call(**zeros, **{f"x{k}": call.inputs[k] * 2})[name]
                np.testing.assert_allclose(twice, plain * 2, rtol=1e-4, atol=1e-5)


@having(lambda known: known.states)
def test_absent_states_are_zeros(case):
    for call, known in each(case):
        given = [k for k in known.states if k < len(call.inputs) and call.inputs[k] is not None]
        if given and max(given) == len(call.inputs) - 1:
            zeros = call(**{f"x{k}": call.inputs[k] * 0 for k in given})
            for k in given:
                call.model.graph.node[0].input[k] = ""
            for a, b in zip(zeros.values(), call().values(), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("case", FIRING, ids=lambda case: case.id)
def test_inputs_that_follow_axes_size_the_output(case):
    """An input that the rule rewrites with the sizes of axes is among those that say how large the output is."""
    for flow, resize in case.typing().resizes:
        node = flow.record.node
        assert isinstance(resize.target, str) or resize.target in facts_of(node.domain, node.op).sizing
