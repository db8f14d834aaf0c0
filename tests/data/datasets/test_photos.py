import csv
from pathlib import Path

import pytest

import csa_inpaint.data
from csa_inpaint.data import ShippedPhotos


def panorama(name: str) -> str:
    return name.rsplit("_", 1)[0] if name.startswith("hdrihaven_") else name


def test_shipped_photos_are_split_by_panorama_and_attributed() -> None:
    train = list(ShippedPhotos().files(None, "train").names())
    val = list(ShippedPhotos().files(None, "val").names())
    assert (len(train), len(val)) == (36, 10)
    assert not {panorama(name) for name in train} & {panorama(name) for name in val}
    sources = Path(csa_inpaint.data.__file__).parent / "photos" / "SOURCES.csv"
    with sources.open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [f"train/{name}" for name in train] + [f"val/{name}" for name in val]
    assert all(row["author"] and row["licence"] for row in rows.values())


def test_shipped_photos_refuse_a_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add data=folder"):
        ShippedPhotos().files(tmp_path, "train")
