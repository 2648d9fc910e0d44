"""Files with a fault in one field or a few bytes: refused in one line that names the place, or still sound."""

import random
import re

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_merge import inspect_model, optimize, verify
from onnx_merge.cli.main import main
from onnx_merge.errors import InputError, NotCompressibleError, OnnxMergeError
from onnx_merge.io import contents

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,2,4,4] x) => (float[1,3] y) <int64[2] shape = {1, 4}> {
  [conv] h = Conv<kernel_shape=[3,3], pads=[1,1,1,1], auto_pad="NOTSET">(x, w, b)
  [act] r = Relu(h)
  [conv2] h2 = Conv(r, w2)
  [pool] p = GlobalAveragePool(h2)
  [flat] f = Reshape(p, shape)
  [last] y = MatMul(f, fc)
}
"""
SHAPES = {"w": (4, 2, 3, 3), "b": (4,), "w2": (4, 4, 1, 1), "fc": (4, 3)}
OPTIONS = dict(keep=0.5, method="merge", align=1, check_n=2, gate=False)


def model():
    m = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        m.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return m


def node(m, name):
    return next(n for n in m.graph.node if n.name == name)


def tensor(m, name):
    return next(t for t in m.graph.initializer if t.name == name)


def attribute(m, name, what):
    return next(a for a in node(m, name).attribute if a.name == what)


def before_conv2(m, op, name, **attributes):
    m.graph.node.insert(2, helper.make_node(op, ["r"], ["rr"], name=name, **attributes))
    node(m, "conv2").input[0] = "rr"


def as_constant(m, **changes):
    """The initializer b as the value of a Constant, without a name."""
    value = TensorProto()
    value.CopyFrom(tensor(m, "b"))
    value.MergeFrom(TensorProto(**changes))
    value.name = ""
    m.graph.initializer.remove(tensor(m, "b"))
    constant = helper.make_node("Constant", [], ["b"], name="konst")
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(value)
    m.graph.node.insert(0, constant)


def norm_with_short_variance(m):
    for name, size in (("gain", 4), ("mean", 4), ("variance", 3)):
        m.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [size], [1.0] * size))
    m.graph.node.insert(
        1, helper.make_node("BatchNormalization", ["h", "gain", "b", "mean", "variance"], ["n"], "norm")
    )
    node(m, "act").input[0] = "n"


def nested(m, depth):
    """Ifs inside each other, between the reshape and the last layer."""
    inner = None
    for k in range(depth):
        one = helper.make_node("If", ["yes"], [f"v{k}"], name=f"if{k}")
        for side in ("then_branch", "else_branch"):
            made = f"{side}{k}"
            leaf = helper.make_graph(
                [helper.make_node("Identity", ["f"], [made])],
                "g",
                [],
                [helper.make_tensor_value_info(made, TensorProto.FLOAT, None)],
            )
            part = inner if inner is not None and side == "then_branch" else leaf
            one.attribute.add(name=side, type=onnx.AttributeProto.GRAPH).g.CopyFrom(part)
        inner = helper.make_graph([one], "g", [], [helper.make_tensor_value_info(f"v{k}", TensorProto.FLOAT, None)])
    m.graph.node.insert(5, one)
    m.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    node(m, "last").input[0] = f"v{depth - 1}"


def changed(message, **fields):
    for name, value in fields.items():
        setattr(message, name, value)


def shape_with(m, field, values):
    tensor(m, "shape").ClearField("int64_data")
    getattr(tensor(m, "shape"), field).extend(values)


def sizes(m, name, dims):
    tensor(m, name).dims[:] = dims


NO_TEXT = b"\xff\xfe"
REFUSED = {
    "bytes that do not fit": (lambda m: changed(tensor(m, "b"), raw_data=bytes(40)), "'b' has 40 bytes"),
    "too few bytes": (lambda m: changed(tensor(m, "b"), raw_data=bytes(15)), "b"),
    "no values": (lambda m: tensor(m, "b").ClearField("raw_data"), "b"),
    "too many values": (lambda m: shape_with(m, "int64_data", [1, 4, 4]), "'shape' has 3 values"),
    "values in another field": (lambda m: shape_with(m, "float_data", [1.0, 4.0]), "float_data"),
    "values twice": (lambda m: tensor(m, "b").float_data.extend([1.0] * 4), "b"),
    "fewer dims than bytes": (lambda m: sizes(m, "b", []), "'b' has 16 bytes"),
    "wider type than bytes": (lambda m: changed(tensor(m, "b"), data_type=TensorProto.DOUBLE), "b"),
    "narrower type than bytes": (lambda m: changed(tensor(m, "b"), data_type=TensorProto.FLOAT16), "'b' has 16 bytes"),
    "packed type": (lambda m: changed(tensor(m, "b"), data_type=TensorProto.INT4), "'b' has 16 bytes"),
    "text with bytes": (lambda m: changed(tensor(m, "b"), data_type=TensorProto.STRING), "b"),
    "type 38": (lambda m: changed(tensor(m, "b"), data_type=38), "'b' has the element type 38"),
    "type 99": (lambda m: changed(tensor(m, "b"), data_type=99), "'b' has the element type 99"),
    "type -1": (lambda m: changed(tensor(m, "b"), data_type=-1), "'b' has the element type -1"),
    "no type": (lambda m: changed(tensor(m, "b"), data_type=0), "b"),
    "segments": (lambda m: changed(tensor(m, "b").segment, begin=0, end=4), "'b' is stored in segments"),
    "a negative size": (lambda m: sizes(m, "b", [-4]), "b"),
    "two negative sizes": (lambda m: sizes(m, "w", [-4, -2, 3, 3]), "w"),
    "a huge size": (lambda m: sizes(m, "b", [2**62]), "b"),
    "sizes that overflow": (lambda m: sizes(m, "b", [4, 2**62, 4]), "b"),
    "a tensor without a name": (lambda m: changed(tensor(m, "w2"), name=""), "name"),
    "a tensor twice": (lambda m: m.graph.initializer.append(tensor(m, "b")), "b"),
    "a constant's bytes": (lambda m: as_constant(m, raw_data=bytes(40)), "'konst' (Constant) has 40 bytes"),
    "a constant's type": (lambda m: as_constant(m, data_type=38), "'konst' (Constant) has the element type 38"),
    "an input's type": (
        lambda m: changed(m.graph.input[0].type.tensor_type, elem_type=38),
        "value 'x' has the element type 38",
    ),
    "an output's type": (
        lambda m: changed(m.graph.output[0].type.tensor_type, elem_type=99),
        "value 'y' has the element type 99",
    ),
    "an inner type": (
        lambda m: m.graph.value_info.append(helper.make_tensor_value_info("r", 38, [1])),
        "value 'r' has the element type 38",
    ),
    "an input without a type": (lambda m: m.graph.input[0].ClearField("type"), "type"),
    "an input twice": (lambda m: m.graph.input.append(m.graph.input[0]), "x"),
    "an output that nothing makes": (lambda m: changed(m.graph.output[0], name="z"), "z"),
    "an attribute that is no text": (
        lambda m: changed(attribute(m, "conv", "auto_pad"), s=NO_TEXT),
        "attribute 'auto_pad' of node 'conv' (Conv) is no UTF-8 text",
    ),
    "an attribute of another type": (
        lambda m: attribute(m, "conv", "pads").CopyFrom(helper.make_attribute("pads", 2.5)),
        "conv",
    ),
    "an attribute without a type": (lambda m: changed(attribute(m, "conv", "pads"), type=0), "conv"),
    "an attribute twice": (lambda m: node(m, "conv").attribute.append(attribute(m, "conv", "pads")), "conv"),
    "an unknown attribute": (lambda m: node(m, "act").attribute.append(helper.make_attribute("odd", 1)), "act"),
    "an input that nothing makes": (lambda m: node(m, "conv").input.__setitem__(0, "nowhere"), "nowhere"),
    "no inputs": (lambda m: node(m, "conv").ClearField("input"), "conv"),
    "too many inputs": (lambda m: node(m, "act").input.append("w"), "act"),
    "no outputs": (lambda m: node(m, "conv").ClearField("output"), "conv"),
    "an output twice": (lambda m: node(m, "act").output.__setitem__(0, "h"), "h"),
    "a cycle": (lambda m: node(m, "conv").input.__setitem__(0, "h2"), "h2"),
    "no operator sets": (lambda m: m.ClearField("opset_import"), "damaged"),
    "opset 0": (lambda m: changed(m.opset_import[0], version=0), "conv"),
    "another operator set": (lambda m: changed(m.opset_import[0], domain="other"), "conv"),
    "two opsets": (lambda m: m.opset_import.add(version=11), "'ai.onnx' at two versions"),
    "an unknown operator": (lambda m: changed(node(m, "act"), op_type="Odd"), "act"),
    "no operator": (lambda m: changed(node(m, "act"), op_type=""), "op_type"),
    "graphs nested too deep": (lambda m: nested(m, contents.DEPTH + 1), "nested more than"),
    "graphs nested far too deep": (lambda m: nested(m, 31), "nested"),
}
UNRUNNABLE = {
    "a norm whose sizes differ": (norm_with_short_variance, "norm"),
    "an axis out of range": (lambda m: before_conv2(m, "Softmax", "soft", axis=9), "soft"),
    "a permutation of other axes": (lambda m: before_conv2(m, "Transpose", "turn", perm=[0, 1, 2, 7]), "turn"),
    "a cast to nothing": (lambda m: before_conv2(m, "Cast", "cast", to=38), "cast"),
    "groups that do not divide": (
        lambda m: node(m, "conv2").attribute.append(helper.make_attribute("group", 3)),
        "conv2",
    ),
    "no groups": (lambda m: node(m, "conv2").attribute.append(helper.make_attribute("group", 0)), "group"),
    "short padding": (lambda m: attribute(m, "conv", "pads").ints.__delitem__(slice(2, None)), "conv"),
    "a shape of other elements": (lambda m: shape_with(m, "int64_data", [1, 5]), "last"),
    "weights of other sizes": (lambda m: sizes(m, "w", [2, 4, 3, 3]), "conv"),
}


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def named(place, line):
    """Whether ``place`` is in ``line`` as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(place)}(?!\w)", line) is not None


def original(tmp_path):
    """A sound model and what it was compressed to."""
    onnx.save(model(), tmp_path / "sound.onnx")
    optimize(tmp_path / "sound.onnx", tmp_path / "small.onnx", **OPTIONS)
    return tmp_path / "sound.onnx", tmp_path / "small.onnx"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return original(tmp_path_factory.mktemp("sound"))


def commands(bad, sound):
    """Command lines that read ``bad``, in each of its roles."""
    file, out = str(bad), str(bad.with_name("out.onnx"))
    return (
        [file, out, "--keep", "0.5", "--method", "merge", "--align", "1", "--check-n", "2", "--no-gate", "--force"],
        ["inspect", file],
        ["verify", file, "--against", str(sound[0])],
        ["verify", str(sound[1]), "--against", file],
    )


@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_is_refused_by_name(tmp_path, sound, capsys, fault):
    change, place = REFUSED[fault]
    m = model()
    change(m)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(m.SerializePartialToString())
    for arguments in commands(bad, sound):
        assert main(arguments) == 2
        (line,) = lines(capsys)
        assert str(bad) in line and "internal" not in line
        assert named(place, line.replace(str(bad), ""))
    for function in (optimize, inspect_model, lambda file: verify(file, sound[0]), lambda file: verify(sound[1], file)):
        with pytest.raises(InputError):
            function(bad)
    if m.opset_import:
        with pytest.raises(InputError) as caught:
            inspect_model(m)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", UNRUNNABLE)
def test_what_only_a_run_shows_is_no_internal_error(tmp_path, sound, capsys, fault):
    change, place = UNRUNNABLE[fault]
    m = model()
    change(m)
    onnx.save(m, tmp_path / "bad.onnx")
    compress, inspect, *_ = commands(tmp_path / "bad.onnx", sound)
    assert main(compress) == 2
    (line,) = lines(capsys)
    assert named(place, line) and "internal" not in line
    code, found = main(inspect), lines(capsys)
    assert (code == 0 and not found) or (code == 2 and len(found) == 1 and named(place, found[0]))


@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("size", [2**40, 2**62])
def test_an_input_beyond_all_memory_is_refused_by_name(tmp_path, sound, capsys, axis, size):
    """Before anything of its size is allocated."""
    m = model()
    m.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save(m, tmp_path / "bad.onnx")
    compress, inspect, *_ = commands(tmp_path / "bad.onnx", sound)
    for arguments in (compress, [*compress, "--unverified"], inspect):
        assert main(arguments) == 2
        (line,) = lines(capsys)
        assert f"input 'x' has size {size} along axis {axis}" in line


def test_given_sizes_beyond_all_memory_are_refused(tmp_path, sound, capsys):
    m = model()
    for axis, name in enumerate("N_HW"):
        if name != "_":
            m.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(m, tmp_path / "large.onnx")
    compress, inspect, *_ = commands(tmp_path / "large.onnx", sound)
    for arguments in (compress, inspect):
        assert main([*arguments, "--input-shape", "x:2,2,4000000,4000000"]) == 2
        (line,) = lines(capsys)
        assert "input 'x' has size 4000000" in line and "along axis 2" in line


def test_a_norm_whose_sizes_differ_is_named_by_inspect(tmp_path, capsys):
    m = model()
    norm_with_short_variance(m)
    onnx.save(m, tmp_path / "bad.onnx")
    assert main(["inspect", str(tmp_path / "bad.onnx")]) == 2
    (line,) = lines(capsys)
    assert "norm" in line and "BatchNormalization" in line


def test_graphs_nested_as_deep_as_allowed():
    m = model()
    nested(m, contents.DEPTH)
    assert inspect_model(m).groups


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT4E2M1", "BOOL", "FLOAT16", "BFLOAT16", "COMPLEX64", "STRING"])
@pytest.mark.parametrize("raw", [True, False])
def test_values_of_every_type_fit(kind, raw):
    if kind == "STRING" and raw:
        return  # texts are never raw
    number = TensorProto.DataType.Value(kind)
    values = [b"a"] * 3 if kind == "STRING" else np.ones(3, helper.tensor_dtype_to_np_dtype(number))
    t = numpy_helper.from_array(np.asarray(values)) if raw else helper.make_tensor("t", number, [3], values)
    contents.check_tensor(t, "it")
    t.dims[0] = 5
    with pytest.raises(ValueError, match=r"^it has .* \[5\] asks for"):
        contents.check_tensor(t, "it")


NAMES = {"Relu": "node 'act'", "conv2": r"\(Conv\)", "fc": "has a (name|input)", "net": "has a name"}


@pytest.mark.parametrize("text", NAMES)
def test_names_that_are_no_text(tmp_path, text):
    """protobuf hands such a name on as bytes."""
    data = model().SerializeToString()
    spoilt = NO_TEXT + text.encode()[2:]
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(data.replace(text.encode(), spoilt))
    with pytest.raises(InputError, match=f"{NAMES[text]}.* no UTF-8 text") as caught:
        inspect_model(bad)
    assert "codec" not in str(caught.value)


def test_what_a_vendor_keeps_in_attributes_may_be_anything():
    m = model()
    m.opset_import.add(domain="vendor", version=1)
    n = helper.make_node("Engine", ["r"], ["rr"], name="engine", domain="vendor", blob="")
    n.attribute[0].s = NO_TEXT
    m.graph.node.insert(2, n)
    node(m, "conv2").input[0] = "rr"
    contents.check_text(m)


ENTRIES = {
    "beyond the file": ({"offset": 16}, "'b'"),
    "of another length": ({"length": 12}, "'b'"),
    "with more than it needs": ({"offset": 0, "length": 20}, "'b'"),
    "in a file that is missing": ({"location": "gone.bin"}, "gone.bin"),
    "in no file": ({"location": ""}, "'b'"),
    "at no number": ({"offset": "far"}, "'b'"),
}


@pytest.mark.parametrize("fault", ENTRIES)
def test_external_data(tmp_path, sound, capsys, fault):
    entries, place = ENTRIES[fault]
    m = model()
    (tmp_path / "b.bin").write_bytes(bytes(24))
    t = tensor(m, "b")
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "b.bin", **entries}.items():
        t.external_data.add(key=key, value=str(value))
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(m.SerializeToString())
    for arguments in commands(bad, sound):
        assert main(arguments) == 2
        (line,) = lines(capsys)
        assert place in line


def test_external_data_of_an_unknown_type(tmp_path):
    m = model()
    t = tensor(m, "b")
    (tmp_path / "b.bin").write_bytes(t.raw_data)
    t.ClearField("raw_data")
    changed(t, data_location=TensorProto.EXTERNAL, data_type=38)
    t.external_data.add(key="location", value="b.bin")
    (tmp_path / "bad.onnx").write_bytes(m.SerializeToString())
    with pytest.raises(InputError, match="'b' has the element type 38"):
        inspect_model(tmp_path / "bad.onnx")


def outside_weights(data):
    """Places in a model's bytes that are no weights, most of whose bits mean nothing to the form."""
    weights = [t.raw_data for t in model().graph.initializer if t.raw_data]
    inside = {i for w in weights for i in range(data.index(w), data.index(w) + len(w))}
    return [i for i in range(len(data)) if i not in inside]


def mutated(data, seed):
    """``data`` with a bit or a byte changed, some left out, or cut short, as ``seed`` decides."""
    generator = random.Random(seed)
    places, found = outside_weights(data), bytearray(data)
    at = generator.choice(places)
    kind = seed % 8
    if kind < 5:
        found[at] ^= 1 << generator.randrange(8)
    elif kind == 5:
        found[at] = generator.randrange(256)
    elif kind == 6:
        del found[at : at + generator.randrange(1, 4)]
    else:
        del found[at:]
    return bytes(found)


def outcome(function, *arguments, **options):
    """What became of it; other errors than ours are the test's."""
    try:
        function(*arguments, **options)
    except NotCompressibleError:
        return "nothing goes"
    except InputError as error:
        assert "\n" not in str(error) and "codec" not in str(error)
        return "refused"
    except OnnxMergeError as error:
        assert error.exit_code != 1
        return "failed"
    return "done"


@pytest.mark.parametrize("first", range(0, 160, 40))
def test_changed_bytes_are_refused_or_still_a_model(tmp_path, sound, first):
    data, bad = model().SerializeToString(), tmp_path / "bad.onnx"
    seen = set()
    for seed in range(first, first + 40):
        bad.write_bytes(mutated(data, seed))
        found = outcome(inspect_model, bad)
        assert found in ("done", "refused"), seed
        made = outcome(optimize, bad, **OPTIONS)
        assert made in ("done", "refused", "nothing goes"), seed
        assert outcome(verify, sound[1], bad) in ("done", "refused"), seed
        assert outcome(verify, bad, sound[0]) == "refused", seed
        seen |= {("inspect", found), ("optimize", made)}
    assert {("inspect", "done"), ("inspect", "refused"), ("optimize", "done"), ("optimize", "refused")} <= seen


@pytest.mark.parametrize("seed", range(0, 40, 8))
def test_changed_bytes_of_a_result_say_so(sound, tmp_path, seed):
    """A result whose bytes were changed keeps what it says, or not, or is refused."""
    data = sound[1].read_bytes()
    found = bytearray(data)
    generator = random.Random(seed)
    for _ in range(6):
        found[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(bytes(found))
    assert main(["verify", str(bad), "--against", str(sound[0]), "-q"]) in (0, 2, 3)
