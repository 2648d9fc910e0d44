"""Limits of verification: what rounding and chance explain, and what they do not."""

import numpy as np
import pytest

from onnx_merge.evaluation.class_changes import share_bounds
from onnx_merge.verification.checks import output_checks, promise_check, reaching, rounding_allowance
from onnx_merge.verification.findings import Check

OUTPUT = {
    "name": "y",
    "tested": True,
    "nsr": 0.01,
    "nsr_low": 0.008,
    "nsr_high": 0.0125,
    "kl": 0.02,
    "kl_low": 0.01,
    "kl_high": 0.04,
}
OUTPUT |= {"changed": 0.05, "changed_low": 0.01, "changed_high": 0.13}


def kept(found, same, stated=OUTPUT):
    return {c.quantity: c.keeps for c in output_checks(stated, {**stated, **found}, 64, same)}


def test_what_is_stated_is_kept_and_so_is_better():
    for same in (True, False):
        assert kept({}, same) == {"nsr": True, "kl": True, "changed": True}
        assert kept({"nsr": 0, "kl": 0, "changed": 0, "nsr_low": 0, "kl_low": 0, "changed_low": 0}, same)
    checks = list(output_checks(OUTPUT, OUTPUT, 64, True))
    assert [(c.output, c.stated, c.stated_low, c.stated_high) for c in checks][0] == ("y", 0.01, 0.008, 0.0125)


def test_on_the_same_samples_only_rounding_may_differ():
    assert kept({"nsr": 0.01007, "kl": 0.0203, "changed": 0.065}, True) == {"nsr": True, "kl": True, "changed": True}
    assert kept({"nsr": 0.0101, "kl": 0.021, "changed": 0.082}, True) == {"nsr": False, "kl": False, "changed": False}


def test_of_a_free_change_rounding_is_all_there_is():
    """Half precision rounds by 5e-4 of each value, which is a difference; float32 on another provider is none."""
    assert 1e-9 < rounding_allowance("nsr", 0.0, 64) < 1e-6
    exact = {"name": "y", "tested": True, "nsr": 0.0, "nsr_low": 0.0, "nsr_high": 0.0}
    assert kept({"nsr": 1e-10}, True, exact) == {"nsr": True} and kept({"nsr": 1e-5}, True, exact) == {"nsr": False}
    assert kept({"nsr": 1e-10, "nsr_low": 1e-11}, False, exact) == {"nsr": True}
    assert kept({"nsr": 1e-4, "nsr_low": 9e-5}, False, exact) == {"nsr": False}


def test_on_others_the_intervals_must_meet():
    assert kept({"nsr": 0.014, "nsr_low": 0.012, "nsr_high": 0.016}, False)["nsr"]
    assert not kept({"nsr": 0.016, "nsr_low": 0.0135, "nsr_high": 0.018}, False)["nsr"]
    assert kept({"changed": 0.2, "changed_low": 0.12, "changed_high": 0.3}, False)["changed"]
    assert not kept({"changed": 0.22, "changed_low": 0.14, "changed_high": 0.3}, False)["changed"]
    (check,) = output_checks(
        {"name": "y", "tested": True, "nsr": 0.01, "nsr_high": 0.0125},
        {"tested": True, "nsr": 0.016, "nsr_low": 0.0135},
        64,
        False,
    )
    assert (
        check.allowed == pytest.approx(0.0125 * 0.016 / 0.0135) and "at most 0.0148 would be as stated" in check.reason
    )
    assert reaching("nsr", 0.01, 0.5, None) == 0.01


def test_what_the_samples_do_not_test_is_checked_on_the_same_ones_only():
    stated = {**OUTPUT, "tested": False}
    assert kept({}, False, stated) == {} and len(kept({}, True, stated)) == 3
    assert kept({"tested": False, "nsr": 9.0}, False) == {}


def test_what_is_constant_stays_so():
    stated = {"name": "y", "constant": True, "nsr": 0.5}
    assert kept({"nsr": 9.0}, True, stated) == {"constant": True}
    assert kept({"constant": False}, True, stated) == {"constant": False} and kept({}, False, stated) == {}


def test_what_is_not_known_is_not_checked():
    assert kept({"kl": None}, True, {"name": "y", "nsr": None, "kl": 0.1, "changed": None}) == {}


def test_a_promise_is_broken_where_the_interval_lies_above_it():
    def keeps(promise, quantity, *found):
        return promise_check(promise, [Check("input"), Check(quantity, None, None, None, None, *found)]).keeps

    accuracy = {"max_drop": 1.0, "confidence": 0.95, "measure": "accuracy"}
    assert keeps(accuracy, "accuracy drop", 0.5, -0.5, 1.5) and keeps(accuracy, "accuracy drop", 2.0, 0.9, 3.1)
    assert not keeps(accuracy, "accuracy drop", 2.0, 1.1, 2.9)
    assert not keeps({**accuracy, "measure": "agreement"}, "changed", 0.05, 0.02, 0.09)
    assert keeps({**accuracy, "measure": "agreement"}, "changed", 0.02, 0.005, 0.06)
    assert not keeps({**accuracy, "measure": "f.py:f1"}, "f.py:f1 drop", 2.0, None, None)
    assert promise_check(accuracy, [Check("nsr", "y", found=2.0)]) is None


def test_an_honest_share_is_seldom_refused_and_a_worse_one_often():
    """Of 2,000 draws of 64 and 64 samples."""
    rng = np.random.default_rng(0)

    def refused(before, after):
        count = 0
        for _ in range(2000):
            tables = []
            for share in (before, after):
                hits = rng.binomial(64, share)
                low, high = share_bounds(hits, 64, 0.025)
                tables.append(
                    {"name": "y", "tested": True, "changed": hits / 64, "changed_low": low, "changed_high": high}
                )
            count += not next(output_checks(*tables, 64, False)).keeps
        return count / 2000

    assert refused(0.05, 0.05) <= 0.01 and refused(0.2, 0.2) <= 0.01
    assert refused(0.05, 0.4) >= 0.9
