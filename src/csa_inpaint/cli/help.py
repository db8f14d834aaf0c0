"""Help, shell completion and printed configurations, before a command imports what it runs."""

import sys

from omegaconf import DictConfig

from csa_inpaint.cli.entry import command

# Flags with which Hydra prints something and runs no task.
_PRINTING = (
    "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i",
    "--shell-completion", "-sc",
)  # fmt: skip

# Hydra's own script completes `python FILE` and not `python -m MODULE`. This one has Hydra's names,
# so that `-sc uninstall=bash` removes it.
_BASH = r"""export _HYDRA_OLD_COMP=$(complete -p python 2> /dev/null)
hydra_bash_completion()
{
    local start='^[^ ]*python[0-9.]* +-m +(csa_inpaint\.[a-z_]+) (.*)$'
    [[ $COMP_LINE =~ $start ]] || return
    local module=${BASH_REMATCH[1]} line="python ${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
    local choices=$(COMP_LINE=$line "${COMP_WORDS[0]}" -m "$module" -sc query=bash 2> /dev/null)
    COMPREPLY=($(compgen -W "$choices" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F hydra_bash_completion python"""


def answer(config_name: str) -> None:
    """Print what the arguments ask for and end the process, unless they ask for a run.

    A command calls this function above its other imports. The answers need the configuration
    alone, and the imports of a command take several seconds.

    Args:
        config_name: name of a file in ``conf/``, without ``.yaml``.
    """

    def nothing(cfg: DictConfig) -> None:
        """The task of a command that prints only."""

    if "install=bash" in sys.argv[1:]:
        print(_BASH)
    elif any(argument.partition("=")[0] in _PRINTING for argument in sys.argv[1:]):
        nothing.__module__ = f"csa_inpaint.{config_name}"  # Hydra names the job after it
        command(config_name)(nothing)()
    else:
        return
    sys.exit()
