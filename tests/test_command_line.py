"""`python -m micrograd_scratch`: what each command prints, where, and with which exit code."""

import builtins
import configparser
import json
import os
import subprocess
import sys
from importlib import metadata

import pytest
from test_comparison import TINY

from micrograd_scratch import __main__ as command_line
from micrograd_scratch import __version__, comparison, tables
from micrograd_scratch.__main__ import main

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(command_line.__file__)))


@pytest.fixture
def run(capsys):
    """run(*arguments) -> exit code, stdout, stderr."""

    def run_main(*arguments):
        try:
            code = main(list(arguments))
        except SystemExit as exit:  # argparse's own
            code = exit.code
        out, err = capsys.readouterr()
        return code, out, err

    return run_main


@pytest.fixture
def tiny(monkeypatch):
    """compare on a network of 14 parameters instead of the digits."""
    monkeypatch.setattr(comparison, "digits_problem", lambda seed: TINY)


def one_line(error):
    return error.endswith("\n") and error.count("\n") == 1 and "Traceback" not in error


def process(*arguments, **options):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "micrograd_scratch", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


# -- compare ---------------------------------------------------------------------------------------


def test_compare_prints_the_five_parts(run, tiny):
    code, out, err = run("compare", "--seconds", "1")
    assert code == 0 and err == ""
    assert [f"{n}. " in out for n in range(1, 6)] == [True] * 5
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= 80


def test_compare_is_the_default(run, tiny, monkeypatch):
    seen = []

    def stub(**options):
        seen.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "compare", stub)
    run()
    run("--seconds", "7", "--seed", "3")
    assert [(s["seconds"], s["seed"]) for s in seen] == [(35.0, 0), (7.0, 3)]


def test_compare_json_and_pictures(run, tmp_path, monkeypatch):
    result = comparison.compare(TINY, seconds=0.1)
    monkeypatch.setattr(comparison, "compare", lambda **options: result)
    folder = tmp_path / "new" / "folder"
    code, out, err = run("--json", "--plot", str(folder))
    assert code == 0 and err == ""
    told = json.loads(out)
    assert told["version"] == __version__ and told["gradients"]["parameters"] == 14
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"{part}.{kind}"
        for part in ("gradients", "steps", "growth", "shares", "training")
        for kind in ("png", "svg")
    )


def test_progress_is_one_line_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    with command_line._Progress() as progress:
        progress("a long story " * 10)
    err = capsys.readouterr().err
    assert "\n" not in err and err.endswith(" \r") and "a long story" in err
    assert max(map(len, err.split("\r"))) == 39


def test_progress_is_silent_in_a_pipe(capsys):
    with command_line._Progress() as progress:
        progress("unseen")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seconds", "0"], "'0' is no number of seconds from 1 to 3600"),
        (["--seconds", "nan"], "'nan' is no number of seconds"),
        (["--seconds", "soon"], "'soon' is no number of seconds"),
        (["compare", "--seed", "-1"], "'-1' is no whole number"),
        (["compare", "--seed", "9" * 5000], "is no whole number"),
        (["compare", "--sede", "1"], "unrecognized arguments"),
        (["compair"], "invalid choice: 'compair'"),
        (["check"], "required: EXPRESSION"),
    ],
)
def test_usage_errors(run, arguments, told):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and one_line(err)
    assert told in err and "--help" in err


def test_a_folder_that_cannot_be_made(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    code, out, err = run("--plot", str(file / "pictures"))
    assert code == 2 and out == "" and one_line(err)
    assert str(file) in err and "name another folder" in err


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("matplotlib", ["--plot", "."], "pip install matplotlib"),
        ("sklearn.datasets", [], "scikit-learn, which is not installed: pip install"),
    ],
)
def test_what_is_missing_is_named_with_the_mend(run, monkeypatch, module, arguments, told):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and one_line(err) and told in err


def test_interrupt(run, monkeypatch):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "compare", interrupted)
    code, out, err = run("compare")
    assert code == 130 and out == "" and err.strip().endswith("interrupted")
    assert "Traceback" not in err


def test_a_reader_that_leaves_early():
    child = process("doctor")
    child.stdout.close()
    assert child.wait(60) == 141 and child.stderr.read() == ""
    child.stderr.close()


@pytest.mark.slow
def test_digits_for_real():
    pytest.importorskip("sklearn")
    child = process("--seconds", "2", "--json")
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0 and err == ""
    told = json.loads(out)
    assert told["gradients"]["parameters"] == 1210 and told["gradients"]["batch_rows"] == 32
    assert told["training_rows"] + told["held_out_rows"] == 1797
    by_name = {(c["method"], c["executor"]): c for c in told["gradients"]["costs"]}
    for (method, executor), cost in by_name.items():
        # on the same executor, or through Values: a factor of 40 and more, whatever the load
        reverse = by_name.get(("reverse mode", executor), by_name["reverse mode", "Values"])
        if method != "reverse mode":
            assert cost["seconds_per_gradient"] > 5 * reverse["seconds_per_gradient"]


# -- check -----------------------------------------------------------------------------------------


def test_check_shows_both_derivatives(run):
    code, out, err = run("check", "exp(sin(x))*tanh(x)", "x=0.7")
    assert code == 0 and err == ""
    assert "f = exp(sin(x))*tanh(x)\n  = 1.15101633701464" in out
    assert "2.08920520216" in out and "ok" in out and "1 of 1 passed" in out


def test_check_takes_several_variables_in_any_order(run):
    code, out, _ = run("check", "y*x + z", "z=1", "x = -2", "y=3e0")
    assert code == 0 and "f(y, x, z): 3 of 3 passed" in out
    assert "= -5 at y = 3, x = -2, z = 1" in out


@pytest.mark.parametrize("formula", ["-x**2", "-exp(x)", "(-x)", "-.5*x"])
def test_check_takes_formulas_that_look_like_options(run, formula):
    code, out, _ = run("check", formula, "x=2")
    assert code == 0 and f"f = {formula}" in out


def test_check_json(run):
    code, out, _ = run("check", "log(x)*y", "x=0.5", "y=2", "--json")
    told = json.loads(out)
    assert code == 0 and told["passed"] and told["expression"] == "log(x)*y"
    assert [row["name"] for row in told["inputs"]] == ["x", "y"]
    assert told["inputs"][0]["autodiff"] == 4.0 and told["evaluations"] >= 5


def test_check_fails_where_there_is_no_derivative(run):
    code, out, err = run("check", "log(x)", "x=-1")
    assert code == 1 and "nan" in out and err == ""
    code, out, _ = run("check", "log(x)", "x=-1", "--json")
    assert code == 1 and json.loads(out)["value"] is None


def test_check_fails_for_a_wrong_rule(run, monkeypatch):
    from micrograd_scratch import tanh

    right = tanh.partials
    monkeypatch.setattr(tanh, "partials", lambda y, x: (1.001 * right(y, x)[0],))
    code, out, _ = run("check", "tanh(x)", "x=0.7")
    assert code == 1 and "WRONG" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x*y", "x=1"], "y has no number: add y=0.7"),
        (["x*y"], "x and y has no number: add x=0.7 y=0.7"),
        (["x", "x=1", "z=2"], "z is not in the expression, whose variables are x"),
        (["3 + pi"], "has no variable"),
        (["x", "x=big"], "cannot read 'x=big': write a name and a finite number"),
        (["x", "x=inf"], "finite number"),
        (["x", "x"], "cannot read 'x'"),
        (["x", "x=1", "x=2"], "x is given twice"),
        (["x.data", "x=1"], "'x.data'"),
        (["__import__('os').system('true')", "x=1"], "understood"),
    ],
)
def test_check_refuses_in_one_line(run, arguments, told):
    code, out, err = run("check", *arguments)
    assert code == 2 and out == "" and one_line(err) and told in err


def test_check_never_evaluates(run, monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("eval or exec was called")

    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    assert run("check", "sin(x)", "x=1")[0] == 0


# -- doctor and the rest ---------------------------------------------------------------------------


def test_doctor_lists_versions(run):
    code, out, err = run("doctor")
    assert code == 0 and err == ""
    for name in ("numpy", "graphviz"):
        (line,) = (line for line in out.splitlines() if line.startswith(f"{name} "))
        assert metadata.version(name) in line
    assert __version__ in out and sys.executable in out


def test_doctor_says_how_to_get_what_is_missing(run, monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing)
    monkeypatch.setenv("PATH", "")
    code, out, _ = run("doctor")
    assert code == 0 and out.count("missing") > 10
    for mend in ("pip install numpy", "pip install rich", "graphviz.org", ".[all]"):
        assert mend in out
    told = json.loads(run("doctor", "--json")[1])
    assert {c["name"]: c["version"] for c in told}["dot"] == ""


def test_doctor_knows_the_extras_as_they_are():
    setup = configparser.ConfigParser()
    setup.read(os.path.join(ROOT, "setup.cfg"))
    if not setup.has_section("options"):
        pytest.skip("no setup.cfg beside the package")
    extras = dict(setup["options.extras_require"], **{"": setup["options"]["install_requires"]})
    for name, extra, _ in command_line.PACKAGES:
        assert name in extras[extra], f"{name} is not in the extra {extra!r}"


def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0 and all(name in out for name in ("compare", "check", "doctor"))
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run("check", "--help")
    assert code == 0 and 'check "exp(sin(x))*tanh(x)" x=0.7' in out
    assert run("--version")[1] == f"micrograd_scratch {__version__}\n"


# -- tables ----------------------------------------------------------------------------------------

TABLE = tables.Table("Title", ("name", "n"), [("a", "1"), ("[red]", "1,000")], note="word " * 40)


def test_text_tables_are_aligned():
    title, heads, rule, first, second, *note = tables.as_text([TABLE]).splitlines()
    assert (title, heads, rule) == ("Title", "name       n", "-----  -----")
    assert (first, second) == ("a          1", "[red]  1,000")
    assert len(note) == 3 and max(map(len, note)) <= 80


def test_rich_tables_keep_brackets_and_color_out_of_pipes():
    rich = pytest.importorskip("rich.console")
    import io

    for width in (40, 120):
        file = io.StringIO()
        tables.print_rich([TABLE], rich.Console(file=file, width=width))
        out = file.getvalue()
        assert "[red]" in out and "1,000" in out and "\x1b" not in out
        assert max(map(len, out.splitlines())) <= width


def test_a_terminal_gets_rich_and_a_pipe_text(capsys, monkeypatch):
    pytest.importorskip("rich")
    command_line._show([TABLE])
    assert "-----  -----" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    command_line._show([TABLE])
    assert "─────" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "rich", None)  # as if it were not installed
    command_line._show([TABLE])
    assert "-----  -----" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0473, "47.3 ms"), (1210.4, "1,210 s"), (25.82, "25.8 s"), (1.0, "1.00 s"),
     (3.5e-7, "0.35 us"), (0.0, "0.00 us"), (float("nan"), "-"), (123e-6, "123 us")],
)  # fmt: skip
def test_seconds(seconds, text):
    assert tables.seconds_text(seconds) == text


def test_errors():
    assert [tables.error_text(e) for e in (2.888e-16, 0.0, float("nan"))] == ["2.9e-16", "0", "-"]
