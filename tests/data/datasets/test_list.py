import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import ListFiles
from csa_inpaint.data.datasets import list as list_module

MakeImages = Callable[..., list[Path]]


def test_lists_name_the_images_in_their_order(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "images", ["b/2.jpg", "a 1.png", "c.jpg"])
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbf# comment\n/b/2.jpg 17\r\n\n a 1.png\n")
    (tmp_path / "images" / "val.txt").write_text("c.jpg\t3\n")
    layout = ListFiles(tmp_path / "train.txt", "val.txt")
    assert list(layout.files(tmp_path / "images", "train").names()) == ["b/2.jpg", "a 1.png"]
    assert list(layout.files(tmp_path / "images", "val").names()) == ["c.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg\ngone.jpg\nalso.jpg\n", r"2 of the 3 images .*list\.txt lists .*gone\.jpg"),
        ("a.jpg\na.jpg\n", r"lists a\.jpg more than once"),
        ("a.jpg\n./a.jpg\n", r"lists a\.jpg more than once"),
        ("a.jpg\nreadme.txt\n", r"line 2: 'readme\.txt' is not the path of an image"),
        ("\n", "names no image"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    tmp_path: Path, make_images: MakeImages, content: str, message: str
) -> None:
    make_images(tmp_path, ["a.jpg"])
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ListFiles("list.txt", None).files(tmp_path, "train")


@pytest.mark.parametrize("together", [1, 40, 1 << 20])
def test_lines_are_read_in_parts_of_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(list_module, "_TOGETHER", together)
    (tmp_path / "list.txt").write_bytes(
        b"\xef\xbb\xbf\ta.JPG \r\n# b.jpg\n\n   \n/c/d e.jpeg  12 \n.//f.png\n"
        b"./g.h.tiff 1\nj pg.jpg\tx.jpg\nk.jpg 1 2.jpg\nl/m.webp"
    )
    assert list(list_module.read_list(tmp_path / "list.txt")) == [
        (b"a.JPG", b""),
        (b"/c/d e.jpeg", b"12"),
        (b"f.png", b""),
        (b"g.h.tiff", b"1"),
        (b"j pg.jpg\tx.jpg", b""),
        (b"k.jpg 1 2.jpg", b""),
        (b"l/m.webp", b""),
    ]
    (tmp_path / "list.csv").write_bytes(b"name,label\na b.jpg , 1\nc,d.jpg,\n\ne.jpg\n")
    assert list(list_module.read_list(tmp_path / "list.csv")) == [
        (b"a b.jpg", b"1"),
        (b"c,d.jpg", b""),
        (b"e.jpg", b""),
    ]
    for line in (b"b jpg", b".hidden.jpg", b"c/.jpg 1", b"jpg", b"a.jpg x y", b"a.gif, 1"):
        (tmp_path / "list.txt").write_bytes(b"a.jpg\n\nb.jpg 2\n" + line + b"\nc.jpg\n")
        with pytest.raises(ValueError, match=f"line 4: '{line.decode()}' is not the path"):
            list(list_module.read_list(tmp_path / "list.txt"))
    (tmp_path / "list.csv").write_bytes(b"name,label\nb.jpg 1,2\n")
    with pytest.raises(ValueError, match=r"line 2: 'b\.jpg 1,2' is not the path"):
        list(list_module.read_list(tmp_path / "list.csv"))


def test_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.txt does not exist"):
        ListFiles("train.txt", None).files(tmp_path, "train")
    with pytest.raises(ValueError, match=r"data\.layout\.val_list="):
        ListFiles("train.txt", None).files(tmp_path, "val")


def test_byte_order_mark_is_not_part_of_the_first_path(
    tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(tmp_path, ["a.jpg"])
    (tmp_path / "list.txt").write_text("a.jpg\n", encoding="utf-8-sig")
    assert list(ListFiles("list.txt", None).files(tmp_path, "train").names()) == ["a.jpg"]


@pytest.mark.parametrize("line", ["./a/b.jpg", "a//b.jpg", "a/./b.jpg", "/a/b.jpg", "a/b.jpg 3"])
def test_spellings_of_a_path_are_one(tmp_path: Path, make_images: MakeImages, line: str) -> None:
    make_images(tmp_path, ["a/b.jpg"])
    (tmp_path / "list.txt").write_text(line + "\n")
    assert list(ListFiles("list.txt", None).files(tmp_path, "train").names()) == ["a/b.jpg"]


def test_absolute_paths_need_no_root(tmp_path: Path, make_images: MakeImages) -> None:
    paths = make_images(tmp_path, ["one/a.jpg", "two/b.jpg"])
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    layout = ListFiles(tmp_path / "list.txt", None)
    assert list(layout.files(None, "train")) == paths
    assert list(layout.files(tmp_path / "one", "train")) == paths
    assert list(layout.files(tmp_path, "train").names()) == ["one/a.jpg", "two/b.jpg"]
    (tmp_path / "list.txt").write_text("one/a.jpg\n")
    with pytest.raises(ValueError, match=r"data\.root is missing: .*lists one/a\.jpg, which"):
        layout.files(None, "train")


def test_tilde_is_the_home(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (path,) = make_images(tmp_path, ["pictures/a.jpg"])
    (tmp_path / "list.txt").write_text("~/pictures/a.jpg\n")
    assert list(ListFiles("~/list.txt", None).files(None, "train")) == [path]


def test_list_is_sought_where_the_user_stands(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "images", ["a.jpg", "b.jpg"])
    (tmp_path / "here").mkdir()
    (tmp_path / "here/list.txt").write_text("a.jpg\n")
    monkeypatch.chdir(tmp_path / "here")
    layout = ListFiles("list.txt", None)
    assert list(layout.files(tmp_path / "images", "train").names()) == ["a.jpg"]
    (tmp_path / "images/list.txt").write_text("b.jpg\n")
    with pytest.raises(ValueError, match=r"list\.txt is there twice"):
        layout.files(tmp_path / "images", "train")


def test_check_looks_only_into_folders_that_the_list_names(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path, ["a/1.jpg", "a/2.jpg", "b/3.jpg", ".hidden/4.jpg"])
    (tmp_path / "list.txt").write_text("a/1.jpg\na/2.jpg\n.hidden/4.jpg\n")
    looked_at = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: (looked_at.append(path), listdir(path))[1])
    assert len(ListFiles("list.txt", None).files(tmp_path, "train")) == 3
    assert sorted(map(os.fsdecode, looked_at)) == [str(tmp_path / ".hidden"), str(tmp_path / "a")]


def test_long_list_is_checked_once(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(list_module, "CACHE_FROM", 2)
    make_images(tmp_path, ["images/a.jpg", "images/b.jpg", "images/c.jpg"])
    source = tmp_path / "list.txt"
    source.write_text("b.jpg\na.jpg\n")
    hour_ago = (time.time() - 3600,) * 2
    os.utime(source, hour_ago)
    os.utime(tmp_path / "images", hour_ago)
    checked = []
    check = list_module._check
    monkeypatch.setattr(
        list_module, "_check", lambda *args: (checked.append(args), check(*args))[1]
    )

    def names() -> list[str]:
        return list(ListFiles(source, None).files(tmp_path / "images", "train").names())

    assert names() == names() == ["b.jpg", "a.jpg"]
    assert len(checked) == 1
    source.write_text("c.jpg\na.jpg\n")
    assert names() == ["c.jpg", "a.jpg"]
    os.utime(source, hour_ago)
    assert names() == ["c.jpg", "a.jpg"]
    (tmp_path / "images/c.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images .* c\.jpg for one"):
        names()
