"""What makes the network fast, by its structure and not by the clock; and that the fast ways give the same images."""

import copy
import json
import subprocess

import numpy as np
import pytest
import torch
from conftest import (
    REFERENCE,
    ROOT,
    SHORT,
    assert_outputs,
    assert_refused,
    assert_same_run,
    formula_images,
    run_script,
    tiny_training,
    train_tiny,
    weights_of,
    write_reside,
)
from torch.profiler import ProfilerActivity, profile

from benchmarks.live import LiveBytes
from benchmarks.speed import started
from benchmarks.textbook import TextbookIRNeXt
from data.images import read_image
from inference.tiled import TiledForward
from losses import MultiScaleLoss
from models import IRNeXt, build_model, load_weights
from models.layers import BatchNorm
from utils.compiling import MOST_SIZES, OFTEN, compiled, compiled_for_common_sizes

ITS = ["--config", ROOT / "configs" / "dehazing_its.yaml"]


@pytest.fixture
def small():
    torch.manual_seed(0)
    return started(build_model(num_blocks=2, channels=16))


@pytest.mark.parametrize("options", [{}, {"mean_window": 120 / 256}, {"frequency_modulation": False}])
def test_the_network_is_its_textbook_formulation_forward_and_backward(options):
    torch.manual_seed(0)
    ours = started(build_model(num_blocks=2, channels=8, **options)).double()
    textbook = TextbookIRNeXt(ours)
    x, target = torch.rand(2, 2, 3, 64, 96, dtype=torch.float64)
    gradients = []
    for model in (ours, textbook):
        outputs = model(x)
        loss = MultiScaleLoss()(outputs, target).total
        gradients.append((outputs, torch.autograd.grad(loss, list(model.parameters()))))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_textbook_agrees_with_the_released_network(released_file):
    model = IRNeXt()
    load_weights(model, released_file)
    with torch.no_grad():
        outputs = TextbookIRNeXt(model).eval()(formula_images(7))
    assert_outputs(outputs, np.load(REFERENCE / "irnext_n4.npz"), "eval_out")


def operations(model: torch.nn.Module) -> set[str]:
    """The names of what runs in a forward and backward pass."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        MultiScaleLoss()(model(torch.rand(2, 3, 64, 64)), torch.rand(2, 3, 64, 64)).total.backward()
    return {event.key for event in trace.key_averages()}


def test_no_pixel_neighbourhood_is_copied(small):
    unfolding = {"aten::im2col", "aten::col2im"}
    assert not operations(small) & unfolding
    assert operations(TextbookIRNeXt(small)) & unfolding == unfolding


def training_peak(model: torch.nn.Module) -> int:
    x, target = torch.rand(2, 2, 3, 128, 128)
    with LiveBytes() as live:
        MultiScaleLoss()(model(x), target).total.backward()
    return live.peak


def test_training_needs_little_more_than_half_of_the_textbooks_memory():
    model = started(build_model(num_blocks=4, channels=16))
    assert training_peak(model) < 0.6 * training_peak(TextbookIRNeXt(model))


def restoring_peak(model: torch.nn.Module) -> int:
    with torch.inference_mode(), LiveBytes() as live:
        model.eval()(torch.rand(1, 3, 128, 128))
    return live.peak


def test_restoring_needs_two_thirds_of_the_textbooks_memory(small):
    assert restoring_peak(small) < 0.7 * restoring_peak(TextbookIRNeXt(small))


def test_a_batch_keeps_channels_last_throughout(small):
    layouts = []
    for module in small.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels > 3:
            module.register_forward_pre_hook(
                lambda module, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
            )
    small(torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last))
    assert len(layouts) > 50
    assert all(layouts)


def compilations() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_images_of_many_sizes_compile_only_for_those_that_come_often():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.GELU()).eval()
    network = compiled_for_common_sizes(module)
    before = compilations()
    with torch.inference_mode():
        for width in range(64, 64 + 20):
            network(torch.rand(1, 3, 64, width))
        assert compilations() == before
        for width in range(64, 64 + MOST_SIZES + 2):
            for _ in range(OFTEN):
                x = torch.rand(1, 3, 64, width)
                torch.testing.assert_close(network(x), module(x))
    assert before < compilations() <= before + MOST_SIZES


def test_weights_keep_their_names_when_compiled():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3))
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(compiled(module)(x), module(x))
    assert set(module.state_dict()) == {"0.weight", "0.bias"}


def test_without_a_compiler_a_run_goes_on_with_one_warning(reside, tmp_path):
    assert train_tiny(reside, tmp_path / "plain", "--train.epochs=2").returncode == 0
    command = tiny_training(reside, tmp_path / "compiled", "--train.epochs=2", "--train.compile=true")
    command["env"] |= {"CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    result = subprocess.run(**command, capture_output=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "the network runs uncompiled" in warnings[0]
    assert_same_run(weights_of(tmp_path / "compiled"), weights_of(tmp_path / "plain"))


@pytest.mark.slow
def test_a_compiled_training_step_is_that_of_the_network(small):
    x, target = torch.rand(2, 2, 3, 64, 64)
    fast = copy.deepcopy(small)
    results = []
    for network, model in ((small, small), (compiled(fast), fast)):
        loss = MultiScaleLoss()(network(x), target).total
        loss.backward()
        results.append((loss.detach(), [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_what_reads_the_image_stays_float32_whole_and_in_tiles(small, whole):
    kinds = {}
    for name, module in small.eval().named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, x, y, name=name: kinds.update({name: y.dtype}))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (small if whole else TiledForward(small, 64))(torch.rand(1, 3, 128, 128))
    reading = {name for name in kinds if name.startswith(("embed", "shallow"))}
    assert len(reading) == 9
    assert {kinds[name] for name in reading} == {torch.float32}
    assert kinds["heads.2"] == torch.bfloat16


def test_mixed_precision_restores_in_tiles_as_it_does_whole(small_weights, reside, tmp_path):
    image = reside / "test" / "hazy" / "20_1.png"
    restored = []
    for name, options in (("exact", []), ("whole", ["--precision=bf16"]), ("tiles", ["--precision=bf16", "--tile=64"])):
        arguments = ["--weights", small_weights, "--input", image, "--output", tmp_path / name, *options]
        result = run_script("restore.py", *arguments)
        assert result.returncode == 0, result.stderr
        restored.append(read_image(tmp_path / name / image.name).astype(int))
    exact, whole, tiles = restored
    assert (whole != exact).any()
    for fast in (whole, tiles):
        assert np.abs(fast - exact).mean() < 2


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory):
    """A data set, and the folders of the same short training in float32 and in bf16."""
    root = write_reside(tmp_path_factory.mktemp("precision") / "reside", hazes=6)
    for precision in ("float32", "bf16"):
        result = train_tiny(root, root / precision, *SHORT, f"--train.precision={precision}")
        assert result.returncode == 0, result.stderr
    return root


def scores(root, trained, precision, tmp_path) -> dict:
    weights = ["--weights", root / trained / "checkpoints" / "last.pt", "--output", tmp_path / precision]
    result = run_script(
        "test.py", *ITS, "--data.root", root, *weights, "--precision", precision, "--data.num_workers=0"
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / precision / "metrics.json").read_text())
    assert metrics["precision"] == precision
    return metrics["sets"]["SOTS-Indoor"]


def test_bf16_moves_the_scores_of_a_trained_network_by_less_than_a_fiftieth_of_a_decibel(short_runs, tmp_path):
    exact, fast = (scores(short_runs, "float32", precision, tmp_path) for precision in ("float32", "bf16"))
    assert exact["restored"]["psnr"] > exact["input"]["psnr"] + 1  # it has learnt something
    assert 0 < abs(exact["restored"]["psnr"] - fast["restored"]["psnr"]) < 0.02


def test_a_short_training_in_bf16_ends_where_that_in_float32_does(short_runs):
    ends = [weights_of(short_runs / precision, "best.pt")["psnr"] for precision in ("float32", "bf16")]
    assert ends[0] != ends[1]
    assert abs(ends[0] - ends[1]) < 0.1


def test_the_benchmark_prints_and_writes_its_table(tmp_path):
    small = ["--num_blocks=1", "--channels=8", "--side=64", "--rounds=1", "--matrix=64"]
    result = run_script("-m benchmarks.speed", *small, "--json", tmp_path / "rows.json")
    assert result.returncode == 0, result.stderr
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines() if line.startswith("|")]
    assert rows.count("textbook, float32") == rows.count("ours, bf16") == 2
    written = json.loads((tmp_path / "rows.json").read_text())
    assert {(row["blocks"], row["kind"]) for row in written} == {(1, "forward"), (1, "training step")}
    assert [row["network"] for row in written] == [row for row in rows if row != "network"]
    assert all(row["ms"] > 0 for row in written)
    assert_refused(run_script("-m benchmarks.speed", "--rounds", "many"), "rounds")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_leaves_the_running_statistics_alone(value):
    norm = BatchNorm(2)
    x = torch.randn(4, 2, 1, 1)
    x[0, 0] = value
    norm(x)
    assert norm.running_mean[0] == 0
    assert norm.running_var[0] == 1
    assert norm.running_mean[1] != 0
