"""How long `import micrograd_scratch` takes, beside starting Python and importing NumPy.

    python tests/benchmarks/import_time.py [--rounds 20]

Each figure is the smallest of many fresh processes, run in turn: starting up is disturbed, never
hurried, by whatever else the machine does. An import is timed inside its process, with compiled
files in place, after one that is not counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from training_step import machine

IMPORTS = ("json", "micrograd_scratch", "numpy")
TIMED = """
import sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, *sorted({{"numpy", "graphviz"}} & sys.modules.keys()))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds

    print(machine())
    start_up: list[float] = []
    seconds: dict[str, list[float]] = {module: [] for module in IMPORTS}
    loaded: dict[str, list[str]] = {}
    for _ in range(rounds + 1):
        start = time.perf_counter()
        python("pass")
        start_up.append(time.perf_counter() - start)
        for module in IMPORTS:
            took, *loaded[module] = python(TIMED.format(module=module)).split()
            seconds[module].append(float(took))

    print(f"ms, smallest of {rounds}")
    print(f"  {'python -c pass, from outside':32}{1e3 * min(start_up[1:]):8.1f}")
    for module, took in seconds.items():
        also = f"   loads {', '.join(loaded[module])}" if loaded[module] else ""
        print(f"  {'import ' + module:32}{1e3 * min(took[1:]):8.1f}{also}")
    return 0


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    tree = Path(__file__).parents[2]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tree).stdout


if __name__ == "__main__":
    sys.exit(main())
