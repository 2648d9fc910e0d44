"""Runs the code blocks of the README and of docs/ that `test_code_blocks.py` leaves out, each as a reader would.

    python tests/docs/network_blocks.py [--only REGEX] [--timeout SECONDS]

Each block runs in a fresh folder and a fresh virtual environment with the checkout and the block's packages, from the
package index. What the page speaks of (a network, photographs) is made first. A block that takes weights from a hub
runs as it stands; where that fails, it runs with the stand-in that is named, random weights. Prints a line a block;
exit code 1 if one failed. Takes about a quarter of an hour and Pillow. Blocks that it does not run: `LEFT_OUT`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = ("bash", "python")
NETWORK = re.compile(
    r"\b(pip|docker|git clone|wget|curl|yolo|optimum-cli|pytest|mkdocs|olive)\b|import (torch|timm|keras)"
)
"""What a block has in it that needs a network, a library that no test may need, or minutes."""
LEFT_OUT = {
    "pip install -e '.[test]' && pytest": "run by .ci/run",
    "ruff check . && ruff format": "run by .ci/run",
}
"""Part of a block -> why it is not run here."""
TOKENS = """import numpy as np
def samples():
    rng = np.random.default_rng(0)
    for _ in range(64):
        ids = rng.integers(5, 190, (1, 16))
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}
"""
DISTILBERT = """from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertTokenizer
config = DistilBertConfig(vocab_size=200, dim=64, n_layers=2, n_heads=4, hidden_dim=256)
DistilBertForSequenceClassification(config).save_pretrained("bert")
open("bert/vocab.txt", "w").write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(195))]))
DistilBertTokenizer("bert/vocab.txt").save_pretrained("bert")
"""
TORCH = """from torch import nn
network = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
"""
KERAS = """import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(16, 3, activation="relu"), keras.layers.Flatten(),
    keras.layers.Dense(10)]).save("model.keras")
"""


@dataclass(frozen=True)
class Recipe:
    """How a block is run. ``part``: of its text, tells it from others. ``before``: Python in front of it, in the same
    program where the block is Python. ``standin``: replacements if it fails as it stands, and ``why``."""

    part: str
    packages: tuple[str, ...] = ()
    before: str = ""
    files: Callable[[Path], None] = lambda folder: None
    standin: tuple[tuple[str, str], ...] = ()
    needs: str = ""
    """A command that has to succeed."""
    checkout: bool = False
    """Run in a copy of the repository, in an environment with nothing in it."""


def models(folder: Path) -> None:
    """model.onnx with samples.npz, photos/ and what else the pages speak of."""
    import numpy as np
    from PIL import Image

    shutil.copy(ROOT / "models" / "digits_mlp.onnx", folder / "model.onnx")
    shutil.copy(ROOT / "models" / "digits_calib.npz", folder / "samples.npz")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for k in range(48):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3)).astype(np.uint8))
        coarse.resize((320, 320), Image.Resampling.BICUBIC).save(folder / "photos" / f"{k}.png")
    (folder / "tokens.py").write_text(TOKENS)


def dockerfile(folder: Path) -> None:
    """The checkout as the page's first container wants it."""
    models(folder)
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", "build", "*cache*"))
    (folder / "Dockerfile").write_text(re.findall(r"```dockerfile\n(.*?)```", page, re.DOTALL)[0])


def workflow(folder: Path) -> None:
    """And the Olive workflow of the page."""
    models(folder)
    page = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
    (folder / "workflow.json").write_text(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])


NO_GATE = (("--keep 0.8 ", "--keep 0.8 --no-gate "),)
RECIPES = (
    Recipe("pip install . && python -m onnx_merge models/digits_cnn.onnx", checkout=True),
    Recipe("docker build", files=dockerfile, needs="docker info"),
    Recipe("timm.create_model", ("timm",), standin=(("pretrained=True", "pretrained=False"),)),
    Recipe(
        "pip install timm && onnx-merge",
        ("timm",),
        "import timm, torch\ntorch.onnx.export(timm.create_model('mobilenetv3_small_100').eval(), "
        "(torch.zeros(1, 3, 224, 224),), 'timm.onnx', dynamo=False, dynamic_axes={'x': {0: 'N'}, 'y': {0: 'N'}}, "
        "input_names=['x'], output_names=['y'])\n",
        models,
        NO_GATE,
    ),
    Recipe(
        "yolo export",
        ("ultralytics",),
        files=models,
        standin=(
            ("yolov8n.pt", "yolov8n.yaml"),
            ("--metric examples/detection_f1.py:f1 --min-metric 0.9", "--no-gate"),  # random weights find no box
        ),
    ),
    Recipe(
        "optimum-cli",
        ("optimum-onnx", "transformers"),
        DISTILBERT,
        models,
        (("distilbert-base-uncased-finetuned-sst-2-english", "bert --task text-classification"), *NO_GATE),
    ),
    Recipe("onnxslim model.onnx", files=models, standin=()),
    Recipe("pip install olive-ai", files=workflow),
    Recipe("import torch\n\nnetwork.eval()", ("torch", "onnxscript"), TORCH),
    Recipe("import keras", ("keras", "torch", "onnxscript"), KERAS),
)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Kind and text of each code block."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def network_blocks() -> list[tuple[str, str, str]]:
    """Page, kind and text of every block that needs a network."""
    found = ((page.name, block) for page in PAGES for block in blocks(page))
    return [(page, kind, text) for page, (kind, text) in found if kind in RUN and NETWORK.search(text)]


def recipe_of(text: str) -> Recipe | str:
    """How to run a block, or why it is not run."""
    reasons = [why for part, why in LEFT_OUT.items() if part in text]
    found = [recipe for recipe in RECIPES if recipe.part in text]
    if len(reasons) + len(found) != 1:
        raise LookupError(f"{len(found)} recipes and {len(reasons)} reasons for the block\n{text}")
    return found[0] if found else reasons[0]


def attempt(kind: str, text: str, recipe: Recipe, timeout: float) -> str | None:
    """Run a block; None, or the last line that it printed where it failed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with tempfile.TemporaryDirectory(prefix="blocks-") as temporary:
        folder, venv = Path(temporary, "work"), Path(temporary, "venv")

        def call(*words: str) -> None:
            subprocess.run(words, cwd=folder, env=environment, timeout=timeout, check=True, capture_output=True)

        try:
            if recipe.checkout:
                subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
            else:
                folder.mkdir()
                recipe.files(folder)
                subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
                environment |= {
                    "VIRTUAL_ENV": str(venv),
                    "PATH": f"{venv}/bin:{os.environ['PATH']}",
                    "MPLBACKEND": "Agg",
                }
                call("pip", "install", "-q", f"{ROOT}[images]", *recipe.packages)
            if kind == "python":
                (folder / "block.py").write_text(recipe.before + text)
                call("python", "block.py")
                return None
            if recipe.before:
                (folder / "before.py").write_text(recipe.before)
                call("python", "before.py")
            call("bash", "-euo", "pipefail", "-c", text)
        except subprocess.TimeoutExpired:
            return f"took more than {timeout:g} s"
        except subprocess.CalledProcessError as error:
            lines = [line for line in (error.stderr or b"").decode(errors="replace").splitlines() if line.strip()]
            return lines[-1].strip() if lines else f"exit code {error.returncode}"
    return None


def run(kind: str, text: str, recipe: Recipe, timeout: float) -> tuple[bool, str]:
    """Whether a block runs, and a line about it."""
    if recipe.needs and subprocess.run(["bash", "-c", recipe.needs], capture_output=True).returncode:
        return True, f"not run: {recipe.needs!r} fails here"
    problem = attempt(kind, text, recipe, timeout)
    if problem is None:
        return True, "runs as it stands"
    if not recipe.standin:
        return False, f"FAILED: {problem}"
    changed = text
    for old, new in recipe.standin:
        changed = changed.replace(old, new)
    again = attempt(kind, changed, recipe, timeout)
    said = ", ".join(new.strip() for old, new in recipe.standin if old in text)
    if again is None:
        return True, f"runs with {said}; as it stands: {problem}"
    return False, f"FAILED with {said}: {again}; as it stands: {problem}"


def main() -> int:
    """Run all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--timeout", type=float, default=900)
    args = parser.parse_args()
    failed = False
    for page, kind, text in network_blocks():
        first = f"{page:16} {text.strip().splitlines()[0][:60]:60}"
        if not re.search(args.only, f"{page} {text}"):
            continue
        recipe = recipe_of(text)
        if isinstance(recipe, str):
            print(f"{first}        {recipe}", flush=True)
            continue
        start = time.perf_counter()
        good, line = run(kind, text, recipe, args.timeout)
        failed |= not good
        print(f"{first} {time.perf_counter() - start:5.0f} s {line}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
