"""What a user meets on a terminal: exit codes, one line for every error, and nothing left behind."""

import argparse
import errno
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from smallnet import names, network

import onnx_merge
from onnx_merge.cli import compress
from onnx_merge.cli import main as cli
from onnx_merge.cli.arguments import Parser
from onnx_merge.compression import optimize, result_evaluation
from onnx_merge.compression.job import Job
from onnx_merge.config.options import OPTION_NAMES
from onnx_merge.errors import UsageError
from onnx_merge.io import save

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "models" / "digits_mlp.onnx"
"""The smaller one of the two: a run in a process of its own takes all gradient steps."""
LABELS = ROOT / "models" / "digits_test.npz"


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def failure(capsys, *arguments):
    """Exit code and message of a run that must fail with one line."""
    code = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err, err
    assert err.startswith("onnx-merge: error: ")
    return code, err.removeprefix("onnx-merge: error: ").strip()


def process(*arguments, **settings):
    """A fresh interpreter, in which every warning is an error."""
    command = [sys.executable, "-W", "error", "-m", "onnx_merge", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, **{"capture_output": True, "timeout": 120, **settings})


def test_a_run_as_the_readme_has_it(tmp_path):
    """In a process of its own, where nothing but the tables is printed."""
    out, report = tmp_path / "smaller.onnx", tmp_path / "r.json"
    arguments = [DIGITS, out, "--keep", "0.6", "--labels", LABELS, "--report", report]
    before = sha(DIGITS)
    done = process(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "accuracy  98.80% -> " in done.stdout and "on 500 samples" in done.stdout
    lines = done.stdout.splitlines()
    assert "/head/Gemm" in lines[-3] and "logits is a graph output" in lines[-3]
    assert re.fullmatch(r"verdict   good: 0\.\d% change class, limit 10%", lines[-1])
    assert "\x1b" not in done.stdout
    assert sha(DIGITS) == before
    found = json.loads(report.read_text())
    assert found["argv"] == [str(a) for a in arguments] and found["output"]["sha256"] == sha(out)
    assert names(tmp_path) == ["r.json", "smaller.onnx"]


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help_import_nothing_slow(argument):
    code = (
        "import sys, onnx_merge, onnx_merge.cli.main as c; code = c.main([sys.argv[1]]);"
        "sys.exit(code or sorted({'numba', 'numpy', 'onnx', 'onnxruntime', 'rich', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, argument], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "onnx-merge" in done.stdout


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"onnx-merge {onnx_merge.__version__}\n"
    assert importlib.metadata.version("onnx_merge") == onnx_merge.__version__


def test_help_names_every_option_and_exit_code(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    names = {*OPTION_NAMES, "no-coupled", "no-gate", "no-provenance", "config", "version", "help"}
    for name in names - {"coupled", "gate", "provenance"}:
        assert f"--{name}" in text
    assert all(f"\n  {code}  " in text for code in range(6))
    assert max(map(len, text.splitlines())) <= 80


def test_command_line_and_options_have_the_same_names():
    options = {
        option.removeprefix("--").removeprefix("no-")
        for action in compress.parser()._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    assert options == {*OPTION_NAMES, "config", "version", "help"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "in2.onnx does not exist"),
        (b"", "is empty"),
        (b"hello", "is not an ONNX model"),
        (b"PK\x03\x04" + bytes(40), "ZIP archive"),
        (bytes(range(256)) * 4, "is not an ONNX model"),
        (network().SerializeToString()[:700], "damaged or cut short"),
    ],
)
def test_unreadable_inputs(here, capsys, content, said):
    if content is not None:
        (here / "in2.onnx").write_bytes(content)
    before = names(here)
    code, message = failure(capsys, "in2.onnx", "out.onnx", "--keep", "0.5")
    assert code == 2 and said in message and names(here) == before


def test_a_folder_is_no_input(here, capsys):
    code, message = failure(capsys, here, "out.onnx", "--keep", "0.5")
    assert code == 2 and "is a folder" in message


def test_a_model_that_fails_the_checker(here, capsys):
    model = network()
    model.graph.node[1].input[0] = "nowhere"
    (here / "bad.onnx").write_bytes(model.SerializeToString())
    code, message = failure(capsys, "bad.onnx", "out.onnx", "--keep", "0.5")
    assert code == 2 and "is not a valid model" in message and "nowhere" in message


@pytest.mark.parametrize("keep", ["0", "-1", "2", "nan", "inf", "half", ""])
def test_shares_that_make_no_sense(here, capsys, keep):
    code, message = failure(capsys, "in.onnx", "out.onnx", "--keep", keep)
    assert code == 2 and "keep" in message and names(here) == ["in.onnx"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kep", "0.5"], "unknown option --kep: did you mean --keep?"),
        (["--kep=0.5"], "unknown option --kep: did you mean --keep?"),
        (["--keep", "0.5", "--min-cosin", "1"], "unknown option --min-cosin: did you mean --min-cosine?"),
        (["--ke", "0.5"], "unknown option --ke: did you mean --keep?"),
        (["--banana"], "unknown option --banana; see --help"),
        (["-x"], "unknown option -x; see --help"),
        (["--keep"], "--keep: expected one argument; see --help"),
        (["--keep", "0.5", "--seed", "x"], "--seed: invalid int value: 'x'; see --help"),
        (["--keep", "0.5", "--quiet=1"], "--quiet: ignored explicit argument '1'; see --help"),
        (["--keep", "0.5", "--method", "best"], "method must be one of auto, merge, prune, reconstruct, not 'best'"),
        (["--keep", "0.5", "--keep-layer", "a"], "keep-layer must be REGEX=RATIO, such as layer1=0.5, not 'a'"),
        (["--keep", "0.5", "--exclude", "("], "'(' is not a regular expression: missing ), unterminated subpattern"),
        (["--keep", "0.5", "--exclude", "absent"], "'absent' matches no layer"),
        (["--keep", "0.5", "--exclude-inputs", "absent"], "--exclude-inputs 'absent' matches no layer that reads"),
        (["--keep", "0.5", "--exclude-inputs", "("], "'(' is not a regular expression: missing ), unterminated"),
        (["--keep", "0.5", "--target-macs", "0.5"], "keep and target-macs both say how much goes: give one of them"),
        (["--target-params", "50"], "target-params must be above 0 and at most 1, not 50; 0.5 leaves half"),
        (["--max-drop", "-1"], "max-drop must be from 0 to 100, not -1; 1 is one point of accuracy"),
        (["--keep", "0.5", "--align", "0"], "align must be at least 1 channel, not 0"),
        (["--keep", "0.5", "--align", "some"], "align must be auto or a whole number of channels, not 'some'"),
        (["--keep", "0.5", "--keep-layer", "absent=1"], "'absent' matches no layer"),
        (["--keep", "0.5", "--input-shape", "z:1,16"], "the model knows only: N, x"),
        (["--keep", "0.5", "--input-shape", "N:4"], "'N' is a dimension of input 'x' (N, 16), not an input"),
        (["--keep", "0.5", "--fix-shape", "N:4"], "'N' is a dimension of input 'x', not an input"),
        (["--keep", "0.5", "--input-shape", "x:1,15"], "input 'x' has shape (N, 16)"),
        (["--keep", "0.5", "--labels", "none.npz"], "none.npz does not exist"),
        (["--keep", "0.5", "--config", "none.toml"], "none.toml cannot be read"),
        (["--keep", "0.5", "--report", "no/r.json"], "does not exist: create it first"),
        (["--keep", "0.5", "--report", "in.onnx", "--force"], "is the input itself"),
        (["--keep", "0.5", "--report", "./out.onnx"], "the report would replace another output"),
        (["--keep", "0.5", "--lossless"], "either it or keep"),
        (["--keep", "0.5", "-q", "-v"], "contradict each other"),
        (["--keep", "0.5", "more.onnx"], "'more.onnx' was given too; see --help"),
        (["--keep", "0.5", "--input-shape", "x:1,16", "z:1,4"], "repeated: --input-shape A:1,2 --input-shape B:1,3"),
        (["--keep", "0.5", "--custom-ops", "in.onnx"], "in.onnx of --custom-ops is no library of operators"),
        (["--keep", "0.5", "--custom-ops", "none.so"], "the library of --custom-ops none.so does not exist"),
        (["--keep", "0.5", "--custom-ops", "json"], "json is neither a file nor a package with operators"),
    ],
)
def test_arguments_that_make_no_sense(here, capsys, arguments, said):
    code, message = failure(capsys, "in.onnx", "out.onnx", *arguments)
    assert code == 2 and said in message
    assert names(here) == ["in.onnx"]


def test_missing_file_names(here, capsys):
    assert failure(capsys) == (2, "name the input and the output file: onnx-merge IN OUT --keep 0.6; see --help")
    assert "name the output file:" in failure(capsys, "in.onnx", "--keep", "0.5")[1]
    code, message = failure(capsys, "--keep", "0.5", "--exclude", "a", "in.onnx", "out.onnx")
    assert code == 2 and "before --exclude, which takes all words after it" in message


def test_file_names_stand_anywhere(here):
    for arguments in (
        ["in.onnx", "--keep", "0.5", "out.onnx"],
        ["--keep", "0.5", "in.onnx", "out.onnx"],
        ["--exclude", "first", "head", "--keep=0.5", "in.onnx", "out.onnx"],
        ["--keep=0.5", "--exclude", "first", "head", "--", "in.onnx", "out.onnx"],
        ["in.onnx", "out.onnx", "--keep=0.5", "--exclude", "first", "--exclude", "head"],
    ):
        assert cli.main(["-q", "--force", "--method", "merge", *arguments]) == 0, arguments
    assert next(iter(onnx.load("out.onnx").graph.initializer)).dims == [32, 16]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("in.onnx", "is the input itself"),
        ("./in.onnx", "is the input itself"),
        ("link.onnx", "is the input itself"),
        (".", "is a folder"),
        ("none/out.onnx", "does not exist: create it first"),
        ("there.onnx", "exists: choose another name, or replace it with --force"),
        ("/dev/null", "is not a regular file"),
        ("x" * 300, "cannot be written"),
        ("/proc/out.onnx", "cannot be written to"),
    ],
)
def test_outputs_are_checked_before_the_work(here, capsys, monkeypatch, output, said):
    monkeypatch.setattr(optimize, "load_source", None)
    (here / "link.onnx").symlink_to(here / "in.onnx")
    (here / "there.onnx").write_text("precious")
    before = {path.name: sha(path) for path in here.iterdir()}
    code, message = failure(capsys, "in.onnx", output, "--keep", "0.5")
    assert code == 2 and said in message
    assert {path.name: sha(path) for path in here.iterdir()} == before


def test_the_users_other_files_are_not_replaced(here, capsys):
    (here / "c.toml").write_text("keep = 0.5")
    np.savez(here / "s.npz", x=np.zeros((2, 16), np.float32))
    for files in (["c.toml"], ["s.npz"], ["out.onnx", "--report", "c.toml"], ["out.onnx", "--report", "s.npz"]):
        code, message = failure(capsys, "in.onnx", *files, "--config", "c.toml", "--calib", "s.npz", "--force")
        assert code == 2 and "would overwrite" in message
    assert names(here) == ["c.toml", "in.onnx", "s.npz"]


def test_a_full_disk(here, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(save.os, "fsync", full)
    before = sha(here / "in.onnx")
    code, message = failure(capsys, "in.onnx", "out.onnx", "--keep", "0.5", "--report", "r.json")
    assert code == 1 and "the disk is full" in message
    assert names(here) == ["in.onnx"] and sha(here / "in.onnx") == before


def test_a_report_that_cannot_be_written(here, capsys, monkeypatch):
    real, calls = os.replace, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    code, message = failure(capsys, "in.onnx", "out.onnx", "--keep", "0.5", "--report", "r.json")
    assert code == 1 and "r.json cannot be written: Input/output error" in message
    assert names(here) == ["in.onnx", "out.onnx"]


def test_nothing_to_do(here, capsys):
    code, message = failure(capsys, "in.onnx", "out.onnx", "--lossless", "--report", "r.json")
    assert code == 4 and "no channel is free" in message and names(here) == ["in.onnx"]
    code, message = failure(capsys, "in.onnx", "out.onnx", "--keep", "0.5", "--exclude", "first", "second")
    assert code == 4 and "excluded by" in message and names(here) == ["in.onnx"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--target-macs", "0.001", "--align", "1"],
            "target-macs 0.001 cannot be met: the least that can be reached is 0.0",
        ),
        (["--target-params", "0.001", "--align", "1"], "target-params 0.001 cannot be met: the least that can be"),
        (["--target-macs", "0.1", "--align", "16"], "multiples of 16: --align 1 or auto may come nearer"),
        (["--target-macs", "0.5", "--exclude", "first", "second"], "is 1.0000: exclude less"),
        (["--target-macs", "1e-9", "--allocation", "uniform"], "target-macs 1e-09 cannot be met"),
    ],
)
def test_targets_that_cannot_be_met(here, capsys, arguments, said):
    code, message = failure(capsys, "in.onnx", "out.onnx", "--method", "merge", *arguments, "--report", "r.json")
    assert code == 4 and said in message and names(here) == ["in.onnx"]


@pytest.mark.parametrize("budget", ["macs", "params"])
def test_targets(here, budget):
    arguments = [f"--target-{budget}", "0.5", "--align", "1", "--method", "merge", "--report", "r.json", "-q"]
    assert cli.main(["in.onnx", "out.onnx", *arguments]) == 0
    report = json.loads((here / "r.json").read_text())
    assert report["after"][budget] == pytest.approx(0.5 * report["before"][budget], rel=0.01)
    (here / "c.toml").write_text(f"target-{budget} = 0.1\nalign = 1\nmethod = 'merge'\n")
    assert cli.main(["in.onnx", "two.onnx", "--config", "c.toml", "--keep", "1", "-q", "--no-provenance"]) == 0
    assert onnx.load("two.onnx") == onnx.load("in.onnx")


def test_inputs_of_layers_stay(here):
    arguments = ["--keep", "0.5", "--exclude-inputs", "head", "--method", "merge", "--allocation", "uniform", "-q"]
    assert cli.main(["in.onnx", "out.onnx", *arguments]) == 0
    sizes = {t.name: tuple(t.dims) for t in onnx.load("out.onnx").graph.initializer}
    assert sizes["w3"] == (4, 24) and sizes["w1"] == (16, 16)


def test_keep_1_is_a_copy(here):
    assert cli.main(["in.onnx", "out.onnx", "--keep", "1", "-q", "--no-provenance"]) == 0
    assert onnx.load("out.onnx") == onnx.load("in.onnx")


def test_a_missed_gate_shows_the_numbers_all_the_same(here, capsys):
    code = cli.main(["in.onnx", "out.onnx", "--keep", "0.3", "--min-cosine", "0.9999", "--report", "r.json"])
    out, err = capsys.readouterr()
    assert code == 3 and "parameters" in out and names(here) == ["in.onnx", "out.rejected.onnx", "r.json"]
    assert err.count("\n") == 1 and err.endswith("below --min-cosine 0.9999: see out.rejected.onnx\n")
    onnx.checker.check_model("out.rejected.onnx")


def test_an_unsound_result(here, capsys, monkeypatch):
    def unsound(*args, **settings):
        raise onnx_merge.StructureError("the result is\nnot a valid model")

    monkeypatch.setattr(result_evaluation, "check_structure", unsound)
    code, message = failure(capsys, "in.onnx", "out.onnx", "--keep", "0.5", "--report", "r.json")
    assert (code, message) == (5, "the result is not a valid model") and names(here) == ["in.onnx"]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.skipif(os.name == "nt", reason="other signals")
def test_a_process_that_is_ended_leaves_no_temporary_files(here, name, code):
    text = f"""if True:
        import os, signal, sys, tempfile
        from onnx_merge.cli import main
        from onnx_merge.compression.job import Job
        def ended(*_):
            assert os.listdir(tempfile.gettempdir())
            os.kill(os.getpid(), signal.{name})
        Job.compress = ended
        signal.signal(signal.{name}, signal.SIG_DFL)  # nohup ignores one of them
        sys.argv[1:] = ["in.onnx", "out.onnx", "--keep", "0.5"]
        sys.exit(main.main())"""
    folder = here / "temporary"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (code, "onnx-merge: error: terminated: nothing was written\n")
    assert not [name for name in os.listdir(folder) if "onnx_merge" in name] and "out.onnx" not in names(here)


def test_names_hold_no_control_codes_on_the_screen_and_the_page(here, capsys):
    model = network()
    model.graph.node[0].name = "\x1b[31mred\u202e\x9b"
    onnx.save(model, "in.onnx")
    assert cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "--html", "page.html", "-v"]) == 0
    assert cli.main(["inspect", "in.onnx", "--html", "inspect.html"]) == 0
    shown = capsys.readouterr().out + (here / "page.html").read_text() + (here / "inspect.html").read_text()
    assert "\ufffd[31mred\ufffd\ufffd" in shown and not {"\x1b", "\u202e", "\x9b"} & {*shown}
    assert cli.main(["\x1b[31m.onnx", "out.onnx"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: nothing was written"),
        (KeyError("w\n1"), 1, r"internal error: KeyError: 'w\n1'"),
        (AssertionError(), 1, "internal error: AssertionError:"),
        (MemoryError(), 1, "not enough memory"),
    ],
)
def test_whatever_happens_it_is_one_line(here, capsys, monkeypatch, raised, code, said):
    def fails(*args, **settings):
        raise raised

    monkeypatch.setattr(Job, "compress", fails)
    assert failure(capsys, "in.onnx", "out.onnx", "--keep", "0.5") == (code, said)
    assert names(here) == ["in.onnx"]


def test_an_interrupt_while_writing_leaves_nothing(here, capsys, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(save.os, "fsync", interrupted)
    interrupt = (130, "interrupted: nothing was written")
    assert failure(capsys, "in.onnx", "out.onnx", "--keep", "0.5", "--report", "r.json") == interrupt
    assert names(here) == ["in.onnx"]


@pytest.mark.parametrize(
    ("during", "left"),
    [("write_report", "{}/out.onnx was written"), ("write_page", "{}/r.json and 1 more before it were written")],
)
def test_an_interrupt_names_what_was_written_before(here, capsys, monkeypatch, during, left):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(optimize, during, interrupted)
    arguments = ("in.onnx", "out.onnx", "--keep", "0.5", "--report", "r.json", "--html", "p.html")
    assert failure(capsys, *arguments) == (130, f"interrupted: {left.format(here.resolve())}, whole")
    onnx.checker.check_model("out.onnx")
    assert names(here) == ["in.onnx", "out.onnx", *(["r.json"] if during == "write_page" else [])]


def test_a_traceback_only_for_those_who_ask(here, capsys, monkeypatch):
    monkeypatch.setattr(Job, "compress", None)
    assert cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_quiet_prints_nothing(here, capsys):
    assert cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_verbose_adds_op_counts(here, capsys):
    cli.main(["in.onnx", "out.onnx", "--keep", "0.5"])
    assert "\n  Gemm" not in capsys.readouterr().out
    cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "--force", "-v"])
    assert "\n  Gemm" in capsys.readouterr().out


def test_a_dry_run_needs_no_output(here, capsys):
    assert cli.main(["in.onnx", "--keep", "0.5", "--dry-run"]) == 0
    assert cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "--dry-run", "--allocation", "uniform"]) == 0
    out = capsys.readouterr().out
    assert "32 -> 16" in out and "no model was written" in out and names(here) == ["in.onnx"]


def test_options_from_a_file(here, capsys):
    (here / "c.toml").write_text('keep = 0.5\nreport = "r.json"\n[keep-layer]\nsecond = 0.25\n')
    assert cli.main(["in.onnx", "out.onnx", "--config", "c.toml"]) == 0
    assert [g["kept"] for g in json.loads((here / "r.json").read_text())["groups"]] == [16, 6, 4]
    assert cli.main(["in.onnx", "out.onnx", "--config", "c.toml", "--keep", "0.75", "--force"]) == 0
    assert [g["kept"] for g in json.loads((here / "r.json").read_text())["groups"]] == [24, 6, 4]
    capsys.readouterr()
    (here / "c.toml").write_text("kep = 0.5")
    code, message = failure(capsys, "in.onnx", "out.onnx", "--config", "c.toml")
    assert code == 2 and message == "c.toml: unknown option 'kep': did you mean keep?"


def test_layers_by_expression(here):
    assert cli.main(["in.onnx", "o.onnx", "--keep", "0.5", "--keep-layer", "(?=f)first=1", "-q", "--report", "r"]) == 0
    assert [g["kept"] for g in json.loads((here / "r").read_text())["groups"]] == [32, 12, 4]


BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
"""Values of PYTHONUNBUFFERED, which images of containers often set: printing itself fails then, not the flush."""


@BUFFERING
@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_reader_that_leaves(here, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    os.close(read)
    try:
        out = here / "out.onnx"
        done = process(
            here / "in.onnx", out, "--keep", "0.5", "--method", "merge", capture_output=False, stdout=write, stderr=-1
        )
        assert (done.returncode, done.stderr) == (0, "") and out.exists()
        for argument in ("--help", "--version"):
            done = process(argument, capture_output=False, stdout=write, stderr=-1)
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        os.close(write)


@BUFFERING
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_standard_output_on_a_full_disk(here, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        done = process("--help", capture_output=False, stdout=full, stderr=-1)
    assert done.returncode == 1
    assert done.stderr == "onnx-merge: error: standard output cannot be written to: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell")
def test_closed_standard_streams(here):
    command = f"{sys.executable} -m onnx_merge {here}/in.onnx {here}/out.onnx --keep 0.5 --method merge --force"
    for closed in (">&-", ">&- 2>&-"):
        assert subprocess.run(f"{command} {closed}", shell=True, cwd=ROOT, capture_output=True).returncode == 0


def test_a_narrow_encoding(here, monkeypatch):
    model = network()
    model.graph.node[0].name = "erste Schicht ä"
    onnx.save(model, here / "in.onnx")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = process(here / "in.onnx", here / "out.onnx", "--keep", "0.5", "--method", "merge", env=environment)
    assert (done.returncode, done.stderr) == (0, "") and "erste Schicht \\xe4" in done.stdout


def test_the_parser_raises_instead_of_leaving():
    parser = Parser()
    parser.add_argument("--n", type=int)
    with pytest.raises(UsageError, match="--n: invalid int value: 'x'"):
        parser.parse_args(["--n", "x"])
    assert isinstance(parser, argparse.ArgumentParser)
