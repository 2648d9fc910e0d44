"""Forms of ops whose gradients are checked, beside those of the rules' cases, each as PyTorch computes it."""

from dataclasses import replace

from forms_elementwise import ELEMENTWISE
from forms_layout import LAYOUT
from forms_linear import ATTENTION, CONVOLUTIONS, MATRICES
from forms_norm import NORMS, REDUCTIONS
from forms_window import POOLS, RESIZES

FAMILIES = (CONVOLUTIONS, MATRICES, ATTENTION, POOLS, RESIZES, ELEMENTWISE, LAYOUT, REDUCTIONS, NORMS)
STEPS = {
    **dict.fromkeys(["conv_groups", "conv_groups_dense", "conv_depthwise_multiplier", "conv_groups_opset_9",
                     "transposed_groups", "gather_rows_opset_12", "nearest_opset_10", "upsample_linear", "rotary"],
                     0.5),
    **dict.fromkeys(["global_norm", "gelu", "erf", "local_response", "mean_variance", "shrink", "group_norm",
                     "attention", "attention_mask", "attention_flat"], 0.02),
    "max_opset_9": 0.002,
}  # fmt: skip
"""Those that are linear in each tensor have exact differences at any step."""
FORMS = [replace(form, step=STEPS.get(form.id)) for family in FAMILIES for form in family]
