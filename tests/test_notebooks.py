"""The notebooks: executed from top to bottom, and looked at as they are stored.

They run two at a time, each in a directory of its own with the notebooks' data, offline, under the
Python that runs the tests. What they claim they assert themselves. It leaves out how they look.
"""

import importlib.util
import json
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT
from mutants import MUTANTS

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 1_000_000
SECONDS = 600  # a machine may be busy; that they take at most 30 s is not for a test to say


def read(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def texts(notebook):
    """All text that a reader sees as output."""
    for output in outputs(notebook):
        yield output.get("text", "")
        yield "".join(output.get("data", {}).get("text/plain", ""))


def each_notebook(function):
    return pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)(function)


# ---------------------------------------------------------------- executed
def execute(path, folder):
    """The notebook after a run in that folder, by a kernel of this Python that sees no network."""
    for data in FOLDER.iterdir():
        if data.is_file() and data.suffix != ".ipynb":
            shutil.copy(data, folder)
    kernels = folder / ".kernels" / "kernels" / "this_python"
    kernels.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "this Python", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(spec))
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "PYTHONWARNINGS": "ignore",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    notebook = read(path)
    client = nbclient.NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="this_python",
        resources={"metadata": {"path": str(folder)}},
    )
    client.create_kernel_manager()
    client.km.kernel_spec_manager.kernel_dirs.insert(0, str(kernels.parent))
    client.execute(env=environment)
    return notebook


NO_NETWORK = '''\
"""Connections that leave this machine are refused."""
import socket

connect = socket.socket.connect


def only_here(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"a notebook must run offline, and connects to {address}")
    return connect(self, address)


socket.socket.connect = only_here
'''


@pytest.fixture(scope="module")
def executed(request, tmp_path_factory):
    """executed(path) -> the notebook after its run; the selected ones run two at a time, ahead."""

    def run(path):
        return execute(path, tmp_path_factory.mktemp(path.stem[:20]))

    if "PYTEST_XDIST_WORKER" in os.environ:  # the workers are the parallelism
        yield run
        return
    wanted = [
        item.callspec.params["path"]
        for item in request.session.items
        if "executed" in getattr(item, "fixturenames", ()) and item.path == Path(__file__)
    ]
    pool = ThreadPoolExecutor(max_workers=2)
    runs = {path: pool.submit(run, path) for path in wanted}
    yield lambda path: runs[path].result()
    pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@each_notebook
def test_it_runs_from_top_to_bottom(path, executed):
    notebook = executed(path)
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    kinds = [[o.output_type for o in c.get("outputs", [])] for c in notebook.cells]
    stored = [[o.output_type for o in c.get("outputs", [])] for c in read(path).cells]
    assert [bool(k) for k in kinds] == [bool(s) for s in stored], "stored outputs are of old code"


# ---------------------------------------------------------------- as they are stored
def test_there_are_notebooks():
    numbers = [int(path.name.split("_")[0]) for path in NOTEBOOKS]
    assert len(numbers) == len(set(numbers)) and {1, 2, 9} <= set(numbers)


@each_notebook
def test_it_is_stored_with_its_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code if cell.source.strip()]
    assert None not in counts and counts == sorted(counts)
    shown = [kind for output in outputs(notebook) for kind in output.get("data", {})]
    assert any(kind.startswith("image/") for kind in shown), "there is no picture"
    assert path.stat().st_size < MOST_BYTES


@each_notebook
def test_it_is_neutral(path):
    """No errors, no warnings, no paths of somebody's machine, no widgets without a kernel."""
    notebook = read(path)
    for output in outputs(notebook):
        assert output.output_type != "error" and output.get("name") != "stderr"
        assert not any("widget" in kind for kind in output.get("data", {}))
    everything = [*texts(notebook), *(cell.source for cell in notebook.cells)]
    for text in everything:
        assert "Traceback" not in text
        assert not re.search(r"/(home|work|root|tmp|Users|usr/lib)/|[A-Z]:\\\\", text), text
        assert not re.search(r"\x1b\[", text)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"


@each_notebook
def test_it_teaches(path):
    """A title with its number, a prediction to make, claims that are asserted, exercises."""
    notebook = read(path)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    number = path.name.split("_")[0]
    assert prose.startswith(f"# {number}. ")
    assert "Predict" in prose and "Exercises" in prose
    assert code.count("assert ") >= 5
    assert notebook.cells[0].cell_type == "markdown"


@each_notebook
def test_its_prose_reads_no_clock(path):
    """Seconds in prose would be those of another machine."""
    prose = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    found = re.findall(r"\b\d[\d.,]*\s*(?:ms|us|µs|ns|milliseconds|microseconds)\b", prose)
    assert not found


# ---------------------------------------------------------------- the lab of notebook 9
def cases():
    return json.loads((FOLDER / "broken_engines.json").read_text())


def test_the_broken_engines_are_those_of_the_suite():
    """After a change to mutants.py, copy the changed ones into notebooks/broken_engines.json."""
    known = {mutant.name: mutant._asdict() for mutant in MUTANTS}
    assert len(cases()) == 30 and len({case["name"] for case in cases()}) == 30
    for case in cases():
        assert case == known[case["name"]]


def load(case, folder):
    """A private copy of the package, with the case's mistake in it."""
    name = "lab_" + case["name"].replace("-", "_")
    copy = shutil.copytree(ROOT / "micrograd_scratch", folder / name)
    text = (copy / case["file"]).read_text()
    assert text.count(case["old"]) == 1
    (copy / case["file"]).write_text(text.replace(case["old"], case["new"]))
    init = copy / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        name, init, submodule_search_locations=[str(copy)]
    )
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def slope(mg, f, x):
    leaf = mg.Value(x)
    f(leaf).backward()
    return leaf.grad


def second_derivative(mg):
    x = mg.Value(3.0)
    return mg.grad(mg.grad(x * x * x, x), x).data


def gradient_after_zero_grad(mg):
    model = mg.MLP(2, [1])
    model([1.0, 2.0]).backward()
    model.zero_grad()
    return max(abs(p.grad) for p in model.parameters())


# What notebook 9 leaves to its readers, and an experiment that tells: it can be solved.
SOLUTIONS = {
    "logarithm-trains-on": lambda mg: slope(mg, mg.log, -1.0),
    "zero-grad-does-nothing": gradient_after_zero_grad,
    "relu-at-zero": lambda mg: slope(mg, mg.relu, 0.0),
    "tie-goes-to-both": lambda mg: slope(mg, lambda x: mg.maximum(x, x), 2.0),
    "graph-assigns": second_derivative,
    "sigmoid-loses-its-tail": lambda mg: slope(mg, mg.sigmoid, 40.0),
    "branch-not-taken-visited": lambda mg: slope(
        mg, lambda x: mg.where(x >= 0, x * 2.0, mg.log(x)), 0.0
    ),
    "target-ignored": lambda mg: slope(mg, lambda x: mg.losses.binary_cross_entropy(x, 1.0), 0.0),
    "hinge-rewards-mistakes": lambda mg: slope(mg, lambda x: mg.losses.hinge(x, 1.0), 2.0),
    "softmax-not-shifted": lambda mg: mg.softmax([mg.Value(1000.0), mg.Value(1000.0)])[0].data,
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_what_is_left_to_the_reader_can_be_solved(name, tmp_path):
    import micrograd_scratch

    (case,) = [case for case in cases() if case["name"] == name]
    experiment = SOLUTIONS[name]
    assert repr(experiment(load(case, tmp_path))) != repr(experiment(micrograd_scratch))


def test_the_solutions_are_those_that_the_notebook_leaves_open():
    *_, last = [text for text in texts(read(FOLDER / "9_break_the_engine.ipynb")) if text]
    numbers = re.search(r"still at large: \[(.*)\]", last)[1].split(", ")
    assert {cases()[int(number) - 1]["name"] for number in numbers} == set(SOLUTIONS)
