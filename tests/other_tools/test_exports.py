"""Exports of timm, transformers, Ultralytics and Keras, made as docs/other-tools.md makes them, with random weights.

Each is skipped where its library is not installed.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest

from onnx_merge import inspect_model, optimize

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SHRINK = {"keep": 0.7, "method": "prune", "gate": False, "check_n": 8}


def shrinks(path, **more):
    """Compress ``path``; the share of multiply-adds left is below that of the original."""
    _, result = optimize(path, "smaller.onnx", **SHRINK, **more)
    assert result.after.macs < 0.8 * result.before.macs
    assert not inspect_model(path, **more).ops_without_rule


def test_timm(tmp_path, monkeypatch):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    network = timm.create_model("mobilenetv3_small_050", pretrained=False).eval()
    image = torch.zeros(1, 3, 64, 64)
    torch.onnx.export(
        network, (image,), "timm.onnx", input_names=["image"], output_names=["logits"], dynamo=False,
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, opset_version=17,
    )  # fmt: skip
    shrinks("timm.onnx")


def test_transformers_by_optimum(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    exporter = pytest.importorskip("optimum.exporters.onnx")
    monkeypatch.chdir(tmp_path)
    config = transformers.BertConfig(
        vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256
    )
    transformers.BertForSequenceClassification(config).save_pretrained("bert")
    Path("bert/vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(195))]))
    transformers.BertTokenizer("bert/vocab.txt").save_pretrained("bert")
    exporter.main_export("bert", "exported", task="text-classification", no_post_process=True)
    _, result = optimize("exported/model.onnx", "smaller.onnx", **SHRINK)
    assert result.after.params < 0.95 * result.before.params


def test_ultralytics(tmp_path, monkeypatch):
    ultralytics = pytest.importorskip("ultralytics")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = ultralytics.YOLO("yolov8n.yaml").export(format="onnx", imgsz=64, simplify=False, opset=17)
    shrinks(made)


def test_keras(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    network(np.zeros((1, 32, 32, 3), np.float32))
    network.export("keras.onnx", format="onnx", verbose=False)
    shrinks("keras.onnx")
