"""train.py as a user runs it."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import (
    ITS,
    assert_refused,
    assert_same_run,
    run_process,
    run_script,
    tiny_training,
    train_tiny,
    weights_of,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from data.images import read_image
from evaluation.sheets import error_map


def test_training_leaves_everything_a_run_needs(trained):
    root, output, result = trained
    assert result.stderr == ""
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        "epoch 1/3",
        "epoch 2/3",
        "epoch 3/3",
        "done",
    ]
    config = yaml.safe_load((output / "config.yaml").read_text())
    assert config["data"]["root"] == str(root)
    assert config["train"]["clip_norm"] == 0.001
    assert config["train"]["epochs"] == 3
    run = json.loads((output / "runs.jsonl").read_text())
    assert run["torch"] == torch.__version__.split("+")[0]
    assert "git_commit" in run
    best = weights_of(output, "best.pt")
    assert best["model_config"]["channels"] == 8
    assert best["psnr"] == weights_of(output)["progress"]["best_psnr"]
    written = sorted(path.name for path in (output / "checkpoints").iterdir())
    assert written == ["best.pt", "last.previous.pt", "last.pt"]


def test_curves_hold_losses_rate_scores_and_images(trained):
    _, output, _ = trained
    curves = EventAccumulator(str(output)).Reload()
    tags = curves.Tags()
    expected = {"loss/total", "loss/content", "loss/fft", "train/lr", "train/grad_norm", "train/images_per_second"}
    expected |= {"train/waiting_for_data", "train/skipped_steps", "epoch/images_per_second", "epoch/waiting_for_data"}
    expected |= {f"epoch/loss_{term}" for term in ("total", "content", "fft")}
    scores = {f"validation/SOTS-Indoor/{side}{metric}" for side in ("", "input_") for metric in ("psnr", "ssim")}
    scores |= {"validation/SOTS-Indoor/made_worse"}
    assert set(tags["scalars"]) == expected | scores | {"validation/psnr", "validation/best_psnr"}
    rates = [(event.step, round(event.value, 10)) for event in curves.Scalars("train/lr")]
    assert rates == [
        (1, 1e-4),
        (2, 1e-4),
        (3, 1e-4),
        (4, 1e-4),
        (5, 1e-4),
        (6, 1e-4),
        (7, 5.05e-5),
        (8, 5.05e-5),
        (9, 5.05e-5),
    ]
    assert all(0 < event.value < 1 for event in curves.Scalars("train/waiting_for_data"))
    losses = [event.value for event in curves.Scalars("loss/total")]
    epochs = [(event.step, event.value) for event in curves.Scalars("epoch/loss_total")]
    assert epochs == [(last, pytest.approx(np.mean(losses[last - 3 : last]), rel=1e-5)) for last in (3, 6, 9)]
    psnrs = [event.value for event in curves.Scalars("validation/SOTS-Indoor/psnr")]
    assert weights_of(output, "best.pt")["psnr"] == pytest.approx(max(psnrs))
    assert curves.Scalars("validation/best_psnr")[-1].value == pytest.approx(max(psnrs))
    (inputs,) = {event.value for event in curves.Scalars("validation/SOTS-Indoor/input_psnr")}
    assert 5 < inputs < 30

    (first,) = images_of(curves, "train/first_batch")
    assert first.shape == (2 * 64, 2 * 64, 3)  # two inputs above two targets


def images_of(curves, tag):
    """All images of a tag, uint8 (H, W, 3)."""
    content = [np.frombuffer(event.encoded_image_string, np.uint8) for event in curves.Images(tag)]
    return [cv2.imdecode(image, cv2.IMREAD_COLOR_RGB) for image in content]


def test_the_hardest_and_the_easiest_image_are_shown(trained):
    """Their outputs at each validation; inputs and targets once."""
    root, output, _ = trained
    curves = EventAccumulator(str(output)).Reload()
    shown = weights_of(output)["progress"]["shown"]["SOTS-Indoor"]
    assert sorted(shown.values()) == ["hazy/20_1", "hazy/20_2"]  # the set has no more
    for difficulty, name in shown.items():
        tag = f"validation/SOTS-Indoor/{difficulty} {name}"
        assert [event.step for event in curves.Images(f"{tag}/output")] == [3, 6, 9]
        (input,), (target,) = (images_of(curves, f"{tag}/{part}") for part in ("input", "target"))
        assert np.array_equal(input, read_image(root / "test" / f"{name}.png"))
        assert np.array_equal(target, read_image(root / "test" / "gt" / "20.png"))
        for restored, error in zip(*(images_of(curves, f"{tag}/{part}") for part in ("output", "error")), strict=True):
            assert np.array_equal(error, error_map(restored, target))


def test_tensorboard_has_the_charts_and_hyper_parameters_of_a_run(trained):
    _, output, _ = trained
    curves = EventAccumulator(str(output)).Reload()
    metadata = curves.summary_metadata
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "custom_scalars__config__"} <= metadata.keys()
    content = metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["train.lr"].number_value == 1e-4
    assert values["train.precision"].string_value == "float32"
    layout = Layout.FromString(curves.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    lines = ["validation/SOTS-Indoor/psnr", "validation/SOTS-Indoor/input_psnr"]
    patterns = charts["SOTS-Indoor/psnr"]  # TensorBoard takes them for regular expressions
    assert [[tag for tag in curves.Tags()["scalars"] if re.match(pattern, tag)] for pattern in patterns] == [
        [line] for line in lines
    ]


def test_the_name_of_a_set_may_have_signs_of_regular_expressions(reside, tmp_path):
    name = "a (1+2)*"
    text = {name: {"folder": "test", "layout": "reside", "protocol": "rgb"}}
    options = ["--data.test", json.dumps(text), "--train.epochs=1", "--train.warmup_epochs=0"]
    result = train_tiny(reside, tmp_path, *options)
    assert result.returncode == 0, result.stderr
    curves = EventAccumulator(str(tmp_path)).Reload()
    layout = Layout.FromString(curves.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    pattern, _ = layout.category[0].chart[0].multiline.tag
    assert [tag for tag in curves.Tags()["scalars"] if re.match(pattern, tag)] == [f"validation/{name}/psnr"]


def test_a_run_in_the_process_of_the_tests_is_that_of_its_own_process(trained, tmp_path):
    root, output, result = trained
    own = run_process(tiny_training(root, tmp_path))
    assert (own.returncode, own.stderr) == (result.returncode, result.stderr)
    assert own.stdout == result.stdout.replace(str(output), str(tmp_path))
    assert_same_run(weights_of(tmp_path), weights_of(output))
    assert torch.equal(weights_of(tmp_path)["random"]["cpu"], weights_of(output)["random"]["cpu"])


def test_workers_do_not_change_the_run(trained, tmp_path):
    root, output, _ = trained
    assert train_tiny(root, tmp_path, "--data.num_workers", "2").returncode == 0
    assert_same_run(weights_of(tmp_path), weights_of(output))


def test_a_cache_does_not_change_the_run_whether_it_can_be_written_or_not(trained, tmp_path):
    root, output, _ = trained
    result = train_tiny(root, tmp_path / "cached", "--data.cache", tmp_path / "cache", "--data.num_workers", "2")
    assert result.stderr == ""
    assert_same_run(weights_of(tmp_path / "cached"), weights_of(output))
    assert len(list((tmp_path / "cache").iterdir())) == 8
    (tmp_path / "file").touch()
    result = train_tiny(root, tmp_path / "uncached", "--data.cache", tmp_path / "file" / "cache")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"data.cache: {tmp_path / 'file' / 'cache'}: Not a directory; ")
    assert_same_run(weights_of(tmp_path / "uncached"), weights_of(output))


def test_a_last_batch_of_one_image_and_bf16_train(trained, tmp_path):
    root, *_ = trained
    options = ["--train.batch_size", "4", "--train.epochs", "2", "--train.precision", "bf16"]  # 5 pairs: 4 and 1
    result = train_tiny(root, tmp_path, *options)
    assert result.returncode == 0, result.stderr
    assert weights_of(tmp_path)["scheduler"]["last_epoch"] == 2


def test_starting_from_weights_keeps_the_schedule_fresh(trained, tmp_path):
    root, output, _ = trained
    best = output / "checkpoints" / "best.pt"
    options = ["--train.epochs", "2", "--train.lr", "1e-12", "--train.min_lr", "0"]
    assert train_tiny(root, tmp_path, "--init-from", best, *options).returncode == 0
    started, given = weights_of(tmp_path), weights_of(output, "best.pt")
    torch.testing.assert_close(started["model"]["embed.weight"], given["model"]["embed.weight"])
    assert started["scheduler"]["last_epoch"] == 2


def test_help_explains_every_key_and_print_config_prints_them():
    help_text = " ".join(run_script("train.py", "--help").stdout.split())
    for key in (
        "--model.num_blocks",
        "--data.root",
        "--train.clip_norm",
        "--loss.fft_weight",
        "--resume",
        "--init-from",
    ):
        assert key in help_text
    assert "Maximum L2 norm of the gradient; larger gradients are clipped." in help_text
    options = ["--train.lr", "2e-4", "--output", "~/runs/a", "--print_config"]
    config = yaml.safe_load(run_script("train.py", "--config", ITS, *options).stdout)
    assert config["train"]["lr"] == 2e-4
    assert config["train"]["epochs"] == 300
    assert config["model"]["pool_sizes"] == [8, 4, 2]


def test_wrong_keys_and_values_are_refused(reside, tmp_path):
    output = tmp_path / "out"
    assert_refused(train_tiny(reside, output, "--train.learning_rate", "1"), "--train.learning_rate")
    assert_refused(train_tiny(reside, output, "--train.lr", "fast"), "train.lr", "fast")
    assert_refused(train_tiny(reside, output, "--train.lr", "-1"), "train.lr")
    assert_refused(train_tiny(reside, output, "--train.precision", "fp8"), "train.precision")
    assert_refused(train_tiny(reside, output, "--train.precision", "fp16"), "train.precision", "CUDA")
    assert_refused(train_tiny(reside, output, "--data.crop_size", "100"), "data.crop_size", "32")
    assert_refused(train_tiny(reside, output, "--model.channels", "12"), "channels")
    assert_refused(train_tiny(reside, output, "--data.train.layout", "mine"), "mine", "reside")
    assert_refused(train_tiny(reside, output, "--train.warmup_epochs", "9"), "train.warmup_epochs")
    for text, word in (("tarin: {lr: 1}", "tarin"), ("train: {lr: [", "line"), ("train: {lrr: 1}", "lrr"), ("3", "")):
        config = tmp_path / "wrong.yaml"
        config.write_text(text)
        assert_refused(run_script("train.py", "--config", config, "--output", output), word)
    assert_refused(run_script("train.py", "--config", tmp_path / "gone.yaml", "--output", output), "gone.yaml")
    assert_refused(run_script("train.py", "--config", ITS), "output")
    assert not output.exists()


def test_wrong_data_is_refused_before_training(reside, tmp_path):
    output = tmp_path / "out"
    assert_refused(train_tiny(reside / "nowhere", output), "nowhere", "no such folder")
    (reside / "train" / "gt" / "12.png").rename(tmp_path / "12.png")
    assert_refused(train_tiny(reside, output), "12_1.png", "without a target")
    (reside / "train" / "gt" / "12.png").write_bytes((tmp_path / "12.png").read_bytes()[:-200])
    assert_refused(train_tiny(reside, output), "12.png", "truncated")
    assert not output.exists()


def test_a_run_is_never_overwritten(trained):
    root, output, _ = trained
    before = (output / "checkpoints" / "last.pt").read_bytes()
    assert_refused(train_tiny(root, output), output, "--resume auto")
    assert_refused(
        train_tiny(root, output, "--resume", "auto", "--model.channels", "16"), "model.channels was 8 and is now 16"
    )
    assert (output / "checkpoints" / "last.pt").read_bytes() == before


def test_a_best_checkpoint_without_a_last_one_is_kept(trained, tmp_path):
    root, output, _ = trained
    best = tmp_path / "checkpoints" / "best.pt"
    best.parent.mkdir()
    shutil.copy(output / "checkpoints" / "best.pt", best)
    before = best.read_bytes()
    assert_refused(train_tiny(root, tmp_path), best, "--output", f"--init-from {best}", "--resume auto")
    assert best.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    result = train_tiny(root, tmp_path, "--resume=auto", "--train.epochs=2")
    assert result.returncode == 0, result.stderr
    (kept,) = best.parent.glob("best.before_*.pt")
    assert kept.read_bytes() == before != best.read_bytes()
    assert result.stderr == f"note: {best}: of an earlier run; kept as {kept.name}\n"


def test_a_run_does_not_start_or_go_on_with_wrong_weights(trained, tmp_path):
    root, output, _ = trained
    last = weights_of(output)
    nan = {"model": last["model"] | {"embed.bias": torch.full((8,), float("nan"))}}
    wrong = {
        "another network": {"model": {name: value for name, value in last["model"].items() if name != "embed.bias"}},
        "not finite": nan,
    }
    for word, checkpoint in wrong.items():
        torch.save(checkpoint, tmp_path / "wrong.pt")
        assert_refused(train_tiny(root, tmp_path / "out", "--init-from", tmp_path / "wrong.pt"), "wrong.pt", word)
    assert not (tmp_path / "out").exists()
    run = tmp_path / "run" / "checkpoints"
    run.mkdir(parents=True)
    for change, word in ((nan, "not finite"), ({"optimizer": None}, "optimizer is not a mapping")):
        torch.save(last | change, run / "last.pt")
        before = (run / "last.pt").read_bytes()
        assert_refused(train_tiny(root, tmp_path / "run", "--resume=auto"), run / "last.pt", word)
        assert (run / "last.pt").read_bytes() == before
