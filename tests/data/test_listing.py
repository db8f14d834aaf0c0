import logging
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import FileList, list_images, listing
from csa_inpaint.data.listing import shared_files

MakeImages = Callable[..., list[Path]]


def test_listing_is_recursive_sorted_and_by_suffix(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["b/2.PNG", "b/1.jpeg", "a.JPG", "c.webp", "d.bmp", "e.tiff", ".x.jpg"])
    make_images(tmp_path, [".thumbs/x.jpg", "b/._1.jpg"])
    (tmp_path / "notes.txt").write_text("no image")
    files = list_images(tmp_path)
    assert list(files.names()) == ["a.JPG", "b/1.jpeg", "b/2.PNG", "c.webp", "d.bmp", "e.tiff"]
    assert files[-1] == tmp_path / "e.tiff"
    assert list(files[1:3].names()) == ["b/1.jpeg", "b/2.PNG"]


def test_listing_follows_linked_folders_once(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "disk", ["1.jpg"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "root")
    assert list(list_images(tmp_path / "root").names()) == ["linked/1.jpg"]


def test_folders_named_like_images_are_folders(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["dir.jpg/inside.jpg", "dir.jpg/deep.png/a.gif", "a.jpg"])
    names = ["a.jpg", "dir.jpg/deep.png/a.gif", "dir.jpg/inside.jpg"]
    assert list(list_images(tmp_path).names()) == names


def test_link_onto_itself_is_listed_by_its_name(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.jpg"])
    (tmp_path / "b.jpg").symlink_to("b.jpg")
    (tmp_path / "folder").symlink_to("folder")
    assert list(list_images(tmp_path).names()) == ["a.jpg", "b.jpg"]


def test_digest_is_of_names_and_order_alone(tmp_path: Path) -> None:
    one = FileList(tmp_path, ["ab", "c"]).digest()
    assert FileList(tmp_path / "elsewhere", ["ab", "c"]).digest() == one
    for names in (["c", "ab"], ["a", "bc"], ["ab"]):
        assert FileList(tmp_path, names).digest() != one


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
    with pytest.raises(FileNotFoundError, match=r"no image in .*\.jpg, \.jpeg, .*\.png"):
        list_images(tmp_path)


@pytest.fixture
def remembered(tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that was listed before, its list in a cache; folders changed an hour ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "CACHE_FROM", 2)
    root = tmp_path / "images"
    make_images(root, ["a/1.jpg", "a/2.jpg", "b/3.jpg"])
    age(root)
    list_images(root)
    return root


def age(root: Path) -> None:
    for folder in [root, *root.glob("*/")]:
        os.utime(folder, (time.time() - 3600,) * 2)


def count_walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    walked = []
    walk = listing._walk
    monkeypatch.setattr(listing, "_walk", lambda root: (walked.append(root), walk(root))[1])
    return walked


def test_unchanged_folders_are_not_walked_again(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = count_walks(monkeypatch)
    assert list(list_images(remembered).names()) == ["a/1.jpg", "a/2.jpg", "b/3.jpg"]
    assert not walked


def test_added_and_removed_images_are_noticed(remembered: Path, make_images: MakeImages) -> None:
    make_images(remembered, ["b/4.jpg"])
    assert len(list_images(remembered)) == 4
    (remembered / "a" / "1.jpg").unlink()
    assert list(list_images(remembered).names()) == ["a/2.jpg", "b/3.jpg", "b/4.jpg"]
    (remembered / "b").rename(remembered / "c")
    assert list(list_images(remembered).names()) == ["a/2.jpg", "c/3.jpg", "c/4.jpg"]


def test_folders_that_just_changed_are_walked_again(
    remembered: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(remembered, ["b/4.jpg"])
    stamp = (remembered / "b").stat().st_mtime_ns
    list_images(remembered)
    make_images(remembered, ["b/5.jpg"])
    os.utime(remembered / "b", ns=(stamp, stamp))  # within one tick of a coarse clock
    assert len(list_images(remembered)) == 5


def test_small_folders_leave_no_cache(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_images(tmp_path / "images", ["1.jpg"])
    list_images(tmp_path / "images")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_damaged_cache_is_replaced(
    remembered: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    (cache,) = (remembered.parent / "cache" / "csa_inpaint").iterdir()
    cache.write_bytes(cache.read_bytes()[:-40] if content is None else content)
    with caplog.at_level(logging.WARNING):
        assert len(list_images(remembered)) == 3
    assert "unreadable" in caplog.text
    caplog.clear()
    assert len(list_images(remembered)) == 3
    assert not caplog.text


def test_cache_that_cannot_be_written_is_reported(
    remembered: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (remembered.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(remembered.parent / "file"))
    assert len(list_images(remembered)) == 3
    assert "could not be written" in caplog.text


def test_two_hundred_bytes_hold_a_name_of_places2(tmp_path: Path) -> None:
    names = [f"a/apartment_building/outdoor/{number:08}.jpg" for number in range(5000)]
    listed = FileList(tmp_path, names)
    assert listed.nbytes() / len(listed) < 60
    assert len(pickle.dumps(listed)) / len(listed) < 60


def test_shared_files_are_found_however_they_are_named(tmp_path: Path) -> None:
    below = FileList(tmp_path / "a", ["b/1.jpg", "2.jpg", "3.jpg"])
    for root, names, shared in (
        (tmp_path / "a", ["2.jpg", "4.jpg"], ["a/2.jpg"]),
        (tmp_path / "a/b", ["1.jpg", "2.jpg"], ["a/b/1.jpg"]),
        (tmp_path, ["a/2.jpg", "2.jpg", "a/b/1.jpg", "c.jpg"], ["a/2.jpg", "a/b/1.jpg"]),
        (tmp_path / "c", [f"{tmp_path}/a/3.jpg", "2.jpg"], ["a/3.jpg"]),
        (tmp_path / "c", ["2.jpg", "../a/3.jpg"], ["a/3.jpg"]),
        (tmp_path / "c", ["2.jpg", "3.jpg"], []),
        (tmp_path / "ab", ["2.jpg"], []),
    ):
        other = FileList(root, names)
        for pair in ((below, other), (other, below)):
            found = {path.resolve() for path in shared_files(*pair)}
            assert found == {tmp_path / name for name in shared}
