"""Every configuration: its recipe, and a run of its data set's shape through the real scripts."""

import csv
import json
import math
import re

import pytest
import torch
from conftest import REFERENCE, ROOT, TINY, assert_refused, run_script, weights_of
from shapes import RAIN_SETS, SHAPES, write_shape
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.sampler import EpochSampler
from training.run import Run
from utils.cli import ScriptParser, config_of
from utils.config import Config, both_sides
from utils.distributed import Group

PUBLIC = {path.stem for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith(("demo", "benchmark"))}


# The released recipes: batch size, learning rate, epochs, warm-up, clipping, validated every, blocks.
RECIPES = {
    "all_in_one": (32, 2e-4, 120, 15, 0.01, 10, 4),
    "all_in_one_five": (32, 2e-4, 120, 15, 0.01, 10, 4),
    "dehazing_its": (4, 1e-4, 300, 3, 0.001, 10, 4),
    "dehazing_ots": (8, 1e-4, 30, 1, 0.01, 1, 4),
    "dehazing_haze4k": (8, 4e-4, 1000, 3, 0.001, 20, 4),
    "dehazing_dense_haze": (2, 2e-4, 5000, 3, 0.001, 10, 4),
    "dehazing_nh_haze": (2, 2e-4, 5000, 3, 0.001, 10, 4),
    "dehazing_o_haze": (2, 2e-4, 5000, 3, 0.001, 10, 4),
    "dehazing_i_haze": (2, 2e-4, 5000, 3, 0.001, 10, 4),
    "deblurring_gopro": (4, 1e-4, 3000, 3, 0.001, 100, 14),
    "deblurring_realblur_j": (4, 1e-4, 3000, 3, 0.001, 100, 14),
    "deblurring_realblur_r": (4, 1e-4, 3000, 3, 0.001, 100, 14),
    "defocus_dpdd": (4, 1e-4, 3000, 3, 0.001, 100, 14),
    "deraining_rain13k": (4, 1e-4, 300, 3, 0.01, 10, 16),
    "deraining_rain13k_progressive": (64, 1e-4, 300, 3, 0.01, 10, 16),
    "desnowing_csd": (8, 2e-4, 2000, 3, 0.01, 50, 4),
    "desnowing_srrs": (8, 2e-4, 2000, 3, 0.01, 50, 4),
    "desnowing_snow100k": (8, 2e-4, 2000, 3, 0.01, 50, 4),
}
RELEASED_RATES = {"dehazing_its": "its_300_epochs_warmup_3", "dehazing_ots": "ots_30_epochs_warmup_1"}
PARAMETERS = {4: 5_455_241, 14: 13_205_641, 16: 14_755_721}


# The sets that test.py scores on the tiny folder, their images, and the protocol.
SCORED = {
    "all_in_one": (dict.fromkeys(["SOTS-Outdoor", "Rain100L", "CBSD68-15", "CBSD68-25", "CBSD68-50"], 2), "rgb"),
    "all_in_one_five": ({"SOTS-Outdoor": 2, "Rain100L": 2, "CBSD68": 2, "GoPro": 1, "LOL": 1}, "rgb"),
    "dehazing_its": ({"SOTS-Indoor": 2}, "dehazing"),
    "dehazing_ots": ({"SOTS-Outdoor": 2}, "dehazing"),
    "dehazing_haze4k": ({"Haze4K": 2}, "dehazing"),
    "dehazing_dense_haze": ({"Dense-Haze": 2}, "rgb"),
    "dehazing_nh_haze": ({"NH-HAZE": 2}, "rgb"),
    "dehazing_o_haze": ({"O-HAZE": 2}, "rgb"),
    "dehazing_i_haze": ({"I-HAZE": 2}, "rgb"),
    "deblurring_gopro": ({"GoPro": 2, "HIDE": 2}, "rgb"),
    "deblurring_realblur_j": ({"RealBlur-J": 2}, "realblur"),
    "deblurring_realblur_r": ({"RealBlur-R": 2}, "realblur"),
    "defocus_dpdd": ({"DPDD": 2}, "defocus"),
    "deraining_rain13k": (dict.fromkeys(RAIN_SETS, 1), "y"),
    "deraining_rain13k_progressive": (dict.fromkeys(RAIN_SETS, 1), "y"),
    "desnowing_csd": ({"CSD": 2}, "dehazing"),
    "desnowing_srrs": ({"SRRS": 2}, "dehazing"),
    "desnowing_snow100k": ({"Snow100K": 2}, "dehazing"),
}


def test_every_configuration_is_under_test():
    assert RECIPES.keys() == SCORED.keys() == SHAPES.keys() == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_published_figures_have_a_source_that_one_can_open(name):
    tests = parsed(name).data.test.values()
    subsets = [subset for test in tests for subset in test.subsets.values()]
    for figures in (part.published for part in (*tests, *subsets) if part.published is not None):
        assert re.search(r"github\.com/[\w-]+/\w+|arxiv\.org/abs/[\d.]+|doi\.org/10\.\S+", figures.source)
        assert not re.search("memory|not verified|unverified", figures.source)


def parsed(name: str) -> Config:
    """The configuration as train.py resolves it."""
    parser = ScriptParser()
    parser.add_config()
    return config_of(parser.instantiate(parser.parse_args(["--config", str(ROOT / "configs" / f"{name}.yaml")])))


def released_rate(epoch: int, rate: float, epochs: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine to 1e-6, as in the released code."""
    if epoch <= warmup:
        return rate * epoch / warmup
    return 1e-6 + (rate - 1e-6) * (1 + math.cos(math.pi * (epoch - warmup - 1) / (epochs - warmup))) / 2


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_follows_the_released_recipe(name, tmp_path):
    batch_size, rate, epochs, warmup, clip_norm, validate_every, blocks = RECIPES[name]
    config = parsed(name)
    sampler = EpochSampler(100, config.train.batch_size, config.seed)
    run = Run(config, tmp_path, Group(0, 1, torch.device("cpu")), sampler)
    (group,) = run.step.optimizer.param_groups
    rates = []
    for _ in range(epochs):
        run.scheduler.step()
        rates.append(group["lr"])
    assert rates == pytest.approx([released_rate(n, rate, epochs, warmup) for n in range(1, epochs + 1)], rel=5e-3)
    if name in RELEASED_RATES:
        measured = json.loads((REFERENCE / "lr_per_epoch.json").read_text())
        assert rates == pytest.approx(measured[RELEASED_RATES[name]], rel=5e-3)
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0)
    sampler.set_position(1, 0)
    assert len(next(iter(sampler))) == batch_size
    assert (run.step.clip_norm, run.step.criterion.fft_weight) == (clip_norm, 0.1)
    assert (config.train.epochs, config.train.validate_every) == (epochs, validate_every)
    assert sum(parameter.numel() for parameter in run.model.parameters()) == PARAMETERS[blocks]
    assert run.model.mean_window == (120 / 256 if blocks == 14 else None)
    real_haze = "_haze" in name and "haze4k" not in name
    all_in_one, small = name.startswith("all_in_one"), name.endswith("_progressive")
    assert both_sides(config.data.crop_size) == (
        (800, 1184) if real_haze else (128, 128) if all_in_one or small else (256, 256)
    )
    assert config.task == ("all_in_one" if all_in_one else name.split("_")[0])


ONE_PER_TASK = (
    "all_in_one_five",
    "dehazing_its",
    "deblurring_gopro",
    "defocus_dpdd",
    "deraining_rain13k",
    "desnowing_csd",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in ONE_PER_TASK)) for name in SHAPES]
)
def test_trains_resumes_and_tests(name, tmp_path):
    config = ["--config", ROOT / "configs" / f"{name}.yaml", "--data.root", write_shape(name, tmp_path / "data")]
    train = [*config, "--output", tmp_path / "run", *TINY, "--train.warmup_epochs=0", "--resume=auto"]
    for epochs in (1, 2):
        trained = run_script("train.py", *train, f"--train.epochs={epochs}")
        assert (trained.returncode, trained.stderr) == (0, "")
    assert f"resuming {tmp_path / 'run'} at epoch 2" in trained.stdout
    assert weights_of(tmp_path / "run")["scheduler"]["last_epoch"] == 2

    best = tmp_path / "run" / "checkpoints" / "best.pt"
    tested = run_script("test.py", *config, "--data.num_workers=0", "--weights", best, "--output", tmp_path / "out")
    assert (tested.returncode, tested.stderr) == (0, "")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    images, protocol = SCORED[name]
    assert {set_name: scored["images"] for set_name, scored in metrics["sets"].items()} == images
    assert all(scored["protocol"] == protocol for scored in metrics["sets"].values())
    assert all(0 < scored["restored"]["psnr"] < 100 for scored in metrics["sets"].values())

    if name == "defocus_dpdd":
        check_dpdd(tmp_path, metrics)
    elif name.startswith("deraining_rain13k") or name.startswith("all_in_one"):
        psnrs = [scored["restored"]["psnr"] for scored in metrics["sets"].values()]
        assert metrics["average"]["restored"]["psnr"] == pytest.approx(sum(psnrs) / 5)
        rows = [line.split()[0] for line in tested.stdout.splitlines() if line.strip()]
        assert {*images, "average"} <= {*rows}
        assert ("FSNet" in tested.stdout) == name.startswith("deraining_rain13k")
    elif name == "deblurring_gopro":
        assert "skipping RealBlur-J" in tested.stdout
        assert EventAccumulator(str(tmp_path / "run")).Reload().Tags()["scalars"].count("validation/HIDE/psnr") == 0
    elif name in ("desnowing_csd", "desnowing_srrs"):
        assert "the published training and test splits share scenes" in tested.stdout


def check_dpdd(folder, metrics):
    """Validated on the validation set; scored with MAE, by subsets and as a whole, beside the published figures."""
    curves = EventAccumulator(str(folder / "run")).Reload().Tags()["scalars"]
    assert "validation/DPDD-val/mae" in curves
    assert "validation/DPDD/psnr" not in curves
    scored = metrics["sets"]["DPDD"]
    assert scored["restored"].keys() == {"psnr", "ssim", "mae"}
    with open(folder / "out" / "per_image.csv", newline="") as file:
        maes = [float(row["mae"]) for row in csv.DictReader(file)]
    assert scored["subsets"]["outdoor"]["restored"]["mae"] == maes[0]
    assert scored["subsets"]["indoor"]["restored"]["mae"] == maes[1]
    rows = [line.split(" | ") for line in (folder / "out" / "table.md").read_text().splitlines()]
    assert [row[0].strip("| ") for row in rows[2:]] == ["DPDD", "DPDD indoor", "DPDD outdoor"]
    assert rows[2][-2:] == ["ConvIR-L (README of github.com/c-yn/ConvIR)", rows[2][-1]]
    assert "26.36" in rows[2]
    assert "26.36" not in rows[3]
    latex = (folder / "out" / "table.tex").read_text()
    assert latex.count("&") == 4 * latex.splitlines()[2].count("&")
    with open(folder / "out" / "table.csv", newline="") as file:
        assert len({len(row) for row in csv.reader(file)}) == 1


def test_clean_images_are_degraded_in_the_loader(tmp_path):
    root = write_shape("deraining_rain13k", tmp_path / "data")
    config = ["--config", ROOT / "configs" / "deraining_rain13k.yaml", "--data.root", root]
    options = [
        "--data.train.folder=train/target",
        "--data.train.degrade=[rain, {noise: {sigma: [5, 25]}}, jpeg]",
        "--data.num_workers=2",
    ]
    for epochs in (2, 3):
        run = ["--output", tmp_path / "run", *TINY, *options, f"--train.epochs={epochs}", "--resume=auto"]
        result = run_script("train.py", *config, *run)
        assert result.returncode == 0, result.stderr
    assert "at epoch 3" in result.stdout
    assert_refused(run_script("train.py", *config, *run, "--data.train.degrade=rain"), "data.train.degrade was [")
    assert_refused(run_script("train.py", *config, "--output", tmp_path / "no", "--data.train.degrade=fog"), "degrade")


def test_a_set_of_ones_own_without_code(tmp_path):
    root = write_shape("deblurring_gopro", tmp_path / "data")
    own = tmp_path / "own.yaml"
    own.write_text(f"""
base: {ROOT / "configs" / "base" / "motion.yaml"}
data:
  root: {root}
  train: {{folder: train, layout: ["{{clip}}/blur_gamma/{{id}}", "{{clip}}/sharp/{{id}}"]}}
  test:
    mine: {{folder: hide, layout: ["input/{{id}}fromGOPR0950", "target/{{id}}fromGOPR0950"], protocol: y}}
""")
    result = run_script("train.py", "--config", own, "--output", tmp_path / "run", *TINY)
    assert result.returncode == 0, result.stderr
    assert "mine" in (tmp_path / "run" / "config.yaml").read_text()


def test_what_is_wrong_with_a_base_is_named(tmp_path):
    own = tmp_path / "own.yaml"

    def refused(text, *mentions):
        own.write_text(text)
        assert_refused(run_script("train.py", "--config", own, "--output", tmp_path / "run"), *mentions)

    refused("base: gone.yaml", "gone.yaml", "cannot read")
    refused("base: own.yaml", "own.yaml", "circular reference")
    (tmp_path / "below.yaml").write_text("train: {lrr: 1}")
    refused("base: below.yaml", "own.yaml", "lrr")
