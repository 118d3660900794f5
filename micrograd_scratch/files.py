"""Files that appear whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write the file: whoever reads the path, at any time, sees all of the old or of the new.

    A folder that is not there is made; OSError if that or the writing fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own beside the target: removed whatever happens, on the same disk.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".micrograd_scratch-") as folder:
        fresh = Path(folder) / path.name
        with open(fresh, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
