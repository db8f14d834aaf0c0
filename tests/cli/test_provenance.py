"""Which commit made a run, and the configuration that repeats it."""

import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from csa_inpaint.cli.provenance import commit, repeatable


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with its configuration inside, in a repository that does not track it yet."""
    folder = tmp_path / "src" / "package"
    monkeypatch.setattr("csa_inpaint.cli.provenance.config_directory", lambda: folder)
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return folder


def test_commit_is_that_of_the_checkout(package: Path) -> None:
    git(package, "add", ".")
    git(package, "commit", "--quiet", "-m", "second")
    head = git(package, "rev-parse", "HEAD")
    assert commit(package) == {"commit": head, "dirty": False}
    (package.parents[1] / "notes.txt").write_text("not of the library")
    assert commit(package) == {"commit": head, "dirty": False}
    (package / "new.py").write_text("")
    assert commit(package) == {"commit": head, "dirty": True}


def test_commit_is_absent_below_another_repository(package: Path) -> None:
    assert commit(package) is None


def test_commit_is_absent_without_a_repository_or_git(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "absent"))
    assert commit(package) is None
    monkeypatch.setenv("PATH", "")
    assert commit(package) is None


def test_repeatable_points_into_the_folder_of_its_reader(tmp_path: Path) -> None:
    cfg = OmegaConf.create(
        {
            "output_root": "runs",
            "data": {"root": str(tmp_path / "data"), "size": "${side}"},
            "side": 64,
            "callbacks": [{"dirpath": str(tmp_path / "run" / "checkpoints")}],
            "name": str(tmp_path / "run2"),
        }
    )
    made = repeatable(cfg, tmp_path / "run")
    assert made["callbacks"] == [{"dirpath": "${hydra:runtime.output_dir}/checkpoints"}]
    assert made["name"] == str(tmp_path / "run2")
    assert made["data"] == {"root": str(tmp_path / "data"), "size": 64}
    assert made["hydra"]["run"]["dir"] == "${run_folder:${output_root},${name},${checkpoint}}"
