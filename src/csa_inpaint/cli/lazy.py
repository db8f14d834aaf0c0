"""Public names that load when they are first used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose names load when they are used.

    Args:
        package: the package's ``globals()``.
        homes: for each public name the module below the package that defines it.
    """

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package['__name__']}.{homes[name]}"), name)
        package[name] = value
        return value

    def names() -> list[str]:
        return sorted({*package, *homes})

    return load, names
