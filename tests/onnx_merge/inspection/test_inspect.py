"""`onnx-merge inspect`: what it finds out, how it shows that, and that nothing else changes."""

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import onnx_merge
from onnx_merge import inspect_model, optimize
from onnx_merge.cli import main as cli
from onnx_merge.errors import InputError, UsageError
from onnx_merge.inspection import inspect
from onnx_merge.inspection.table import render
from onnx_merge.report.columns import fitted_table, squeezed
from passes.axes.registry import without_rule

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "models" / "digits_cnn.onnx"
CHAIN = """g (float[N,16] x) => (float[N,4] y) {
    [first] a = Gemm<transB = 1>(x, w1, b1)  b = Relu(a)
    [second] c = Gemm<transB = 1>(b, w2, b2)  d = Sigmoid(c)
    [head] y = Gemm<transB = 1>(d, w3, b3) }"""
CHAIN_SIZES = {"w1": (32, 16), "b1": (32,), "w2": (24, 32), "b2": (24,), "w3": (4, 24), "b3": (4,)}
CHAIN_MACS = 16 * 32 + 32 * 24 + 24 * 4
ODD = """g (float[N,3] x) => (float[N,2] y) {
    [in] a = MatMul(x, w)  [odd] b = their.own.Odd(a)  [odder] c = their.own.Odd(b)  [out] y = MatMul(c, v) }"""
ODD_SIZES = {"w": (3, 8), "v": (8, 2)}
GROUP_KEYS = [
    "name", "size", "status", "reason", "coupled", "unmixable", "macs", "params", "macs_share", "params_share",
    "producers", "consumers", "members",
]  # fmt: skip


def model(text, sizes=None):
    """A network whose constants of the given shapes have random values."""
    parsed = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "their.own" : 1]> {text}')
    rng = np.random.default_rng(0)
    for name, size in (sizes or {}).items():
        values = np.abs(rng.standard_normal(size, np.float32))
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return parsed


def groups_of(text, sizes):
    return {group.name: group for group in inspect_model(model(text, sizes)).groups}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with the chain as ``in.onnx``, and the current one."""
    onnx.save(model(CHAIN, CHAIN_SIZES), tmp_path / "in.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(capsys, *arguments):
    """What a run that must succeed prints."""
    code = cli.main(["inspect", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def failure(capsys, *arguments):
    """Exit code and message of a run that must fail with one line."""
    code = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("onnx-merge: error: ")
    return code, err.removeprefix("onnx-merge: error: ").strip()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return line.split()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def on_terminal(found, group=None):
    return re.sub("\x1b\\[[0-9;]*m", "", render(found, Terminal(), group=group)).splitlines()


# -- what is found out ------------------------------------------------------------------------------------------------


def test_what_a_group_holds():
    found = inspect_model(model(CHAIN, CHAIN_SIZES))
    assert (found.model.macs, found.model.params) == (CHAIN_MACS, sum(np.prod(s) for s in CHAIN_SIZES.values()))
    first, second, head = found.groups
    assert (first.name, first.size, first.macs) == ("first", 32, 16 * 32 + 32 * 24)
    assert first.params == 32 * 16 + 32 + 24 * 32
    assert (second.macs, second.params) == (32 * 24 + 24 * 4, 24 * 32 + 24 + 4 * 24)
    assert head.macs == 24 * 4
    assert first.macs_share == pytest.approx(first.macs / CHAIN_MACS, abs=1e-6)
    assert (first.producers, first.consumers) == (("first",), ("second",))


def test_what_a_group_holds_is_what_goes_with_its_channels():
    before = inspect_model(DIGITS)
    for group in before.groups[:4]:
        result = optimize(DIGITS, method="merge", keep_layer={f"^{group.name}$": 0.5}, check_n=8)[1]
        assert result.before.macs - result.after.macs == group.macs / 2, group.name


def test_of_a_concat_each_group_holds_its_part():
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) { [a] p = Conv(x, w)  [b] q = Conv(x, v)
        c = Concat<axis = 1>(p, q)  [out] y = Conv(c, u) }"""
    found = groups_of(text, {"w": (6, 3, 1, 1), "v": (2, 3, 1, 1), "u": (4, 8, 1, 1)})
    assert found["a"].macs == 64 * (6 * 3 + 6 * 4) and found["a"].params == 6 * 3 + 6 * 4
    assert found["b"].macs == 64 * (2 * 3 + 2 * 4)
    assert found["out"].macs == 64 * 8 * 4
    assert "concatenated" in str(found["a"].coupled)


def test_depthwise_filters_are_held_once_by_their_channels():
    text = """g (float[N,3,8,8] x) => (float[N,4,6,6] y) { [a] p = Conv(x, w)  [dw] q = Conv<group = 8>(p, d)
        [out] y = Conv(q, u) }"""
    found = groups_of(text, {"w": (8, 3, 1, 1), "d": (8, 1, 3, 3), "u": (4, 8, 1, 1)})
    assert list(found) == ["a", "out"]
    assert found["a"].macs == 64 * 8 * 3 + 36 * 8 * 9 + 36 * 8 * 4


def test_the_summary_counts_everything_once():
    found = inspect_model(DIGITS)
    assert sum(group.macs_share for group in found.groups if group.status == "free") > 1
    assert found.summary["free"].macs_share == 1 and found.summary["free"].groups == 4
    assert found.summary["frozen"].groups == 1 and found.summary["prune-only"].groups == 0
    assert (found.summary["none"].macs_share, found.summary["none"].params_share) == (0, 0)


def test_status_and_reasons():
    first, second, head = inspect_model(model(CHAIN, CHAIN_SIZES)).groups
    assert (first.status, first.reason, first.unmixable) == ("free", None, None)
    assert second.status == "prune-only" and second.reason == second.unmixable
    assert "no scale passes through" in str(second.reason) and "(Sigmoid)" in str(second.reason)
    assert (head.status, str(head.reason)) == ("frozen", "y is a graph output")


def test_a_prune_only_group_is_pruned_only():
    result = optimize(model(CHAIN, CHAIN_SIZES), keep=0.5, method="merge")[1]
    assert [group.method for group in result.groups] == ["merge", "prune", "none"]


def test_reasons_have_no_names_and_the_most_costly_is_first():
    layers, sizes = [], {}
    for k in range(3):
        layers.append(
            f"a{k} = MatMul(x{k}, w{k})  b{k} = LayerNormalization(a{k}, s{k})  x{k + 1} = MatMul(b{k}, v{k})"
        )
        sizes |= {f"w{k}": (4, 16), f"s{k}": (16,), f"v{k}": (16, 4)}
    found = inspect_model(model(f"g (float[N,4] x0) => (float[N,4] x3) {{ {' '.join(layers)} }}", sizes))
    first = found.reasons[0]
    assert str(first.reason) == "LayerNormalization normalises over it" and first.status == "project-only"
    assert first.groups == 3 and first.macs_share == 1
    assert len(found.reasons) < len([g for g in found.groups if g.reason])
    assert sum(reason.groups for reason in found.reasons) == len([g for g in found.groups if g.reason])
    assert [r.macs_share for r in found.reasons] == sorted((r.macs_share for r in found.reasons), reverse=True)


def test_layers_in_no_group_are_named_with_the_reason(here, capsys):
    """A layer without a rule, one that reads the input only for a single channel, and two activations multiplied."""
    text = """g (float[N,1,8] x, float[N,8,5] z) => (float[N,1,4] y, float[N,1,1] q, float[A,B] o, float[N,1,5] p) {
        [single] q = MatMul(x, one)  [odd] o = their.own.Odd(x, w)  [product] p = MatMul(x, z)
        [first] a = MatMul(x, v)  r = Relu(a)  [second] y = MatMul(r, u) }"""
    sizes = {"one": (8, 1), "w": (7, 7), "v": (8, 6), "u": (6, 4)}
    onnx.save(model(text, sizes), "in.onnx")
    found = inspect_model("in.onnx")
    assert {layer.node: (layer.op, layer.macs, layer.params, str(layer.reason)) for layer in found.ungrouped} == {
        "single": ("MatMul", 8, 8, "single (MatMul) makes a single channel of what no layer makes"),
        "odd": ("Odd", 0, 49, "odd (Odd) has no axis rule"),
        "product": ("MatMul", 40, 0, "product (MatMul) multiplies activations: it has no weights of its own"),
    }
    none = found.summary["none"]
    assert none.params_share == pytest.approx((8 + 49) / found.model.params, abs=1e-6)
    assert none.macs_share == pytest.approx(48 / found.model.macs, abs=1e-6)
    out = shown(capsys, "in.onnx")
    assert "odd" in out and "Odd has no axis rule" in out and "layer in no group" in out


def test_weights_inside_a_body_are_named():
    text = """g (float[N,8] x, bool c) => (float[N,4] y) {
        [a] a = Gemm(x, w) r = Relu(a)  [b] y = If(c) <
            then_branch = t () => (float[N,4] p) { v = Constant<value = float[4] {1, 2, 3, 4}>()  p = Mul(r, v) },
            else_branch = e () => (float[N,4] o) { o = Neg(r) }> }"""
    found = inspect_model(model(text, {"w": (8, 4)}))
    (layer,) = found.ungrouped
    assert (layer.node, layer.params) == ("b", 4) and "inside a control-flow body" in str(layer.reason)


def test_members_have_roles_in_graph_order():
    text = """g (float[N,5,3] x) => (float[N,5,5] y) {
        [q] q = MatMul(x, wq)  [scale] qs = PRelu(q, s)  [k] k = MatMul(x, wk)
        [turn] kt = Transpose<perm = [0,2,1]>(k)  [scores] y = MatMul(qs, kt) }"""
    found = groups_of(text, {"wq": (3, 8), "s": (8,), "wk": (3, 8)})
    (group,) = found.values()
    assert [(m.node, m.op, m.role, m.tensor, m.axis) for m in group.members] == [
        ("q", "MatMul", "producer", "wq", 1),
        ("scale", "PRelu", "per-channel", "s", 0),
        ("k", "MatMul", "producer", "wk", 1),
        ("turn", "Transpose", "passes through", "kt", 1),
        ("scores", "MatMul", "contracted", "qs", 2),
        ("scores", "MatMul", "contracted", "kt", 1),
    ]
    assert group.members[0].shape == (3, 8) and group.members[-1].shape == (None, 8, 5)
    assert str(group.unmixable) == "scores multiplies two activations" and str(group.coupled).startswith(
        "shared by 2 layers"
    )
    assert next(m.role for m in groups_of(CHAIN, CHAIN_SIZES)["first"].members if m.node == "second") == "consumer"


def test_ops_without_a_rule():
    found = inspect_model(model(ODD, ODD_SIZES))
    assert found.ops_without_rule == {"their.own:Odd": 2}
    assert found.groups[0].status == "frozen" and "odd (Odd) has no axis rule" in str(found.groups[0].reason)
    assert inspect_model(DIGITS).ops_without_rule == {}


@pytest.mark.parametrize(
    ("op", "why"),
    [
        ("Attention", "is fused by onnxruntime: compress first, then optimise"),
        ("EmbedLayerNormalization", "is fused by onnxruntime: compress first, then optimise"),
        ("MatMulNBits", "is quantised: compress first, then quantise"),
        ("Inverse", "has no axis rule"),
    ],
)
def test_ops_of_onnxruntime_without_a_rule(op, why):
    assert without_rule("com.microsoft", op) == why


def test_norms_that_are_not_folded():
    text = """g (float[N,3,8,8] x) => (float[N,4,8,8] y) { [a] p = Conv(x, w)  r = Relu(p)
        [norm] n = BatchNormalization(r, s, t, m, v)  q = Relu(n)  [out] y = Conv(q, u) }"""
    per_channel = dict.fromkeys("stmv", (8,))
    found = inspect_model(model(text, {"w": (8, 3, 1, 1), "u": (4, 8, 1, 1), **per_channel}))
    assert "does not come from a layer" in str(found.unfolded["norm"])
    text = render(found, io.StringIO())
    assert "does not come from a layer" in text and "norm " not in text
    assert "norm " in render(found, io.StringIO(), verbose=True)


@pytest.mark.parametrize(
    ("text", "sizes", "reason"),
    [
        ("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }", {}, "the model has no layer with weights"),
        (
            "g (float[N,3] x, float[3,4] w) => (float[N,4] y) { y = MatMul(x, w) }",
            {},
            "its only layer makes no channels that could be removed: y (MatMul) multiplies activations",
        ),
    ],
)
def test_a_model_without_groups_says_why(here, capsys, text, sizes, reason):
    onnx.save(model(text, sizes), "none.onnx")
    out = shown(capsys, "none.onnx")
    assert "note: no channel groups: " in out and reason in out and "status" not in out
    found = json.loads(shown(capsys, "none.onnx", "--json"))
    assert found["groups"] == [] and reason in found["notes"][0]


def test_ops_of_other_domains_are_not_taken_for_layers(here, capsys):
    text = "g (float[N,3] x) => (float[N,3] y) { [odd] y = their.own.Conv(x) }"
    onnx.save(model(text), "odd.onnx")
    assert inspect_model("odd.onnx").model.macs == 0
    assert "their.own:Conv" in shown(capsys, "odd.onnx")


# -- as JSON ----------------------------------------------------------------------------------------------------------


def test_keys_of_the_json_are_stable(here, capsys):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(shown(capsys, "in.onnx", "--json"), parse_constant=refuse)
    assert list(found) == [
        "schema_version", "version", "input", "model", "groups", "summary", "reasons", "ungrouped", "ops_without_rule",
        "unfolded", "notes", "seconds", "layers", "environment",
    ]  # fmt: skip
    assert found["version"] == onnx_merge.__version__
    content = (here / "in.onnx").read_bytes()
    assert found["input"] == {"path": "in.onnx", "sha256": hashlib.sha256(content).hexdigest()}
    assert list(found["model"]) == ["nodes", "opset", "params", "macs", "bytes", "ops"]
    assert found["model"]["opset"] == 17 and found["model"]["bytes"] == len(content)
    assert all(list(group) == GROUP_KEYS for group in found["groups"])
    member = found["groups"][0]["members"][0]
    assert member == {"node": "first", "op": "Gemm", "role": "producer", "tensor": "w1", "axis": 0, "shape": [32, 16]}
    assert list(found["summary"]) == ["free", "prune-only", "project-only", "frozen", "none"]
    assert list(found["summary"]["free"]) == ["groups", "macs_share", "params_share"]
    assert all(list(r) == ["reason", "status", "groups", "macs_share", "params_share"] for r in found["reasons"])
    assert {"load", "infer", "total"} <= set(found["seconds"])


def test_json_to_a_file_comes_with_the_table(here, capsys):
    out = shown(capsys, "in.onnx", "--json", "i.json")
    assert "parameters" in out and json.loads((here / "i.json").read_text())["groups"][0]["name"] == "first"
    assert failure(capsys, "inspect", "in.onnx", "--json", "i.json")[0] == 2
    assert shown(capsys, "in.onnx", "--json", "i.json", "--force", "-q") == ""
    assert names(here) == ["i.json", "in.onnx"]
    assert json.loads(shown(capsys, "--json", "-", "in.onnx"))["groups"][0]["name"] == "first"


def test_json_never_replaces_the_model(here, capsys):
    onnx.save(model(CHAIN, CHAIN_SIZES), "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    for file in ("in.onnx", "./in.onnx"):
        assert failure(capsys, "inspect", "in.onnx", "--json", file, "--force")[0] == 2
    assert "would overwrite" in failure(capsys, "inspect", "e.onnx", "--json", "e.data", "--force")[1]
    assert "before --json, which takes the word after it" in failure(capsys, "inspect", "--json", "in.onnx")[1]
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


# -- as text ----------------------------------------------------------------------------------------------------------


def test_the_table(capsys):
    out = shown(capsys, DIGITS)
    assert out.splitlines()[0].endswith("19 nodes, 75,562 parameters, 2,083,456 MACs, opset 17")
    assert row(out, "/inner/conv/Conv")[1:5] == ["32", "56.6%", "24.7%", "free"]
    assert "with /outer/conv/Conv" in out
    assert "frozen: it is a graph output" in " ".join(row(out, "/head/Gemm"))
    assert row(out, "free: channels can be removed and merged")[-3:] == ["4", "100.0%", "100.0%"]
    assert "counts for both" in out and "\x1b" not in out


def test_verbose_shortens_nothing(capsys):
    out = shown(capsys, DIGITS, "-v")
    assert "logits is a graph output" in out and "consumers: /inner/conv/Conv, /down/conv/Conv\n" in out
    assert "shortened" not in out


def test_details_of_groups(here, capsys):
    out = shown(capsys, "in.onnx", "--group", "^second$")
    assert "\nsecond: 24 channels, " in out and "  prune only: no scale passes through d (Sigmoid)" in out
    places = [line.split()[2:] for line in out.splitlines() if line.startswith("second ")]
    assert places == [["producer", "0", "24x32", "w2"], ["producer", "0", "24", "b2"]]
    assert row(out, "head") == ["head", "Gemm", "consumer", "1", "4x24", "w3"]
    assert row(out, "d") == ["d", "Sigmoid", "passes", "through", "1", "?x24"]
    assert "first" not in out
    assert shown(capsys, "in.onnx", "--group", "").count("channels, ") == 3


def test_details_by_any_producer(capsys):
    out = shown(capsys, DIGITS, "--group", "outer")
    assert "/stem/conv/Conv: 32 channels" in out and "/outer/conv/Conv" in out


def test_ops_without_a_rule_are_listed(here, capsys):
    onnx.save(model(ODD, ODD_SIZES), "odd.onnx")
    out = shown(capsys, "odd.onnx")
    assert row(out, "their.own:Odd") == ["their.own:Odd", "2"] and "frozen: Odd has no axis rule" in out
    assert "op without a rule" not in shown(capsys, "in.onnx")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_long_names_do_not_break_the_table(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    folder = "/model/encoder/layer.{}/attention/self_attention_with_bias"
    layers, sizes = [], {}
    for k in range(12):
        name = folder.format(k)
        layers.append(f'["{name}/up/MatMul"] a{k} = MatMul(x{k}, w{k})  ["{name}/act/Sigmoid"] b{k} = Sigmoid(a{k})')
        layers.append(f'["{name}/down/MatMul"] c{k} = MatMul(b{k}, v{k})  x{k + 1} = Add(c{k}, x{k})')
        sizes |= {f"w{k}": (4, 8), f"v{k}": (8, 4)}
    found = inspect_model(model(f"g (float[N,4] x0) => (float[N,4] x12) {{ {' '.join(layers)} }}", sizes))
    for group in (None, "layer.3"):
        lines = on_terminal(found, group)
        assert max(map(len, lines)) <= width
    rows = [line for line in on_terminal(found) if line.startswith("/m")]
    assert len(rows) == len(found.groups) and len({line.split()[0] for line in rows}) >= 12 - 2 * (width < 80)


def test_names_lose_their_folders_before_their_ends():
    name = "/encoder/layer.0/attention/query/MatMul"
    assert squeezed(name, 40) == name
    assert squeezed(name, 38) == "/e/layer.0/attention/query/MatMul"
    assert squeezed(name, 21) == "/e/l.0/a/query/MatMul"
    assert len(squeezed(name, 12)) == 12
    assert squeezed("/blocks.0/conv_reduction/act/Relu_1", 22) == "/b.0/cr/act/Relu_1"
    assert squeezed("conv_1", 6) == "conv_1"


def test_columns_go_before_all_are_stumps():
    columns = {"group": ["g" * 30], "size": ["1"], "status": ["s" * 60], "coupled": ["c" * 30], "consumers": ["d" * 30]}
    table, note = fitted_table([columns], 100)
    assert [str(column.header) for column in table.columns] == ["group", "size", "status"]
    assert "without coupled and consumers" in note.plain
    (table,) = fitted_table([columns], 200)
    assert len(table.columns) == 5


# -- as a command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the model: onnx-merge inspect MODEL"),
        (["none.onnx"], "none.onnx does not exist"),
        (["text.onnx"], "is not an ONNX model but a text file"),
        (["cut.onnx"], "damaged or cut short"),
        (["."], "is a folder"),
        (["in.onnx", "out.onnx"], "'out.onnx' was given too"),
        (["in.onnx", "--grup", "a"], "unknown option --grup: did you mean --group?"),
        (["in.onnx", "--keep", "0.5"], "inspect takes no --keep"),
        (["in.onnx", "--group", "absent"], "--group 'absent' matches no group: the first is 'first'"),
        (["in.onnx", "--group", "("], "'(' is not a regular expression"),
        (["in.onnx", "--group", "absent", "--json", "i.json"], "matches no group"),
        (["in.onnx", "--json", "no/i.json"], "does not exist: create it first"),
        (["in.onnx", "--input-shape", "z:1,16"], "the model knows only: N, x"),
        (["in.onnx", "--input-shape", "x:1,15"], "input 'x' has shape (N, 16)"),
        (["in.onnx", "-q", "-v"], "contradict each other"),
    ],
)
def test_arguments_that_make_no_sense(here, capsys, arguments, said):
    (here / "text.onnx").write_text("hello")
    (here / "cut.onnx").write_bytes((here / "in.onnx").read_bytes()[:700])
    before = names(here)
    code, message = failure(capsys, "inspect", *arguments)
    assert code == 2 and said in message and names(here) == before


def test_a_traceback_only_for_those_who_ask(here, capsys, monkeypatch):
    monkeypatch.setattr(inspect, "analyse", None)
    assert failure(capsys, "inspect", "in.onnx")[0] == 1
    assert cli.main(["inspect", "in.onnx", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_only_the_first_argument_selects_the_subcommand(here, capsys):
    """A file may be called inspect."""
    (here / "in.onnx").rename(here / "inspect")
    assert cli.main(["./inspect", "out.onnx", "--keep", "0.5", "-q"]) == 0
    assert cli.main(["--keep", "0.5", "-q", "--force", "inspect", "out.onnx"]) == 0
    assert "first" in shown(capsys, "./inspect") and "first" in shown(capsys, "inspect")
    assert "./inspect" in failure(capsys, "inspect", "out.onnx", "--keep", "0.5")[1]
    assert "./inspect" in failure(capsys, "inspect", "inspect", "out.onnx")[1]


def test_in_a_process_of_its_own():
    command = [sys.executable, "-W", "error", "-m", "onnx_merge", "inspect"]
    done = subprocess.run([*command, str(DIGITS)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "") and "/head/Gemm" in done.stdout
    code = (
        "import sys, onnx_merge.cli.main as c; code = c.main(['inspect', '--help']);"
        "sys.exit(code or sorted({'numba', 'numpy', 'onnx', 'onnxruntime', 'rich', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    code = (
        f"import sys, onnx_merge.cli.main as c; code = c.main(['inspect', {str(DIGITS)!r}]);"
        "sys.exit(code or sorted({'jinja2', 'numba', 'scipy', 'sympy'} & set(sys.modules)) or 0)"
    )
    table = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (table.returncode, table.stderr) == (0, ""), "an import that a table does not need"
    for option in ("--group", "--json", "--input-shape", "--force", "--quiet", "--verbose", "--help"):
        assert option in done.stdout


# -- from Python ------------------------------------------------------------------------------------------------------


def test_a_model_in_memory_stays_as_it_is(here):
    given = model(CHAIN, CHAIN_SIZES)
    content = given.SerializeToString()
    found = onnx_merge.inspect_model(given)
    assert isinstance(found, onnx_merge.Inspection) and given.SerializeToString() == content
    assert found.input.path is None and found.input.sha256 == hashlib.sha256(content).hexdigest()
    assert found.groups == inspect_model("in.onnx").groups
    assert [group.name for group in found.matching("^(first|head)$")] == ["first", "head"]
    with pytest.raises(UsageError, match="matches no group"):
        found.matching("absent")


def test_the_groups_are_those_of_a_run():
    found = inspect_model(DIGITS)
    result = optimize(DIGITS, keep=0.5, method="merge", gate=False)[1]
    assert [(g.name, g.size, g.producers) for g in found.groups] == [
        (g.name, g.size, g.producers) for g in result.groups
    ]
    assert (found.model.params, found.model.macs) == (result.before.params, result.before.macs)
    assert (found.model.nodes, found.model.bytes) == (result.before.nodes, result.before.bytes)


def test_sizes_of_dynamic_dims_count():
    text = "g (float[N,3,H,H] x) => (float[N,4,H,H] y) { p = Conv(x, w)  y = Conv(p, v) }"
    given = model(text, {"w": (8, 3, 1, 1), "v": (4, 8, 1, 1)})
    found = inspect_model(given, input_shape={"x": (1, 3, 10, 10)})
    assert found.model.macs == 100 * (8 * 3 + 4 * 8)
    with pytest.raises(UsageError, match="the model knows only"):
        inspect_model(given, input_shape={"z": (1,)})
    with pytest.raises(InputError, match="not exist"):
        inspect_model("nowhere.onnx")


def test_layers_inside_a_body_are_groups(here, capsys):
    """They are named by where they are, in what inspect finds as in what a run does."""
    text = """g (float[N,8] x, bool c) => (float[N,4] y) {
        [choice] y = If(c) <
            then_branch = t () => (float[N,4] p) { [first] a = MatMul(x, w)  r = Relu(a)  [second] p = MatMul(r, v) },
            else_branch = e () => (float[N,4] o) { [third] o = MatMul(x, u) }> }"""
    given = model(text, {"w": (8, 12), "v": (12, 4), "u": (8, 4)})
    onnx.save(given, "in.onnx")
    found = inspect_model("in.onnx")
    then, other = "choice/then_branch", "choice/else_branch"
    assert [(g.name, g.size, g.status) for g in found.groups] == [
        (f"{then}/first", 12, "free"),
        (f"{then}/second", 4, "frozen"),
        (f"{other}/third", 4, "frozen"),
    ]
    assert (found.model.params, found.model.macs) == (8 * 12 + 12 * 4 + 8 * 4, 8 * 12 + 12 * 4)
    first = next(g for g in found.groups if g.status == "free")
    assert (first.producers, first.consumers) == ((f"{then}/first",), (f"{then}/second",))
    assert (first.params, first.macs) == (8 * 12 + 12 * 4, 8 * 12 + 12 * 4)
    assert found.summary["none"].params_share == 0 and not found.ops_without_rule and not found.ungrouped
    result = optimize("in.onnx", keep=0.5, align=1)[1]
    assert [(g.name, g.size, g.kept) for g in result.groups] == [
        (g.name, g.size, 6 if g.status == "free" else 4) for g in found.groups
    ]
    assert (result.after.params, result.after.macs) == ((8 + 4) * 6 + 8 * 4, (8 + 4) * 6)
    assert any(f"merged by weights inside {then}" in note for note in result.notes)
    assert f"{then}/first" in shown(capsys, "in.onnx", "-v")
