import csv
from pathlib import Path

import pytest

import csa_inpaint.data
from csa_inpaint.data import ShippedPhotos


def test_shipped_photos_are_split_by_group_and_attributed() -> None:
    train = list(ShippedPhotos().files(None, "train").names())
    val = list(ShippedPhotos().files(None, "val").names())
    assert (len(train), len(val)) == (456, 46)
    sources = Path(csa_inpaint.data.__file__).parent / "photos" / "SOURCES.csv"
    with sources.open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [f"train/{name}" for name in train] + [f"val/{name}" for name in val]
    assert all(row["author"] and row["licence"] and row["group"] for row in rows.values())
    groups = [
        {rows[f"{split}/{name}"]["group"] for name in names}
        for split, names in (("train", train), ("val", val))
    ]
    assert not groups[0] & groups[1]


def test_shipped_photos_take_little_room() -> None:
    photos = Path(csa_inpaint.data.__file__).parent / "photos"
    assert sum(file.stat().st_size for file in photos.rglob("*.jpg")) < 9e6


def test_shipped_photos_refuse_a_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add data=folder"):
        ShippedPhotos().files(tmp_path, "train")
