"""Files that appear whole or not at all."""

import pytest

from micrograd_scratch import files
from micrograd_scratch.files import write_whole


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("trouble", [OSError("disk full"), KeyboardInterrupt()])
def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch, step, trouble):
    path = tmp_path / "x.svg"
    path.write_text("old")

    def broken(*_):
        raise trouble

    monkeypatch.setattr(files.os, step, broken)
    with pytest.raises(type(trouble)):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_permissions_that_new_files_get(tmp_path):
    write_whole(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_folder_that_is_not_there_is_made(tmp_path):
    write_whole(tmp_path / "new" / "newer" / "a", b"content")
    assert (tmp_path / "new" / "newer" / "a").read_bytes() == b"content"
