"""The command: which samples it scores, exactly, in one process or two, at once or in two goes."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import alexnet

from csa_inpaint.data import CenterMask, ImageFolder, InpaintingDataModule
from csa_inpaint.data.transforms import to_float
from csa_inpaint.evaluation.evaluator import Evaluator
from csa_inpaint.evaluation.records import Journal
from csa_inpaint.evaluation.samples import NumberedSamples, SplitSource, join

Run = Callable[..., Any]
QUIET = "+trainer.enable_progress_bar=false"
CPU = "trainer.accelerator=cpu"


def per_image(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "per_image.csv").open()))


def scores(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """The scores of each sample and method."""
    return {
        (row["name"], row["method"]): {
            key: float(value)
            for key, value in row.items()
            if key not in ("name", "method", "image", "digest")
        }
        for row in per_image(folder)
    }


def largest_difference(one: Path, other: Path) -> float:
    first, second = scores(one), scores(other)
    assert first.keys() == second.keys()
    return max(
        abs(value - second[key][score])
        for key, row in first.items()
        for score, value in row.items()
    )


# --- which samples ------------------------------------------------------------------------------


def celeba(root: Path, splits: Sequence[int]) -> Path:
    """A CelebA in miniature: an image of each given split, by its number in the partition."""
    (root / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, len(splits) + 1)]
    for shade, name in enumerate(names):
        image = Image.new("RGB", (178, 218), (30 + shade % 200, 90, 160))
        image.save(root / "img_align_celeba" / name)
    lines = [f"{name} {split}\n" for name, split in zip(names, splits, strict=True)]
    (root / "list_eval_partition.txt").write_text("".join(lines))
    return root


def test_celeba_is_scored_on_its_test_split(run: Run, tmp_path: Path) -> None:
    root, folder = celeba(tmp_path / "celeba", [0, 1, 2, 2, 1, 2]), tmp_path / "out"
    data = ["+data=celeba", f"data.root={root}", "data.size=64", "data.num_workers=0"]
    given = ["checkpoint=null", "baselines=[mean_fill]", *data, "+mask=center", QUIET]
    done = run("evaluate", *given, f"folder={folder}")
    assert done.status == 0, done.err
    names = [row["name"] for row in per_image(folder)]
    assert names == ["000003", "000004", "000006"]
    title = (folder / "scores.md").read_text().splitlines()[0]
    assert "CelebA" in title
    assert "test split: 3 samples of 64x64, masks: CenterMask(size=0.5)" in title
    assert "test split: 3 samples" in " ".join(done.out.split())


@pytest.mark.slow
def test_published_figures_stand_beside_the_whole_benchmark(run: Run, tmp_path: Path) -> None:
    root = celeba(tmp_path / "celeba", [2] * 503)
    made = run(
        "make_benchmark", "protocol=celeba_center", f"data.root={root}", f"output_root={tmp_path}"
    )
    assert made.status == 0, made.err
    manifest = json.loads((tmp_path / "benchmarks/celeba_center.json").read_text())
    assert (len(manifest["entries"]), manifest["size"]) == (500, [256, 256])
    given = ["checkpoint=null", "baselines=[mean_fill]", "benchmark=celeba_center", QUIET, CPU]
    given += [f"output_root={tmp_path}", "save_images=1", "batch_size=50"]
    part = run("evaluate", *given, f"folder={tmp_path}/part", "limit_images=2")
    assert part.status == 0, part.err
    assert "CSA, published" not in (tmp_path / "part/scores.md").read_text()
    whole = run("evaluate", *given, f"folder={tmp_path}/whole")
    assert whole.status == 0, whole.err
    text = (tmp_path / "whole/scores.md").read_text()
    assert "| all | CSA, published | 1.830 | 0.270 | 26.54 | 0.931 |" in text
    assert "| all | mean_fill, here |" in text


def test_scores_are_those_of_each_picture_with_its_mask(
    run: Run, data: list[str], pictures: Path, tmp_path: Path
) -> None:
    done = run(
        "evaluate",
        "checkpoint=null",
        "baselines=[mean_fill]",
        *data,
        QUIET,
        f"folder={tmp_path}/out",
    )
    assert done.status == 0, done.err
    found = scores(tmp_path / "out")
    assert set(found) == {(str(n), "mean_fill") for n in range(5)}
    for (name, _), row in found.items():
        truth, mask, filled = (
            np.asarray(Image.open(tmp_path / "out/images" / kind / f"{name}.png"))
            for kind in ("truth", "mask", "mean_fill")
        )
        hole = mask[..., 0] > 127
        assert row["hole_ratio"] == hole.mean()
        assert np.array_equal(filled[~hole], truth[~hole])
        error = (filled / 255.0 - truth / 255.0)[hole]
        assert row["hole_l1"] == pytest.approx(100 * np.abs(error).mean(), abs=0.2)  # 8 bits
    content = json.loads((tmp_path / "out/scores.json").read_text())
    means = content["scores"]["all"]["mean_fill"]
    assert means["psnr"] == pytest.approx(
        np.mean([row["psnr"] for row in found.values()]), abs=1e-12
    )
    assert content["scores"]["all"]["images"] == 5
    assert (tmp_path / "out/sheet_median.png").is_file()


def test_limit_spreads_over_the_set(run: Run, data: list[str], tmp_path: Path) -> None:
    given = ["checkpoint=null", "baselines=[mean_fill]", *data, QUIET, f"folder={tmp_path}/out"]
    done = run("evaluate", *given, "limit_images=2", "save_images=1")
    assert done.status == 0, done.err
    assert [row["name"] for row in per_image(tmp_path / "out")] == ["0", "2"]
    assert [path.name for path in (tmp_path / "out/images/truth").iterdir()] == ["0.png"]


def test_every_method_is_in_one_table(
    run: Run, data: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    first = run(
        "evaluate", f"checkpoint={checkpoint}", "baselines=[mean_fill]", *data, QUIET, CPU,
        f"folder={tmp_path}/one",
    )  # fmt: skip
    assert first.status == 0, first.err
    done = run(
        "evaluate", "checkpoint=null", f"+results.finished={tmp_path}/one/images/composite", *data,
        QUIET, CPU, f"folder={tmp_path}/two",
    )  # fmt: skip
    assert done.status == 0, done.err
    methods = {row["method"] for row in per_image(tmp_path / "one")}
    assert methods == {"rough", "refined", "composite", "mean_fill"}
    one, two = scores(tmp_path / "one"), scores(tmp_path / "two")
    for name in map(str, range(5)):
        assert two[name, "finished"]["psnr"] == pytest.approx(
            one[name, "composite"]["psnr"], abs=0.02
        )


def test_what_predict_makes_of_the_pictures_is_in_the_table(
    run: Run, data: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    done = run(
        "evaluate", f"checkpoint={checkpoint}", "+inpaint.plain={detail: 0, blend: hard}",
        "+inpaint.detailed.detail=1", *data, QUIET, CPU, f"folder={tmp_path}/out",
    )  # fmt: skip
    assert done.status == 0, done.err
    all_scores = scores(tmp_path / "out")
    for name in map(str, range(5)):
        # `inpaint` keeps results within the range of pictures.
        plain, composite = all_scores[name, "plain"], all_scores[name, "composite"]
        assert plain["psnr"] == pytest.approx(composite["psnr"], abs=0.05)
        assert all_scores[name, "detailed"]["psnr"] != plain["psnr"]


def test_inpaint_needs_a_model_and_known_settings(
    run: Run, data: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    for given, message in (
        (["checkpoint=null", "+inpaint.plain.detail=0"], "inpaint.plain needs a model"),
        ([f"checkpoint={checkpoint}", "+inpaint.plain.texture=1"], "expected some of backend"),
        ([f"checkpoint={checkpoint}", "+inpaint.plain.detail=2"], "inpaint.plain: detail=2"),
        ([f"checkpoint={checkpoint}", "+inpaint.plain.size=many"], "inpaint.plain: "),
        ([f"checkpoint={checkpoint}", "+inpaint.rough.detail=0"], "two methods are called rough"),
    ):
        done = run("evaluate", *given, *data, QUIET, CPU, f"folder={tmp_path}/out")
        assert done.status == 1
        assert message in done.err
        assert not (tmp_path / "out/progress").exists()  # the folder is free for another try


def test_onnx_model_is_in_the_table(
    run: Run, data: list[str], grey_model: Path, tmp_path: Path
) -> None:
    onnx = [f"+onnx.grey.path={grey_model}", "+onnx.grey.range=[0,1]"]
    done = run("evaluate", "checkpoint=null", *onnx, *data, QUIET, f"folder={tmp_path}/out")
    assert done.status == 0, done.err
    for name in map(str, range(5)):
        filled, mask = (
            np.asarray(Image.open(tmp_path / f"out/images/{kind}/{name}.png"))
            for kind in ("grey", "mask")
        )
        assert (filled[mask > 0] == round(0.75 * 255)).all()


def test_hidden_pixels_reach_no_method(pictures: Path, tmp_path: Path) -> None:
    datamodule = InpaintingDataModule(
        ImageFolder(val_root=pictures), CenterMask(), pictures, size=64
    )
    source = SplitSource(datamodule.dataset("val"))
    seen: list[torch.Tensor] = []

    class Spy(torch.nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> Any:
            seen.append(image)
            raise StopIteration

    evaluator = Evaluator(Spy(), {}, source, [0], [], {}, {}, Journal(tmp_path), tmp_path, 1, 0)
    given = join([NumberedSamples(source, [0])[0]])
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(evaluator.predictions(to_float(given.batch)))
    hole = given.batch.mask.expand_as(seen[0])
    assert (seen[0][hole] == 0).all()
    assert torch.equal(seen[0][~hole], to_float(given.batch).image[~hole])


# --- exactness ----------------------------------------------------------------------------------


@pytest.fixture
def judged(tmp_path: Path) -> str:
    """The override that names a file of an untrained AlexNet."""
    torch.manual_seed(0)
    state = {f"features.{key}": value for key, value in alexnet().features.state_dict().items()}
    save_file(state, tmp_path / "alexnet.safetensors")
    return f"weights.lpips_alex.backbone={tmp_path / 'alexnet.safetensors'}"


def test_batch_size_does_not_change_a_score(
    run: Run, data: list[str], checkpoint: Path, judged: str, tmp_path: Path
) -> None:
    for size in (1, 3):
        done = run(
            "evaluate", f"checkpoint={checkpoint}", "baselines=[mean_fill]", *data, QUIET, CPU,
            judged, f"folder={tmp_path}/{size}", f"batch_size={size}",
        )  # fmt: skip
        assert done.status == 0, done.err
    assert largest_difference(tmp_path / "1", tmp_path / "3") < 1e-6
    one, three = (
        json.loads((tmp_path / f"{size}/scores.json").read_text())["scores"]["all"]
        for size in (1, 3)
    )
    for method in ("rough", "composite", "mean_fill"):
        assert one[method] == pytest.approx(three[method], abs=1e-6)
        assert one[method]["kid_alex"] != 0


@pytest.mark.slow
def test_two_processes_score_every_sample_once(
    run: Run, data: list[str], checkpoint: Path, judged: str, tmp_path: Path
) -> None:
    given = [f"checkpoint={checkpoint}", "baselines=[mean_fill]", *data, QUIET, CPU, judged]
    done = run("evaluate", *given, f"folder={tmp_path}/one", "batch_size=2")
    assert done.status == 0, done.err
    two = subprocess.run(
        [sys.executable, "-m", "csa_inpaint.evaluate", *given, f"folder={tmp_path}/two",
         "batch_size=1", "trainer.devices=2"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert two.returncode == 0, two.stdout + two.stderr
    # Five samples on two processes: a sampler that pads would score one of them twice.
    written = [
        line
        for rank in (0, 1)
        for line in (tmp_path / f"two/progress/records_{rank}.jsonl").read_text().splitlines()
        if line
    ]
    assert sorted(json.loads(line)["number"] for line in written) == [0, 1, 2, 3, 4]
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-6
    assert two.stdout.count("sheets:") == 1  # one process writes the tables


# --- going on -----------------------------------------------------------------------------------


def test_interrupted_evaluation_goes_on(
    run: Run, data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["checkpoint=null", "baselines=[mean_fill]", *data, QUIET, "batch_size=1"]
    assert run("evaluate", *given, f"folder={tmp_path}/whole").status == 0
    append, written = Journal.append, []

    def interrupt(self: Journal, records: Any, rank: int) -> None:
        append(self, records, rank)
        written.extend(record.number for record in records)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", interrupt)
    stopped = run("evaluate", *given, f"folder={tmp_path}/out")
    assert stopped.status != 0
    assert f"folder={tmp_path}/out" in stopped.out
    assert not (tmp_path / "out/scores.csv").exists()
    done = run("evaluate", *given, f"folder={tmp_path}/out")
    assert done.status == 0, done.err
    assert written == [0, 1, 2, 3, 4]
    assert "2 of 5 samples are already scored" in done.out
    for name in ("per_image.csv", "scores.csv"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_finished_folder_is_not_mixed_with_other_settings(
    run: Run, data: list[str], tmp_path: Path
) -> None:
    given = ["checkpoint=null", *data, QUIET, f"folder={tmp_path}/out"]
    assert run("evaluate", *given, "baselines=[mean_fill]").status == 0
    before = (tmp_path / "out/scores.csv").read_text()
    other = run("evaluate", *given, "baselines=[mean_fill]", "data.val_seed=1")
    assert other.status == 1
    assert "other settings (samples)" in other.err
    assert run("evaluate", *given, "baselines=[telea]").status == 1
    loading = ["batch_size=2", "data.batch_size=3", "data.pin_memory=true"]
    again = run("evaluate", *given, "baselines=[mean_fill]", *loading)
    assert again.status == 0, again.err
    assert (tmp_path / "out/scores.csv").read_text() == before


# --- benchmarks and comparison ------------------------------------------------------------------


def test_benchmark_is_made_scored_and_compared(
    run: Run, data: list[str], pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    given = [argument.lstrip("+") for argument in data]
    root = f"output_root={tmp_path / 'runs'}"
    made = run("make_benchmark", "name=small", *given, "ratios=[[0.05,0.2],[0.2,0.4]]", root)
    assert made.status == 0, made.err
    assert "10 samples" in made.out
    again = run("make_benchmark", "name=small", *given, root)
    assert again.status == 1
    assert "overwrite=true" in again.err

    common = ["benchmark=small", root, QUIET, CPU]
    one = run(
        "evaluate", "checkpoint=null", "baselines=[mean_fill]", *common, f"folder={tmp_path}/a"
    )
    assert one.status == 0, one.err
    two = run(
        "evaluate", f"checkpoint={checkpoint}", *common, f"folder={tmp_path}/b", "batch_size=3"
    )
    assert two.status == 0, two.err
    digests = [{row["digest"] for row in per_image(tmp_path / name)} for name in "ab"]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 10

    done = run("compare", f"{tmp_path}/a", f"{tmp_path}/b:rough", f"{tmp_path}/b", root)
    assert done.status == 0, done.err
    (folder,) = (tmp_path / "runs/compare").iterdir()
    rows = list(csv.DictReader((folder / "comparison.csv").open()))
    assert {row["run"] for row in rows} == {f"{tmp_path}/b:rough", f"{tmp_path}/b"}
    (row,) = [
        row for row in rows
        if (row["run"], row["holes"], row["score"]) == (f"{tmp_path}/b", "all", "psnr")
    ]  # fmt: skip
    of_a, of_b = (scores(tmp_path / name) for name in "ab")
    names = {name for name, _ in of_a}
    changes = [of_b[n, "composite"]["psnr"] - of_a[n, "mean_fill"]["psnr"] for n in names]
    assert float(row["difference"]) == pytest.approx(np.mean(changes))
    assert float(row["low"]) < float(row["difference"]) < float(row["high"])
    with Image.open(folder / "comparison.png") as sheet:
        assert sheet.width > 5 * 64

    Image.new("RGB", (80, 72)).save(pictures / "0.png")
    refused = run("evaluate", "checkpoint=null", "baselines=[telea]", *common)
    assert refused.status == 1
    assert "0.png (its SHA-256 differs)" in refused.err


def test_benchmark_fixes_pictures_and_masks(run: Run, data: list[str], tmp_path: Path) -> None:
    for arguments in (["+mask=center"], ["+data=photos"], ["+data.size=64"]):
        done = run(
            "evaluate", "checkpoint=null", "benchmark=street", "baselines=[telea]", *arguments
        )
        assert done.status == 1
        assert "benchmark=street fixes pictures and masks" in done.err
    done = run("evaluate", "checkpoint=null", "benchmark=street", f"output_root={tmp_path}")
    assert f"there is no benchmark {tmp_path}/benchmarks/street.json" in done.err


def test_comparison_needs_two_runs(run: Run, tmp_path: Path) -> None:
    done = run("compare", f"{tmp_path}/a", f"output_root={tmp_path}")
    assert done.status == 1
    assert "two folders" in done.err


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no method to score"),
        (["baselines=[telia]"], "unknown baseline telia"),
        (["+onnx.other.size=3"], "+onnx.other.path=FILE"),
        (["+onnx.other.path=absent.onnx"], "there is no file absent.onnx"),
        (["+onnx.other.path=absent.onnx", "+onnx.other.colour=red"], "onnx.other: "),
        (
            ["baselines=[mean_fill]", "+results.mean_fill=PICTURES"],
            "two methods are called mean_fill",
        ),
        (["+results.truth=PICTURES"], "two methods are called truth"),
        (["baselines=[mean_fill]", "sheet_score=beauty"], "sheet_score=beauty: expected one of l1"),
        (["baselines=[mean_fill]", "limit_images=0"], "limit_images=0: expected 1 or more"),
        (["baselines=[mean_fill]", "trainer.precision=bf16-true"], "trainer.precision=bf16-true"),
        (
            ["baselines=[mean_fill]", "weights.lpips_alex.backbone=absent.pth"],
            "there is no file absent.pth",
        ),
    ],
)
def test_setting_that_cannot_be_is_named(
    arguments: list[str], message: str, run: Run, data: list[str], pictures: Path, tmp_path: Path
) -> None:
    given = [argument.replace("PICTURES", str(pictures)) for argument in arguments]
    done = run("evaluate", "checkpoint=null", *data, *given, QUIET, f"folder={tmp_path}/out")
    assert done.status == 1
    assert message in done.err
    assert "Traceback" not in done.err


def test_missing_data_is_explained(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    for given in (
        ["checkpoint=null"],
        [f"checkpoint={checkpoint}"],
        ["checkpoint=null", "+data=photos"],
    ):
        done = run("evaluate", *given, "baselines=[mean_fill]", f"folder={tmp_path}/out")
        assert done.status == 1
        assert "name data and masks with +data=… +mask=…" in done.err


def test_evaluate_calls_nothing_that_a_stranger_names(
    run: Run, checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    written = tmp_path / "written"
    evil = {"_target_": "pathlib.Path.write_text", "_args_": [str(written), "x"]}
    state = torch.load(checkpoint, weights_only=True)
    data = {
        "_target_": "csa_inpaint.data.InpaintingDataModule",
        "root": str(pictures),
        "layout": {"_target_": "csa_inpaint.data.ImageFolder", "val_root": str(pictures)},
        "mask": "${mask}",
        "size": 64,
    }
    mask = {"_target_": "csa_inpaint.data.RectangleMask"}
    where = f"output_root={tmp_path}"
    for config, argument in (
        ({"data": data, "mask": evil}, "data.size=32"),
        ({"data": {**data, "transform": evil}, "mask": mask}, "data.size=32"),
        ({"data": {**data, "_target_": "pathlib.Path"}, "mask": mask}, "data.batch_size=1"),
    ):
        torch.save({**state, "config": config}, checkpoint)
        outcome = run("evaluate", f"checkpoint={checkpoint}", f"+{argument}", where)
        assert outcome.status == 1
        assert "model.ckpt asks to call 'pathlib.Path" in outcome.err
    assert not written.exists()
    torch.save({**state, "config": {"data": data, "mask": mask}}, checkpoint)
    assert run("evaluate", f"checkpoint={checkpoint}", where).status == 0


def test_evaluate_takes_the_masks_it_is_told_wherever_training_kept_its_own(
    run: Run, checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    center = {"_target_": "csa_inpaint.data.CenterMask", "size": 0.5}
    data = {
        "_target_": "csa_inpaint.data.InpaintingDataModule",
        "root": str(pictures),
        "layout": {"_target_": "csa_inpaint.data.ImageFolder", "val_root": str(pictures)},
        "mask": center,  # resolved, as in a repeated run
        "val_mask": center,
        "size": 64,
    }
    torch.save({**state, "config": {"data": data, "mask": center}}, checkpoint)
    done = run("evaluate", f"checkpoint={checkpoint}", "+mask=border", f"output_root={tmp_path}")
    assert done.status == 0
    (scores,) = tmp_path.rglob("scores.json")
    assert json.loads(scores.read_text())["masks"].startswith("BorderMask")
