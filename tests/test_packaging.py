"""The wheel carries what it needs, and the layer stands alone."""

import ast
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYER = ROOT / "src/csa_inpaint/csa"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (path,) = folder.glob("*.whl")
    return path


def python(*arguments: str, **environment: str) -> str:
    """What a Python process prints; the test fails with its messages when it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        cwd=Path(environment.get("PWD", ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def below(folder: str) -> set[str]:
    """The committed kinds of files below a folder, relative to it."""
    suffixes = {".py", ".yaml", ".jpg", ".csv", ".md", ".typed", ".safetensors"}
    root = ROOT / folder
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix in suffixes}


def test_wheel_contains_package_configuration_and_photos(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = {f"csa_inpaint/{name}" for name in below("src/csa_inpaint")} - names
    missing |= {f"csa_inpaint/conf/{name}" for name in below("conf")} - names
    assert not missing
    photos = "csa_inpaint/data/photos/"
    assert f"{photos}SOURCES.csv" in names
    assert sum(name.startswith(f"{photos}train/") for name in names) == 456
    assert sum(name.startswith(f"{photos}val/") for name in names) == 46
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_installed_wheel_composes_an_experiment(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target")
    python(*install, str(target), str(wheel))
    there = {"PYTHONPATH": str(target), "PWD": str(elsewhere)}

    where = python("-c", "import csa_inpaint; print(csa_inpaint.__file__)", **there)
    assert Path(where.strip()).is_relative_to(target)
    config = python(
        *("-m", "csa_inpaint.train", "+experiment=places2", "data.root=DIR", "--cfg", "job"),
        **there,
    )
    assert "name: places2" in config
    assert "csa_inpaint.data.Places2" in config
    assert "root: DIR" in config
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    "path", sorted(LAYER.rglob("*.py")), ids=lambda path: path.relative_to(LAYER).as_posix()
)
def test_layer_imports_nothing_but_torch(path: Path) -> None:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    ours = {module for module in modules if module.startswith("csa_inpaint")}
    assert all(module.startswith("csa_inpaint.csa") for module in ours)
    theirs = {module.split(".")[0] for module in modules - ours}
    # Triton is optional: the layer imports the kernels only where Triton is installed.
    optional = {"triton"} if path.parent.name == "kernels" else set()
    assert theirs <= {"torch", *optional, *sys.stdlib_module_names}


def test_spawned_data_worker_does_not_import_the_training() -> None:
    # What multiprocessing does in a spawned process before it unpickles the worker.
    script = """
        import runpy, sys
        runpy.run_module("csa_inpaint.train", run_name="__mp_main__")
        import csa_inpaint.data.loading
        assert not {"pytorch_lightning", "torchmetrics", "torchvision.models"} & sys.modules.keys()
    """
    python("-c", textwrap.dedent(script))
