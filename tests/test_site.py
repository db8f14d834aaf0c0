"""The documentation: its example trains, its commands compose, and its site builds offline."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from csa_inpaint import CSAInpainter
from csa_inpaint.adversaries import RelativisticAverageLeastSquares

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^python -m csa_inpaint\.(\w+)(.*)$", re.MULTILINE)
PAGES = ("adversaries", "app", "getting_started")


def blocks(page: str, language: str) -> list[str]:
    """The code of a page in a language."""
    text = (ROOT / f"docs/{page}.md").read_text("utf-8")
    return [code for name, code in BLOCK.findall(text) if name == language]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with the files of the page about adversaries."""
    (tmp_path / "mine.py").write_text(blocks("adversaries", "python")[0])
    (tmp_path / "extra/adversary").mkdir(parents=True)
    (tmp_path / "extra/adversary/hole.yaml").write_text(blocks("adversaries", "yaml")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def test_documented_adversary_trains(
    mine: Path, make_module: Callable[..., CSAInpainter], make_trainer: Callable[..., pl.Trainer],
    make_batches: Callable[..., object],
) -> None:  # fmt: skip
    module = make_module()
    adversary = importlib.import_module("mine").HoleAdversary(
        "hole", RelativisticAverageLeastSquares()
    )
    trainer = make_trainer([adversary])
    trainer.fit(module, make_batches(2))
    assert "hole" in module.discriminators
    assert {"generator/hole", "discriminator/hole"} <= trainer.callback_metrics.keys()


def test_documented_adversary_has_ten_lines_or_less() -> None:
    (code, *_) = blocks("adversaries", "python")
    body = code[code.index("class ") :].split("\n")[1:]
    assert sum(bool(line.strip()) and '"""' not in line for line in body) <= 10


def test_documented_file_names_the_adversary(mine: Path) -> None:
    # What --config-dir does for a command.
    extra = f"hydra.searchpath=[file://{mine / 'extra'}]"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["adversary=[patch,hole]", extra])
    adversary = instantiate(cfg.adversary.hole, _convert_="all")
    assert type(adversary).__name__ == "HoleAdversary"
    assert adversary.name == "hole"
    assert "patch" in cfg.adversary


@pytest.mark.parametrize("page", PAGES)
def test_documented_commands_compose(page: str, mine: Path) -> None:
    commands = COMMAND.findall("".join(blocks(page, "bash")))
    assert commands
    for name, arguments in commands:
        words = shlex.split(arguments.rstrip(')"'), comments=True)
        overrides = [word for word in words if "=" in word and not word.startswith("-")]
        extra = f"hydra.searchpath=[file://{mine / 'extra'}]"
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            compose(name, [*(one for one in overrides if one != "install=bash"), extra])


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    nav = text[text.index("\nnav:") : text.index("\nvalidation:")]
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if f": {page}\n" not in nav} == set()
    results = {f"results/{p.name}" for p in (ROOT / "benchmarks/results").glob("*.md")}
    assert {page for page in results if f": {page}\n" not in nav} == set()
    yaml.safe_load(nav)


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="the extra docs is not installed",
)
def test_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    # Files that a browser loads by itself; plain links to elsewhere are <a>.
    loading = re.compile(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"?(https?:|//)")
    for page in pages:
        assert not loading.search(page.read_text("utf-8")), page
    assert "Judges the hole alone" in (tmp_path / "adversaries.html").read_text("utf-8")
    assert "coherent mixtures" in (tmp_path / "api/csa.html").read_text("utf-8")
