"""A plan applied to the PyTorch module that a model was exported from, to fine-tune it at the smaller size.

onnx-merge models/digits_mlp.onnx smaller.onnx --keep 0.5 --calib models/digits_calib.npz --save-plan plan.json
python examples/plan_to_pytorch.py models/digits_mlp.onnx plan.json cut.pt

The plan names each group by the first node that produces its channels, and lists the channels that stay. `LAYERS` says
which modules these are. For a network of your own, change the network and `LAYERS`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import torch
from torch import nn

LAYERS = {"/first/Gemm": ("first", "second"), "/second/Gemm": ("second", "head")}
"""Group -> the modules that produce its channels and that read them."""


class Digits(nn.Module):
    """The network of models/digits_mlp.onnx."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 256), nn.Linear(256, 128), nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, 10) of images (N, 1, 8, 8)."""
        return self.head(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


def cut(network: nn.Module, plan: Path) -> nn.Module:
    """Remove the channels from the network that are not in the plan: rows where they are made, columns where read."""
    for group in json.loads(plan.read_text(encoding="utf-8"))["groups"]:
        producer, consumer = (network.get_submodule(name) for name in LAYERS[group["name"]])
        kept = torch.tensor(group["kept"])
        producer.weight = nn.Parameter(producer.weight.data[kept])
        producer.bias = nn.Parameter(producer.bias.data[kept])
        consumer.weight = nn.Parameter(consumer.weight.data[:, kept])  # behind a Flatten: several columns a channel
        producer.out_features = consumer.in_features = len(kept)
    return network


def load(path: Path) -> nn.Module:
    """Return the network with the weights of the file. Usually there is a checkpoint to load instead."""
    arrays = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in onnx.load(path).graph.initializer}
    network = Digits()
    network.load_state_dict(arrays)
    return network


if __name__ == "__main__":
    smaller = cut(load(Path(sys.argv[1])), Path(sys.argv[2]))
    torch.save(smaller.state_dict(), sys.argv[3])
    print(smaller)
    print("fine-tune it as the original was trained, from these weights")
