"""The README says only what is so: its code runs, its commands exist, its lists are complete.

    python tests/test_readme.py     writes the table of files and the notebooks' links anew

The commands themselves are run, letter for letter, by .ci/run.
"""

import ast
import configparser
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]
sys.path.insert(0, str(TREE / "tests" / "benchmarks"))
import readme_figures  # noqa: E402

PACKAGE = TREE / "micrograd_scratch"
README = (TREE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```\n", README, re.DOTALL | re.MULTILINE)
CODE = re.findall(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", README, re.DOTALL | re.MULTILINE
)
ROW = re.compile(r"^\| \[`([\w.]+/?)`\].*\n", re.MULTILINE)
COMMAND = r"(?:python -m micrograd_scratch|pytest)\b[^\n`&]*"
NOTEBOOK = re.compile(r"^(\d+)\. (?:\[(.*?)\]\(.*?\)|(.*?)): (.*)\n", re.MULTILINE)
PERCENT = re.compile(r"(\d+)%")
HEADING = "| file | lines | |\n|---|---:|---|\n"


# ---------------------------------------------------------------- code
@pytest.mark.parametrize("code, output", CODE, ids=[f"block {i}" for i in range(1, len(CODE) + 1)])
def test_every_python_block_prints_what_stands_below_it(code, output, run_python):
    printed, stated = run_python(code), output.strip()
    assert PERCENT.sub("%", printed) == PERCENT.sub("%", stated)
    for p, s in zip(PERCENT.findall(printed), PERCENT.findall(stated), strict=True):
        assert abs(int(p) - int(s)) <= 2  # of 297 digits, after thousands of rounded steps


def test_the_first_block_sets_the_finite_difference_beside_the_gradient():
    code, output = CODE[0]
    assert README.index(code) < 800, "code comes first"
    for line in output.splitlines()[1:]:
        _, autodiff, nudged = line.split()
        assert autodiff != nudged
        assert float(nudged) == pytest.approx(float(autodiff), rel=1e-9)


def test_the_row_that_is_shown_is_the_row_that_runs():
    shown = " ".join(block_with("exp = operation").split())
    lines = (PACKAGE / "operations.py").read_text().splitlines()
    assert shown in [" ".join(line.split()) for line in lines]


def test_one_row_and_one_method_line_add_an_operation(tmp_path, run_python):
    """Both lines go into a copy of the package, where the README says."""
    copy = tmp_path / "micrograd_scratch"
    shutil.copytree(PACKAGE, copy)
    row, method = block_with("cube = operation"), block_with("cube = method")
    insert(copy / "functions.py", row, before="# fmt: on")
    insert(copy / "engine.py", method, before="    # fmt: on")
    answer = run_python(
        f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        from micrograd_scratch import Value, finite_difference, functions, grad, hessian, jvp
        assert functions.__file__.startswith({str(tmp_path)!r})
        x = Value(2.0)
        y = x.cube() + functions.cube(x)
        y.backward()
        print(y.data, x.grad, jvp(y, [x], [1.0]), hessian(y, [x])[0][0].data, functions.cube(2.0))
        print(bool(finite_difference.check(functions.cube, 2.0)))
        """
    )
    assert answer.split() == ["16.0", "24.0", "24.0", "24.0", "8.0", "True"]


def block_with(start: str) -> str:
    (block,) = [body for kind, body in BLOCKS if kind == "text" and body.strip().startswith(start)]
    return block


def insert(path: Path, text: str, before: str) -> None:
    lines = path.read_text().split("\n")
    lines.insert(lines.index(before), text.rstrip("\n"))
    path.write_text("\n".join(lines))


# ---------------------------------------------------------------- commands, links, names
def test_the_commands_name_what_exists():
    setup = configparser.ConfigParser()
    setup.read(TREE / "setup.cfg")
    extras = set(setup["options.extras_require"])
    for named in re.findall(r'pip install (?:-e )?"?\.\[([\w,]+)\]', README):
        assert set(named.split(",")) <= extras
    for extra in re.findall(r"the extra `(\w+)`", README):
        assert extra in extras
    for script in re.findall(r"python ([\w/]+\.py)", README):
        assert (TREE / script).is_file(), script


@pytest.mark.parametrize("command", sorted(set(re.findall(COMMAND, ROW.sub("", README)))))
def test_the_commands_take_these_arguments(command):
    words = shlex.split(command)
    program, arguments = (words[:3], words[3:]) if words[0] == "python" else (words[:1], words[1:])
    program = ["-m", "pytest"] if program == ["pytest"] else program[1:]
    subcommand = [
        arg for arg in arguments[:1] if not arg.startswith("-") and "pytest" not in program
    ]
    command_line = [sys.executable, *program, *subcommand, "--help"]
    shown = subprocess.run(command_line, capture_output=True, text=True, cwd=TREE)
    assert shown.returncode == 0, shown.stderr
    for flag in arguments:
        assert not flag.startswith("-") or flag.split("=")[0] in shown.stdout, flag


def test_links_lead_somewhere():
    headings = re.findall(r"^#+ (.*)", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (TREE / target).exists(), target
    assert "Adding an operation" in headings  # error messages send people there


def test_the_counts_of_the_comparison_follow_from_its_network():
    from micrograd_scratch import MLP

    n = len(MLP(64, [16, 10]).parameters())
    section = README.split("## What the comparison shows")[1].split("\n## ")[0]
    for count in (
        f"{n:,} parameters",
        f"forward differences take {n + 1:,}",
        f"{2 * n:,}. Forward",
    ):
        assert count in section, count


def test_the_comparison_counts_what_is_said_of_one_nudge():
    pytest.importorskip("sklearn")
    from micrograd_scratch.comparison import compare_shares, digits_problem

    shares = compare_shares(digits_problem())
    first = next(share for share in shares.groups if share.group == "W1")
    assert f"changes {first.share_of_nodes:.0%} of the nodes, yet only " in README
    assert f"{first.share_of_operations:.0%} of\n  the work" in README
    assert (
        f"the work of {shares.evaluations_recomputing_changed_operands:.0f} evaluations" in README
    )


# ---------------------------------------------------------------- pictures and figures
def test_the_pictures_are_what_the_script_draws():
    """The collapse to the letter; the other is laid out by Graphviz: its words and numbers."""
    from pictures import Picture

    from micrograd_scratch.rendering import layout_engine

    def stored(name: str) -> str:
        return (readme_figures.PICTURES / f"{name}.svg").read_text(encoding="utf-8")

    advice = "run: python tests/benchmarks/readme_figures.py"
    assert stored("collapse") == readme_figures.collapse() + "\n", advice
    if layout_engine() is None:
        pytest.skip("found neither dot nor pygraphviz")
    drawn, kept = (
        Picture(svg) for svg in (readme_figures.backpropagation(), stored("backpropagation"))
    )
    assert sorted(kept.texts(kept.root)) == sorted(drawn.texts(drawn.root)), advice


def test_the_measured_table_follows_from_what_was_measured():
    """On a made-up output: who is divided by whom, what is bold, how many targets were met."""
    heading = f"{'':62}{'target':>10}{'measured':>10}"
    rows = [
        ("moons: passes and emission, s", 1.0, 0.4, "met"),
        ("moons: compiled / by hand", 1.0, 1.234, "MISSED"),
        ("moons: compiled / PyTorch eager", 0.25, 0.1, "met"),
        *[
            row
            for rows in (1, 32, 256)
            for row in (
                (f"64-32-10, {rows} rows, float32: (compiled - 10 us) / by hand", 1.1, 0.9, "met"),
                (f"64-32-10, {rows} rows, float32: compiled / PyTorch eager", 1.0, 2.0, "MISSED"),
            )
        ],
        ("gpt, with dot: four documents / the longest of them", 2.5, 3.0, "MISSED"),
    ]
    lines = [
        f"{what:62}{target:10.4g}{figure:10.4g}  {said}" for what, target, figure, said in rows
    ]
    first = ["A processor, CPython 3", "NumPy 2, PyTorch 2", "threads"]
    scalars = ["garbage collector off", "  micrograd / compiled     5000", ""]
    measured = "\n".join([*first, *scalars, heading, *lines])
    table = readme_figures.tables(measured + "\n5 of 10 targets met\n").splitlines()
    assert "A processor, CPython 3 with NumPy 2, PyTorch 2" in table[0]
    assert "5 of 10 targets were met" in table[1]
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in table[7:]]
    assert cells[0] == ["**1.23**", "1", "0.10", "0.25"]
    assert cells[1] == ["0.90, 0.90, 0.90", "1.1", "**2.00**, **2.00**, **2.00**", "1"]
    assert "64-32-10, float32, at 1, 32, 256 rows" in table[8]
    assert cells[5:] == [["0.4", "1"], ["**3**", "2.5"], ["5,000", ""]]
    assert "micrograd, collector off / compiled" in table[-1]


def test_the_measured_table_names_a_machine_and_its_misses():
    section = README.split(readme_figures.START)[1].split(readme_figures.END)[0]
    met, all_ = map(int, re.search(r"; (\d+) of (\d+) targets", section).groups())
    stated = [cell for line in section.splitlines()[6:] for cell in line.split("|")[2:-1]]
    assert sum(cell.count("**") // 2 for cell in stated) == all_ - met
    assert re.search(r"Measured on .+, CPython [\d.]+ with NumPy [\d.]+, PyTorch", section)


def test_every_notebook_is_listed_under_its_title():
    listed = {number: (title, about) for number, title, _, about in NOTEBOOK.findall(README)}
    for path in (TREE / "notebooks").glob("*.ipynb"):
        number, title = path.name.partition("_")[0], title_of(path)
        assert listed[number][0] == title, "run: python tests/test_readme.py"


def title_of(notebook: Path) -> str:
    first = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
    return first.splitlines()[0].partition(". ")[2]


def write_notebooks() -> None:
    """Every title of the list as a link, if the notebook is there."""

    def line(match: re.Match[str]) -> str:
        number, linked, plain, about = match.groups()
        found = sorted((TREE / "notebooks").glob(f"{number}_*.ipynb"))
        if not found:
            return f"{number}. {linked or plain}: {about}\n"
        return f"{number}. [{title_of(found[0])}](notebooks/{found[0].name}): {about}\n"

    path = TREE / "README.md"
    path.write_text(NOTEBOOK.sub(line, path.read_text(encoding="utf-8")), encoding="utf-8")


# ---------------------------------------------------------------- the table of files
def entries() -> list[str]:
    """What the table lists: the package's files, and the folders in it as one entry each."""
    files = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    return files + [f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")]


def lines_and_purpose(entry: str) -> tuple[int, str]:
    """How many lines there are, and the first paragraph of the docstring, on one line."""
    path = PACKAGE / entry
    files, main = (path.rglob("*.py"), path / "__init__.py") if path.is_dir() else ([path], path)
    lines = sum(file.read_text(encoding="utf-8").count("\n") for file in files)
    docstring = ast.get_docstring(ast.parse(main.read_text(encoding="utf-8"))) or ""
    purpose = " ".join(docstring.split("\n\n")[0].split()).removesuffix(".")
    return lines, purpose.replace("|", r"\|")


def test_every_file_is_in_the_table():
    assert sorted(ROW.findall(README)) == sorted(entries()), "run: python tests/test_readme.py"


@pytest.mark.parametrize("row", list(ROW.finditer(README)), ids=lambda row: row[1])
def test_the_table_says_how_long_a_file_is_and_what_it_does(row):
    _, _, stated, purpose, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", row[0]))
    lines, expected = lines_and_purpose(row[1])
    assert purpose == expected, "run: python tests/test_readme.py"
    assert abs(int(stated) - lines) <= max(20, 0.1 * lines), "run: python tests/test_readme.py"


def test_the_sizes_admitted_are_the_sizes_there_are():
    def lines(*entries_: str) -> int:
        return sum(lines_and_purpose(entry)[0] for entry in entries_)

    stated = re.search(r"It has ([\d,]+), ([\d,]+) and\s+([\d,]+)", README).groups()
    counted = lines(*entries()), lines("operations.py", "engine.py"), lines("compiler/")
    for text, count in zip(stated, counted, strict=True):
        assert abs(int(text.replace(",", "")) - count) <= 0.1 * count, (text, count)


def write_table() -> None:
    """Every row anew, in the order they have; what is not in the table yet comes last."""
    before, after = README.split(HEADING)
    order = [entry for entry in ROW.findall(after) if entry in entries()]
    rows = ""
    for entry in order + sorted(set(entries()) - set(order)):
        lines, purpose = lines_and_purpose(entry)
        rows += f"| [`{entry}`](micrograd_scratch/{entry}) | {round(lines, -1)} | {purpose} |\n"
    new = before + HEADING + rows + ROW.sub("", after)
    (TREE / "README.md").write_text(new, encoding="utf-8")


# ---------------------------------------------------------------- NumPy
def ufuncs_listed() -> list[str]:
    return block_with("absolute add").split()


def floating_ufuncs() -> dict[str, object]:
    """NumPy's own ufuncs of one or two floats with one result, each under its first name."""
    import numpy as np

    found = {}
    for thing in vars(np).values():
        if isinstance(thing, np.ufunc) and thing.signature is None and thing.nout == 1:
            if "d" * thing.nin + "->d" in thing.types:
                found[thing.__name__] = thing
    return found


def takes_values(ufunc) -> bool:
    """Whether it gives Values with the right number and derivative, alone and in arrays."""
    import numpy as np

    from micrograd_scratch import Value, finite_difference

    for point in ((0.4, 0.7), (1.7, 2.3)):  # inside the domain of each function at least once
        point = point[: ufunc.nin]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = float(ufunc(*point))
            if not math.isfinite(expected):
                continue
            slopes = finite_difference.gradient(lambda *xs: float(ufunc(*xs)), list(point))
        for inside_array in (False, True):
            xs = [Value(x) for x in point]
            try:
                if inside_array:
                    y = ufunc(*(np.array([x], dtype=object) for x in xs))[0]
                else:
                    y = ufunc(*xs)
                y.backward()
            except (TypeError, AttributeError):
                return False
            if not isinstance(y, Value) or y.data != pytest.approx(expected, rel=1e-14):
                return False
            if [x.grad for x in xs] != pytest.approx(slopes, rel=1e-6, abs=1e-9):
                return False
    return True


def test_the_ufuncs_listed_take_values_and_no_others_do():
    pytest.importorskip("numpy")
    assert ufuncs_listed() == sorted(n for n, u in floating_ufuncs().items() if takes_values(u))


def test_the_array_functions_named_take_values():
    import numpy as np

    from micrograd_scratch import Value

    numbers, x = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 2.0])
    W = np.array([[Value(w) for w in row] for row in numbers])
    section = README.split("## With NumPy")[1].split("```")[0]
    named = re.findall(r"`np\.(\w+)`", section)
    assert set(named) >= {"dot", "sum", "mean", "prod", "cumsum", "outer", "einsum"}
    for name in ["matmul", *named]:
        arguments = {"dot": [x], "matmul": [x], "outer": [x]}.get(name, [])
        first = ["ij,j->i"] if name == "einsum" else []
        arguments = [x] if name == "einsum" else arguments
        answer = np.ravel(getattr(np, name)(*first, W, *arguments))
        expected = np.ravel(getattr(np, name)(*first, numbers, *arguments))
        assert [y.data for y in answer] == pytest.approx(list(expected)), name
    (W @ x)[0].backward()
    assert [w.grad for w in W[0]] == [0.5, 2.0]


def test_what_is_said_about_comparisons_and_maximum_in_numpy():
    import numpy as np

    import micrograd_scratch
    from micrograd_scratch import Value

    assert isinstance(np.float64(1) < Value(2.0), Value)
    assert (np.array([Value(1.0)]) < 2.0).dtype == bool
    assert (np.array([Value(1.0)]) < np.array([Value(2.0)])).dtype == bool
    a, b = Value(1.0), Value(1.0)
    assert np.maximum(a, b) is a
    assert np.maximum(a, 3.0) == 3.0 and not isinstance(np.maximum(a, 3.0), Value)
    assert np.sign(a) == 1.0 and not isinstance(np.sign(a), Value)
    for function in (np.arctan2, np.hypot, np.fmod):
        assert isinstance(function(a, 1.0), Value)
        with pytest.raises(AttributeError):
            function(1.0, a)
    assert isinstance(micrograd_scratch.hypot(1.0, a), Value)


# ---------------------------------------------------------------- micrograd
def test_the_block_for_users_of_micrograd_prints_the_same_with_micrograd(run_python):
    pytest.importorskip("micrograd")
    (example,) = [pair for pair in CODE if "from micrograd." in pair[0]]
    code = re.sub(r"^from micrograd_scratch.*# (from.*)$", r"\1", example[0], flags=re.MULTILINE)
    code = code.replace(', init="uniform"', "")
    assert "micrograd_scratch" not in code
    assert run_python(code) == example[1].strip()


def test_what_is_said_to_differ_from_micrograd():
    from micrograd_scratch import Value, detect_anomaly, exp

    a, b = Value(3), Value(3.0)
    with pytest.raises(TypeError, match="adding an operation"):
        Value(1.0, (a, b), "+")
    assert not hasattr(a, "_backward")
    assert str(a.data) == "3.0"
    y = a - b
    assert isinstance(y._prev, tuple) and y._prev == y.parents and y.op == y._op == "-"
    assert ((a / b).op, (-a).op) == ("/", "neg")
    assert (a**b).data == 27.0
    assert isinstance(a == b, Value) and (a == b) and (a == b).data == 1.0 and a is not b
    assert (Value(1) / 0).data == math.inf
    with pytest.raises(ArithmeticError), detect_anomaly():
        Value(1) / 0
    for lossy in (float, math.exp):
        with pytest.raises(TypeError, match=r"\.data"):
            lossy(a)
    assert exp(a).data == math.exp(3.0)


# ---------------------------------------------------------------- limits
def test_what_is_said_about_limits():
    import copy
    import pickle

    from micrograd_scratch import Value, compile, recompute

    x = Value(2.0)
    y = x * x
    x.data = 3.0
    y.backward()
    assert y.data == 4.0
    recompute(y)
    assert y.data == 9.0
    with pytest.raises(TypeError, match="deepcopy"):
        pickle.dumps(y)
    assert pickle.loads(pickle.dumps(x)).data == 3.0
    assert copy.deepcopy(y).parents[0] is not x
    assert pickle.loads(pickle.dumps(compile(y)))() == 9.0
    x.data = 3
    assert type((x * x).data) is int


if __name__ == "__main__":
    write_table()
    write_notebooks()
