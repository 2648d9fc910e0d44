"""Small transformers without attention: residual streams that norms read, and MLPs write."""

import numpy as np
from netkit import net

LAYER = "LayerNormalization<axis=-1, epsilon=0.01>"
RMS = "RMSNormalization<axis=-1, epsilon=0.01>"
WRITTEN_LAYER = """
    m{k} = ReduceMean(x{k}, last)  c{k} = Sub(x{k}, m{k})  q{k} = Pow(c{k}, two)  v{k} = ReduceMean(q{k}, last)
    a{k} = Add(v{k}, eps)  z{k} = Sqrt(a{k})  w{k} = Div(c{k}, z{k})  t{k} = Mul(w{k}, s{k})  n{k} = Add(t{k}, o{k})
"""
WRITTEN_RMS = """
    q{k} = Mul(x{k}, x{k})  v{k} = ReduceMean(q{k}, last)  a{k} = Add(eps, v{k})  z{k} = Sqrt(a{k})
    i{k} = Reciprocal(z{k})  w{k} = Mul(x{k}, i{k})  f{k} = Cast<to=1>(w{k})  n{k} = Mul(s{k}, f{k})
"""
KINDS = [(LAYER, True), ("LayerNormalization", False), (RMS, False), (WRITTEN_LAYER, True), (WRITTEN_RMS, False)]
"""Norms, with and without a bias, and as exporters write them in several nodes."""
CENTRED = {LAYER, "LayerNormalization", WRITTEN_LAYER}
WIDTH, HIDDEN, TOKENS = 12, 18, 20
BLOCK = """
    {1}  u{0} = MatMul(n{0}, u_w{0})  ub{0} = Add(u{0}, u_b{0})  r{0} = Relu(ub{0})
    d{0} = MatMul(r{0}, d_w{0})  db{0} = Add(d{0}, d_b{0})  x{2} = Add({3}{0}, db{0})
"""


def postnorm(op=LAYER, biased=True, head="y = MatMul(n2, y_w)", **settings):
    """The same with the norm of each block behind its sum, as in BERT: n0 is the first norm's output."""
    return prenorm(op, biased, head, **settings, residual="n")


def prenorm(
    op=LAYER,
    biased=True,
    head="y = MatMul(n2, y_w)",
    start="x0 = Add(e, places)",
    hidden=HIDDEN,
    residual="x",
    **weights,
):
    """An embedding (group e) with a table of positions, two blocks of an MLP behind a norm, a norm before ``head``.
    ``start``: how the stream x0 begins."""
    bias = ", o{k}" if biased else ""
    form = op if "{k}" in op else f"n{{k}} = {op}(x{{k}}, s{{k}}{bias})"
    blocks = "".join(BLOCK.format(k, form.format(k=k), k + 1, residual) for k in range(2))
    sizes = dict(table=(TOKENS, WIDTH), places=(5, WIDTH), y_w=(WIDTH, 7), **{f"s{k}": (WIDTH,) for k in range(3)})
    for k in range(2):
        sizes |= {f"u_w{k}": (WIDTH, hidden), f"u_b{k}": (hidden,), f"d_w{k}": (hidden, WIDTH), f"d_b{k}": (WIDTH,)}
    sizes |= {f"o{k}": (WIDTH,) for k in range(3)} if biased else {}
    sizes |= {"last": np.array([-1]), "two": np.array(2, np.float32), "eps": np.array(0.01, np.float32)}
    last = f"{form.format(k=2)}  {head}"
    body = f"net (int64[N,5] x) => (float[] y) {{ e = Gather(table, x)  {start} {blocks} {last} }}"
    return net(body, 23, 11, **{**sizes, **weights})


def thin(op, seed=3, hidden=HIDDEN):
    """Weights of a `prenorm` whose stream has five dimensions, beside a mean that LayerNormalization takes away, or six
    for RMSNormalization."""
    rng, centred = np.random.default_rng(seed), op in CENTRED
    basis = rng.standard_normal((5 if centred else 6, WIDTH))
    written = {"table": (TOKENS,), "places": (5,), "d_w0": (hidden,), "d_w1": (hidden,), "d_b0": (), "d_b1": ()}
    return {
        name: np.float32(rng.standard_normal((*lead, len(basis))) @ basis + rng.standard_normal((*lead, 1)) * centred)
        for name, lead in written.items()
    }


def tokens(count, seed=0):
    return {"x": np.random.default_rng(seed).integers(0, TOKENS, (count, 5))}
