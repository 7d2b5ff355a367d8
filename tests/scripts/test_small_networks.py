"""The configurations in configs/small: from a folder of photographs to a scored network."""

import csv
import json
import shutil

import pytest
from album import CHELSEA
from conftest import ROOT, TINY, assert_refused, run_script, weights_of, write_reside
from safetensors.torch import save

from data.images import write_image
from models import build_model
from utils.cli import ScriptParser, config_of

PAIRED = "dehazing_sots"  # trains on published pairs
SMALL = [path.stem for path in sorted((ROOT / "configs" / "small").glob("*.yaml")) if path.stem not in ("base", PAIRED)]
MAX_BYTES = 3e6  # of the weights in fp16


@pytest.fixture
def photographs(tmp_path):
    """Three photographs to train on and two others, without targets."""
    root = tmp_path / "photographs"
    for index in range(5):
        folder = "train" if index < 3 else "held_out"
        write_image(root / folder / f"{index}.png", CHELSEA[30 * index : 30 * index + 80, :100])
    return root


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_are_small_and_train_on_degraded_photographs(name):
    parser = ScriptParser()
    parser.add_config()
    arguments = ["--config", str(ROOT / "configs" / "small" / f"{name}.yaml"), "--data.root", "photographs"]
    config = config_of(parser.instantiate(parser.parse_args(arguments)))
    assert config.task == name
    assert config.data.train.degrade is not None
    sets = config.data.validated
    assert sets["held-out"].degrade == config.data.train.degrade
    assert (
        len(
            save(
                {
                    key: value.half().contiguous()
                    for key, value in build_model(**config.model.arguments()).state_dict().items()
                }
            )
        )
        < MAX_BYTES
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "dehazing")) for name in SMALL]
)
def test_a_folder_of_photographs_suffices(name, photographs, tmp_path):
    config = ["--config", ROOT / "configs" / "small" / f"{name}.yaml", "--data.root", photographs, *TINY]
    options = ["--train.epochs=1", "--train.warmup_epochs=0", "--data.train.repeats=2", "--train.precision=float32"]
    trained = run_script("train.py", *config, *options, "--output", tmp_path / "run", "--resume", "auto")
    assert (trained.returncode, trained.stderr) == (0, "")
    assert weights_of(tmp_path / "run")["progress"]["step"] == 3  # two crops of three photographs, two in a batch

    best = ["--weights", tmp_path / "run" / "checkpoints" / "best.pt"]
    inputs = []
    for output in (tmp_path / "once", tmp_path / "again"):
        tested = run_script("test.py", *config, *best, "--output", output)
        assert (tested.returncode, tested.stderr) == (0, "")
        inputs.append(json.loads((output / "metrics.json").read_text())["sets"]["held-out"]["input"])
    assert inputs[0] == inputs[1]
    assert 5 < inputs[0]["psnr"] < 45  # degraded


def test_published_pairs_are_scored_where_there_are_any(photographs, tmp_path):
    pairs = write_reside(tmp_path / "reside", test_hazes=1) / "test"
    for folder in ("hazy", "gt"):
        for image in (pairs / folder).iterdir():
            for scene in ("1414", "1415"):
                target = photographs / "SOTS" / folder / image.name.replace("20", scene, 1)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(image, target)
    config = ["--config", ROOT / "configs" / "small" / "dehazing.yaml", "--data.root", photographs]
    checked = run_script("-m data.check", *config)
    assert checked.returncode == 0, checked.stderr
    assert "validation SOTS-1400-1414: 1 pairs" in checked.stdout
    assert "test SOTS-1415-1449: 1 pairs" in checked.stdout


def test_photographs_to_validate_on_are_asked_for(photographs, tmp_path):
    shutil.rmtree(photographs / "held_out")
    config = ["--config", ROOT / "configs" / "small" / "dehazing.yaml", "--data.root", photographs]
    assert_refused(run_script("train.py", *config, "--output", tmp_path / "run"), photographs / "held_out")


def test_scenes_of_published_pairs_are_trained_on_or_scored_never_both(tmp_path):
    pairs = write_reside(tmp_path / "reside", test_hazes=1) / "test"
    root = tmp_path / "published"
    for scene in ("1400", "1414", "1415", "1449"):
        for folder in ("hazy", "gt"):
            image = sorted((pairs / folder).iterdir())[0]
            target = root / "SOTS" / folder / f"{scene}{'_3' if folder == 'hazy' else ''}{image.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
    config = ["--config", ROOT / "configs" / "small" / f"{PAIRED}.yaml", "--data.root", root, *TINY]
    options = ["--train.epochs=1", "--train.warmup_epochs=0", "--data.train.repeats=1", "--train.precision=float32"]
    trained = run_script("train.py", *config, *options, "--output", tmp_path / "run")
    assert (trained.returncode, trained.stderr) == (0, "")
    assert weights_of(tmp_path / "run")["progress"]["step"] == 1  # both images of 1415 and 1449

    best = ["--weights", tmp_path / "run" / "checkpoints" / "best.pt", "--output", tmp_path / "scores"]
    tested = run_script("test.py", *config, *best)
    assert (tested.returncode, tested.stderr) == (0, "")
    with open(tmp_path / "scores" / "per_image.csv", newline="") as rows:
        assert sorted(row["name"] for row in csv.DictReader(rows)) == ["hazy/1400_3", "hazy/1414_3"]
