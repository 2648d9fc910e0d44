"""Registers helper modules for pytest's assertion rewriting. Graphs are checked between passes in all tests, and
layers are refined by few gradient steps, and sessions of onnxruntime have one thread, where a test does not say how
many. What packages are installed is read once. No example has a time limit."""

import functools
import gc
import os
import sys
from importlib.metadata import entry_points

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import settings

from onnx_merge.plugins import entry_points as plugins
from onnx_merge.runtime import session, session_settings
from passes.interface.runner import checking_graphs
from passes.settings.tuning import TUNING

pytest.register_assert_rewrite("netkit", "rulekit")
OWN_OP = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
net (float[N,16] x) => (float[N,4] y) {
    [first] a = MatMul(x, w)  [act] b = com.microsoft.SampleOp(a)  [head] y = MatMul(b, v)
}
"""
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""What pytest's workers, and the processes that tests start, compile is kept for those that come after them: each would
take a second for the modules of the tool, and a worker half a minute for those of the tests."""
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection():
    """What is collected stays: to look for garbage in it takes a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture
def own_op():
    """A network with an op that has no rule of ours, of which the pages and the examples speak."""
    model = onnx.parser.parse_model(OWN_OP)
    rng = np.random.default_rng(0)
    for name, size in (("w", (16, 32)), ("v", (32, 4))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    return model


@pytest.fixture(scope="session", autouse=True)
def graphs_are_checked():
    """A pass that makes an invalid graph of a valid one fails the test that runs it."""
    with checking_graphs():
        yield


@pytest.fixture(scope="module", autouse=True)
def what_was_imported_is_no_garbage():
    """Each run collects garbage, and need not look at what earlier tests imported and compiled."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def installed_packages_are_read_once():
    """What is installed stays, but for the tests of plug-ins, which read it anew. Each run asks for it, which takes as
    long as many a network."""

    @functools.cache
    def found(path):
        return entry_points()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "entry_points", lambda: found(tuple(sys.path)))
        yield


@pytest.fixture(scope="session", autouse=True)
def sessions_have_one_thread():
    """Where neither a test nor the tool says how many. Most sessions load a tiny model and run it a few times. With a
    thread for each core they take five times the CPU time: threads are started, and wait actively."""

    def options(threads):
        return session_settings.session_options(threads or session_settings.thread_limit() or 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "session_options", options)
        yield


@pytest.fixture(scope="session", autouse=True)
def few_gradient_steps():
    """What tests assert of default runs holds after any number of steps, and few take less time."""
    refining, matching, pairs = TUNING.distillation, TUNING.matching, TUNING.reconstruction
    few = [
        (refining, "steps", (refining.fewest_steps,) * 2),
        (refining, "rates", refining.rates[:1]),
        (matching, "steps", matching.score_steps),
        (pairs, "most_steps", 4),
    ]
    before = [(limits, name, getattr(limits, name)) for limits, name, _ in few]
    for limits, name, steps in few:
        object.__setattr__(limits, name, steps)
    yield
    for limits, name, steps in before:
        object.__setattr__(limits, name, steps)
