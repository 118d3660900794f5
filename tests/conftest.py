"""What all tests share: the `slow` marker, reproducible hypothesis, and fresh Python processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import hypothesis
import pytest

import micrograd_scratch

# The package under test, wherever it was imported from (the mutants are imported from a copy).
ROOT = Path(micrograd_scratch.__file__).parent.parent

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")
hypothesis.settings.register_profile(  # for the mutants: that it fails is enough
    "first-failure",
    hypothesis.settings.get_profile("repeatable"),
    phases=(hypothesis.Phase.generate,),
)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "slow: takes minutes, and is left out; pytest -m slow runs it"
    )


def interrupted(run, at, inside=""):
    """Run with Ctrl-C's exception at one of its lines and returns; how many there were.

    at      which of them; -1 for none
    inside  count those of files below this folder only
    """
    events = 0

    def trace(frame, event, argument):
        nonlocal events
        if frame.f_code.co_filename.startswith(inside):
            events += event in ("line", "return")
            if events == at:
                raise KeyboardInterrupt
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(previous)
    return events


@pytest.fixture
def run_python():
    """run_python(code, **environment) -> what the code prints, run in a process of its own."""

    def run(code, **environment):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        finished = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr[-2000:]
        return finished.stdout.strip()

    return run
