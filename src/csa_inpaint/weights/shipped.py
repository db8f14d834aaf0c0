"""The weights that come with the library."""

from pathlib import Path

FOLDER = Path(__file__).parent / "pretrained"
SUFFIX = ".safetensors"
DEFAULT = "starter"
# Where a path may stand, the word names the default weights, and pretrained/NAME others.
WORD = "pretrained"


def shipped_names() -> list[str]:
    """The names of the weights that are there."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def shipped_path(name: str = DEFAULT) -> Path:
    """The file of the weights of a name.

    Raises:
        FileNotFoundError: the library brings no weights of that name.
    """
    names = shipped_names()
    if name not in names:
        there = f"there are {', '.join(names)}" if names else "there are none"
        raise FileNotFoundError(
            f"no weights called {name} come with this version of csa_inpaint: in {FOLDER} {there}. "
            "Name a file of your own: checkpoint=PATH, or load_model(PATH) in Python"
        )
    return FOLDER / f"{name}{SUFFIX}"


def shipped_name(source: str | Path) -> str | None:
    """The name of the shipped weights that a source asks for; None where it is a path.

    Args:
        source: ``"pretrained"``, ``"pretrained/NAME"`` or a path. ``./pretrained`` is a path.
    """
    if source == WORD:
        return DEFAULT
    text = str(source)
    own = isinstance(source, str) and text.startswith(f"{WORD}/") and text.count("/") == 1
    return text.removeprefix(f"{WORD}/") if own else None
