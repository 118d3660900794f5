"""Data sets: scikit-learn's bits, stored numbers, and every way an IDX file can be wrong."""

import gzip
import hashlib
import os
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from micrograd_scratch import data
from micrograd_scratch.data import DataError

# ---- drawn ---------------------------------------------------------------------------------------


def test_xor_is_the_truth_table():
    X, Y = data.xor()
    assert (X.shape, X.dtype, Y.shape, Y.dtype) == ((4, 2), np.float64, (4,), np.float64)
    assert [int(a) ^ int(b) for a, b in X] == Y.tolist()
    assert len({*map(tuple, X)}) == 4


def test_moons_and_circles_have_scikit_learns_bits():
    datasets = pytest.importorskip("sklearn.datasets")
    for n in [*range(1, 40), 100, 501, 1000]:
        for noise in (None, 0.0, 0, 0.1, 2.5):
            for seed in (0, 1, 42, 2**32 - 1):
                given = {"noise": noise, "random_state": seed}
                same_bits(data.moons(n, noise, seed), datasets.make_moons(n, **given))
                for factor in (0.0, 0.3, 0.8):
                    theirs = datasets.make_circles(n, factor=factor, **given)
                    same_bits(data.circles(n, noise, seed, factor), theirs)


def same_bits(ours, theirs):
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine.shape, mine.dtype) == (reference.shape, reference.dtype)
        assert mine.tobytes() == np.ascontiguousarray(reference).tobytes()


STORED = [  # drawn by scikit-learn 1.9.1 (spirals: by ours), for machines without it
    (
        data.moons,
        [
            [1.0096497468072008, -0.6863492703364491],
            [1.97226117974856, 0.46452410207310124],
            [-1.008274148148246, -0.0627000676823846],
            [0.9956181831024071, -0.04772180303595027],
            [-0.1313864753362682, 0.5884622380499585],
        ],
        [1, 1, 0, 0, 1],
    ),
    (
        data.circles,
        [
            [-0.390350253192799, 0.5064710526911019],
            [-0.4277388202514403, -0.7282962209544493],
            [-1.008274148148246, -0.0627000676823846],
            [0.9956181831024071, -0.04772180303595027],
            [0.6686135246637318, 0.08846223804995847],
        ],
        [1, 1, 0, 0, 1],
    ),
    (
        data.spirals,
        [
            [0.5096497468072009, -0.1863492703364492],
            [-1.02773882025144, -0.03547589792689831],
            [-0.34160748148157954, -0.6400503368720103],
            [-0.1710484835642594, 0.2409533315588626],
            [0.8686135246637318, 0.08846223804995822],
        ],
        [1, 1, 0, 0, 0],
    ),
]


@pytest.mark.parametrize("draw, points, labels", STORED, ids=["moons", "circles", "spirals"])
def test_stored_points(draw, points, labels):
    X, Y = draw(5, noise=0.1, seed=3)
    np.testing.assert_allclose(X, points, rtol=0, atol=1e-14)  # libm may differ by an ulp
    assert Y.tolist() == labels
    assert not np.array_equal(X, draw(5, noise=0.1, seed=4)[0])


def test_spirals_are_arms_of_one_turn():
    X, Y = data.spirals(32, classes=3)
    assert (X.shape, X.dtype, np.bincount(Y).tolist()) == ((32, 2), np.float64, [11, 11, 10])
    for label, count in enumerate([11, 11, 10]):
        arm = X[label == Y]
        radius = np.hypot(*arm.T)
        arm = arm[np.argsort(radius)]
        np.testing.assert_allclose(np.sort(radius), np.arange(1, count + 1) / count)
        turn = np.unwrap(np.arctan2(arm[:, 1], arm[:, 0]))
        np.testing.assert_allclose(np.diff(turn), 2 * np.pi / count)
        end = 2 * np.pi * label / 3
        np.testing.assert_allclose(arm[-1], [np.cos(end), np.sin(end)], atol=1e-14)
    assert np.any(np.diff(Y) < 0)  # shuffled


def test_drawing_needs_no_scikit_learn():
    program = (
        "import sys; from micrograd_scratch import data;"
        "data.moons(9, 0.1), data.circles(9), data.spirals(9), data.split(*data.xor());"
        "sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: data.moons(0), "n is 0"),
        (lambda: data.moons(-3), "n is -3"),
        (lambda: data.moons(10.0), "n is 10.0"),
        (lambda: data.moons("10"), "n is '10'"),
        (lambda: data.moons(10, noise=-0.1), "noise is -0.1"),
        (lambda: data.moons(10, noise=np.nan), "noise is nan"),
        (lambda: data.moons(10, noise="much"), "noise is 'much'"),
        (lambda: data.moons(10, seed=-1), "seed is -1"),
        (lambda: data.moons(10, seed=2**32), "seed is 4294967296"),
        (lambda: data.moons(10, seed=None), "seed is None"),
        (lambda: data.circles(0), "n is 0"),
        (lambda: data.circles(10, factor=1.0), "factor is 1.0"),
        (lambda: data.circles(10, factor=-0.5), "factor is -0.5"),
        (lambda: data.spirals(10, classes=0), "classes is 0"),
        (lambda: data.spirals(2, classes=3), "classes is 3"),
        (lambda: data.spirals(10, noise=-1), "noise is -1"),
        (lambda: data.split([1, 2], [1, 2], held_out=0), "held_out is 0"),
        (lambda: data.split([1, 2], [1, 2], held_out=1.0), "held_out is 1.0"),
        (lambda: data.split([1, 2], [1, 2], seed=1.5), "seed is 1.5"),
        (lambda: data.split([1, 2, 3], [1, 2]), r"X \(3,\) and Y \(2,\)"),
        (lambda: data.split([1], [1]), r"X \(1,\) and Y \(1,\)"),
        (lambda: data.split(1, 1), r"X \(\) and Y \(\)"),
        (lambda: data.mnist(split="valid"), "split is 'valid'"),
        (lambda: data.mnist(dtype="int8"), "dtype is 'int8'"),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_mend(call, named):
    with pytest.raises(ValueError, match=rf"^{named}.*: give ") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_split_holds_out_a_share_of_shuffled_rows():
    X, Y = np.arange(40).reshape(20, 2), np.arange(20)
    (X_train, Y_train), (X_held, Y_held) = data.split(X, Y, held_out=0.25, seed=1)
    assert (len(X_train), len(X_held)) == (15, 5)
    rows = np.concatenate([Y_train, Y_held])
    assert sorted(rows) == list(range(20)) and rows.tolist() != list(range(20))
    np.testing.assert_array_equal(np.concatenate([X_train, X_held]), X[rows])  # still paired
    again = data.split(X, Y, held_out=0.25, seed=1)[1][1]
    np.testing.assert_array_equal(Y_held, again)
    assert set(Y_held) != set(data.split(X, Y, held_out=0.25, seed=2)[1][1])
    assert [len(part[0]) for part in data.split(X, Y, held_out=0.001)] == [19, 1]
    assert [len(part[0]) for part in data.split(X, Y, held_out=0.999)] == [1, 19]


# ---- handwritten digits --------------------------------------------------------------------------


def test_digits_are_scaled_to_one():
    pytest.importorskip("sklearn")
    X, Y = data.digits()
    assert (X.shape, X.dtype, X.min(), X.max()) == ((1797, 64), np.float64, 0.0, 1.0)
    assert X.sum() * 16 == 561718.0
    assert np.bincount(Y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert Y.dtype.kind == "i" and Y[:10].tolist() == list(range(10))


def test_digits_name_the_extra_when_scikit_learn_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "micrograd_scratch\[data\]"$') as caught:
        data.digits()
    assert "\n" not in str(caught.value)


# ---- MNIST ---------------------------------------------------------------------------------------

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array, magic=None):
    """The bytes of an IDX file of unsigned bytes."""
    array = np.asarray(array, np.uint8)
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return (magic or bytes([0, 0, 8, array.ndim])) + sizes + array.tobytes()


PIXELS = np.random.RandomState(0).randint(0, 256, (5, 28, 28)).astype(np.uint8)
PIXELS[0, 0, :2] = 0, 255
DIGITS = np.array([3, 1, 4, 1, 9])


def write(folder, images=idx(PIXELS), labels=idx(DIGITS), suffix=""):  # noqa: B008
    (folder / f"{IMAGES}{suffix}").write_bytes(images)
    (folder / f"{LABELS}{suffix}").write_bytes(labels)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_reads_idx_files(tmp_path, packed, dtype):
    if packed:
        write(tmp_path, gzip.compress(idx(PIXELS)), gzip.compress(idx(DIGITS)), ".gz")
    else:
        write(tmp_path)
    X, Y = data.mnist(str(tmp_path), dtype=dtype)
    assert (X.shape, X.dtype, Y.dtype) == ((5, 784), np.dtype(dtype), np.intp)
    expected = PIXELS.reshape(5, 784).astype(dtype) / np.array(255, dtype)
    np.testing.assert_array_equal(X, expected)
    assert X.min() == 0.0 and X.max() == 1.0
    assert Y.tolist() == DIGITS.tolist()
    X[0, 0] = Y[0] = 7  # both are the caller's own


def test_the_test_part_has_its_own_files(tmp_path):
    write(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(PIXELS[:2]))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx([7, 2])))
    X, Y = data.mnist(tmp_path, split="test")
    assert X.shape == (2, 784) and Y.tolist() == [7, 2]


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=rf"{IMAGES}: no such file.*https://.*{IMAGES}.gz"):
        data.mnist(tmp_path)
    (tmp_path / IMAGES).write_bytes(idx(PIXELS))
    with pytest.raises(DataError, match=f"{LABELS}: no such file"):
        data.mnist(tmp_path)
    assert issubclass(DataError, ValueError)


GOOD = idx(PIXELS)
HUGE = bytes([0, 0, 8, 3]) + b"\xff" * 12
BAD_IMAGES = {
    "empty": (b"", "cut short: 0 bytes"),
    "half a header": (GOOD[:10], "cut short: 10 bytes"),
    "header only": (GOOD[:16], "cut short: 0 of 3,920"),
    "one byte missing": (GOOD[:-1], "cut short: 3,919 of 3,920"),
    "one byte too many": (GOOD + b"\0", "goes on after the 3,920"),
    "twice": (GOOD + GOOD, "goes on after the 3,920"),
    "labels for images": (idx([0] * 100), "begins with 00000801.*with 00000803"),
    "signed bytes": (idx(PIXELS, magic=b"\0\0\x09\3"), "begins with 00000903"),
    "little-endian": (idx(PIXELS, magic=b"\3\x08\0\0"), "begins with 03080000"),
    "a web page": (b"<!DOCTYPE html>" * 9, "begins with 3c21444f"),
    "no images": (idx(np.empty((0, 28, 28))), "announces 0 x 28 x 28"),
    "no columns": (idx(np.empty((5, 28, 0))), "announces 5 x 28 x 0"),
    "2**96 bytes": (HUGE, "announces 4294967295 x 4294967295 x 4294967295 bytes"),
    "too few labels": (idx(PIXELS[:4]), "5 labels for 4 images"),
    "too many images": (idx(np.concatenate([PIXELS, PIXELS])), "5 labels for 10 images"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("content, reason", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images_are_refused(tmp_path, content, reason, packed):
    write(tmp_path, gzip.compress(content) if packed else content)
    refused(tmp_path, reason)


def refused(folder, reason, name=""):
    with pytest.raises(DataError, match=f"{name}.*{reason}") as caught:
        data.mnist(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


PACKED = gzip.compress(GOOD)
BAD_PACKED = {
    "magic only": (PACKED[:2], "cut short"),
    "cut inside": (PACKED[: len(PACKED) // 2], "cut short"),
    "cut in the trailer": (PACKED[:-3], "cut short"),
    "trailing bytes": (PACKED + b"\0", "goes on for 1 bytes"),
    "two members": (PACKED + PACKED, "goes on for"),
    "an empty second member": (PACKED + gzip.compress(b""), "goes on for"),
    "split into members": (gzip.compress(GOOD[:999]) + gzip.compress(GOOD[999:]), "goes on for"),
    "a wrong checksum": (PACKED[:-8] + b"\1\2\3\4" + PACKED[-4:], "damaged"),
    "a wrong length": (PACKED[:-4] + b"\1\2\3\4", "damaged"),
    "a broken body": (PACKED[:10] + b"\xff" * 50 + PACKED[60:], "damaged"),
    "gzip inside gzip": (gzip.compress(PACKED), "begins with 1f8b"),
}


@pytest.mark.parametrize("content, reason", BAD_PACKED.values(), ids=BAD_PACKED)
def test_bad_gzip_is_refused(tmp_path, content, reason):
    write(tmp_path, images=content)
    refused(tmp_path, reason, IMAGES)


@pytest.mark.parametrize(
    "labels, reason",
    [
        (idx([3, 1, 4, 1, 10]), "label 10"),
        (idx([3, 1, 4, 1]), "4 labels for 5 images"),
        (GOOD, "begins with 00000803.*with 00000801"),
        (idx(DIGITS)[:-1], "cut short: 4 of 5"),
    ],
)
def test_bad_labels_are_refused(tmp_path, labels, reason):
    write(tmp_path, labels=labels)
    refused(tmp_path, reason, LABELS)


def test_a_bomb_is_refused_in_bounded_memory(tmp_path):
    packer = zlib.compressobj(9, wbits=31)
    opening = packer.compress(GOOD) + packer.flush(zlib.Z_FULL_FLUSH)
    megabyte = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = opening + megabyte * 2000  # 2 GB in 2 MB; a full flush makes the blocks repeatable
    write(tmp_path, images=bomb)
    tracemalloc.start()
    refused(tmp_path, "goes on after the 3,920 bytes", IMAGES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(bomb)


def test_announced_sizes_and_oversized_files_are_refused_in_bounded_memory(tmp_path):
    write(tmp_path, images=HUGE)
    tracemalloc.start()
    refused(tmp_path, "announces", IMAGES)
    with open(tmp_path / IMAGES, "wb") as file:
        file.write(GOOD)
        file.truncate(20 * data.LIMIT)  # sparse: takes no room on the disk
    refused(tmp_path, "larger than 50,331,648 bytes", IMAGES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_folder_or_a_pipe_is_no_file(tmp_path):
    (tmp_path / IMAGES).mkdir()
    refused(tmp_path, "no such file", IMAGES)
    if hasattr(os, "mkfifo"):
        (tmp_path / IMAGES).rmdir()
        os.mkfifo(tmp_path / IMAGES)  # opening it would wait for ever
        refused(tmp_path, "no such file", IMAGES)


# ---- MNIST: cache and download -------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of small files with their checksums pinned, and an empty cache: no network."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    sums = {}
    for name, content in ((IMAGES, GOOD), (LABELS, idx(DIGITS))):
        packed = gzip.compress(content)
        (folder / f"{name}.gz").write_bytes(packed)
        sums[name] = hashlib.sha256(packed).hexdigest()
    monkeypatch.setattr(data, "MNIST_URL", folder.as_uri())
    monkeypatch.setattr(data, "MNIST_SHA256", sums)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def cached():
    return sorted(path.name for path in (data.cache_folder() / "mnist").glob("*"))


def test_a_download_is_checked_and_happens_once(mirror):
    X, Y = data.mnist()
    assert X.shape == (5, 784) and Y.tolist() == DIGITS.tolist()
    assert cached() == [f"{IMAGES}.gz", f"{LABELS}.gz"]
    for path in mirror.glob("*"):
        path.unlink()
    np.testing.assert_array_equal(data.mnist()[0], X)  # from the cache


def test_a_changed_download_is_refused_and_leaves_nothing(mirror):
    (mirror / f"{LABELS}.gz").write_bytes(gzip.compress(idx(DIGITS[::-1])))
    with pytest.raises(DataError, match=rf"{LABELS}.gz.*SHA-256"):
        data.mnist()
    assert cached() == [f"{IMAGES}.gz"]


def test_without_a_network_the_line_says_what_to_do(mirror):
    (mirror / f"{IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=r"by hand, .*digits\(\)") as caught:
        data.mnist()
    message = str(caught.value)
    assert str(data.cache_folder() / "mnist" / f"{IMAGES}.gz") in message
    assert data.MNIST_URL in message and "\n" not in message
    assert cached() == []


def test_an_interrupted_write_leaves_nothing(mirror, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        data.mnist()
    assert cached() == []


def test_the_pinned_files_are_mnists_four():
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            assert len(bytes.fromhex(data.MNIST_SHA256[f"{part}-{kind}-ubyte"])) == 32
    assert data.MNIST_URL.startswith("https://") and len(data.MNIST_SHA256) == 4
