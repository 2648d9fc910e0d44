"""The example of docs/pipeline.md runs as it stands there."""

import re
from pathlib import Path

import onnx
from netkit import net, shape_of

from passes.pipeline import compress
from passes.settings.compress import CompressSettings

DOCS = Path(__file__).parents[2] / "docs"
BODY = """net (float[N,3,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w)  ar = Relu(a)  b = Conv(ar, b_w)  br = Relu(b)  y = Conv(br, y_w)
}"""


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = net(BODY, a_w=(32, 3, 1, 1), b_w=(8, 32, 1, 1), y_w=(5, 8, 1, 1))
    onnx.save(model, "in.onnx")
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "pipeline.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "docs/pipeline.md", "exec"), {"__name__": "example"})
    result = onnx.load("out.onnx")
    assert shape_of(result, "a_w") == (8, 3, 1, 1), "a quarter"
    assert shape_of(result, "b_w") == (4, 8, 1, 1), "a quarter would be 2"
    assert "y stays whole: y is a graph output" in capsys.readouterr().out
    same = compress(model, CompressSettings(keep=0.25, keep_layers=(("^b$", 0.5),))).model
    assert result == same, "as with widths that the settings give"
