"""What the commands share: Hydra's entry point and error messages that name the remedy."""

import difflib
import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from csa_inpaint.cli.conf import config_directory
from csa_inpaint.cli.job import current_job
from csa_inpaint.cli.launch import own_arguments

INTERRUPTED = 130  # exit status that a shell gives a command stopped by Ctrl-C
_IN_WORKER = "Original Traceback (most recent call last):"
USER_ERRORS = (OSError, ValueError, RuntimeError, OmegaConfBaseException, InstantiationException)


class FailedJobError(CompactHydraException):
    """A job of a sweep failed; the sweep goes on. Hydra prints it without a traceback."""


def command(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a task the main function of a command line, configured by ``conf/<config_name>.yaml``.

    The command prints an error of the user's without its traceback (``HYDRA_FULL_ERROR=1`` prints
    the traceback). For an override that the configuration does not know, the command prints the
    nearest known keys.

    Args:
        config_name: name of a file in ``conf/``, without ``.yaml``.
    """

    def decorate(task: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> None:
            _quiet()
            try:
                task(cfg)
            except USER_ERRORS as error:
                if os.environ.get("HYDRA_FULL_ERROR") == "1":
                    raise
                print(f"\n{describe(error)}", file=sys.stderr)
                print("(HYDRA_FULL_ERROR=1 prints where it was raised)", file=sys.stderr)
                if HydraConfig.get().mode is RunMode.MULTIRUN:
                    raise FailedJobError(describe(error)) from error
                sys.exit(1)

        run = hydra.main(
            version_base="1.3", config_path=str(config_directory()), config_name=config_name
        )(guarded)

        def main() -> None:
            # `experiment=x` and `+experiment=x` mean the same; Hydra wants the plus because the
            # defaults list has no experiment.
            sys.argv[1:] = [
                f"+{argument}" if argument.startswith("experiment=") else argument
                for argument in _absolute_config_path(own_arguments(sys.argv[1:]))
            ]
            sys.argv[1:] += _without_files(sys.argv[1:]) if current_job().rank > 0 else []
            _refuse_no_choice(sys.argv[1:])
            try:
                run()
            except SystemExit as stop:
                if stop.code:
                    for hint in hints(config_name, sys.argv[1:]):
                        print(hint, file=sys.stderr)
                raise

        return main

    return decorate


def _without_files(arguments: list[str]) -> list[str]:
    """Overrides with which Hydra writes no files; those of rank 0 say all."""
    chosen = any(argument.startswith("hydra/job_logging=") for argument in arguments)
    return ["hydra.output_subdir=null", *([] if chosen else ["hydra/job_logging=stdout"])]


def _refuse_no_choice(arguments: list[str]) -> None:
    """Refuse ``group=null``, which Hydra answers with a traceback."""
    groups = config_groups(config_directory())
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and value in ("", "null") and name.lstrip("+") in groups:
            print(f"{argument} names no choice: {name}=[] takes none", file=sys.stderr)
            sys.exit(1)


def _quiet() -> None:
    """Suppress messages of Lightning that a user can do nothing about."""
    # A continued run writes into its own folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* not empty")
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage()
    )


def describe(error: BaseException) -> str:
    """An error's type, message and notes."""
    if isinstance(error, FailedJobError):
        return str(error)
    notes: list[str] = getattr(error, "__notes__", [])
    own = error
    while isinstance(own, InstantiationException) and own.__cause__ is not None:
        own = own.__cause__
    return "\n".join([f"{type(own).__name__}: {_message(error)}", *notes])


def _absolute_config_path(arguments: list[str]) -> list[str]:
    """Resolve ``--config-path`` in the working directory; Hydra would in a source file's folder."""
    names = ("--config-path", "-cp")
    result = []
    for before, argument in pairwise(["", *arguments]):
        name, equals, value = argument.partition("=")
        if before in names:
            result.append(_absolute(argument))
        elif name in names and equals:
            result.append(f"{name}={_absolute(value)}")
        else:
            result.append(argument)
    return result


def _absolute(folder: str) -> str:
    return folder if "://" in folder else str(Path(folder).expanduser().absolute())


def override(key: str, value: object) -> str:
    """``key=value`` as Hydra reads it, quoted where the value holds signs of Hydra's grammar."""
    text = str(value)
    plain = re.fullmatch(r"[\w./:~+-]*", text)
    return f"{key}={text}" if plain else f"{key}='{text}'"


def _message(error: BaseException) -> str:
    """The error's own message, without the sentence in which Hydra wraps a constructor's error."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        key = str(error).rsplit("full_key: ", maxsplit=1)
        where = f" (in {key[1].strip()})" if len(key) == 2 else ""
        return f"{_message(error.__cause__)}{where}"
    text = str(error)
    if _IN_WORKER in text:  # a data worker's traceback, then its error
        text = text.rpartition(f"{type(error).__name__}: ")[2].rstrip()
    return text


def hints(config_name: str, arguments: list[str]) -> Iterator[str]:
    """A line with the nearest known names for every override that names nothing."""
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    groups = config_groups(config_directory())
    composed = _is_composed(config_name)
    choices, rest = [], []
    for override in overrides:
        name, value = override.lstrip("+~").split("=", 1)
        group = name.split("@")[0]
        if group.startswith("hydra/"):  # Hydra knows its own choices, but not what brings them
            if (group, value) == ("hydra/launcher", "slurm") and find_spec("submitit") is None:
                yield f"{override} needs submitit: pip install 'csa-inpaint[slurm]'"
        elif group in groups and (composed or override.startswith("+")):
            wrong = [v for v in _listed(value) if v not in groups[group]]
            if wrong:
                yield from (_hint(f"{group}={v}", v, groups[group], f"{group}=") for v in wrong)
            else:
                choices.append(override)
        elif not override.startswith(("+", "hydra.")):  # Hydra knows its own keys
            rest.append(group)
    keys = _keys(config_name, choices)
    for name in rest:
        if keys and name not in keys:
            yield _hint(name, name, [*keys, *(groups if composed else [])], "")


def _is_composed(config_name: str) -> bool:
    """Whether the command's configuration has choices of its own, such as ``data: photos``."""
    config: Any = OmegaConf.load(config_directory() / f"{config_name}.yaml")
    entries = [entry for entry in config.get("defaults", []) if isinstance(entry, DictConfig)]
    return any(not str(group).startswith("override ") for entry in entries for group in entry)


def _hint(wrong: str, name: str, known: list[str], prefix: str) -> str:
    near = [prefix + match for match in difflib.get_close_matches(name, known, n=3, cutoff=0.5)]
    if near:
        remedy = f"did you mean {' or '.join(near)}?"
    else:
        remedy = f"choose from {', '.join(known)}." if prefix else "--cfg job prints all keys."
    return f"There is no {wrong}: {remedy}"


def _listed(value: str) -> list[str]:
    return [
        part.strip() for part in value.strip("[]").split(",") if part.strip() not in ("", "null")
    ]


def config_groups(directory: Path) -> dict[str, list[str]]:
    """Config groups and their choices."""
    groups: dict[str, list[str]] = {}
    for path in sorted(directory.rglob("*.yaml")):
        group = path.parent.relative_to(directory).as_posix()
        if group != ".":
            groups.setdefault(group, []).append(path.stem)
    return groups


def list_choices(composed: DictConfig, *more: str) -> str:
    """Lines with groups and their choices, for the help of a command.

    Args:
        composed: the groups that the command's configuration is composed of, as
            ``hydra.runtime.choices`` holds them. Hydra's own groups are left out.
        more: groups that a command line may add with ``+GROUP=NAME``.
    """
    groups = config_groups(config_directory())
    names = sorted({str(key).split("@")[0] for key in composed} & groups.keys() | {*more})
    lines = [
        f"{name}: {', '.join(groups[name])}" for name in names if name.split("/")[0] != "hydra"
    ]
    return "\n".join(lines)


# The templates of help in ``conf/`` call it: ``${choices:${hydra.runtime.choices},experiment}``.
OmegaConf.register_new_resolver("choices", list_choices, replace=True)


def _keys(config_name: str, choices: list[str]) -> list[str]:
    """All dotted keys of the configuration; none where Hydra cannot compose the configuration."""
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
            cfg = hydra.compose(config_name, overrides=choices)
    except HydraException:
        return []
    return list(_flatten(OmegaConf.to_container(cfg, resolve=False), ""))


def _flatten(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _flatten(value, f"{prefix}{key}.")
