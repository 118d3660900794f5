"""Data sets to learn on: four small ones that are drawn, two of handwritten digits.

Every function returns `(X, Y)`: X a float64 array of shape (rows, features), Y an array of shape
(rows,) - whole-number class labels, except for `xor`, whose targets are floats. `moons` and
`circles` give scikit-learn's points and labels bit for bit without needing it. `digits` needs it,
because scikit-learn carries the images; `mnist` reads the original files, from a folder or
downloaded once into the user's cache.

Randomness is always `numpy.random.RandomState(seed)`: its stream is frozen by NumPy's policy, so a
seed means the same points in every version. Left out: other formats, augmentation, batching (that
is `fit`'s), and files of more than LIMIT bytes.
"""

import hashlib
import math
import operator
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import write_whole

Pair = tuple[NDArray[np.floating[Any]], NDArray[Any]]  # (X, Y)


class DataError(ValueError):
    """A data file that is missing, damaged or not what its name says: names file and reason."""


# ---- drawn ---------------------------------------------------------------------------------------


def xor() -> Pair:
    """The four rows of exclusive or: X (4, 2), Y (4,) floats 0.0 or 1.0."""
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return X, np.array([0.0, 1.0, 1.0, 0.0])


def moons(n: int = 100, noise: float | None = None, seed: int = 0) -> Pair:
    """Two interleaving half circles: X (n, 2), Y (n,) of 0 (upper moon) and 1 (lower).

    `noise` is the standard deviation of the Gaussian noise added to both coordinates. The same
    bits as scikit-learn's `make_moons(n, noise=noise, random_state=seed)`. ValueError names a bad
    argument.

    >>> X, Y = moons(100, noise=0.1)
    >>> X.shape, Y.shape
    ((100, 2), (100,))
    """
    n = _whole("n", n, 1)
    upper = np.linspace(0, np.pi, n // 2)
    lower = np.linspace(0, np.pi, n - n // 2)  # an odd point goes to the lower moon
    points = (
        np.concatenate([np.cos(upper), 1 - np.cos(lower)]),
        np.concatenate([np.sin(upper), 1 - np.sin(lower) - 0.5]),
    )
    return _scattered(points, [len(upper), len(lower)], noise, seed)


def circles(n: int = 100, noise: float | None = None, seed: int = 0, factor: float = 0.8) -> Pair:
    """A circle inside a circle: X (n, 2), Y (n,) of 0 (outer, radius 1) and 1 (radius `factor`).

    `noise` as for `moons`; 0 <= factor < 1. The same bits as scikit-learn's
    `make_circles(n, noise=noise, random_state=seed, factor=factor)`. ValueError names a bad
    argument.
    """
    n = _whole("n", n, 1)
    factor = _number("factor", factor, 0.0, 1.0)
    # No end point: it would be the first point again.
    outer = np.linspace(0, 2 * np.pi, n // 2, endpoint=False)
    inner = np.linspace(0, 2 * np.pi, n - n // 2, endpoint=False)
    points = (
        np.concatenate([np.cos(outer), np.cos(inner) * factor]),
        np.concatenate([np.sin(outer), np.sin(inner) * factor]),
    )
    return _scattered(points, [len(outer), len(inner)], noise, seed)


def spirals(n: int = 100, classes: int = 2, noise: float | None = None, seed: int = 0) -> Pair:
    """Intertwined spiral arms, one per class: X (n, 2), Y (n,) of 0 ... classes - 1.

    An arm of m points makes one turn while its radius grows from 1/m to 1 - not from 0, a point
    that all classes would share. Arms differ in size by one point at most; `noise` as for `moons`.
    ValueError names a bad argument.
    """
    n, classes = _whole("n", n, 1), _whole("classes", classes, 1)
    if classes > n:
        raise ValueError(f"classes is {classes} for n of {n}: give each class a point at least")
    counts = [n // classes + (label < n % classes) for label in range(classes)]
    radius = np.concatenate([np.arange(1, count + 1) / count for count in counts])
    angle = 2 * np.pi * (radius + np.repeat(np.arange(classes), counts) / classes)
    return _scattered((radius * np.cos(angle), radius * np.sin(angle)), counts, noise, seed)


def _scattered(
    points: tuple[NDArray[Any], NDArray[Any]], counts: list[int], noise: float | None, seed: int
) -> Pair:
    """Label `counts[k]` successive points k, shuffle, then add noise (scikit-learn's order)."""
    generator = np.random.RandomState(_whole("seed", seed, 0, 2**32))
    order = generator.permutation(sum(counts))
    X = np.column_stack(points)[order]
    if noise is not None:  # 0.0 adds 0.0, which turns -0.0 into 0.0; scikit-learn's does too
        X += generator.normal(scale=_number("noise", noise, 0.0), size=X.shape)
    return X, np.repeat(np.arange(len(counts)), counts)[order]


# ---- handwritten digits --------------------------------------------------------------------------


def digits() -> Pair:
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries: X (1797, 64), Y ints.

    Grey levels 0 ... 16 are divided by 16, so X lies in [0, 1]; row by row as in the image.
    ImportError with the mend when scikit-learn is not installed. Source: Alpaydin and Kaynak,
    "Optical recognition of handwritten digits" (test part), UCI Machine Learning Repository, 1998.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise ImportError(
            "digits() are carried by scikit-learn, which is not installed: "
            'pip install "micrograd_scratch[data]"'
        ) from error
    X, Y = load_digits(return_X_y=True)
    return X / 16, Y


MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist"
MNIST_SHA256 = {  # of the gzipped files, as TensorFlow Datasets pins them for this address
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
LIMIT = 48 * 2**20  # bytes of one file, packed or not: 60,000 images of 28x28 take 47,040,016


def mnist(
    folder: str | os.PathLike[str] | None = None, split: str = "train", dtype: str = "float64"
) -> Pair:
    """MNIST's handwritten digits of 28x28 pixels: X (n, 784) in [0, 1], Y (n,) ints 0 ... 9.

    `split` is "train" (60,000 rows) or "test" (10,000); grey levels are divided by 255. As
    float64 the training images take 376 MB, with dtype="float32" half of that. The files are
    MNIST's own (train-images-idx3-ubyte and so on, gzipped or not; a folder with other images in
    the same format works too), read from `folder`, or without one from the user's cache, where
    they are downloaded at first use (12 MB; SHA-256 checked). DataError names file and reason when
    a file is missing or is not exactly what its header announces. Source and format: LeCun, Cortes
    and Burges, "The MNIST database of handwritten digits", 1998.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split is {split!r}: give "train" or "test"')
    if dtype not in ("float64", "float32"):
        raise ValueError(f'dtype is {dtype!r}: give "float64" or "float32"')
    part = "train" if split == "train" else "t10k"
    images_path = _mnist_file(folder, f"{part}-images-idx3-ubyte")
    labels_path = _mnist_file(folder, f"{part}-labels-idx1-ubyte")
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(labels) != len(images):
        raise _bad(labels_path, f"{len(labels)} labels for {len(images)} images ({images_path})")
    if labels.max() > 9:
        raise _bad(labels_path, f"holds the label {labels.max()}, which is no digit")
    X = np.divide(images.reshape(len(images), -1), 255, dtype=dtype)
    return X, labels.astype(np.intp)


def _mnist_file(folder: str | os.PathLike[str] | None, name: str) -> Path:
    """The path of `name` or `name`.gz in the folder; downloaded if that is the cache (None)."""
    place = cache_folder() / "mnist" if folder is None else Path(folder)
    for path in (place / name, place / f"{name}.gz"):
        if path.is_file():
            return path
    if folder is None:
        return _download(place, name)
    raise DataError(
        f"{place / name}: no such file, nor with .gz; place it there (from {MNIST_URL}/{name}.gz)"
    )


def cache_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME or the system's place, then micrograd_scratch."""
    system = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA", "~")}
    place = os.environ.get("XDG_CACHE_HOME") or system.get(sys.platform, "~/.cache")
    return Path(place).expanduser() / "micrograd_scratch"


def _download(place: Path, name: str) -> Path:
    """Fetch `name`.gz into the folder `place`, all or nothing, at most LIMIT bytes of it."""
    from http.client import HTTPException  # here: 20 ms that only a download has to pay
    from urllib.request import urlopen

    url, path = f"{MNIST_URL}/{name}.gz", place / f"{name}.gz"
    try:
        with urlopen(url, timeout=30) as response:
            packed = response.read(LIMIT + 1)
        if hashlib.sha256(packed).hexdigest() != MNIST_SHA256[name]:
            raise OSError("its SHA-256 is not the one pinned, it came damaged or changed")
        write_whole(path, packed)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{path}: not there, and {url} could not be fetched ({error}); "
            f"place it there by hand, name a folder, or take digits() instead"
        ) from error
    return path


def _read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """The array of bytes with `rank` axes that an IDX file, gzipped or not, holds; or DataError.

    The header is read first, and no more is unpacked than it announces and one byte.
    """
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if length > LIMIT:
                raise _bad(path, f"is larger than {LIMIT:,} bytes")
            packed = file.read(length)
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})") from error
    start = 4 + 4 * rank  # two zeros, 8 for unsigned bytes, the rank; then 4 bytes for each axis
    header = _unpack(path, packed, start)
    if len(header) < start:
        raise _bad(path, f"is cut short: {len(header)} bytes, the header alone takes {start}")
    magic = bytes([0, 0, 8, rank])
    if header[:4] != magic:
        raise _bad(
            path, f"begins with {header[:4].hex()}, an IDX file of its kind with {magic.hex()}"
        )
    shape = [int.from_bytes(header[at : at + 4], "big") for at in range(4, start, 4)]
    size = math.prod(shape)
    if not 0 < size <= LIMIT - start:
        raise _bad(path, f"announces {' x '.join(map(str, shape))} bytes, not 1 to {LIMIT:,}")
    content = _unpack(path, packed, start + size + 1)
    if len(content) < start + size:
        raise _bad(path, f"is cut short: {len(content) - start:,} of {size:,} bytes announced")
    if len(content) > start + size:
        raise _bad(path, f"goes on after the {size:,} bytes that its header announces")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _unpack(path: Path, packed: bytes, size: int) -> bytes:
    """The first `size` bytes, unpacked if gzipped; fewer if the file ends before, and ends well."""
    if not packed.startswith(b"\x1f\x8b"):
        return packed[:size]
    stream = zlib.decompressobj(wbits=31)  # 31: one gzip member, its length and CRC-32 checked
    try:
        content = stream.decompress(packed, size)
    except zlib.error as error:
        raise _bad(path, f"is damaged ({error})") from error
    if len(content) < size and not stream.eof:
        raise _bad(path, "is cut short: its gzip data have no end")
    if stream.unused_data:
        raise _bad(path, f"goes on for {len(stream.unused_data):,} bytes after its gzip data")
    return content


def _bad(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: {reason}; replace it with the original ({MNIST_URL})")


# ---- for all -------------------------------------------------------------------------------------


def split(X: Any, Y: Any, held_out: float = 0.2, seed: int = 0) -> tuple[Pair, Pair]:
    """Shuffle the rows and hold some out: `(X, Y), (X_held, Y_held)`.

    `held_out` is the share held out, 0 < held_out < 1, rounded to a whole number of rows; both
    parts keep one row at least. Classes are not balanced on purpose. ValueError names what is
    wrong.

    >>> (X, Y), (X_held, Y_held) = split(*moons(10))
    >>> len(X), len(X_held)
    (8, 2)
    """
    X, Y = np.asarray(X), np.asarray(Y)
    if X.shape[:1] != Y.shape[:1] or X.ndim == 0 or len(X) < 2:
        raise ValueError(f"X {X.shape} and Y {Y.shape}: give the same number of rows, two or more")
    held_out = _number("held_out", held_out, sys.float_info.min, 1.0)
    held = min(max(round(held_out * len(X)), 1), len(X) - 1)
    order = np.random.RandomState(_whole("seed", seed, 0, 2**32)).permutation(len(X))
    return (X[order[held:]], Y[order[held:]]), (X[order[:held]], Y[order[:held]])


def _whole(name: str, value: Any, low: int, high: float = math.inf) -> int:
    """`value` as an int in low <= value < high, or a ValueError that names it."""
    try:
        whole = operator.index(value)
    except TypeError:
        whole = low - 1
    if not low <= whole < high:
        below = "" if high == math.inf else f" and below {high}"
        raise ValueError(f"{name} is {value!r}: give a whole number of at least {low}{below}")
    return whole


def _number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """`value` as a float in low <= value < high, or a ValueError that names it."""
    number = float(value) if isinstance(value, (int, float, np.integer, np.floating)) else math.nan
    if not low <= number < high:
        below = "" if high == math.inf else f" and below {high:g}"
        raise ValueError(f"{name} is {value!r}: give a finite number of at least {low:g}{below}")
    return number
