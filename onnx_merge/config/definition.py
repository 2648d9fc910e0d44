"""Definition of an option: a dataclass field with metadata.

The command line, configuration files, checks of values and the reference page are generated from the definitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from onnx_merge.config.limits import Limits
from onnx_merge.config.option_parsing import did_you_mean
from onnx_merge.config.value_kinds import FLAG, ValueKind
from onnx_merge.errors import UsageError

METADATA = "option"
"""Key of an option in its field's metadata."""
FROM_PYTHON = "from Python"
"""Stands in records for a value that has no text."""
HOW_MUCH, HOW, CHECKS, FILES = "how much", "how", "checks", "files and messages"
GROUPS = (HOW_MUCH, HOW, CHECKS, FILES)
"""Sections of `--help` and of the reference page, in this order."""


@dataclass(frozen=True, eq=False)
class Option:
    """Metadata of a field, and the field's own name and default.

    field: name in Python.
    group: title of the section of `--help` and of the reference page.
    kind: how values are converted.
    metavar: placeholder of the value in `--help`; empty for a flag.
    help: line for `--help`; ``{default}`` is replaced by ``shown``.
    doc: Markdown for the reference page.
    shown: the default as displayed to users; empty if displaying it is of no use.
    choices: the allowed values; empty if there is no such list.
    limits: range of a number; None if there is none, or if it depends on other options.
    short: letter of the short flag; empty if there is none.
    name: name in files and, after two dashes, on the command line. A flag that is true by default is ``no-`` plus this.
    """

    field: str
    default: object
    group: str
    kind: ValueKind
    metavar: str
    help: str
    doc: str
    shown: str
    choices: tuple[str, ...]
    limits: Limits | None
    short: str
    name: str

    @property
    def negated(self) -> bool:
        """Whether the command line has the flag that turns the option off."""
        return self.kind is FLAG and self.default is True

    @property
    def key(self) -> str:
        """Name on the command line without the leading dashes, and key in configuration files."""
        return f"no-{self.name}" if self.negated else self.name

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags as typed on the command line."""
        return (f"-{self.short}",) * bool(self.short) + (f"--{self.key}",)

    @property
    def help_text(self) -> str:
        """``help`` with the default filled in."""
        return self.help.replace("{default}", self.shown)

    def convert(self, label: str, value: object) -> Any:
        """Convert to the field's type. None is accepted if it is the default. ``label``: the option's name in messages.

        Raises
        ------
        UsageError: the value is of the wrong kind.
        """
        return None if value is None and self.default is None else self.kind.convert(label, value)

    def check(self, value: Any) -> None:
        """Refuse a converted value that is not among the choices or is out of range.

        Raises
        ------
        UsageError: the value is refused.
        """
        if self.limits is not None:
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, (int, float)):
                    self.limits.check(self.name, item)
        if self.choices and value not in (*self.choices, self.default):
            raise UsageError(f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}")


def option(
    group: str,
    kind: ValueKind,
    metavar: str,
    help: str,
    doc: str = "",
    *,
    shown: str | None = None,
    choices: tuple[str, ...] = (),
    limits: Limits | None = None,
    short: str = "",
    name: str = "",
) -> dict[str, Mapping[str, Any]]:
    """Return the metadata of a field that is an option, see `Option`.

    Defaults: ``metavar`` lists the choices, ``shown`` is the default value if it is a number or a text, ``doc`` equals
    ``help``, and the name is that of the field with dashes.
    """
    line = help.replace(" ({default})", "")
    doc = doc or f"{line[:1].upper()}{line[1:]}."
    given = {"group": group, "kind": kind, "metavar": metavar or "|".join(choices), "help": help, "doc": doc}
    return {METADATA: {**given, "shown": shown, "choices": choices, "limits": limits, "short": short, "name": name}}


def options_of(owner: type) -> tuple[Option, ...]:
    """Return the options that are fields of a dataclass, in the order of the fields."""
    return tuple(_option(field) for field in fields(owner) if METADATA in field.metadata)


def _option(field: Field[Any]) -> Option:
    given = dict(field.metadata[METADATA])
    if given["shown"] is None:
        default = field.default
        said = isinstance(default, (int, float, str)) and not isinstance(default, bool)
        given["shown"] = str(default) if said else ""
    given["name"] = given["name"] or field.name.strip("_").replace("_", "-")
    return Option(field=field.name, default=field.default, **given)


def converted(values: Mapping[str, object], options: Sequence[Option], where: str = "") -> dict[str, Any]:
    """Return ``values`` by field name, converted to the fields' types. ``where``: start of error messages.

    Raises
    ------
    UsageError: there is no option of that name, or the value is of the wrong kind.
    """
    known = {name: option for option in options for name in (option.field, option.field.rstrip("_"))}
    negated = {f"no_{name}": option for name, option in known.items() if option.negated}
    result: dict[str, Any] = {}
    for given, value in values.items():
        name, label = given.replace("-", "_"), given.replace("_", "-").strip("-")
        option = known.get(name) or negated.get(name)
        if option is None:
            names = [option.field if "_" in given else option.name for option in options]  # as it was written
            raise UsageError(f"{where}unknown option {given!r}{did_you_mean(given.strip('-'), names)}")
        if option.field in result:
            raise UsageError(f"{where}{label} is given twice")
        found = option.convert(f"{where}{label}", value)
        result[option.field] = not found if name in negated else found
    return result
