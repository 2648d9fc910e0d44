"""Train the two shipped networks on scikit-learn's digits and write every file of this folder.

    pip install torch==2.13.0 scikit-learn onnx onnxruntime
    python models/train.py

Nothing is downloaded: the images come inside scikit-learn. The held-out 500 served for no choice: they are
measured after the last epoch.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SEED = 0
HELD_OUT = 500
CALIBRATION = 256
OPSET = 17


class ConvBn(nn.Module):
    """A 3x3 convolution without a bias, and its BatchNorm."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] to [N, outputs, h / stride, w / stride]."""
        return self.bn(self.conv(x))


class Cnn(nn.Module):
    """[N, 1, 8, 8] to [N, 10]: a stem, a residual block, two more convolutions, global average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBn(1, 32)
        self.inner = ConvBn(32, 32)
        self.outer = ConvBn(32, 32)
        self.down = ConvBn(32, 64, stride=2)
        self.last = ConvBn(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        x = torch.relu(self.last(torch.relu(self.down(x))))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class Mlp(nn.Module):
    """[N, 1, 8, 8] to [N, 10]: 64-256-128-10."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 256)
        self.second = nn.Linear(256, 128)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.first(torch.flatten(x, 1)))
        return self.head(torch.relu(self.second(x)))


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each of the [N, 1, 8, 8] images moved by -1, 0 or 1 pixel along each axis, zeros coming in."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    top, left = torch.randint(0, 3, (2, len(images), 1, 1), generator=generator)
    rows, columns = top + torch.arange(8).view(1, 8, 1), left + torch.arange(8).view(1, 1, 8)
    return padded[torch.arange(len(images)).view(-1, 1, 1), 0, rows, columns].unsqueeze(1)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, decay: float) -> nn.Module:
    """Fit by SGD with momentum, weight decay and a one-cycle learning rate; one thread, so that it repeats."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=decay)
    batch = 64
    steps = -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=epochs, steps_per_epoch=steps)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(batch):
            loss = nn.functional.cross_entropy(model(shifted(images[chosen], generator)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: nn.Module, path: Path) -> None:
    """Write ONNX with every BatchNorm still a node of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the TorchScript exporter is what leaves BatchNorm be
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 8, 8),),
            str(path),
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,  # EVAL folds BatchNorm into Conv
            do_constant_folding=False,
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Held-out accuracy of the file, by onnxruntime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": images})
    return float((logits.argmax(1) == labels).mean())


def main() -> None:
    """Write the data, train, export, measure."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]  # [1797, 1, 8, 8], grey levels 0..16 to 0..1
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels
    )
    np.savez_compressed(HERE / "digits_test.npz", input=test_x, labels=test_y)
    np.savez_compressed(HERE / "digits_calib.npz", input=train_x[:CALIBRATION])

    for name, build, epochs, decay in (("digits_cnn", Cnn, 40, 5e-4), ("digits_mlp", Mlp, 80, 5e-4)):
        torch.manual_seed(SEED)
        model = train(build(), torch.from_numpy(train_x), torch.from_numpy(train_y), epochs, decay)
        path = HERE / f"{name}.onnx"
        export(model, path)
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{path.name}: {accuracy(path, test_x, test_y):.1%} of {HELD_OUT} held out, {parameters:,} parameters")


if __name__ == "__main__":
    main()
