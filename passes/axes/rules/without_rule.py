"""Facts of ops without an axis rule: quantised and fused layers, converters, ops of data-dependent output size.

Quantised and fused layers do as many multiply-adds as the layers that they replace.
"""

from __future__ import annotations

from dataclasses import replace

from passes.axes.loops import LoopNest, Loops
from passes.axes.op_facts import Moves, OpFacts
from passes.axes.registry import facts
from passes.axes.rules.attention import attention_loops
from passes.axes.rules.convolution import convolution_loops
from passes.axes.rules.linear import matrix_loops
from passes.axes.rules.recurrent import RECURRENT

MICROSOFT = "com.microsoft"
CLASSICAL = "ai.onnx.ml"
DECIDES = OpFacts(decides=True)
MATRICES = OpFacts(weights=(0, 1), macs=matrix_loops)
CONVOLUTION = OpFacts(weights=(1,), biases=(2,), macs=convolution_loops(1))
QUANTISED_CONVOLUTION = OpFacts(weights=(3,), biases=(8,), macs=convolution_loops(3))


def _projected_attention(s: Loops) -> list[LoopNest]:
    """X: B S i, W: i (3 n d) -> Y: B S (n d), with its projections."""
    places, steps = s.input(0)[:2], s.input(0)[1]
    return [places + s.input(1), *[[*s.output(), steps]] * 2]


facts("ConvInteger", known=OpFacts(weights=(1,), macs=convolution_loops(1)))
facts("QLinearConv", known=QUANTISED_CONVOLUTION)
facts("QLinearConv", known=QUANTISED_CONVOLUTION, domain=MICROSOFT)
facts("MatMulInteger", known=MATRICES)
facts("QLinearMatMul", known=replace(MATRICES, weights=(0, 3)))

facts("FusedConv", "NhwcFusedConv", known=CONVOLUTION, domain=MICROSOFT)
facts("Conv", known=CONVOLUTION, domain=f"{MICROSOFT}.nchwc")
facts("FusedGemm", known=replace(MATRICES, biases=(2,)), domain=MICROSOFT)
facts("FusedMatMul", "TransposeMatMul", "MatMulInteger16", known=MATRICES, domain=MICROSOFT)
facts("DynamicQuantizeLSTM", known=RECURRENT, domain=MICROSOFT)
facts("DynamicQuantizeMatMul", known=replace(MATRICES, weights=(1,), biases=(4,)), domain=MICROSOFT)
facts("MatMulIntegerToFloat", known=replace(MATRICES, biases=(6,)), domain=MICROSOFT)
facts("MatMulNBits", known=replace(MATRICES, weights=(1,), biases=(5,), packed=1), domain=MICROSOFT)
facts("MatMulBnb4", known=replace(MATRICES, weights=(1,), packed=1), domain=MICROSOFT)
facts("MatMulFpQ4", known=replace(MATRICES, weights=(1,)), domain=MICROSOFT)
facts("QGemm", known=replace(MATRICES, weights=(0, 3), biases=(6,)), domain=MICROSOFT)
facts("Attention", "QAttention", known=OpFacts(weights=(1,), biases=(2,), macs=_projected_attention), domain=MICROSOFT)
facts("MultiHeadAttention", known=OpFacts(biases=(3,), macs=attention_loops), domain=MICROSOFT)
facts("GroupQueryAttention", known=OpFacts(macs=attention_loops), domain=MICROSOFT)

facts("QuantizeLinear", known=OpFacts(moves=Moves.QUANTISED, decides=True), domain=MICROSOFT)
facts("DequantizeLinear", known=OpFacts(moves=Moves.QUANTISED), domain=MICROSOFT)
facts("DynamicQuantizeLinear", known=DECIDES)
facts("NonMaxSuppression", "NonZero", "Unique", known=OpFacts(decides=True, counts=True))
facts(
    "TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", "Binarizer", "SVMClassifier",
    "LinearClassifier", known=DECIDES, domain=CLASSICAL,
)  # fmt: skip

facts("Compress", known=OpFacts(sizing=(1,), counts=True))
facts("StringSplit", "TfIdfVectorizer", "ImageDecoder", known=OpFacts(counts=True))
facts("OneHot", "CenterCropPad", "AffineGrid", known=OpFacts(sizing=(1,)))
facts("MaxUnpool", "Col2Im", known=OpFacts(sizing=(1, 2)))
facts("STFT", known=OpFacts(sizing=(1, 2, 3)))
facts("Range", known=OpFacts(sizing=(0, 1, 2)))
facts("BlackmanWindow", "HannWindow", "HammingWindow", known=OpFacts(sizing=(0,)))
facts("MelWeightMatrix", known=OpFacts(sizing=(0, 1)))
