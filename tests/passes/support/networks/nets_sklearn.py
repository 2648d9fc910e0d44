"""Classifiers as skl2onnx writes them: a scaler, an MLP with (1, n) biases, labels and a map of probabilities."""

import numpy as np
from netcase import ARCHITECTURES, Architecture, built, op
from netkit import ints
from onnx import TensorProto, helper

ML = "ai.onnx.ml"
CLASSES = ["cat", "dog", "eel"]
HEAD = [
    op("Scaler", "X", "variable", ML, offset=[-0.1, 0.2, 0.0, -0.3, 0.1, 0.0], scale=[1.1, 0.9, 1.0, 1.2, 0.8, 1.0]),
    op("Normalizer", "variable", "variable1", ML, norm="L2"),
    op("Cast", "variable1", "cast_input", to=TensorProto.FLOAT),
    op("MatMul", "cast_input coefficient", "mul_result"),
    op("Add", "mul_result intercepts", "add_result"),
    op("Relu", "add_result", "next_activations"),
    op("MatMul", "next_activations coefficient1", "mul_result1"),
    op("Add", "mul_result1 intercepts1", "add_result1"),
    op("Relu", "add_result1", "next_activations1"),
    op("MatMul", "next_activations1 coefficient2", "mul_result2"),
    op("Add", "mul_result2 intercepts2", "add_result2"),
]
LABEL = [op("Reshape", "array_feature_extractor_result shape_tensor", "label")]
STRINGS = [
    op("Softmax", "add_result2", "out_activations_result"),
    op("ArgMax", "out_activations_result", "argmax_output", axis=1),
    op("ZipMap", "out_activations_result", "output_probability", ML, classlabels_strings=CLASSES),
    op("ArrayFeatureExtractor", "classes argmax_output", "array_feature_extractor_result", ML),
    *LABEL,
    op("Identity", "label", "output_label"),
]
BINARY = [
    op("Sigmoid", "add_result2", "out_activations_result"),
    op("Sub", "unity out_activations_result", "negative_class_proba"),
    op("Concat", "negative_class_proba out_activations_result", "probabilities", axis=1),
    op("ArgMax", "probabilities", "argmax_output", axis=1),
    op("ZipMap", "probabilities", "output_probability", ML, classlabels_int64s=[0, 1]),
    op("ArrayFeatureExtractor", "classes argmax_output", "array_feature_extractor_result", ML),
    *LABEL,
    op("Cast", "label", "output_label", to=TensorProto.INT64),
]
ENCODED = [
    op("Softmax", "add_result2", "output_probability"),
    op("ArgMax", "output_probability", "argmax_output", axis=1, keepdims=0),
    op("LabelEncoder", "argmax_output", "output_label", ML, keys_int64s=[0, 1, 2], values_strings=CLASSES),
]


def weights(count):
    sizes = [6, 16, 12, count]
    layers = {f"coefficient{k or ''}": (n, m) for k, (n, m) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))}
    return layers | {f"intercepts{k or ''}": (1, n) for k, n in enumerate(sizes[1:])} | {"shape_tensor": ints(-1)}


def classifier(tail, count, label, key, **more):
    """``key``: element type of the map's keys, none for a plain tensor of probabilities."""
    probability = helper.make_tensor_type_proto(TensorProto.FLOAT, [None, count])
    if key is not None:
        row = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        probability = helper.make_sequence_type_proto(row)
    outputs = [("output_label", label, [None]), helper.make_value_info("output_probability", probability)]
    inputs = [("X", TensorProto.FLOAT, [None, 6])]
    return built([*HEAD, *tail], inputs, outputs, weights(count) | more, 15, ir_version=8, **{ML: 3})


NUMBERS = {"classes": np.array([0, 1], np.int32), "unity": np.array(1, np.float32)}
MODELS = {
    "strings": classifier(STRINGS, 3, TensorProto.STRING, TensorProto.STRING, classes=np.array(CLASSES, object)),
    "binary": classifier(BINARY, 1, TensorProto.INT64, TensorProto.INT64, **NUMBERS),
    "encoded": classifier(ENCODED, 3, TensorProto.STRING, None),
}
ARCHITECTURES.update({f"skl2onnx-{name}": Architecture(model, 2) for name, model in MODELS.items()})
