"""Loads the op rules and passes of installed packages, which name them by entry points.

See https://packaging.python.org/en/latest/specifications/entry-points/. An entry point of the group `RULES` or `PASSES`
names a module, which registers what it has when it is imported, or a function without parameters, which does so.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from onnx_merge.errors import UsageError, UserCodeError
from onnx_merge.plugins.record import BY_CALL, registered_from, registering

RULES, PASSES = "onnx_merge.rules", "onnx_merge.passes"
Key = tuple[str, str, str]
_loaded: set[Key] = set()
_failed: dict[Key, UserCodeError] = {}


def load_plugins() -> None:
    """Load what is installed and not loaded yet.

    Raises
    ------
    UserCodeError: a plug-in is broken; also at later calls, since a module that failed half-way cannot be loaded again.
    """
    installed = entry_points()  # read once for both groups: it reads a file of every installed package
    found = sorted((one for group in (RULES, PASSES) for one in installed.select(group=group)), key=_order)
    for one in found:
        if _key(one) not in _loaded:
            _load(one)
    for one in found:
        if not registered_from(_origin(one)):
            raise _broken(one, "registers nothing: it has to call onnx_merge.register_rule or onnx_merge.register_pass")


def check_known_elsewhere() -> None:
    """Check that another process would find all rules and passes.

    Raises
    ------
    UsageError: some are registered by a call, which only this process has made.
    """
    if called := registered_from(BY_CALL):
        what = f"{called[0]} is registered by a call, and unknown to other processes"
        raise UsageError(f"{what}: give the package an entry point, or leave out jobs and scheduler")


def _load(one: EntryPoint) -> None:
    from passes.axes.registry import rules_undone_on_error  # here, so that without plug-ins nothing heavy is imported
    from passes.compress.custom_passes import passes_undone_on_error

    key = _key(one)
    if key in _failed:
        raise _failed[key]
    try:
        with rules_undone_on_error(), passes_undone_on_error(), registering(_origin(one)):
            loaded: object = one.load()
            if callable(loaded):
                loaded()
            elif not isinstance(loaded, ModuleType):
                raise TypeError(f"{one.value} is neither a module nor a function")
    except (Exception, SystemExit) as error:
        _failed[key] = _broken(one, f"cannot be loaded: {type(error).__name__}: {error}")
        raise _failed[key] from error
    _loaded.add(key)


def _broken(one: EntryPoint, what: str) -> UserCodeError:
    package = one.dist.name if one.dist is not None else one.value
    return UserCodeError(f"plug-in {one.name!r} of {_origin(one)} ({one.group}) {what}; mend or uninstall {package}")


def _origin(one: EntryPoint) -> str:
    return f"{one.dist.name} {one.dist.version}" if one.dist is not None else one.value


def _key(one: EntryPoint) -> Key:
    return one.group, _origin(one), f"{one.name} = {one.value}"


def _order(one: EntryPoint) -> tuple[bool, Key]:
    """Rules first."""
    return one.group == PASSES, _key(one)
