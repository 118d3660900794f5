"""Weights in files: what is written, and all that is refused with the model untouched."""

import json
import math
import os
import random
import struct

import pytest

from micrograd_scratch import MLP, Network, Neuron, Value, WeightsError, load, save, weights

FORMATS = ["json", "safetensors"]


def network(seed=0, sizes=(3, 4, 2)):
    return MLP(sizes[0], list(sizes[1:]), rng=random.Random(seed))


def wired(seed=0):
    net = Network(random.Random(seed))
    net.add_input("a")
    net.add_neuron("h")
    net.add_neuron("out", bias=None)
    net.connect("a", "h")
    net.connect("h", "out")
    net.set_outputs("out")
    return net


def numbers(model):
    return [p.data for p in model.parameters()]


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    if request.param == "safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"model.{request.param}"


@pytest.mark.parametrize(
    "make", [network, wired, lambda seed=0: Neuron(3, rng=random.Random(seed))]
)
def test_what_is_saved_is_loaded_to_the_last_bit(make, path):
    model, other = make(), make(seed=1)
    model.parameters()[0].data = 5e-324
    model.parameters()[1].data = -0.0
    save(model, path)
    load(other, str(path))
    assert numbers(other) == numbers(model)
    assert math.copysign(1, other.parameters()[1].data) == -1


def test_json_can_be_read_by_eye_under_pytorchs_names(tmp_path):
    model = network()
    save(model, tmp_path / "w.json")
    read = json.loads((tmp_path / "w.json").read_text())
    assert list(read) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert read["0.weight"][1][2] == model.layers[0].neurons[1].w[2].data


def test_pytorch_reads_safetensors_with_all_keys_matched(tmp_path):
    torch = pytest.importorskip("torch")
    from_file = pytest.importorskip("safetensors.torch").load_file
    model = network()
    save(model, tmp_path / "w.safetensors")
    twin = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    ).double()
    twin.load_state_dict(from_file(tmp_path / "w.safetensors"), strict=True)
    x = [0.3, -0.7, 1.1]
    expected = [v.data for v in model(x)]
    assert twin(torch.tensor([x], dtype=torch.float64))[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_what_pytorch_wrote_is_loaded(tmp_path, kind):
    torch = pytest.importorskip("torch")
    to_file = pytest.importorskip("safetensors.torch").save_file
    twin = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    twin = twin.to(getattr(torch, kind))
    to_file(twin.state_dict(), tmp_path / "w.safetensors")
    model = network()
    load(model, tmp_path / "w.safetensors")
    assert model.layers[0].neurons[2].w[1].data == twin[0].weight[2, 1].item()


# ---------------------------------------------------------------- refused, and nothing changed
def refused(model, path, *words):
    before = numbers(model)
    with pytest.raises(WeightsError) as caught:
        load(model, path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message
    assert numbers(model) == before


def test_names_that_do_not_fit_are_listed(path):
    save(network(), path)
    refused(network(sizes=(3, 4, 4, 2)), path, "lacks 4.weight, 4.bias", "has nothing")
    refused(network(sizes=(3, 4)), path, "lacks nothing", "has 2.bias, 2.weight")
    refused(network(sizes=(3, *[4] * 9)), path, "and 9 more")
    refused(wired(), path, "lacks h.a, h.bias, out.h")


def test_shapes_that_do_not_fit_are_told(path):
    save(network(), path)
    refused(network(sizes=(3, 5, 2)), path, "0.weight has shape (4, 3)", "(5, 3)")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(path, share):
    save(network(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(network(1), path, "no whole")


def test_every_truncation_and_every_changed_header_byte_is_refused_or_harmless(path):
    """Whatever a file holds: an error of one class and an untouched model, or finite weights."""
    save(network(), path)
    whole = path.read_bytes()
    model = network(1)
    for at in range(0, len(whole), 7):
        for content in (whole[:at], whole[:at] + b"\xff" + whole[at + 1 :]):
            path.write_bytes(content)
            before = numbers(model)
            try:
                load(model, path)
            except WeightsError:
                assert numbers(model) == before
            assert all(map(math.isfinite, numbers(model)))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_not_finite_are_refused_in_json(tmp_path, number):
    model, path = network(), tmp_path / "w.json"
    save(model, path)
    text = path.read_text()
    path.write_text(text.replace(repr(model.layers[1].neurons[1].b.data), number, 1))
    state = model.state_dict()
    state["2.bias"] = [0.0, "here"]
    path.write_text(json.dumps(state).replace('"here"', number))
    refused(network(1), path, "2.bias", "not finite")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_in_safetensors(tmp_path, number):
    library = pytest.importorskip("safetensors.numpy")
    import numpy as np

    arrays = {name: np.array(a) for name, a in network().state_dict().items()}
    arrays["0.bias"][3] = number
    library.save_file(arrays, tmp_path / "w.safetensors")
    refused(network(1), tmp_path / "w.safetensors", "0.bias", "not finite")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[1, 2]", "a list"),
        ("3", "a int"),
        ('{"h.a": "1"}', "lacks"),
        ('{"h.a": "1", "h.bias": 0, "out.h": 0}', "'1', which is no number"),
        ('{"h.a": true, "h.bias": 0, "out.h": 0}', "True, which is no number"),
        ('{"h.a": null, "h.bias": 0, "out.h": 0}', "None, which is no number"),
        ('{"h.a": [1], "h.bias": 0, "out.h": 0}', "shape (1,)"),
        ('{"h.a": 1, "h.a": 2, "h.bias": 0, "out.h": 0}', "'h.a' is there twice"),
        ('{"h.a": [[1], [1, 2]], "h.bias": 0, "out.h": 0}', "ragged"),
        ("[" * 100_000, "no whole JSON"),
    ],
)
def test_json_that_is_no_state_is_refused(tmp_path, text, word):
    path = tmp_path / "w.json"
    path.write_text(text)
    refused(wired(), path, word)


def test_a_type_that_numpy_does_not_know_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    to_file = pytest.importorskip("safetensors.torch").save_file
    twin = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    to_file(twin.to(torch.bfloat16).state_dict(), tmp_path / "w.safetensors")
    model = network()
    before = numbers(model)
    try:
        load(model, tmp_path / "w.safetensors")
    except WeightsError as error:
        assert "BF16" in str(error) or "bfloat16" in str(error)
        assert numbers(model) == before


def test_a_header_that_claims_the_moon_is_refused(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    refused(network(), path, "safetensors")
    header = json.dumps(
        {"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(network(), path, "safetensors")


def test_pickles_are_not_read(tmp_path):
    with pytest.raises(ValueError, match=r"w.pt: .*\.safetensors or \.json"):
        load(network(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"\.safetensors or \.json"):
        save(network(), tmp_path / "w.pkl")


def test_a_model_in_the_place_of_the_path_is_named():
    for call in (save, load):
        with pytest.raises(TypeError, match=r"path is MLP .*: write save\(model, path\)"):
            call("w.json", network())


def test_a_missing_file_is_the_systems_error(path):
    with pytest.raises(FileNotFoundError):
        load(network(), path)


def test_what_has_no_parameters_is_refused(tmp_path):
    with pytest.raises(TypeError, match="int has neither"):
        save(3, tmp_path / "w.json")


# ---------------------------------------------------------------- atomic
def test_a_model_that_is_not_finite_is_not_saved(path):
    save(network(), path)
    whole = path.read_bytes()
    broken = network()
    broken.layers[1].neurons[0].b.data = math.nan
    with pytest.raises(WeightsError, match="2.bias"):
        save(broken, path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_while_saving_leaves_the_old_file_and_nothing_else(path, step, monkeypatch):
    save(network(), path)
    whole = path.read_bytes()

    def crash(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(weights.os, step, crash)
    with pytest.raises(KeyboardInterrupt):
        save(network(1), path)
    assert path.read_bytes() == whole
    assert os.listdir(path.parent) == [path.name]


def test_the_new_file_is_whole_before_it_gets_its_name(path, monkeypatch):
    events = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(weights.os, "fsync", lambda f: (events.append("fsync"), fsync(f)))

    def watched(source, target):
        events.append("replace")
        load(network(1), source)
        assert os.path.dirname(os.path.dirname(source)) == str(path.parent)
        replace(source, target)

    monkeypatch.setattr(weights.os, "replace", watched)
    save(network(), path)
    assert events == ["fsync", "replace"]


def test_a_saved_file_has_the_rights_of_any_new_file(path):
    save(network(), path)
    (path.parent / "other").write_text("")
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode


def test_without_the_library_json_still_works(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install safetensors .*\.json"):
        save(network(), tmp_path / "w.safetensors")
    save(network(), tmp_path / "w.json")
    assert os.listdir(tmp_path) == ["w.json"]


def test_parameters_alone_are_enough(tmp_path):
    class Plain:
        def __init__(self):
            self.w = [Value(1.0), Value(2.0)]

        def parameters(self):
            return self.w

    model, other = Plain(), Plain()
    model.w[1].data = 7.0
    save(model, tmp_path / "w.json")
    load(other, tmp_path / "w.json")
    assert [p.data for p in other.w] == [1.0, 7.0]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere, create it first"):
        save(network(), tmp_path / "nowhere" / "weights.json")


def test_deeply_nested_json_is_refused(tmp_path):
    path = tmp_path / "weights.json"
    model = network()
    state = json.dumps({**model.state_dict(), "0.weight": "deep"})
    for depth in (10, 900):
        path.write_text(state.replace('"deep"', "[" * depth + "]" * depth))
        with pytest.raises(WeightsError, match="0.weight has shape ragged"):
            load(model, path)
