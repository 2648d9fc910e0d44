"""Markdown tables of options, from their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx_merge.config.command_options import (
    NOT_OF_SWEEP,
    OF_INSPECT,
    OF_VERIFY,
    ConfigOptions,
    InspectOptions,
    SweepOptions,
    VerifyOptions,
)
from onnx_merge.config.definition import GROUPS, Option, options_of
from onnx_merge.config.options import Options

MOST_USED = (
    *("keep", "target_macs", "max_drop", "lossless", "calib", "labels", "exclude", "method", "benchmark", "report"),
)
"""Options that the README lists."""
ALL = options_of(Options)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def most_used() -> str:
    """The options that most runs need, with what they are for in one sentence."""
    chosen = (option for name in MOST_USED for option in ALL if option.field == name)
    return table(("option", "meaning"), ((_typed(option), _first_sentence(option.doc)) for option in chosen))


def option_sections() -> str:
    """All options of a compression by their groups, then those of the other commands."""
    sections = [
        _section(f"{g[:1].upper()}{g[1:]}", [o for o in (*ALL, *options_of(ConfigOptions)) if o.group == g])
        for g in GROUPS
    ]
    commands = (
        ("sweep", SweepOptions, [o for o in ALL if o.field not in NOT_OF_SWEEP]),
        ("inspect", InspectOptions, [o for o in ALL if o.field in OF_INSPECT]),
        ("verify", VerifyOptions, [o for o in ALL if o.field in OF_VERIFY]),
    )
    for name, own, shared in commands:
        also = f"It also takes {', '.join(f'`--{o.key}`' for o in shared)}."
        sections.append(f"{_section(f'`onnx-merge {name}`', options_of(own))}\n{also}\n")
    return "\n".join(sections)


def _section(title: str, options: Iterable[Option]) -> str:
    rows = ((_typed(option), _meaning(option), option.shown) for option in options)
    return f"### {title}\n\n{table(('option', 'meaning', 'default'), rows)}"


def _meaning(option: Option) -> str:
    return f"{option.doc} Repeatable." if option.kind.repeatable else option.doc


def _typed(option: Option) -> str:
    """The option as it is typed."""
    count = option.kind.arguments.get("nargs")
    value = {None: "{}", "?": "[{}]", "+": "{} ..."}[count].format(option.metavar)
    *short, long = option.flags
    return ", ".join(f"`{flag}`" for flag in (*short, f"{long} {value}".rstrip()))


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".") + "."
