"""Key names of Shift-Net's generator in the authors' PyTorch version, and ours."""


def port_layers(depth: int, level: int = 3) -> dict[str, str]:
    """Layers of a network of some depth, nested one level inside the other, and ours.

    Args:
        depth: halvings.
        level: halvings before the shift, whose guidance and shift move the slots behind them.
    """
    layers = {"model.model.0": "down.0.0", "model.model.3": f"up.{depth - 1}.1"}
    prefix = "model.model.1.model"
    for inner in range(1, depth):
        down, up = f"down.{inner}", f"up.{depth - 1 - inner}"
        if inner == depth - 1:
            slots = {1: f"{down}.1", 3: f"{up}.1", 4: f"{up}.2"}
        else:
            first = 7 if inner == level - 1 else 5
            slots = {1: f"{down}.1", 2: f"{down}.2", first: f"{up}.1", first + 1: f"{up}.2"}
        layers |= {f"{prefix}.{slot}": name for slot, name in slots.items()}
        prefix += ".3.model"
    return {theirs: f"network.{ours}" for theirs, ours in layers.items()}
