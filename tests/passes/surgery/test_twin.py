"""Surgery is exact: the shrunk model computes what its unshrunk twin does, for every architecture, method and width."""

import pytest
from architectures import ARCHITECTURES
from netkit import check, twin_check

SETTINGS = [
    dict(keep=0.75, method="merge"),
    dict(keep=0.5, method="merge"),
    dict(keep=0.5, method="prune", coupled=False),
    dict(keep=0.3, method="prune"),
    dict(keep=0.3, method="merge", coupled=False, select="reprune"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_shrunk_model_equals_its_twin(name, settings):
    architecture = ARCHITECTURES[name]
    result = twin_check(architecture.model, architecture.tolerance, **settings)
    shrunk = [plan for plan in result.plans if plan.shrinks]
    if settings.get("coupled", True) and settings["keep"] <= 0.5:
        reasons = [f"{p.group.name} ({p.group.size}): {p.reason}" for p in result.plans if not p.shrinks]
        assert len(shrunk) >= architecture.groups, reasons


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_architecture_is_valid(name):
    check(ARCHITECTURES[name].model)
