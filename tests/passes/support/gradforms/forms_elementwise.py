"""Forms of elementwise ops and activation functions."""

import numpy as np
from gradkit import Form, two

ELEMENTWISE = [
    *(
        two(f"{op}_{a}_{b}", "e = Exp(k)  y = Div(x, e)" if op == "Div" else f"y = {op}(x, k)", lambda torch, x, k,
             f=f: f(torch, x, k), a, b)
        for op, f in (
            ("Add", lambda torch, x, k: x + k), ("Sub", lambda torch, x, k: x - k), ("Mul", lambda torch, x, k: x * k),
            ("Div", lambda torch, x, k: x / k.exp()), ("Max", lambda torch, x, k: torch.maximum(x, k)),
            ("Min", lambda torch, x, k: torch.minimum(x, k)),
        )
        for a, b in (("2,3,4", (3, 1)), ("4", (2, 3, 4)), ("2,1,4", (3, 4)), ("2,3", ()))
    ),
    Form("square", "float[2,3] x", "y = Mul(x, x)", {}, lambda torch, x: x * x),
    Form("power_two", "float[2,3] x", "y = Pow(x, p)", {"p": np.array(2.0, np.float32)}, lambda torch, x: x**2,
         fixed="p"),
    Form("power_root", "float[2,3] x", "a = Abs(x)  y = Pow(a, p)", {"p": np.array(0.5, np.float32)},
         lambda torch, x: x.abs() ** 0.5, fixed="p"),
    two("power_computed", "a = Abs(x)  y = Pow(a, k)", lambda torch, x, k: x.abs() ** k),
    two("mean_of", "y = Mean(x, k, x)", lambda torch, x, k: (2 * x + k) / 3),
    two("remainder", "y = Mod<fmod=1>(x, k)", lambda torch, x, k: torch.fmod(x, k)),
    two("choice", "z = Sub(k, k)  c = Less(x, z)  y = Where(c, x, k)",
        lambda torch, x, k: torch.where(x < 0, x, k.expand(x.shape))),
    two("several_readers", "a = Tanh(x)  b = Mul(a, k)  c = Add(a, b)  y = Mul(c, a)",
        lambda torch, x, k: (x.tanh() * (1 + k)) * x.tanh()),
    Form("clip", "float[3,5] x", "y = Clip(x, low, high)",
         {"low": np.array(-0.5, np.float32), "high": np.array(0.7, np.float32)},
         lambda torch, x: x.clamp(-0.5, 0.7), fixed="low high"),
    two("prelu", "y = PRelu(x, k)", lambda torch, x, k: torch.where(x > 0, x, k * x), "2,3,4", (3, 1)),
    *(
        Form(name, "float[3,5] x", f"y = {op}<{attributes}>(x)", {}, function, 20)
        for name, op, attributes, function in (
            ("leaky", "LeakyRelu", "alpha=0.3", lambda torch, x: torch.nn.functional.leaky_relu(x, 0.3)),
            ("elu_falling", "Elu", "alpha=-0.5", lambda torch, x: torch.where(x > 0, x, -0.5 * x.expm1())),
            ("leaky_falling", "LeakyRelu", "alpha=-0.25", lambda torch, x: torch.where(x > 0, x, -0.25 * x)),
            ("elu", "Elu", "alpha=0.7", lambda torch, x: torch.nn.functional.elu(x, 0.7)),
            ("celu", "Celu", "alpha=0.7", lambda torch, x: torch.nn.functional.celu(x, 0.7)),
            ("selu", "Selu", "", lambda torch, x: torch.nn.functional.selu(x)),
            ("gelu", "Gelu", "", lambda torch, x: torch.nn.functional.gelu(x)),
            ("gelu_tanh", "Gelu", 'approximate="tanh"',
             lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh")),
            ("mish", "Mish", "", lambda torch, x: torch.nn.functional.mish(x)),
            ("hard_sigmoid", "HardSigmoid", "alpha=0.3, beta=0.4", lambda torch, x: (0.3 * x + 0.4).clamp(0, 1)),
            ("hard_swish", "HardSwish", "", lambda torch, x: torch.nn.functional.hardswish(x)),
            ("softplus", "Softplus", "", lambda torch, x: torch.nn.functional.softplus(x)),
            ("softsign", "Softsign", "", lambda torch, x: torch.nn.functional.softsign(x)),
            ("erf", "Erf", "", lambda torch, x: torch.erf(x)),
            ("atan", "Atan", "", lambda torch, x: torch.atan(x)),
            ("asinh", "Asinh", "", lambda torch, x: torch.asinh(x)),
            ("shrink", "Shrink", "lambd=0.4", lambda torch, x: x * (x.abs() > 0.4)),
        )
    ),
]  # fmt: skip
