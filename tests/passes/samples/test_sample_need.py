"""Whether samples are enough for the layers, and what happens where they are not."""

import numpy as np
import pytest
from netkit import engine, net

from passes.pipeline import Compressor
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.samples.sample_need import covers_features

WIDE = """net (float[N,4,2,2] x) => (float[N,3] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  f = Flatten(ar)  y = Gemm<transB=1>(f, y_w, y_b)
}"""
"""36 features at 4 places, then 32 at one."""


def wide():
    return net(WIDE, a_w=(8, 4, 3, 3), a_b=(8,), y_w=(3, 32), y_b=(3,))


def feeds(count):
    return {"x": np.random.default_rng(count).standard_normal((count, 4, 2, 2)).astype(np.float32)}


def more_samples(*counts, asked):
    def give(count):
        asked.append(count)
        return feeds(count), f"{count} of them served"

    return [lambda count=count: give(count) for count in counts]


def analysed():
    return Compressor(wide()).analysis


@pytest.mark.parametrize(("count", "suffices"), [(8, False), (31, False), (32, True)])
def test_each_layer_needs_as_many_places_as_features(count, suffices):
    assert covers_features(analysed().typing, count) == suffices


@pytest.mark.parametrize(("count", "suffices"), [(28, False), (32, True)])
def test_a_batch_that_is_fixed_counts_as_its_samples(count, suffices):
    fixed = net(WIDE.replace("[N,", "[4,"), a_w=(8, 4, 3, 3), a_b=(8,), y_w=(3, 32), y_b=(3,))
    assert covers_features(Compressor(fixed).analysis.typing, count) == suffices


def variants(count, asked, *more, real=True, **options):
    found = analysed()
    return WeightVariants(
        found.before,
        found.typing,
        CalibrationSamples(feeds(count), real, engine, more_samples=more_samples(*more, asked=asked), **options),
    )


def served(found):
    return sum(len(feed["x"]) for feed in found.feeds)


def test_more_are_asked_for_until_they_are_enough():
    asked = []
    found = variants(8, asked, 16, 32, 64)
    assert asked == [16, 32] and served(found) == 32
    assert found.notes == ("32 of them served: 8 show some layer fewer places than it has inputs",)


def test_enough_stay_as_they_are():
    asked = []
    found = variants(64, asked, 128)
    assert not asked and served(found) == 64 and not found.notes


def test_few_are_doubled_once():
    asked = []
    found = variants(40, asked, 80, 160)
    assert asked == [80] and served(found) == 80
    assert found.notes == ("80 of them served: 40 are few",)


def test_few_made_up_ones_that_determine_the_layers_stay():
    asked = []
    found = variants(40, asked, 80, real=False)
    assert not asked and served(found) == 40


def test_none_are_asked_for_that_do_not_fit():
    asked = []
    assert served(variants(8, asked, 16, 32, memory=93_500)) == 8
    assert not asked


def test_no_word_of_more_where_there_are_none():
    asked = []
    found = variants(8, asked, 8)
    assert asked == [8] and served(found) == 8 and not found.notes
