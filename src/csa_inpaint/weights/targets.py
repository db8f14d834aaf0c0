"""Which classes the configuration in a file may name.

Hydra calls every object that a ``_target_`` names. The configuration of a checkpoint is only as
trustworthy as its author, so the library checks the names in a file before Hydra calls them.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf

PACKAGE = "csa_inpaint"
# Callbacks and commands are not among the parts, because they write files.
PARTS = ("adversaries", "csa", "data", "losses", "methods", "networks", "training")
TORCH = {"torch.optim": "torch.optim", "torch.nn": "torch.nn.modules"}  # names, where defined


class UntrustedTargetError(ValueError):
    """A file's configuration names an object that a file may not name."""


def check_targets(config: Any, source: object, trust: Sequence[str] = ()) -> None:
    """Refuse a configuration that names anything but parts of this library, at any depth.

    Args:
        config: a resolved configuration of plain mappings, lists and values.
        source: the file that the message names.
        trust: packages of the user's own whose classes are allowed as well, such as
            ``["my_project"]``.

    Raises:
        UntrustedTargetError: for a ``_target_`` that is no class of this library's parts, no
            optimizer or module of PyTorch and not in a trusted package, and for an interpolation,
            which could become one.
    """
    for value in _strings(config):
        if "${" in value:
            raise UntrustedTargetError(
                f"{source} holds {value!r}, which would be looked up when the parts are built: a "
                "file may hold plain values only. It was tampered with"
            )
    for target in targets(config):
        if not any(target == name or target.startswith(f"{name}.") for name in trust):
            _check(target, source)


def trusted_config(
    config: DictConfig, key: str, source: object, trust: Sequence[str] = ()
) -> DictConfig:
    """One part of a file's configuration, resolved and checked by ``check_targets``.

    Args:
        config: the whole configuration in the file, to which the part may refer.
        key: the part's key; an absent part gives an empty configuration.
        source, trust: see ``check_targets``.

    Raises:
        UntrustedTargetError: see ``check_targets``.
    """
    node = config.get(key)
    part: Any = {} if node is None else OmegaConf.to_container(node, resolve=True)
    check_targets(part, source, trust)
    return DictConfig(part)


def targets(config: Any) -> Iterator[str]:
    """All values of ``_target_``, at any depth."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from targets(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from targets(value)


def _strings(config: Any) -> Iterator[str]:
    """All keys and values that are text, at any depth."""
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict):
        for key, value in config.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _strings(value)


def _check(target: str, source: object) -> None:
    found = _find(target)
    home = getattr(found, "__module__", "")
    ours = home.startswith(tuple(f"{PACKAGE}.{part}" for part in PARTS))
    torchs = any(target.startswith(f"{n}.") and home.startswith(h) for n, h in TORCH.items())
    if not isinstance(found, type) or not (ours or torchs):
        package = target.split(".")[0]
        raise UntrustedTargetError(
            f"{source} asks to call {target!r}, which is no class of {PACKAGE} that a file may name"
            f"{' in this version' if package == PACKAGE else ''}: it could run any code. "
            + (
                "The file was made by another version of the library or tampered with."
                if package == PACKAGE
                else f"If you trust the file and {package}, pass trust=[{package}]."
            )
        )


def _find(target: str) -> object:
    """The object behind a dotted name below this library or those parts of PyTorch, or None."""
    if not target.startswith(tuple(f"{name}." for name in (PACKAGE, *TORCH))):
        return None
    found: object = None
    parts = target.split(".")
    for end in range(1, len(parts)):  # the longest part of the name that is a module
        name = ".".join(parts[:end])
        try:
            found = import_module(name)
        except ModuleNotFoundError:
            break
        module_end = end
    for part in parts[module_end:]:
        found = getattr(found, part, None)
    return found
