"""What a metric runs models with: any number of samples, whatever batch the model takes."""

import numpy as np
import onnx.parser
import pytest

from onnx_merge.errors import InputError, OnnxMergeError, UsageError
from onnx_merge.metrics.predictor import Predictor
from onnx_merge.runtime.batching import BatchSize
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)


class Watched(Session):
    """A session that keeps the sizes of its batches."""

    def run(self, feeds, outputs=None):
        self.sizes = [*getattr(self, "sizes", []), len(next(iter(feeds.values())))]
        return super().run(feeds, outputs)


def watched(inputs="float[N,4] x", outputs="float[N,4] y", body="y = Add(x, x)"):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    return Watched(onnx.parser.parse_model(text), CPU)


@pytest.mark.parametrize(
    ("inputs", "most", "sizes"),
    [
        ("float[N,4] x", 4, [4, 4, 2]),
        ("float[N,4] x", 100, [10]),
        ("float[3,4] x", 100, [3] * 4),
        ("float[1,4] x", 2, [1] * 10),
    ],
)
def test_batches_are_of_bounded_size(inputs, most, sizes):
    session = watched(inputs, inputs.replace("x", "y"))
    found = Predictor(session, BatchSize(most))({"x": ROWS})
    np.testing.assert_array_equal(found["y"], 2 * ROWS)
    assert list(found) == ["y"] and session.sizes == sizes


@pytest.mark.parametrize("size", ["N", "3"])
def test_batch_by_batch(size):
    predict = Predictor(watched(f"float[{size},4] x", f"float[{size},4] y"), BatchSize(3))
    parts = list(predict.batches({"x": ROWS}))
    assert [(rows.start, rows.stop) for rows, _ in parts] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    for rows, outputs in parts:
        np.testing.assert_array_equal(outputs["y"], 2 * ROWS[rows])


def test_a_model_that_takes_one_sample_and_does_not_say_so():
    body = "s = Constant<value_ints = [1, 4]>()  y = Reshape(x, s)"
    session = watched(outputs="float[1,4] y", body=body)
    np.testing.assert_array_equal(Predictor(session)({"x": ROWS})["y"], ROWS)


def test_several_inputs_and_one_that_all_samples_share():
    session = watched("float[N,4] x, float s", body="y = Mul(x, s)")
    found = Predictor(session, BatchSize(3))({"x": ROWS, "s": np.float32(3)})
    np.testing.assert_array_equal(found["y"], 3 * ROWS)


def test_inputs_that_share_no_first_axis_are_one_run():
    session = watched("float[N,4] x, float[K,4] z", "float[N,K] y", "t = Transpose<perm = [1, 0]>(z)  y = MatMul(x, t)")
    feeds = {"x": ROWS, "z": ROWS[:3]}
    np.testing.assert_allclose(Predictor(session, BatchSize(2))(feeds)["y"], ROWS @ ROWS[:3].T)
    [(rows, outputs)] = Predictor(session, BatchSize(2)).batches(feeds)
    assert rows == slice(None) and outputs["y"].shape == (10, 3)


def test_outputs_without_a_row_for_each_sample():
    session = watched(
        outputs="float[M] y", body="b = Cast<to = 9>(x)  i = NonZero(b)  c = Shape(i)  y = Cast<to = 1>(c)"
    )
    assert Predictor(session)({"x": ROWS})["y"].tolist() == [2, 39]
    with pytest.raises(UsageError, match="output 'y' has no row of one shape for each sample, and 3 batches were run"):
        Predictor(session, BatchSize(4))({"x": ROWS})


def test_feeds_are_brought_to_the_models_types():
    np.testing.assert_array_equal(Predictor(watched())({"x": ROWS.astype(np.float64)})["y"], 2 * ROWS)
    np.testing.assert_array_equal(Predictor(watched())({"x": ROWS.astype(np.int8).tolist()})["y"], 2 * ROWS)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"x": ROWS[:, :3]}, r"predict: 'x' must have shape \(N, 4\), not \(10, 3\)"),
        ({"a": ROWS, "b": ROWS}, "predict lacks x"),
        ({"x": ROWS[:0]}, "give at least one sample"),
        ({"x": ROWS * np.nan}, "contains NaN"),
    ],
)
def test_feeds_that_do_not_fit(feeds, said):
    with pytest.raises(InputError, match=said):
        Predictor(watched())(feeds)


def test_a_model_that_cannot_be_run():
    session = watched(body="s = Constant<value_ints = [7, 7]>()  y = Reshape(x, s)")
    with pytest.raises(OnnxMergeError, match="eshape"):
        Predictor(session)({"x": ROWS})


def test_the_original():
    one, two = Predictor(watched()), watched(body="y = Sub(x, x)")
    assert one.original is one and Predictor(two, 4, one).original is one
