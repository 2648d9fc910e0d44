"""Networks, samples and settings for tests of how many channels each group keeps."""

import numpy as np
from netkit import engine, net

from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.tuning import TUNING
from passes.transforms.canonicalize import canonicalize

CHAIN = """net (float[N,6,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)
    c = Conv(br, c_w, c_b)  cr = Relu(c)  y = Conv(cr, y_w, y_b)
}"""
CHAIN_SIZES = dict(a_w=(24, 6, 1, 1), a_b=(24,), b_w=(32, 24, 3, 3), b_b=(32,), c_w=(20, 32, 1, 1), c_b=(20,),
                   y_w=(5, 20, 1, 1), y_b=(5,))  # fmt: skip
RESIDUAL = """net (float[N,6,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w)  br = Relu(b)  c = Conv(br, c_w)  s = Add(c, ar)
    d = Conv<group=4,pads=[1,1,1,1]>(s, d_w)  dr = Relu(d)  y = Conv(dr, y_w)
}"""
RESIDUAL_SIZES = dict(a_w=(48, 6, 1, 1), b_w=(40, 48, 3, 3), c_w=(48, 40, 1, 1), d_w=(64, 12, 3, 3), y_w=(5, 64, 1, 1))
# its groups: "a #2", 12 channels in each of four parts; "b", 40; "d", 16 in each of four parts
NETS = {"chain": (CHAIN, CHAIN_SIZES), "residual": (RESIDUAL, RESIDUAL_SIZES)}


def model_of(name="chain", **weights):
    body, sizes = NETS[name]
    return net(body, **{**sizes, **weights})


def samples_for(model, count=16):
    dims = [d.dim_value or count for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal([count, *dims[1:]]).astype(np.float32)
    return CalibrationSamples({model.graph.input[0].name: x}, True, engine)


def chosen(**settings):
    settings = {"allocation": "auto", "method": "reconstruct", "select": "auto", **settings}
    return CompressSettings(**settings)


def compressed(model, samples=True, tuning=TUNING, **settings):
    return compress(model, chosen(**settings), samples=samples_for(model) if samples else None, tuning=tuning)


def drafted(model, **settings):
    """Of the same widths, without the time that solving takes."""
    return compressed(model, draft=True, **settings)


def kept(result):
    return {plan.group.name: len(plan.keep) for plan in result.plans if not plan.group.frozen}


def costs(model):
    found = cost(Graph(canonicalize(model)))
    return found.macs, found.params


def left(model, result, kind="macs"):
    """Share of the cost."""
    index = ("macs", "params").index(kind)
    return costs(result.model)[index] / costs(model)[index]
