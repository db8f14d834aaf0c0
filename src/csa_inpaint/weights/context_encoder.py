"""Key names of context encoders in public implementations, and ours."""

ENCODER = {0: 0, 2: 2, 3: 3, 5: 5, 6: 6, 8: 8, 9: 9, 11: 11, 12: 12, 14: 14, 15: 15}
DECODER = {17: 0, 18: 1, 20: 3, 21: 4, 23: 6, 24: 7, 26: 9, 27: 10, 29: 12}


def port_layers() -> dict[str, str]:
    """Layers of the PyTorch port's generator for the central half of 128×128, and ours."""
    return {f"main.{theirs}": f"encoder.{ours}" for theirs, ours in ENCODER.items()} | {
        f"main.{theirs}": f"decoder.{ours}" for theirs, ours in DECODER.items()
    }
