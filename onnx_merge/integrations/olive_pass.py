"""Compression as a pass of Olive (https://microsoft.github.io/Olive/): `OnnxMerge`.

Needs olive-ai. Olive finds passes of others in a package configuration, which `write_package_config` writes:

    python -m onnx_merge.integrations.olive_pass packages.json
    olive run --config workflow.json --package-config packages.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from olive.common.config_utils import validate_config
from olive.data.config import DataConfig
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from olive.search.search_parameter import Categorical

from onnx_merge.compression.optimize import optimize

MODULE = "onnx_merge.integrations.olive_pass"
"""Name of this module. `__name__` is another one where Olive runs the file itself."""
SHARES = (0.9, 0.75, 0.6)
"""What a search of Olive tries for `keep`, unless the workflow says something else."""


class OnnxMerge(Pass):  # type: ignore[misc]
    """Removes channels and merges what they carried into those that stay.

    Parameters of the pass
    ----------------------
    keep: share of channels to keep; not used where ``options`` say how much goes.
    options: those of `onnx_merge.optimize`, by name.
    data_config: Olive's description of samples, for calibration.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "keep": PassConfigParam(
                type_=float,
                default_value=0.75,
                search_defaults=Categorical(list(SHARES)),
                description="Share of the channels to keep.",
            ),
            "options": PassConfigParam(
                type_=dict,
                default_value=None,
                description="Options of onnx_merge.optimize, such as max_drop, labels, calib, exclude, report.",
            ),
            "data_config": PassConfigParam(
                type_=DataConfig | dict,
                default_value=None,
                description="Samples for calibration. Without them, and without calib in options, samples are made up.",
            ),
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        """Compress the file of ``model``.

        Raises
        ------
        OnnxMergeError: as `optimize` does; Olive then goes on without this result.
        """
        given: dict[str, Any] = dict(config.options or {})
        if not {"keep", "target_macs", "target_params", "target_latency", "max_drop", "lossless", "plan"} & set(given):
            given["keep"] = config.keep
        if config.data_config is not None and "calib" not in given:
            container = validate_config(config.data_config, DataConfig).to_data_container()
            given["calib"] = container.create_calibration_dataloader(
                model_path=model.model_path, io_config=model.io_config
            )
        target = resolve_onnx_path(output_model_path, Path(model.model_path).name)
        optimize(model.model_path, target, **{"force": True, **given})
        return ONNXModelHandler(model_path=target)


def package_config() -> dict[str, Any]:
    """Olive's own package configuration with `OnnxMerge` among its passes."""
    found: dict[str, Any] = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text(encoding="utf-8"))
    anything = ("supported_providers", "supported_accelerators", "supported_precisions")
    found["passes"]["OnnxMerge"] = {
        "module_path": f"{MODULE}.OnnxMerge",
        **{name: ["*"] for name in anything},
    }
    return found


def write_package_config(path: Path) -> None:
    """Write `package_config` for the command line of Olive."""
    path.write_text(json.dumps(package_config(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m {MODULE} PACKAGES.json")
    write_package_config(Path(sys.argv[1]))
