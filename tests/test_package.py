"""What `pip install` gives, what `import` loads, and which names there are."""

import ast
import builtins
import configparser
import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import micrograd_scratch

TREE = Path(__file__).parents[1]
PACKAGE = TREE / "micrograd_scratch"
SETUP = configparser.ConfigParser()
SETUP.read(TREE / "setup.cfg")
INSTALLED_AS = {"sklearn": "scikit-learn", "xdist": "pytest-xdist", "PIL": "pillow"}


# ---------------------------------------------------------------- names
@pytest.mark.parametrize("name", sorted(micrograd_scratch.__all__))
def test_every_name_offered_is_there_and_in_dir(name):
    assert getattr(micrograd_scratch, name) is not None
    assert name in dir(micrograd_scratch)


def test_star_import_gives_no_more_than_the_names_offered(run_python):
    code = """
        before = set(globals()) | {"before"}
        from micrograd_scratch import *
        print(*sorted(set(globals()) - before))
    """
    assert run_python(code).split() == sorted(micrograd_scratch.__all__)
    modules = {
        name
        for name in micrograd_scratch.__all__
        if inspect.ismodule(getattr(micrograd_scratch, name))
    }
    assert modules == {*"comparison data export finite_difference losses nn optim".split()}
    assert len(micrograd_scratch.__all__) == len(set(micrograd_scratch.__all__))


def test_no_name_offered_hides_a_builtin():
    assert not set(micrograd_scratch.__all__) & set(dir(builtins))


def test_a_name_that_is_not_there_is_an_attribute_error_naming_it():
    with pytest.raises(AttributeError, match="no_such_name"):
        micrograd_scratch.no_such_name  # noqa: B018
    with pytest.raises(ImportError, match="no_such_name"):
        from micrograd_scratch import no_such_name  # noqa: F401


def test_no_file_bears_the_name_of_an_exported_function():
    """`from micrograd_scratch import draw` must give the function, whatever was imported before."""
    for path in PACKAGE.iterdir():
        thing = getattr(micrograd_scratch, path.stem, None)
        assert path.name.startswith("__") or not callable(thing), path.name


def test_the_contract_is_importable():
    """The functions that DESIGN promises, under their names."""
    functions = """
        exp expm1 exp2 log log1p log2 log10 sqrt square sin cos tan asin acos atan sinh cosh tanh
        asinh acosh atanh sigmoid logit softplus logsigmoid relu leaky_relu elu selu gelu silu mish
        softsign relu6 hardtanh erf erfc sign floor ceil trunc step atan2 hypot maximum minimum
        copysign fmod remainder floor_divide logaddexp logsumexp softmax log_softmax clip where take
        dot total detach grad jvp jacobian hessian hvp recompute no_grad detect_anomaly operation
    """
    for name in functions.split():
        assert callable(getattr(micrograd_scratch, name)), name
        assert name in micrograd_scratch.__all__, name
    for name in "Value Constant AnomalyError MLP Layer Neuron Module".split():
        assert isinstance(getattr(micrograd_scratch, name), type), name
    for name in "losses data finite_difference nn optim".split():
        assert getattr(micrograd_scratch, name).__name__ == f"micrograd_scratch.{name}"


# ---------------------------------------------------------------- importing
def test_importing_loads_only_the_standard_library(run_python):
    loaded = run_python(
        """
        import sys
        before = set(sys.modules)
        import micrograd_scratch
        print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
        """
    ).split()
    assert set(loaded) - set(sys.stdlib_module_names) == {"micrograd_scratch"}


def test_using_the_engine_and_a_network_loads_neither_numpy_nor_graphviz(run_python):
    code = """
        import sys
        from micrograd_scratch import MLP, Value, exp, finite_difference, losses, optim, softmax
        loss = losses.hinge(MLP(2, [3, 1])([Value(1.0), exp(Value(0.5))]), 1.0)
        loss.backward()
        assert finite_difference.check(exp, 1.0)
        print({"numpy", "graphviz"} & set(sys.modules))
    """
    assert run_python(code) == "set()"


# ---------------------------------------------------------------- requirements
def requirements(*extras: str) -> set[str]:
    """Names of what is installed with these extras, following references to our own."""
    lines = SETUP["options"]["install_requires"].split("\n")
    for extra in extras:
        lines += SETUP["options.extras_require"][extra].split("\n")
    found: set[str] = set()
    for line in filter(None, lines):
        name, ours = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", line).groups()
        found |= requirements(*ours.split(",")) if name == "micrograd_scratch" else {name}
    return found


def third_party_imports(folder: Path) -> dict[str, set[str]]:
    """Package -> files that import it, anywhere in them."""
    local = {"micrograd_scratch"} | {path.stem for path in folder.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        if "benchmarks" in path.parts:
            continue  # they say themselves what they need
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - local:
                if name not in sys.stdlib_module_names:
                    found.setdefault(INSTALLED_AS.get(name, name), set()).add(path.name)
    return found


def test_whatever_the_package_imports_some_extra_installs():
    """PyTorch comes with no extra: who wants it chooses the build."""
    extras = set(SETUP["options.extras_require"]) - {"test", "dev"}
    available = requirements(*extras) | {"torch", "IPython"}  # IPython: present wherever it is used
    missing = {n: f for n, f in third_party_imports(PACKAGE).items() if n not in available}
    assert not missing


def test_whatever_the_tests_import_the_test_extra_installs():
    missing = {
        name: files
        for name, files in third_party_imports(TREE / "tests").items()
        if name not in requirements("test") | {"torch"}
    }
    assert not missing


def test_the_extras_are_those_promised():
    promised = {"all", "plot", "data", "draw", "test", "notebooks", "export", "dev"}
    assert promised <= set(SETUP["options.extras_require"])
    assert requirements() == {"numpy", "graphviz"}
    assert requirements("plot", "data", "draw") <= requirements("all") <= requirements("test")
    assert "torch" not in requirements(*SETUP["options.extras_require"])


# ---------------------------------------------------------------- the wheel
@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the tree, without a network."""
    pytest.importorskip("setuptools", minversion="77")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TREE / name, tree)
    shutil.copytree(PACKAGE, tree / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    command = [sys.executable, "-c", code]
    built = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if not re.match(r"[^/]*\.dist-info/", name)}
    sources = {p.relative_to(TREE).as_posix() for p in PACKAGE.rglob("*.py")}
    assert inside == sources | {"micrograd_scratch/py.typed"}
    assert any(name.endswith("/LICENSE") for name in names)
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_says_what_it_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = archive.read(name).decode()
    assert "Requires-Python: >=3.11\n" in metadata
    assert f"Version: {micrograd_scratch.__version__}\n" in metadata
    assert set(re.findall(r"^Provides-Extra: (\S+)", metadata, re.MULTILINE)) == set(
        SETUP["options.extras_require"]
    )
    always = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert set(always) == {"numpy", "graphviz"}


def test_the_wheel_works_on_its_own(wheel, run_python):
    code = f"""
        import sys
        sys.path.insert(0, {str(wheel)!r})
        import micrograd_scratch
        assert ".whl" in micrograd_scratch.__file__
        x = micrograd_scratch.Value(3.0)
        (x * x).backward()
        print(x.grad)
    """
    assert run_python(code) == "6.0"
