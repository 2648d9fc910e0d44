"""Builds argument parsers from the definitions of options, and separates options from file names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from onnx_merge.cli.console import PROG, print_out
from onnx_merge.config.command_options import ConfigOptions
from onnx_merge.config.definition import GROUPS, Option, options_of
from onnx_merge.config.option_parsing import did_you_mean
from onnx_merge.config.options import Options
from onnx_merge.errors import UsageError

OPTIONS = options_of(Options)
"""Sections of the options of a compression, in the order of `--help`."""
CONFIG = options_of(ConfigOptions)
Found = TypeVar("Found")


class Parser(argparse.ArgumentParser):
    """A parser that raises errors instead of printing the usage and exiting. ``help_position``: column of the help
    texts, at most."""

    def __init__(
        self,
        prog: str | None = None,
        usage: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        help_position: int = 30,
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=help_position),
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
            add_help=False,
        )

    def _print_message(self, message: str, file: object = None) -> None:
        """Print the help or the version as results are printed. Some versions of argparse raise where that fails, and
        others do not."""
        if code := print_out(message):
            raise SystemExit(code)

    def error(self, message: str) -> NoReturn:
        """Raise an error of one line that says what is wrong with the arguments."""
        raise UsageError(re.sub(r"^argument (-\w/)?(\S+): ", r"\2: ", message) + "; see --help")


def add_groups(
    parser: Parser, options: Sequence[Option], titles: Mapping[str, str] | None = None
) -> argparse._ArgumentGroup:
    """Add ``options`` in the sections that their definitions name.

    The last section also gets ``--help`` and is returned. ``titles``: section in the definition -> section of this
    command, where they differ.
    """
    others = titles or {}
    of_commands = dict.fromkeys(option.group for option in options if option.group not in GROUPS)
    for name in (*of_commands, *GROUPS):
        parts = [option for option in options if others.get(option.group, option.group) == name]
        if parts:
            group = parser.add_argument_group(name)
            for option in parts:
                add_option(group, option)
    group.add_argument("-h", "--help", action="help", help="print this")
    return group


def add_flat(parser: Parser, own: type, shared: Mapping[str, str]) -> None:
    """Add the options of a command without sections.

    ``own``: dataclass with its own options. ``shared``: options of a compression, as field -> help text; an empty text
    stands for the definition's.
    """
    for option in options_of(own):
        add_option(parser, option)
    for option in OPTIONS:
        if option.field in shared:
            add_option(parser, option, shared[option.field])
    parser.add_argument("-h", "--help", action="help", help="print this")


def add_option(group: argparse._ActionsContainer, option: Option, help: str = "") -> None:
    """Add an option as its definition describes it; ``help`` replaces the definition's help line."""
    arguments = dict(option.kind.arguments)
    if option.negated:
        arguments["action"] = "store_false"
    elif option.metavar:
        arguments["metavar"] = option.metavar
    text = (help or option.help_text).replace("%", "%%")
    group.add_argument(*option.flags, dest=option.field, help=text, **arguments)


def take_options(owner: type[Found], given: dict[str, Any]) -> Found:
    """Remove the options of a dataclass from ``given`` and return them as an instance."""
    return owner(**{o.field: given.pop(o.field) for o in options_of(owner) if o.field in given})


def split_arguments(parser: Parser, arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options that ``parser`` knows and the file names. File names may stand anywhere."""
    # File names are the arguments left over: argparse's positionals would miss an output that follows an option.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found, rest = parser.parse_known_args(_valueless(arguments[:end]))
    for word in rest:
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            if any(name in option.flags for option in (*OPTIONS, *CONFIG)) or name == "--version":
                word = parser.prog.removeprefix(f"{PROG} ")
                raise UsageError(f"{word} takes no {name}; see {parser.prog} --help (a file is ./{word})")
            known = [flag for action in parser._actions for flag in action.option_strings]
            raise UsageError(f"unknown option {name}{did_you_mean(name, known) or '; see --help'}")
    return vars(found), rest + arguments[end + 1 :]


def _valueless(arguments: list[str]) -> list[str]:
    """Return ``arguments`` changed so that ``--benchmark`` takes only numbers, not a file name that follows it."""
    return [
        "--benchmark=auto" if word == "--benchmark" and not re.match(r"[\d,]+$", after) else word
        for word, after in zip(arguments, [*arguments[1:], ""], strict=False)
    ]
