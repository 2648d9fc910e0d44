"""Forms of reductions, norms and softmax."""

from gradkit import Form
from netkit import ints

REDUCTIONS = [
    *(
        Form(f"{op}_{keep}", "float[2,3,4] x", f"y = {op}<axes=[0,-1], keepdims={keep}>(x)", {},
             lambda torch, x, f=f, keep=keep: f(torch, x, {"dim": (0, 2), "keepdim": bool(keep)}), 12)
        for op, f in (
            ("ReduceSum", lambda torch, x, how: x.sum(**how)), ("ReduceMean", lambda torch, x, how: x.mean(**how)),
            ("ReduceMax", lambda torch, x, how: x.amax(**how)), ("ReduceMin", lambda torch, x, how: x.amin(**how)),
            ("ReduceL1", lambda torch, x, how: x.abs().sum(**how)),
            ("ReduceL2", lambda torch, x, how: x.square().sum(**how).sqrt()),
            ("ReduceSumSquare", lambda torch, x, how: x.square().sum(**how)),
            ("ReduceLogSumExp", lambda torch, x, how: x.logsumexp(**how)),
        )
        for keep in (0, 1)
    ),
    Form("ReduceProd", "float[2,3] x", "y = ReduceProd<axes=[1]>(x)", {}, lambda torch, x: x.prod(1, keepdim=True), 12),
    Form("ReduceLogSum", "float[2,3] x", "a = Abs(x)  y = ReduceLogSum<axes=[1]>(a)", {},
         lambda torch, x: x.abs().sum(1, keepdim=True).log(), 12),
    Form("ReduceMean_input", "float[2,3,4] x", "y = ReduceMean(x, a)", {"a": ints(1)},
         lambda torch, x: x.mean(1, keepdim=True), 18),
    Form("ReduceMax_all", "float[2,3,4] x", "y = ReduceMax<keepdims=0>(x)", {}, lambda torch, x: x.amax(), 18),
]  # fmt: skip
NORMS = [
    Form("batch_norm", "float[2,3,4,2] x", "y = BatchNormalization<epsilon=0.01>(x, scale, b, m, var)",
         {"scale": (3,), "b": (3,), "m": (3,), "var": (3,)},
         lambda torch, x, scale, b, m, var: (x - m[:, None, None]) / (var[:, None, None] + 0.01).sqrt()
         * scale[:, None, None] + b[:, None, None]),
    Form("batch_norm_rows", "float[4,3] x", "y = BatchNormalization(x, scale, b, m, var)",
         {"scale": (3,), "b": (3,), "m": (3,), "var": (3,)},
         lambda torch, x, scale, b, m, var: (x - m) / (var + 1e-5).sqrt() * scale + b),
    Form("instance_norm", "float[2,3,4,5] x", "y = InstanceNormalization(x, scale, b)", {"scale": (3,), "b": (3,)},
         lambda torch, x, scale, b: torch.nn.functional.instance_norm(x, None, None, scale, b)),
    Form("group_norm", "float[2,6,4,5] x", "y = GroupNormalization<num_groups=3>(x, scale, b)",
         {"scale": (6,), "b": (6,)}, lambda torch, x, scale, b: torch.nn.functional.group_norm(x, 3, scale, b), 21),
    Form("group_norm_opset_18", "float[2,6,4] x", "y = GroupNormalization<num_groups=3>(x, scale, b)",
         {"scale": (3,), "b": (3,)},
         lambda torch, x, scale, b: torch.nn.functional.group_norm(
             x, 3, scale.repeat_interleave(2), b.repeat_interleave(2)), 18),
    Form("layer_norm", "float[2,3,5] x", "y = LayerNormalization<epsilon=0.01>(x, scale, b)", {"scale": (5,),
         "b": (5,)},
         lambda torch, x, scale, b: torch.nn.functional.layer_norm(x, (5,), scale, b, 0.01)),
    Form("layer_norm_two", "float[2,3,5] x", "y = LayerNormalization<axis=1>(x, scale, b)",
         {"scale": (3, 5), "b": (3, 5)}, lambda torch, x, scale, b: torch.nn.functional.layer_norm(x, (3, 5), scale,
         b)),
    Form("rms_norm", "float[2,3,5] x", "y = RMSNormalization(x, scale)", {"scale": (5,)},
         lambda torch, x, scale: torch.nn.functional.rms_norm(x, (5,), scale, 1e-5), 23),
    Form("mean_variance", "float[2,3,4,5] x", "y = MeanVarianceNormalization(x)", {},
         lambda torch, x: (x - x.mean((0, 2, 3), keepdim=True))
         / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-9).sqrt()),
    Form("unit_length", "float[2,3,4] x", "y = LpNormalization<axis=1>(x)", {},
         lambda torch, x: torch.nn.functional.normalize(x, dim=1)),
    Form("unit_sum", "float[2,3,4] x", "y = LpNormalization<axis=-1, p=1>(x)", {},
         lambda torch, x: torch.nn.functional.normalize(x, p=1, dim=-1)),
    Form("local_response", "float[2,7,3,2] x", "y = LRN<size=5, alpha=0.3, beta=0.6, bias=1.5>(x)", {},
         lambda torch, x: torch.nn.functional.local_response_norm(x, 5, 0.3, 0.6, 1.5)),
    Form("softmax", "float[2,3,4] x", "y = Softmax<axis=1>(x)", {}, lambda torch, x: x.softmax(1)),
    Form("softmax_opset_11", "float[2,3,4] x", "y = Softmax(x)", {},
         lambda torch, x: x.flatten(1).softmax(1).reshape(x.shape), 11),
    Form("log_softmax", "float[2,3,4] x", "y = LogSoftmax(x)", {}, lambda torch, x: x.log_softmax(-1)),
    Form("log_softmax_opset_11", "float[2,3,4] x", "y = LogSoftmax<axis=2>(x)", {}, lambda torch,
         x: x.log_softmax(2), 11),
]  # fmt: skip
