"""What a projected residual stream is worth on a vision transformer.

    python benchmarks/streams.py [--effort medium] [--keep 0.6] [--targets 0.5 0.35] [--params] [--seeds 1]
                                 [--encoder | --postnorm]

A small pre-norm transformer with LayerScale is trained on 1,400 of scikit-learn's digits, which takes a minute, and
compressed to equal multiply-adds with its stream and without (`exclude`), on 256 of the images. The other 397 judge.
`--encoder`: the stream begins at a norm, as in CLIP, and the normalised tokens are an output too, which counts.
`--postnorm`: norms stand behind the sums, as in BERT. `--params`: the targets are shares of the parameters.
Needs PyTorch, scikit-learn and onnxruntime.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from onnx_merge import optimize

WIDTH, HEADS, BLOCKS, PATCH = 64, 4, 4, 2
TRAINED, CALIBRATED = 1400, 256
STREAM = ["^/patches/Conv$", "projection$"]


class Block(nn.Module):
    """Attention and an MLP, each behind a norm, and scaled channel by channel before it is added to the stream; or each
    before a norm of the sum, without scales."""

    def __init__(self, postnorm: bool) -> None:
        super().__init__()
        self.postnorm = postnorm
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.first, self.second = (nn.Parameter(torch.full((WIDTH,), 0.5)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.postnorm:
            x = self.before(x + self.attention(x))
            return self.between(x + self.mlp(x))
        x = x + self.first * self.attention(self.before(x))
        return x + self.second * self.mlp(self.between(x))

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5, -1) @ v
        return self.out(mixed.transpose(1, 2).reshape(n, tokens, WIDTH))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(x)))


class Transformer(nn.Module):
    """Patches and a class token, blocks, a norm and a classifier."""

    def __init__(self, encoder: bool = False, postnorm: bool = False) -> None:
        super().__init__()
        self.encoder, self.start = encoder, nn.LayerNorm(WIDTH) if encoder or postnorm else nn.Identity()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.places = nn.Parameter(torch.randn(1, 17, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block(postnorm) for _ in range(BLOCKS)))
        self.norm, self.head = nn.Identity() if postnorm else nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.start(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places)
        tokens = self.norm(self.blocks(x))
        scores: torch.Tensor = self.head(tokens[:, 0])
        return (scores, tokens) if self.encoder and not self.training else scores


def trained(
    model: Transformer, images: np.ndarray, labels: np.ndarray, epochs: int = 25, size: int = 64
) -> Transformer:
    """The transformer, trained on the images (N, 1, 8, 8)."""
    steps = epochs * -(-len(images) // size)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(size):
            loss = nn.functional.cross_entropy(model(torch.from_numpy(images)[batch]), torch.from_numpy(labels)[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def compared(path: Path, images: np.ndarray, labels: np.ndarray, folder: Path, **options: Any) -> str:
    """Multiply-adds, parameters, noise over signal and accuracy of one result, as columns of a table."""
    np.savez(folder / "test.npz", x=images[TRAINED:], labels=labels[TRAINED:])
    calib = {"x": images[:CALIBRATED]}
    result = optimize(path, calib=[calib], labels=folder / "test.npz", no_gate=True, **options)[1]
    assert result.fidelity is not None and result.accuracy is not None
    share, params = result.after.macs / result.before.macs, result.after.params / result.before.params
    noise = ", ".join(f"{output.name} {output.nsr:.4f}" for output in result.fidelity.outputs)
    return f"| {share:.2f} | {params:.2f} | {noise} | {result.accuracy.after:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", default="medium")
    parser.add_argument("--keep", type=float, default=0.6)
    parser.add_argument("--targets", type=float, nargs="*", default=[0.5, 0.35])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--params", action="store_true")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--encoder", action="store_true")
    kind.add_argument("--postnorm", action="store_true")
    arguments = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32)[order], labels[order]
    target = "target_params" if arguments.params else "target_macs"
    amounts: list[dict[str, Any]] = [{"keep": arguments.keep}, *({target: t} for t in arguments.targets)]
    print("| seed | asked | stream | multiply-adds | parameters | noise/signal | accuracy |")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "transformer.onnx"
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            model = trained(Transformer(arguments.encoder, arguments.postnorm), images[:TRAINED], labels[:TRAINED])
            sample, outputs = (torch.from_numpy(images[:2]),), ["y", "tokens"] if arguments.encoder else ["y"]
            names = {"input_names": ["x"], "output_names": outputs, "dynamic_axes": {"x": {0: "N"}}}
            torch.onnx.export(model, sample, str(path), dynamo=False, opset_version=17, **names)
            for amount in amounts:
                for stream, exclude in (("whole", STREAM), ("projected", [])):
                    asked = " ".join(f"{key} {value}" for key, value in amount.items())
                    options = {**amount, "exclude": exclude, "effort": arguments.effort}
                    row = compared(path, images, labels, Path(name), **options)
                    print(f"| {seed} | {asked} | {stream} {row}", flush=True)


if __name__ == "__main__":
    main()
