"""An option is defined once: its field has all that the command line, files and the documentation need."""

from dataclasses import dataclass, field, fields

import pytest

from onnx_merge.cli.arguments import Parser, add_option
from onnx_merge.config.command_options import (
    NOT_OF_SWEEP,
    OF_INSPECT,
    OF_VERIFY,
    ConfigOptions,
    InspectOptions,
    SweepOptions,
    VerifyOptions,
)
from onnx_merge.config.definition import GROUPS, converted, option, options_of
from onnx_merge.config.limits import Limits
from onnx_merge.config.options import Options
from onnx_merge.config.value_kinds import FLAG, NUMBER, PATTERNS, TEXT
from onnx_merge.errors import UsageError

OWNERS = [Options, ConfigOptions, SweepOptions, InspectOptions, VerifyOptions]


@dataclass(frozen=True)
class Sample:
    level_: float = field(
        default=0.5, metadata=option("g", NUMBER, "X", "how much, 50% ({default})", limits=Limits(0, 1, hint="; ask"))
    )
    tidy: bool = field(default=True, metadata=option("g", FLAG, "", "leave it as it is", "Untidy", short="t"))
    kind: str = field(default="a", metadata=option("g", TEXT, "", "of it", choices=("a", "b")))
    places: tuple[str, ...] = field(default=(), metadata=option("g", PATTERNS, "RE", "where", name="at"))
    own: int = 3


LEVEL, TIDY, KIND, PLACES = options_of(Sample)


def test_names_defaults_and_texts_follow_from_the_field():
    assert [o.name for o in options_of(Sample)] == ["level", "tidy", "kind", "at"]
    assert LEVEL.flags == ("--level",) and TIDY.flags == ("-t", "--no-tidy") and PLACES.flags == ("--at",)
    assert (LEVEL.help_text, LEVEL.doc, LEVEL.shown) == ("how much, 50% (0.5)", "How much, 50%.", "0.5")
    assert (KIND.metavar, KIND.shown, TIDY.shown, PLACES.shown) == ("a|b", "a", "", "")
    assert TIDY.doc == "Untidy" and TIDY.negated and not LEVEL.negated


def test_the_parser_is_made_from_them(capsys):
    parser = Parser()
    for each in options_of(Sample):
        add_option(parser, each, "somewhere" if each.name == "at" else "")
    found = vars(parser.parse_args(["-t", "--level", "1", "--at", "x", "y", "--at", "z"]))
    assert found == {"tidy": False, "level_": 1.0, "places": ["x", "y", "z"]}
    parser.print_help()
    text = capsys.readouterr().out
    assert "how much, 50% (0.5)" in text and "--kind a|b" in text and "somewhere" in text


def test_values_are_converted_by_their_names():
    known = options_of(Sample)
    for given in ({"level": 1}, {"level_": 1}):
        assert converted(given, known) == {"level_": 1.0}
    assert converted({"no-tidy": True, "kind": "b"}, known) == {"tidy": False, "kind": "b"}
    with pytest.raises(UsageError, match=r"^here: unknown option 'levl': did you mean level\?$"):
        converted({"levl": 1}, known, "here: ")
    with pytest.raises(UsageError, match="tidy is given twice"):
        converted({"no_tidy": True, "tidy": True}, known)


def test_limits_and_choices():
    with pytest.raises(UsageError, match=r"^level must be from 0 to 1, not 2; ask$"):
        LEVEL.check(2.0)
    with pytest.raises(UsageError, match=r"^kind must be one of a, b, not 'c'$"):
        KIND.check("c")
    for limits, value, said in (
        (Limits(0, 1, above=True), 0.0, "above 0 and at most 1, not 0"),
        (Limits(1), 0, "at least 1, not 0"),
        (Limits(0), -(10**7), "at least 0, not -10000000"),
        (Limits(1, wording="a size"), 0, "a size, not 0"),
        (Limits(0, 1), float("nan"), "from 0 to 1, not nan"),
    ):
        with pytest.raises(UsageError) as caught:
            limits.check("x", value)
        assert caught.value.message == f"x must be {said}"
    Limits(0, 1, above=True).check("x", 1)


def test_none_is_a_value_where_it_is_the_default():
    assert Options.make({"check_n": None}).check_n is None
    with pytest.raises(UsageError, match="seed must be a whole number, not None"):
        Options.make({"seed": None})


@pytest.mark.parametrize("owner", OWNERS)
def test_every_field_is_an_option_with_a_text(owner):
    options = options_of(owner)
    assert [o.field for o in options] == [f.name for f in fields(owner)]
    for each in options:
        assert each.help and each.doc.endswith(".") and "{" not in each.doc, each.name
        assert (each.metavar == "") == (each.kind is FLAG), each.name
        assert len(each.help_text) <= 80, each.name
    assert owner is not Options or {each.group for each in options} == set(GROUPS)


def test_no_two_options_of_a_command_share_a_flag():
    for own in OWNERS[1:]:
        flags = [flag for each in (*options_of(Options), *options_of(own)) for flag in each.flags]
        assert len(flags) == len(set(flags)), own


def test_other_commands_take_options_that_there_are():
    known = {each.field for each in options_of(Options)}
    assert known >= NOT_OF_SWEEP and known >= OF_INSPECT.keys() and known >= OF_VERIFY.keys()


def test_defaults_are_in_range_and_of_the_right_kind():
    for each in options_of(Options):
        each.check(each.default)
        if each.default is not None:
            assert each.convert(each.name, each.default) == each.default, each.name
