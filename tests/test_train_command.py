"""python -m micrograd_scratch train: what it reaches, writes and refuses; starts that get stuck."""

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from micrograd_scratch import MLP, data, load, optim, train_command, training
from micrograd_scratch.__main__ import main
from micrograd_scratch.xor_starts import xor_network, xor_starts

TREE = Path(__file__).parents[1]


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of the command line."""
    try:
        code = main(["train", *arguments])
    except SystemExit as exit:
        code = exit.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def as_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


# ---------------------------------------------------------------- what it reaches
def test_xor_shows_gradients_both_ways_and_learns(capsys):
    code, out, err = run(capsys, "xor")
    assert (code, err) == (0, "")
    assert "2-2-1 network of 9 parameters" in out and "accuracy 100.00%" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("W", "b"))]
    assert len(rows) == 9
    for _, _, backward, nudged in rows:
        assert float(backward) == pytest.approx(float(nudged), abs=1e-9) and float(backward) != 0
    assert "18 evaluations" in out
    answers = [line.split() for line in out.splitlines() if " xor " in line]
    assert [round(float(line[-1])) for line in answers] == [0, 1, 1, 0]


def test_a_start_that_is_stuck_is_said_to_be(capsys):
    code, out, _ = run(capsys, "xor", "--epochs", "1")
    assert code == 0 and "Not learned" in out and "--starts 400" in out


def test_moons_are_learned_completely(capsys):
    result = as_json(capsys, "moons")
    assert result["accuracy"] == 1.0 and result["network"] == "2-16-16-1"


def test_digits_are_read(capsys):
    pytest.importorskip("sklearn")
    result = as_json(capsys, "digits")
    assert result["validation_accuracy"] >= 0.96 and result["network"] == "64-32-10"


def test_options_change_what_is_trained(capsys):
    pytest.importorskip("sklearn")
    result = as_json(
        capsys, "digits", "--hidden", "20,12", "--activation", "tanh", "--loss", "squared_error",
        "--optimizer", "adam", "--lr", "0.01", "--epochs", "9", "--batch", "100", "--seed", "4",
    )  # fmt: skip
    assert result["network"] == "64-20-12-10" and result["seed"] == 4
    assert (result["epochs"], result["steps"]) == (9, 9 * 15)
    assert result["learning_rate"] == 0.01 and result["accuracy"] > 0.5
    assert as_json(capsys, "moons", "--optimizer", "sgd", "--epochs", "2")["steps"] == 8


def test_the_seed_decides(capsys):
    results = [as_json(capsys, "moons", "--epochs", "3", "--seed", seed) for seed in "112"]
    losses = [result["loss"] for result in results]
    assert losses[0] == losses[1] != losses[2]


def test_diagnose_is_printed(capsys):
    _, out, _ = run(capsys, "moons", "--epochs", "1", "--diagnose")
    assert "Diagnosis on 100 rows" in out and "update/weight" in out


# ---------------------------------------------------------------- MNIST
def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def small_mnist(folder):
    rng = np.random.RandomState(0)
    for part, rows in (("train", 80), ("t10k", 30)):
        labels = rng.randint(0, 10, rows).astype(np.uint8)
        images = np.zeros((rows, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 3] = 255  # a bar whose height is the digit
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


def test_mnist_is_read_from_a_folder(capsys, tmp_path):
    small_mnist(tmp_path)
    result = as_json(capsys, "mnist", "--folder", str(tmp_path), "--hidden", "16,16", "--epochs",
                     "40", "--lr", "0.02")  # fmt: skip
    assert result["network"] == "784-16-16-10" and result["task"] == "mnist"
    assert result["validation_accuracy"] >= 0.9


def test_a_damaged_folder_is_refused(capsys, tmp_path):
    small_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    code, out, err = run(capsys, "mnist", "--folder", str(tmp_path))
    assert (code, out) == (2, "") and "t10k-labels-idx1-ubyte.gz" in err and err.count("\n") == 1


def test_without_mnist_digits_stand_in_and_it_is_said(capsys, monkeypatch):
    pytest.importorskip("sklearn")

    def missing(*arguments, **options):
        raise data.DataError("train-images: not there, and no network")

    monkeypatch.setattr(data, "mnist", missing)
    code, out, err = run(capsys, "mnist", "--epochs", "1")
    assert code == 0 and "64-32-10" in out
    assert "no network" in err and "digits instead" in err


# ---------------------------------------------------------------- files
@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_saved_weights_are_the_trained_ones(capsys, tmp_path, suffix):
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"moons.{suffix}"
    code, out, _ = run(capsys, "moons", "--save", str(path))
    assert code == 0 and str(path) in out
    model = MLP(2, [16, 16, 1])
    load(model, path)
    X, Y = data.moons(100, noise=0.1, seed=0)
    scores = np.array([model(x).data for x in X.tolist()])
    assert ((scores > 0) == (Y > 0)).all()


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_pictures_are_written(capsys, tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"loss.{suffix}"
    assert run(capsys, "moons", "--epochs", "2", "--plot", str(path))[0] == 0
    assert path.read_bytes().startswith(magic)


# ---------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["sudoku"], "sudoku"),
        ([], "task"),
        (["moons", "--epochs", "0"], "'0'"),
        (["moons", "--epochs", "many"], "'many'"),
        (["moons", "--hidden", "4,,4"], "''"),
        (["moons", "--lr", "-1"], "'-1'"),
        (["moons", "--lr", "nan"], "'nan'"),
        (["moons", "--seed", "-1"], "'-1'"),
        (["moons", "--seed", str(2**32)], str(2**32)),
        (["moons", "--activation", "zork"], "zork"),
        (["moons", "--starts", "10"], "--starts is for xor"),
        (["moons", "--folder", "."], "--folder is for mnist"),
        (["moons", "--loss", "cross_entropy"], "--loss is for digits and mnist"),
        (["moons", "--save", "weights.pt"], "weights.pt"),
        (["moons", "--save", "nowhere/w.json"], "nowhere"),
        (["moons", "--plot", "loss.bmp"], "loss.bmp"),
        (["mnist", "--folder", "nowhere"], "nowhere"),
        (
            ["moons", "--activation", "square", "--lr", "1e5", "--optimizer", "sgd"],
            "smaller learning rate",
        ),
    ],
)
def test_what_is_refused_is_said_in_one_line(capsys, arguments, word):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert word in err and err.count("\n") == 1 and "Traceback" not in err


def test_nothing_is_trained_if_the_result_could_not_be_written(capsys, monkeypatch):
    monkeypatch.setattr(training, "fit", None)  # would raise if it were called
    assert run(capsys, "moons", "--save", "nowhere/w.json")[0] == 2


def test_ctrl_c_shows_what_was_reached_and_saves_it(capsys, tmp_path, monkeypatch):
    real = optim.Adam.update

    def interrupted(self, theta, gradient, state):
        if state is not None and state[0] == 10:
            raise KeyboardInterrupt
        return real(self, theta, gradient, state)

    monkeypatch.setattr(optim.Adam, "update", interrupted)
    path = tmp_path / "w.json"
    code, out, _ = run(capsys, "moons", "--save", str(path))
    assert code == 130 and "(interrupted)" in out and path.is_file()


def test_it_runs_as_a_program():
    command = [sys.executable, "-m", "micrograd_scratch", "train", "xor", "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=TREE)
    assert shown.returncode == 0 and shown.stderr == ""
    assert json.loads(shown.stdout)["accuracy"] == 1.0


def test_the_help_tells_every_default(capsys):
    code, out, _ = run(capsys, "--help")
    words = " ".join(out.split())
    assert code == 0
    for task in train_command.TASKS.values():
        assert f"{task.epochs} epochs" in words


# ---------------------------------------------------------------- starts that get stuck
def test_more_parameters_get_stuck_less():
    """The claims for 2-2-1 and 2-4-1, at the defaults of `train xor`."""
    found = xor_starts((2, 4), 200)
    two, four = found.widths
    assert (two.parameters, four.parameters) == (9, 17)
    assert two.share <= 0.4 and four.share <= 0.05 and four.stuck < two.stuck
    text = str(found)
    assert "3,000 steps" in text and f"{two.share:.1%}" in text


def test_all_starts_at_once_end_as_each_alone():
    found = xor_starts((2,), 12, epochs=1500, seed=30)
    X, Y = data.xor()
    stuck = 0
    for seed in range(30, 42):
        history = training.fit(
            xor_network(2, seed), X, Y, loss="squared_error", optimizer=optim.SGD(5.0),
            epochs=1500, batch_size=None, metrics=["accuracy"],
        )  # fmt: skip
        stuck += history.accuracy[-1] < 1.0
    assert found.widths[0].stuck == stuck
    assert 0 < stuck < 12


def test_starts_on_the_command_line(capsys, tmp_path):
    arguments = ["xor", "--starts", "30", "--hidden", "2,3", "--epochs", "300"]
    found = as_json(capsys, *arguments)
    assert [row["hidden"] for row in found] == [2, 3] and found[0]["starts"] == 30
    pytest.importorskip("matplotlib")
    code, out, _ = run(capsys, *arguments, "--plot", str(tmp_path / "stuck.png"))
    assert code == 0 and "share stuck" in out and (tmp_path / "stuck.png").is_file()


def test_the_plot_shows_every_width():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    found = xor_starts((2, 3), 30, epochs=300)
    ax = found.plot(figure.subplots())
    heights = ax.lines[0].get_ydata()
    assert list(heights) == [100 * w.share for w in found.widths]
