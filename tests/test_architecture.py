"""The tree: imports go down one list, without circles; public names load when they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import csa_inpaint

PACKAGE = Path(csa_inpaint.__file__).parent
# Each part uses parts further down. A part may import itself and the parts below it.
ORDER = (
    "commands",
    "inference",
    "callbacks",
    "training",
    "evaluation",
    "adversaries",
    "methods",
    "losses",
    "data",
    "networks",
    "weights",
    "cli",
    "csa",
    "types",
)
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("csa_inpaint", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def part(module: str) -> str:
    """The part of the tree that a module belongs to."""
    name = module.split(".")[1]
    return name if name in ORDER else "commands"


def imported(path: Path) -> set[str]:
    """All modules of the library that a file imports, inside functions and for types alike."""
    found = set()
    known = {module_name(file) for file in FILES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {*(names & known)} or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("csa_inpaint.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_imports_go_down(path: Path) -> None:
    own = ORDER.index(part(module_name(path)))
    upwards = {name for name in imported(path) if ORDER.index(part(name)) < own}
    assert not upwards
    assert "csa_inpaint" not in {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }, "the library imports from where things are, not through the lazy names"


def test_imports_make_no_circle() -> None:
    graph = {module_name(path): imported(path) - {module_name(path)} for path in FILES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after a statement."""
    code = f"import sys; {statement}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_layer_loads_torch_and_nothing_else_heavy() -> None:
    with_layer = loaded_by("from csa_inpaint import CSALayer; CSALayer()")
    assert "torch" in with_layer
    assert with_layer - loaded_by("import torch") <= {"csa_inpaint", *sys.stdlib_module_names}


def test_public_names_are_there_and_seen() -> None:
    assert "CSALayer" in dir(csa_inpaint)
    for name in csa_inpaint.__all__:
        assert getattr(csa_inpaint, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = csa_inpaint.Nothing
    for_types = {
        alias.name
        for block in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(block, ast.If)  # TYPE_CHECKING
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert for_types == set(csa_inpaint.__all__)


def test_module_knows_no_method() -> None:
    text = (PACKAGE / "training/module.py").read_text()
    names = [path.stem for path in (PACKAGE / "methods").glob("[!_]*.py")]
    assert "csa" in names
    for word in {"csalayer", "coherent", "gated", "attention", *names} - {"generator", "csa"}:
        assert word not in text.lower(), word
    assert len(text.splitlines()) <= 300
