"""Which channels a criterion keeps, on weights where the answer is plain."""

import numpy as np
import pytest
from netkit import net

from passes.axes.channel_groups import channel_groups
from passes.axes.inference import infer
from passes.channels.weights import signature
from passes.graph.model import Graph
from passes.planning.criteria import CRITERIA, select
from passes.transforms.fold_batchnorm import fold_batchnorm

GEMM = "net (float[N,3] x) => (float[N,2] y) { a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v) }"
CONV = """net (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    a = Conv(x, w, b)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)  y = Conv(r, v)
}"""


def sign_of(body, **weights):
    folded = fold_batchnorm(Graph(net(body, **weights)))
    typing = infer(Graph(folded.model))
    return signature(typing, channel_groups(typing)[0], folded.norms)


def gemm(rows, bias=None):
    w = np.asarray(rows, np.float32)
    return sign_of(GEMM, w=w, b=np.zeros(len(w), np.float32) if bias is None else np.float32(bias), v=(2, len(w)))


def chosen(sign, keep, criterion, candidates=None):
    n = len(sign.rows.values)
    return select(sign, np.arange(n) if candidates is None else np.array(candidates), keep, criterion).tolist()


def test_l1_and_l2_differ():
    sign = gemm([[3, 3, 3], [7, 0, 0], [0, 0, 1], [5, 2, 1]])  # l1: 9 7 1 8, l2: 5.2 7 1 5.5
    assert chosen(sign, 2, "l1") == [0, 3] and chosen(sign, 2, "l2") == [1, 3]


def test_the_bias_counts_in_fully_connected_layers():
    assert chosen(gemm([[1, 0, 0], [2, 0, 0], [3, 0, 0]], [9, 0, 0]), 1, "l1") == [0]


def conv(rows, scale, var=None, bias=None):
    w = np.asarray(rows, np.float32)[:, :, None, None]
    n = len(w)
    zero = np.zeros(n, np.float32)
    norm = dict(n_scale=np.float32(scale), n_bias=zero, n_mean=zero, n_var=np.ones(n, np.float32))
    return sign_of(CONV, w=w, b=zero if bias is None else np.float32(bias), v=(2, n, 1, 1), **norm)


def test_filters_count_as_trained():
    """Neither the norm that is folded into them nor the bias makes a filter large."""
    sign = conv([[1, 1], [2, 2], [3, 3]], scale=[100, 1, 0.01], bias=[9, 0, 0])
    assert chosen(sign, 1, "l1") == chosen(sign, 1, "l2") == [2]


def test_gm_keeps_what_lies_apart():
    sign = gemm([[1, 1, 1], [1, 1, 1.1], [1, 1.1, 1], [-4, 0, 0]])
    assert 3 in chosen(sign, 2, "gm") and 3 not in chosen(sign, 1, "l1", [0, 1, 2])


def test_reprune_keeps_one_of_each_cluster():
    sign = gemm([[1, 0, 0], [0, 1, 0], [1.01, 0, 0], [0, 1.01, 0], [0, 0, 1], [0, 0, 1.01]])
    kept = set(chosen(sign, 3, "reprune"))
    assert all(len(kept & cluster) == 1 for cluster in ({0, 2}, {1, 3}, {4, 5}))


def test_reprune_kernel_covers_the_clusters():
    sign = conv([[1, 0], [0, 1], [1.01, 0], [0, 1.01]], scale=[1, 1, 1, 1])
    kept = chosen(sign, 2, "reprune-kernel")
    assert len(set(kept) & {0, 2}) == len(set(kept) & {1, 3}) == 1


@pytest.mark.parametrize("criterion", ["l1", "l2", "gm"])
def test_ties_go_to_the_lower_index(criterion):
    assert chosen(gemm(np.eye(3)), 2, criterion) == [0, 1]
    assert chosen(gemm(np.eye(3)), 1, criterion, [1, 2]) == [1]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_only_candidates_stay_and_as_many_as_asked(criterion):
    sign = gemm(np.random.default_rng(0).standard_normal((12, 3)))
    candidates = [1, 4, 5, 6, 8, 11]
    for keep in range(1, 6):
        found = chosen(sign, keep, criterion, candidates)
        assert len(found) == keep and found == sorted(set(found)) and set(found) <= set(candidates)
    assert chosen(sign, 6, criterion, candidates) == candidates == chosen(sign, 9, criterion, candidates)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_channels_that_a_table_of_indices_makes_too_are_compared(criterion):
    """Its integers are compared as numbers."""
    body = """net (float[N,3,8] x) => (float[N,4,3] y) {
        a = Conv(x, w)  n = Shape<end=1>(a)  size = Concat<axis=0>(n, rest)  i = Expand(table, size)
        y = GatherElements<axis=2>(a, i)
    }"""
    table = np.arange(4).reshape(1, 4, 1) % 3
    sign = sign_of(body, w=(4, 3, 1), rest=np.array([4, 3]), table=table)
    assert len(chosen(sign, 2, criterion)) == 2
