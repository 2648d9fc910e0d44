"""Makes the helpers in `support` importable, a folder to work in, and every report to fit its schema."""

import sys
from pathlib import Path

import onnx
import pytest

sys.path.append(str(Path(__file__).parent / "support"))
from schema import checked  # noqa: E402
from smallnet import network  # noqa: E402

from onnx_merge.inspection.findings import Inspection  # noqa: E402
from onnx_merge.report.result import Result  # noqa: E402
from onnx_merge.sweeping.result import Sweep  # noqa: E402
from onnx_merge.verification.findings import Verification  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def reports_fit_their_schema():
    """Whatever report a test has written in this process is validated."""
    with pytest.MonkeyPatch.context() as patch:
        reports = {"run": Result, "inspection": Inspection, "sweep": Sweep, "verify": Verification}
        for kind, report in reports.items():
            patch.setattr(report, "to_json", checked(report.to_json, kind))
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a sound model ``in.onnx``, and the current one."""
    onnx.save(network(), tmp_path / "in.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def forgets_modules(tmp_path):
    """What a test imports from its folder is forgotten."""
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
