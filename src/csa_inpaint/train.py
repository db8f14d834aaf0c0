"""Train: ``python -m csa_inpaint.train [+experiment=NAME] [KEY=VALUE …]``; see ``--help``."""

from omegaconf import DictConfig

from csa_inpaint.cli.entry import command
from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("train")  # the import below takes seconds

# A data worker that is spawned, and not forked, imports this file by the name __mp_main__. The
# worker needs nothing of a training.
if __name__ != "__mp_main__":
    from csa_inpaint.fitting import train


@command("train")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    main()
