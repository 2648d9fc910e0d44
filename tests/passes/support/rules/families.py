"""The test tables of the rules, one for each family of ops.

Each has ``CASES`` (see `rulekit`), ``SCALE_CASES`` (see `scalekit`) and ``ALL_DATA``: ops that make no channels of a
constant beside data. Their first operand holds the channels, or, in recurrent layers, what they make is no multiple of
anything; the cases have them on the way of channels that others make.
"""

import rules_attention
import rules_elementwise
import rules_indexing
import rules_layout
import rules_linear
import rules_norm
import rules_pool
import rules_recurrent
import rules_unary

FAMILIES = (
    rules_attention,
    rules_elementwise,
    rules_indexing,
    rules_layout,
    rules_linear,
    rules_norm,
    rules_pool,
    rules_recurrent,
    rules_unary,
)
CASES = [case for family in FAMILIES for case in family.CASES]
FIRING = [case for case in CASES if case.fires]
SCALE_CASES = [case for family in FAMILIES for case in family.SCALE_CASES]
ALL_DATA = {op for family in FAMILIES for op in family.ALL_DATA.split()}
OF_ONNXRUNTIME = {"SimplifiedLayerNormalization"}
"""Ops of the standard domain that onnx does not define; `tests/onnx_merge/io/test_runtime_ops.py` runs them."""
