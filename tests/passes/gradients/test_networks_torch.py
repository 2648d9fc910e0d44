"""Gradients of networks that PyTorch exported are those of PyTorch."""

import io
import warnings

import numpy as np
import onnx
import pytest
from netkit import engine, observer

from passes.gradients.differentiate import gradient_model
from passes.graph.model import Graph

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
nn = torch.nn


class InvertedResidual(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        wide = 4 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, channels, 1),
        )  # fmt: skip
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Hardsigmoid())
        self.adds = stride == 1

    def forward(self, x):
        y = self.body(x)
        y = y * self.gate(y)
        return x + y if self.adds else y


class Segmenter(nn.Module):
    """Two scales, joined by an upsampling and a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.PReLU(6), nn.GroupNorm(2, 6))
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.LeakyReLU(0.1), nn.AvgPool2d(3, 1, 1))
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.last = nn.Conv2d(20, 4, 1)

    def forward(self, x):
        a = self.first(x)
        b = self.second(a)
        wide = nn.functional.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(torch.cat([a, self.up(b), wide], 1)).log_softmax(1)


class Encoder(nn.Module):
    """Tokens, and one layer of attention."""

    def __init__(self):
        super().__init__()
        self.table, self.query, self.value = nn.Embedding(11, 8), nn.Linear(8, 16), nn.Linear(8, 8)
        self.norm, self.wide, self.back = nn.LayerNorm(8), nn.Linear(8, 20), nn.Linear(20, 8)

    def forward(self, ids):
        x = self.table(ids)
        q, k = self.query(self.norm(x)).reshape(*ids.shape, 2, 2, 4).permute(2, 0, 3, 1, 4)
        v = self.value(x).reshape(*ids.shape, 2, 4).transpose(1, 2)
        x = x + ((q @ k.transpose(2, 3) / 2).softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        return x + self.back(nn.functional.gelu(self.wide(self.norm(x))))


class Detector(nn.Module):
    """Channels in another order, and two outputs from one stem."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.MaxPool2d(3, 2, 1))
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.boxes, self.classes = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        y = self.grouped(self.stem(x)).reshape(2, 4, 2, 4, 4).transpose(1, 2).reshape(2, 8, 4, 4)
        kept, _ = y.chunk(2, 1)
        return self.boxes(y).exp().flatten(2).transpose(1, 2), self.classes(kept).sigmoid()


IMAGE = (2, 3, 16, 16)
NETWORKS = {
    "mobile": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), InvertedResidual(8, 1), InvertedResidual(8, 2), nn.Flatten(),
                              nn.Linear(128, 5)), IMAGE),
    "residual": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
                              nn.Conv2d(8, 8, 3, padding=1), nn.ELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                              nn.Linear(8, 5), nn.Softmax(1)), IMAGE),
    "segmenter": (Segmenter, IMAGE),
    "encoder": (Encoder, (2, 7)),
    "detector": (Detector, IMAGE),
}  # fmt: skip


def exported(network, sample, opset):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, sample, file, opset_version=opset, dynamo=False, input_names=["x"], do_constant_folding=False,
            keep_initializers_as_inputs=False, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_and_input(name, opset):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network = make().eval()
    for name_, tensor in network.state_dict().items():
        if tensor.ndim == 1:  # the exporter joins constants that are equal
            nn.init.uniform_(tensor, *((0.5, 2.0) if name_.endswith(("weight", "var")) else (-0.5, 0.5)))
    sample = torch.randint(0, 11, shape) if name == "encoder" else torch.randn(shape, requires_grad=True)
    model = exported(network, sample.detach(), opset)
    graph = Graph(model, engine=engine, observer=observer)
    outputs = network(sample)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    seeds = [torch.randn_like(y) for y in outputs]
    sum((y * s).sum() for y, s in zip(outputs, seeds, strict=True)).backward()
    expected = {n: p.grad.numpy() for n, p in network.named_parameters() if n in graph.initializers}
    assert len(expected) > 3
    if sample.requires_grad:
        expected["x"] = sample.grad.numpy()
    made = gradient_model(graph, list(expected), seeded=graph.outputs)
    values = {"x": sample.detach().numpy(), **{n: graph.array(n) for n in expected if n != "x"}}
    values |= {made.seeds[n]: s.numpy() for n, s in zip(graph.outputs, seeds, strict=True)}
    found = engine(made.model)(values)
    for tensor, gradient in expected.items():
        limit = 1e-4 * max(np.abs(gradient).max(), 1e-3)
        np.testing.assert_allclose(found[made.gradients[tensor]], gradient, rtol=1e-3, atol=limit, err_msg=tensor)
