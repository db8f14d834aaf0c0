"""Checkpoints that are missing, damaged or something else."""

from pathlib import Path

import pytest
import torch

from csa_inpaint.weights.files import match, read_checkpoint


class Anything:
    pass


GOOD = {"state_dict": {"generator.weight": torch.zeros(3)}, "optimizer_states": []}


def test_checkpoint_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.ckpt"):
        read_checkpoint(tmp_path / "absent.ckpt")


def test_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    torch.save(GOOD, path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.ckpt"):
            read_checkpoint(path)


@pytest.mark.parametrize("content", [{"state_dict": {"encoder.w": torch.zeros(1)}}, {"a": 1}, [1]])
def test_checkpoint_of_something_else_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt (is no checkpoint|holds a list)"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_checkpoint_that_is_a_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.ckpt").write_text("hello\n" * 100)
    with pytest.raises(ValueError, match=r"notes\.ckpt"):
        read_checkpoint(tmp_path / "notes.ckpt")


def test_checkpoint_with_objects_is_not_loaded(tmp_path: Path) -> None:
    torch.save({**GOOD, "extra": Anything()}, tmp_path / "objects.ckpt")
    with pytest.raises(ValueError, match="holds Python objects"):
        read_checkpoint(tmp_path / "objects.ckpt")


def test_match_sorts_keys_by_how_they_fit() -> None:
    wanted = {key: torch.zeros(2, 3) for key in ("a", "b", "c", "d")}
    state = {"d": 1, "a": torch.zeros(2, 3), "c": torch.zeros(3, 2), 7: torch.zeros(2)}
    found = match(state, wanted)
    assert found.fitting == ["a"]
    assert list(found.differences()) == [
        "missing (1): b",
        "unexpected (1): 7",
        "misshapen (2): c is (3, 2), expected (2, 3), d is a int, expected (2, 3)",
    ]
