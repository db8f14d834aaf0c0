"""What each departure from the paper costs or gains: trainings of equal length, a table, a plot.

    python benchmarks/recipe.py data=folder data.root=DIR --steps 360 --output runs/recipe

trains every variant (or those that ``--variants`` names) through the command line of the library on
one thread, and scores the last checkpoint on the validation pictures. Finished variants of the
output folder are kept, so an interrupted table goes on. ``--backbone FILE`` (torchvision's AlexNet
convolutions) adds LPIPS; ``--vgg FILE`` gives the variants that look through VGG-16 its trained
weights. The table and the plot go to benchmarks/results/recipe.{md,json,png}.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
from common import RESULTS, commit, machine, table, versions

SMALL = ["model.width=16"]
PAPER = ["model=paper", "model.width=16", "model.depth=6", "model.loss_weights.consistency=0"]
PERCEPTUAL = [*SMALL, "model.loss_weights.perceptual=0.3"]
VARIANTS = {
    "paper": PAPER,
    "paper + consistency": [*PAPER[:3], "model.vgg.width=64"],
    "paper + pull_push + residual": [*PAPER, "model.fill=pull_push", "+model.residual=true"],
    "practical": SMALL,
    "practical transposed": [*SMALL, "model.upsampling=transposed"],
    "practical without mask input": [*SMALL, "model.mask_input=false"],
    "practical group norm": [*SMALL, "model.norm=group"],
    "practical without norm": [*SMALL, "model.norm=none"],
    "practical without attention": [*SMALL, "model/attention=none"],
    "practical first stage": [
        *SMALL,
        "model.refinement=false",
        "model.loss_weights.l1_refined=0",
    ],
    "practical width 32": ["model.width=32"],
    "plain U-Net": ["+ablation=plain"],
    "practical + perceptual": PERCEPTUAL,
    "practical + perceptual + style": [*PERCEPTUAL, "model.loss_weights.style=0.1"],
    "practical + perceptual + patch": [*PERCEPTUAL, "adversary=[patch]", "adversarial_weight=0.02"],
}
TRAINING = [
    "model=practical",
    "mask=center",
    "adversary=[]",
    "data.size=128",
    "data.batch_size=8",
    "data.num_workers=0",
    "data.train_transform.resize=[1.0,1.5]",
    "model.learning_rate=5e-4",
    "model.ema_decay=0.995",
    "model.schedule.unit=step",
    "trainer.precision=bf16-mixed",
    "trainer.max_epochs=-1",
    "callbacks.preview=null",
    "callbacks.health=null",
]
SCORES = ("psnr", "ssim", "l1", "lpips_alex")


def main() -> None:
    arguments, data = parsed()
    names = arguments.variants.split(",") if arguments.variants else list(VARIANTS)
    unknown = sorted(set(names) - set(VARIANTS))
    if unknown:
        sys.exit(f"unknown variants {unknown}; there are {', '.join(VARIANTS)}")
    for name in names:
        folder = arguments.output / name.replace(" ", "_")
        if not (folder / "scores.json").exists():
            measure(name, folder, data, arguments)
    report(arguments.output, arguments.steps)


def parsed() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=360, help="updates of the generator")
    parser.add_argument("--output", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--variants", help="names, with commas between them; all by default")
    parser.add_argument("--backbone", help="AlexNet's convolutions, for LPIPS")
    parser.add_argument("--vgg", default="random", help="a file of VGG-16, or imagenet")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args()


def measure(name: str, folder: Path, data: list[str], arguments: argparse.Namespace) -> None:
    """Train one variant, score it, and leave scores.json in its folder."""
    adversarial = any("adversary=[patch]" in override for override in VARIANTS[name])
    steps = arguments.steps
    overrides = [
        *TRAINING,
        f"trainer.max_steps={steps * (2 if adversarial else 1)}",
        f"model.schedule.constant={steps * 6 // 10}",
        f"model.schedule.decay={steps - steps * 6 // 10}",
        f"model.vgg.weights={arguments.vgg}",
        f"model.vgg.width={16 if arguments.vgg == 'random' else 64}",
        f"seed={arguments.seed}",
        f"hydra.run.dir='{folder}'",
    ]
    overrides += [each for each in VARIANTS[name] if "=" in each]
    start = time.monotonic()
    run("train", latest(overrides + data))
    seconds = time.monotonic() - start
    scored = folder / "evaluation"
    run(
        "evaluate",
        [
            f"checkpoint='{folder}/checkpoints/last.ckpt'",
            f"folder='{scored}'",
            "save_images=12",
            "baselines=[telea]",
            f"weights.lpips_alex.backbone={arguments.backbone or 'null'}",
        ],
    )
    scores = json.loads((scored / "scores.json").read_text())
    entry = {"name": name, "seconds": round(seconds), "scores": scores["scores"]["all"]}
    # The last checkpoint may lie within an epoch, without a validation of its own.
    last = (steps * (2 if adversarial else 1), entry["scores"]["composite"]["psnr"])
    entry["curve"] = [*curve(folder / "metrics.csv"), last]
    (folder / "scores.json").write_text(json.dumps(entry, indent=1))


def curve(metrics: Path) -> list[tuple[int, float]]:
    """The validation PSNR of the composite after so many optimizer steps."""
    with metrics.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/psnr")]
    return [(int(row["step"]) + 1, float(row["val/psnr"])) for row in rows]


def report(output: Path, steps: int) -> None:
    """Write the table and the plot of all finished variants."""
    entries = [json.loads(path.read_text()) for path in sorted(output.glob("*/scores.json"))]
    entries.sort(key=lambda entry: -entry["scores"]["composite"]["psnr"])
    head = ["variant", *(score for score in SCORES), "PSNR in the hole", "seconds"]
    rows = []
    for entry in entries:
        composite = entry["scores"]["composite"]
        cells = [composite.get(score, float("nan")) for score in (*SCORES, "hole_psnr")]
        rows.append([entry["name"], *(f"{cell:.4g}" for cell in cells), str(entry["seconds"])])
    telea = entries[0]["scores"]["telea"]
    cells = [telea.get(score, float("nan")) for score in (*SCORES, "hole_psnr")]
    rows.append(["OpenCV Telea", *(f"{cell:.4g}" for cell in cells), "–"])
    title = f"{steps} steps each; {machine('cpu')}, {versions()}, {commit()}"
    (RESULTS / "recipe.md").write_text(table(title, head, rows).lstrip() + "\n")
    (RESULTS / "recipe.json").write_text(json.dumps(entries, indent=1))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    left.set_prop_cycle(color=plt.get_cmap("tab20")(range(20)))
    for entry in entries:
        taken, values = zip(*entry["curve"], strict=True)
        minutes = [step / taken[-1] * entry["seconds"] / 60 for step in taken]
        (line,) = left.plot(minutes, values, marker=".", label=entry["name"])
        distance = entry["scores"]["composite"].get("lpips_alex", float("nan"))
        right.plot(minutes[-1], distance, "o", color=line.get_color(), label=entry["name"])
    left.axhline(telea["psnr"], color="grey", linestyle=":", label="OpenCV Telea")
    right.axhline(telea.get("lpips_alex", float("nan")), color="grey", linestyle=":")
    left.set(xlabel="minutes, validation included", ylabel="PSNR of the composite, dB")
    right.set(xlabel="minutes, validation included", ylabel="LPIPS (AlexNet) at the end")
    left.legend(fontsize=7)
    figure.savefig(RESULTS / "recipe.png", dpi=110)


def latest(overrides: list[str]) -> list[str]:
    """The last override of each key."""
    return list({override.split("=")[0]: override for override in overrides}.values())


def run(command: str, overrides: list[str]) -> None:
    subprocess.run([sys.executable, "-m", f"csa_inpaint.{command}", *overrides], check=True)


if __name__ == "__main__":
    main()
