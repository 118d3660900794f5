"""The command line: `python -m micrograd_scratch [compare | train | check | doctor]`.

compare   autodiff against finite differences on handwritten digits (what runs without a command)
check     one formula, differentiated both ways at a point
train     a network on XOR, two moons or handwritten digits (train_command.py)
doctor    what is installed, and what each extra would add

Exit codes: 0; 1 if a check failed; 2 for anything that the user can mend, said in one line on
stderr; 130 after Ctrl-C. It leaves out measuring and parsing: comparison/ and expressions.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import NoReturn

from . import __version__, train_command
from .engine import Value
from .tables import Table, as_text, print_rich, without_nan

PROGRAM = "python -m micrograd_scratch"


class UsageError(Exception):
    """Something that the user can mend; the message says how."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # argparse would print the usage as well
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(_completed(arguments))
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except (UsageError, ImportError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
        return 128 + 2


def _completed(arguments: list[str]) -> list[str]:
    """With `compare` where no command is named, and formulas like -x told apart from options."""
    if not arguments or (
        arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")
    ):
        return ["compare", *arguments]
    if arguments[0] == "check":  # argparse takes what has a space in it for no option
        return [f" {a}" if re.match(r"-[^-]", a) and a != "-h" else a for a in arguments]
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Reverse-mode autodiff against finite differences, measured before your eyes.",
        epilog="Without a command: compare. Each command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"micrograd_scratch {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    compare = commands.add_parser(
        "compare",
        help="autodiff against finite differences on handwritten digits (the default)",
        description="Five measurements on a 64-16-10 network that reads handwritten digits: the "
        "cost and the exactness of one gradient, the error against the step, the cost as the "
        "network grows, what a nudge recomputes, and training for the same seconds.",
    )
    compare.add_argument(
        "--seconds", type=_seconds, default=35.0, metavar="N", help="time to measure (default 35)"
    )
    compare.add_argument(
        "--seed",
        type=train_command.seed,
        default=0,
        metavar="N",
        help="of weights and batches (default 0)",
    )
    compare.add_argument("--json", action="store_true", help="print all numbers as JSON")
    compare.add_argument("--plot", type=Path, metavar="DIR", help="write pictures, PNG and SVG")
    compare.set_defaults(run=_compare)

    check = commands.add_parser(
        "check",
        help="a formula's derivatives by autodiff and by finite differences",
        description="Differentiate a formula both ways. Exit code 1 if they disagree.",
        epilog=f'Example: {PROGRAM} check "exp(sin(x))*tanh(x)" x=0.7',
    )
    check.add_argument("expression", metavar="EXPRESSION", help="such as 'x * sin(y) ** 2'")
    check.add_argument("point", nargs="*", metavar="NAME=NUMBER", help="where, such as x=0.7")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.set_defaults(run=_check)

    train_command.add_subparser(commands)

    doctor = commands.add_parser(
        "doctor",
        help="what is installed, and what each extra gives",
        description="List what is installed, and what each extra would add.",
    )
    doctor.add_argument("--json", action="store_true", help="print the list as JSON")
    doctor.set_defaults(run=_doctor)
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to 3600")
    return seconds


# -- compare ---------------------------------------------------------------------------------------


def _compare(options: argparse.Namespace) -> int:
    if options.plot is not None:  # before the measuring, not after
        from .plots import ADVICE

        if util.find_spec("matplotlib") is None:
            raise UsageError(ADVICE)
        try:
            options.plot.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write to {options.plot} ({error.strerror}): name another folder"
            ) from error
    from .comparison import compare

    with _Progress() as progress:
        result = compare(seconds=options.seconds, seed=options.seed, progress=progress)
    if options.json:
        print(json.dumps(result.as_dict(), indent=2, allow_nan=False))
    else:
        _show(result.tables())
    if options.plot is not None:
        from .plots import save_pictures

        paths = save_pictures(result, options.plot)
        if not options.json:
            print(f"\n{len(paths)} pictures in {options.plot}: {', '.join(p.name for p in paths)}")
    return 0


class _Progress:
    """One line on stderr that says what is being done, if stderr is a terminal."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()

    def __enter__(self) -> Callable[[str], None]:
        return self.show

    def __exit__(self, *exception: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        if self.shown:
            room = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:room]:<{room}}\r", end="", file=sys.stderr, flush=True)


def _show(tables: Sequence[Table]) -> None:
    """Tables for whoever reads stdout: rich's on a terminal, plain text in a pipe."""
    if sys.stdout.isatty() and util.find_spec("rich") is not None:
        from rich.console import Console

        print_rich(tables, Console())
    else:
        print(as_text(tables))


# -- check -----------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    from .expressions import Expression, ExpressionError
    from .finite_difference import check

    try:
        f = Expression(options.expression)
    except ExpressionError as error:
        raise UsageError(error) from None
    assignments = list(map(_assignment, options.point))
    point = dict(assignments)
    twice = [name for name in point if [name for name, _ in assignments].count(name) > 1]
    missing = [name for name in f.names if name not in point]
    unknown = [name for name in point if name not in f.names]
    if not f.names:
        raise UsageError(f"{f.text!r} has no variable: put one in, such as x, and say x=0.7")
    if missing:
        example = " ".join(f"{name}=0.7" for name in missing)
        raise UsageError(f"{' and '.join(missing)} has no number: add {example}")
    if twice:
        raise UsageError(f"{' and '.join(twice)} is given twice: give each variable one number")
    if unknown:
        raise UsageError(
            f"{' and '.join(unknown)} is not in the expression, whose variables are "
            f"{', '.join(f.names)}: leave it out"
        )
    numbers = [point[name] for name in f.names]
    leaves = [Value(number, label=name) for name, number in zip(f.names, numbers, strict=True)]
    value = f(*leaves).data
    report = check(f, *leaves)
    if options.json:
        rows = [{**asdict(row), "passed": row.passed} for row in report.rows]
        answer: dict[str, object] = {"expression": f.text, "value": value}
        answer["evaluations"] = report.evaluations
        answer |= {"passed": bool(report), "inputs": rows}
        print(json.dumps(without_nan(answer), indent=2))
    else:
        at = ", ".join(f"{leaf.label} = {leaf.data:g}" for leaf in leaves)
        print(f"f = {f.text}\n  = {value:.17g} at {at}\n\n{report}")
    return 0 if report else 1


def _assignment(text: str) -> tuple[str, float]:
    name, _, number = (part.strip() for part in text.partition("="))
    try:
        x = float(number)
    except ValueError:
        x = math.nan
    if not (name.isidentifier() and math.isfinite(x)):
        raise UsageError(f"cannot read {text!r}: write a name and a finite number, such as x=0.7")
    return name, x


# -- doctor ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Component:
    """Something that may be installed: version is "" if it is not, extra "" if none brings it."""

    name: str
    version: str
    extra: str
    gives: str
    install: str


# distribution, the extra that brings it ("": required), what it gives
PACKAGES = (
    ("numpy", "", "data sets, the comparison, compiled programs"),
    ("graphviz", "", "drawings of graphs and networks"),
    ("matplotlib", "plot", "pictures of curves: compare --plot DIR"),
    ("scikit-learn", "data", "the handwritten digits that compare reads"),
    ("scipy", "special", "erf, erfc and gelu in compiled programs"),
    ("pygraphviz", "draw", "Graphviz itself, to render drawings without dot"),
    ("rich", "all", "better tables in a terminal"),
    ("tqdm", "all", "progress bars"),
    ("jupyterlab", "notebooks", "the notebooks"),
    ("onnx", "export", "models for other programs"),
    ("safetensors", "export", "weights for other programs"),
    ("pytest", "test", "the tests"),
    ("mypy", "dev", "type checking"),
)


def components() -> list[Component]:
    """Python, this package, and everything it can use, installed or not."""
    found = [
        Component("Python", sys.version.split()[0], "", sys.executable, ""),
        Component("micrograd_scratch", __version__, "", str(Path(__file__).parent), ""),
    ]
    for name, extra, gives in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        found.append(Component(name, version, extra, gives, f"pip install {name}"))
    gives = "the program that renders drawings, as pygraphviz"
    mend = "Graphviz from your system or graphviz.org"
    found.append(Component("dot", _dot_version(), "", gives, mend))
    return found


def _dot_version() -> str:
    dot = shutil.which("dot")
    if dot is None:
        return ""
    try:
        told = subprocess.run([dot, "-V"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(r"\d+(\.\d+)+", told.stderr + told.stdout)
    return match[0] if match else "unknown version"


def _doctor(options: argparse.Namespace) -> int:
    found = components()
    if options.json:
        print(json.dumps([asdict(component) for component in found], indent=2))
        return 0
    rows = [(c.name, c.version or "missing", c.extra, c.gives) for c in found]
    mends = [(c.name, c.install) for c in found if not c.version]
    tables = [Table("Installed", ("what", "version", "extra", "gives"), rows, left=4)]
    if mends:
        note = 'An extra at once, from a copy of the repository: pip install ".[all]".'
        tables.append(Table("How to get what is missing", ("what", "how"), mends, note, left=2))
    _show(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
