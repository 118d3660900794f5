"""Break the engine on purpose: a suite that lets a mutant live is not finished.

For every mistake of mutants.py, the package is copied into a temporary directory, the mistake is
made there, and the fast part of the suite has to fail. About two minutes in all.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT
from mutants import MUTANTS, Mutant

TESTS = Path(__file__).parent
# What runs on a mutant, in this order, until the first failure: all that is quick and needs nothing
# but the engine.
SELECTED = [
    "test_engine.py",
    "test_operations.py",
    "test_edge_cases.py",
    "test_nn.py",
    "test_losses.py",
    "test_random_graphs.py",
]
LEFT_OUT = "million or deep_gradient or every_process or not_grow or pytorch or public_name"
SECONDS = 120  # a mutant that runs longer than this, where the suite takes 15 s, is dead too


def run_suite(originals, folder, mutant=None):
    """(whether the tests pass, the end of their output) on a package with the mutant."""
    package = shutil.copytree(originals / "micrograd_scratch", folder / "micrograd_scratch")
    if mutant is not None:
        text = (package / mutant.file).read_text()
        assert text.count(mutant.old) == 1
        (package / mutant.file).write_text(text.replace(mutant.old, mutant.new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
    command += ["--hypothesis-profile=first-failure", "-k", f"not ({LEFT_OUT})"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the rewritten tests are compiled once
    try:
        finished = subprocess.run(
            [*command, *(str(originals / "tests" / name) for name in SELECTED)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False, "it took too long"
    assert finished.returncode in (0, 1, 2, 4), finished.stdout + finished.stderr
    return finished.returncode == 0, finished.stdout[-1500:]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The package and the tests as they are now, apart: the tests find the package by its path."""
    folder = tmp_path_factory.mktemp("originals")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "micrograd_scratch", folder / "micrograd_scratch", ignore=ignored)
    (folder / "tests").mkdir()
    for name in ["conftest.py", "edge_cases.json", *SELECTED]:
        shutil.copy(TESTS / name, folder / "tests" / name)
    return folder


@pytest.fixture(scope="module")
def outcome(request, originals, tmp_path_factory):
    """outcome(mutant) -> run_suite on it. The selected mutants run two at a time, ahead of us."""

    def run(mutant):
        return run_suite(originals, tmp_path_factory.mktemp("mutant"), mutant)

    if "PYTEST_XDIST_WORKER" in os.environ:  # the workers are the parallelism
        yield run
        return
    wanted = [
        item.callspec.params["mutant"] for item in request.session.items if takes_mutant(item)
    ]
    pool = ThreadPoolExecutor(max_workers=2)
    runs = {mutant: pool.submit(run, mutant) for mutant in wanted}
    yield lambda mutant: runs[mutant].result()
    pool.shutdown(cancel_futures=True)


def takes_mutant(item):
    return item.get_closest_marker("slow") and "mutant" in getattr(item, "fixturenames", ())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_present_source(mutant):
    text = (ROOT / "micrograd_scratch" / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.old!r} occurs {text.count(mutant.old)} times"
    assert mutant.new not in ("", mutant.old) and mutant.hint.endswith((".", "?"))
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_there_are_enough_mutants():
    assert len(MUTANTS) >= 30 and all(isinstance(m, Mutant) for m in MUTANTS)
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    assert all(re.fullmatch("[a-z-]+", m.name) for m in MUTANTS)


@pytest.mark.slow
def test_the_engine_as_it_is_passes(originals, tmp_path):
    passed, output = run_suite(originals, tmp_path)
    assert passed, output


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_does_not_live(mutant, outcome):
    passed, output = outcome(mutant)
    assert not passed, f"{mutant.name} lives: {mutant.old!r} -> {mutant.new!r}"
    assert "failed" in output or "error" in output or "too long" in output, output
