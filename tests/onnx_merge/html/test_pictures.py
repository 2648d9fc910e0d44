"""Samples as pictures: only of images, only when asked for."""

import base64
import io

import numpy as np
import onnx.parser
import pytest
from pagekit import Page
from PIL import Image

from onnx_merge import optimize
from onnx_merge.html.pictures import PAGES, pictures, png
from onnx_merge.html.run_page import run_page

RNG = np.random.default_rng(0)


def decoded(uri):
    kind, content = uri.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("channels", [1, 3])
def test_another_decoder_reads_the_same_pixels(channels):
    pixels = RNG.integers(0, 256, (7, 11, channels), dtype=np.uint8)
    read = np.asarray(Image.open(io.BytesIO(png(pixels))))
    np.testing.assert_array_equal(read.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("shape", [(3, 8, 12), (8, 12, 3), (1, 8, 12), (8, 12), (8, 12, 1), (4, 8, 12)])
def test_layouts(shape):
    array = RNG.standard_normal((5, *shape)).astype(np.float32)
    found = pictures({"x": array}, [4, 0])
    assert set(found) == {0, 4}
    image = decoded(found[4])
    assert image.shape[:2] == (8, 12) and image.min() == 0 and image.max() == 255
    grey = array[4].reshape(8, 12) if array[4].size == 96 else None
    if grey is not None:
        np.testing.assert_allclose(image / 255, (grey - grey.min()) / np.ptp(grey), atol=1 / 255)


@pytest.mark.parametrize("shape", [(16,), (5, 100), (7, 8, 12), (3, 2, 2), (2, 3, 8, 12)])
def test_what_is_no_image_has_no_picture(shape):
    assert pictures({"x": np.zeros((2, *shape), np.float32)}, [0]) == {}


def test_large_dull_and_missing_samples():
    assert max(decoded(pictures({"x": np.zeros((1, 3, 700, 300))}, [0])[0]).shape) <= PAGES.largest_picture
    assert pictures({"ids": np.zeros((2, 8), np.int64), "x": np.full((2, 8, 8), np.nan)}, [1])[1]
    assert pictures({"x": np.zeros((2, 8, 8))}, [2]) == {} and pictures({"x": np.zeros((2, 8, 8))}, []) == {}


def convolution():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,1,8,8] x) => (float[N,4] y) {
            [a] h = Conv(x, w)  r = Relu(h)  p = GlobalAveragePool(r)  f = Flatten(p)  [b] y = MatMul(f, v) }""")
    for name, size in (("w", (16, 1, 3, 3)), ("v", (16, 4))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(RNG.standard_normal(size, np.float32), name))
    return model


def test_a_page_shows_samples_only_when_asked():
    samples = [{"x": row} for row in RNG.standard_normal((64, 1, 1, 8, 8), np.float32)]
    for asked in (False, True):
        _, result = optimize(convolution(), keep=0.3, calib=samples, html_samples=asked, gate=False)
        images = Page(run_page(result.report, result.pictures)).all("img")
        worst = result.report["fidelity"]["differences"]["worst"]
        assert len(worst) > 0 and len(images) == (len(worst) if asked else 0)
        assert "data:image" not in result.to_json() and "data:image" not in result._repr_html_()
