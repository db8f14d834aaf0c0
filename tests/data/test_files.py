import os
from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import FileList, list_images

MakeImages = Callable[..., list[Path]]


def test_listing_is_recursive_sorted_and_by_suffix(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["b/2.PNG", "b/1.jpeg", "a.JPG", "c.webp", "d.bmp", ".hidden.jpg"])
    make_images(tmp_path, [".thumbs/x.jpg", "b/._1.jpg"])
    (tmp_path / "notes.txt").write_text("no image")
    files = list_images(tmp_path)
    assert list(files.names()) == ["a.JPG", "b/1.jpeg", "b/2.PNG", "c.webp", "d.bmp"]
    assert files[-1] == tmp_path / "d.bmp"
    assert list(files[1:3].names()) == ["b/1.jpeg", "b/2.PNG"]


def test_listing_follows_linked_folders_once(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "disk", ["1.jpg"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "root")
    assert list(list_images(tmp_path / "root").names()) == ["linked/1.jpg"]


def test_file_list_keeps_any_file_name(tmp_path: Path) -> None:
    names = ["grün/日本.jpg", os.fsdecode(b"latin-\xe9.jpg"), ""]
    files = FileList(tmp_path, names)
    assert list(files.names()) == names
    with pytest.raises(IndexError):
        files[3]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist"):
        list_images(tmp_path / "nowhere")


def test_file_instead_of_a_folder_is_named(tmp_path: Path, make_images: MakeImages) -> None:
    (path,) = make_images(tmp_path, ["a.jpg"])
    with pytest.raises(NotADirectoryError, match=r"a\.jpg is a file"):
        list_images(path)


def test_empty_folder_says_which_files_count(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no image in .*\.jpg, \.jpeg, \.png"):
        list_images(tmp_path)
