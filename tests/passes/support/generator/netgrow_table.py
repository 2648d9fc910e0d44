"""The table of growers, and which op can stand in which network."""

from functools import cache

import numpy as np
import onnx

DTYPES = {"float": np.float32, "double": np.float64}
TO = {"float": 1, "double": 11}
"""Cast's numbers of the types."""
GROWERS = {}
"""Op type -> the function that adds a node of this type, and what else it takes, to a `Growth`."""
OFTEN = {}
"""Op type -> how often its grower is called beside others."""
ROUGH = set()
"""Op types whose output jumps: networks with them are computed in float64, where roundings seldom reach a jump."""


def grows(*ops, often=1.0, rough=False):
    """Register the decorated function, which takes the growth and one of ``ops``; together they come up ``often``."""

    def register(function):
        for op in ops:
            GROWERS[op], OFTEN[op] = function, often / len(ops)
            ROUGH.update([op] if rough else [])
        return function

    return register


@cache
def schema(op, opset):
    """Definition of the op in this opset, or nothing."""
    try:
        found = onnx.defs.get_schema(op, max_inclusive_version=opset)
    except onnx.defs.SchemaError:
        return None
    return None if found.deprecated else found


ONLY_FLOAT = {"Attention", "MeanVarianceNormalization"}
"""Ops that ONNX defines by float32 constants, or to which a factor is given as one."""
CASTING = {"QuantizeLinear", "DequantizeLinear"}
"""Ops whose growers cast to the type that they take."""
USABLE_FROM = {"Equal": 11, "TopK": 10}
"""Opset from which an op takes floating-point numbers, or its input as growers give it."""
UNKNOWN_FROM = {"GlobalLpPool": 22, "RoiAlign": 22}
"""Opset from which onnxruntime has no kernel."""


def fits(op, opset, precision):
    """Whether networks of this opset and precision can have the op."""
    definition = schema(op, opset)
    if definition is None or opset < USABLE_FROM.get(op, 0):
        return False
    if precision == "float" and (op in ROUGH or opset >= UNKNOWN_FROM.get(op, 99)):
        return False
    kinds = [c.allowed_type_strs for c in definition.type_constraints]
    exact = all("tensor(double)" in kind for kind in kinds if "tensor(float)" in kind) and op not in ONLY_FLOAT
    return precision == "float" or exact or op in CASTING
