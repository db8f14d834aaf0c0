"""Import weights of public implementations: ``method=NAME weights=FILE output=FILE``.

The authors' implementation of CSA has two files: ``rough=FILE refine=FILE output=FILE``.

``python -m csa_inpaint.import_released --help`` lists all keys.
"""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("import_released")  # the imports below take seconds

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.__version__ import version

from csa_inpaint.adversaries.discriminators import (
    load_feature_discriminator,
    load_patch_discriminator,
)
from csa_inpaint.cli.entry import command
from csa_inpaint.methods.csa import Generator, load_networks
from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.paper import CSAInpainter
from csa_inpaint.weights import public, released


def import_released(cfg: DictConfig) -> Inpainter:
    """Write a checkpoint that ``evaluate``, ``predict`` and ``train init_from=`` accept.

    Raises:
        FileExistsError: the output is there, and ``overwrite`` is false.
        FileNotFoundError: a file of weights is not there.
        IsADirectoryError: the output is a folder.
        ValueError: a file of weights is damaged, does not fit or belongs to another method, or the
            configuration of CSA has no refinement.
    """
    output = Path(cfg.output)
    if output.is_dir():
        raise IsADirectoryError(f"output={output} is a folder: name a file, output=model.ckpt")
    if output.exists() and not cfg.overwrite:
        raise FileExistsError(f"{output} is there: choose another output or set overwrite=true")
    model = csa_model(cfg) if cfg.method == "csa" else public_model(cfg)
    model.restart_average()
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint(model, cfg), output)
    print(
        f"{output}: {type(model.generator).__name__} of width {model.generator.width}, "
        f"discriminators: {', '.join(model.discriminators) or 'none'}"
    )
    return model


def csa_model(cfg: DictConfig) -> CSAInpainter:
    """The CSA model with the weights of the authors' files."""
    for path in (cfg.rough, cfg.refine):
        other = public.method_of(public.read_public(path))
        if other not in (None, "csa"):
            raise ValueError(
                f"{path} holds weights of {other}, not of csa: import it with method={other} "
                "weights=FILE"
            )
    # The files decide the size, not the configuration.
    cfg.model.width = released.generator_width(cfg.rough)
    cfg.model.depth = released.DEPTH
    model: CSAInpainter = instantiate(cfg.model, _convert_="all")
    if not isinstance(model.generator, Generator):
        raise ValueError("model.refinement=false: a released generator has both stages")
    load_networks(model.generator, cfg.rough, cfg.refine)
    if cfg.patch is not None:
        model.discriminators["patch"] = load_patch_discriminator(cfg.patch)
    if cfg.feature is not None:
        model.discriminators["feature"] = load_feature_discriminator(cfg.feature)
    return model


def public_model(cfg: DictConfig) -> Inpainter:
    """Another method's model with the weights of a public implementation's file."""
    whole = public.read_public(cfg.weights)
    layout = public.layout_of(whole, cfg.method, cfg.weights)
    state = layout.generator_keys(whole)
    arguments, layers = layout.read(state)
    # The file decides the generator, not the configuration.
    cfg.model.generator = {**cfg.model.generator, **arguments}
    model: Inpainter = instantiate(cfg.model, _convert_="all")
    public.load_public(model.generator, layout, layers, state, cfg.weights)
    return model


def checkpoint(model: Inpainter, cfg: DictConfig) -> dict[str, Any]:
    """What Lightning saves of a module, without the state of a training."""
    config = OmegaConf.to_container(cfg, resolve=False)
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": version,
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "config": config,
    }


@command("import_released")
def main(cfg: DictConfig) -> None:
    import_released(cfg)


if __name__ == "__main__":
    main()
