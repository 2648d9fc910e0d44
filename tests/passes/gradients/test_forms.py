"""Gradients of forms of ops are the slopes of what the forms compute; with PyTorch, they are its gradients too."""

import numpy as np
import pytest
from gradforms import FORMS
from gradkit import arrays_of, assert_are_slopes, doubled, fed, gradients, start
from netkit import engine, feeds


def of(form):
    """The model of a form, the real tensors that a gradient is asked for, the values of all, and a seed."""
    model = form.model() if form.step else doubled(form.model())
    values = {**arrays_of(model), **feeds(model)}
    wrt = [n for n, v in values.items() if v.dtype.kind == "f" and n not in form.fixed.split()]
    y = start(model)(values)["y"]
    return model, wrt, values, np.random.default_rng(5).standard_normal(y.shape).astype(y.dtype)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.id)
def test_slopes(form):
    model, wrt, values, seed = of(form)
    found = gradients(model, wrt, {"y": seed}, values)
    assert {n: g.shape for n, g in found.items()} == {n: values[n].shape for n in wrt}
    run = start(fed(model, wrt))

    def value(given):
        return float(np.sum(run(given)["y"].astype(np.float64) * seed))

    if form.step:
        assert_are_slopes(found, value, values, 1e-3, form.step)
    else:
        assert_are_slopes(found, value, values, 1e-6)


@pytest.mark.parametrize("form", [form for form in FORMS if not form.step], ids=lambda form: form.id)
def test_onnxruntime_computes_the_same_in_single_precision(form):
    model, wrt, values, seed = of(form)
    exact = gradients(model, wrt, {"y": seed}, values)
    values = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in values.items()}
    single = gradients(form.model(), wrt, {"y": seed.astype(np.float32)}, values, opened=engine)
    for name, gradient in exact.items():
        np.testing.assert_allclose(single[name], gradient, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.torch
@pytest.mark.parametrize("form", [form for form in FORMS if form.torch], ids=lambda form: form.id)
def test_torch_agrees(form):
    torch = pytest.importorskip("torch")
    model, wrt, values, seed = of(form)
    tensors = {n: torch.tensor(values[n], requires_grad=True) for n in wrt}
    (form.torch(torch, **tensors) * torch.tensor(seed)).sum().backward()
    limit = 1e-5 if form.step else 1e-7
    for name, gradient in gradients(model, wrt, {"y": seed}, values).items():
        expected = tensors[name].grad.numpy()
        np.testing.assert_allclose(gradient, expected, rtol=limit, atol=limit * max(np.abs(expected).max(), 1e-3))
