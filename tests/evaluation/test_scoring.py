"""From samples to scores: what reaches the host, and what happens to images that cannot be scored."""

import pytest
import torch
from conftest import REFERENCE, assert_refused, run_script
from fake_gpu import GPU, Waits, on_a_fake_gpu

from data.datasets import evaluation_loader
from data.images import read_image, write_image
from data.layouts import pair_folders
from evaluation.metrics import PROTOCOLS
from evaluation.scoring import Failure, Score, network_method, score_images
from models import build_model, load_model

ON_DEVICE = [name for name in PROTOCOLS if name != "realblur"]  # which aligns images with OpenCV


class Fetches(Waits):
    """Notes copies to the host like ``Waits`` and delivers them as real tensors of ones."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        from torch._subclasses.fake_tensor import unset_fake_temporarily

        noted = len(self.operations)
        output = super().__torch_dispatch__(function, types, args, kwargs)
        if len(self.operations) == noted or output.device != torch.device("cpu"):
            return output
        with unset_fake_temporarily():
            return torch.ones(output.shape, dtype=output.dtype)


def score_two_images(protocols):
    model = build_model(num_blocks=1, channels=8).to(GPU).eval()
    samples = [{"name": [name], "input": torch.rand(1, 3, 70, 90), "target": torch.rand(1, 3, 70, 90)} for name in "ab"]
    for protocol in protocols:
        with Fetches() as fetches:
            results = list(score_images(network_method(model), samples, protocol, GPU))
        assert [result.name for result, *_ in results] == ["a", "b"]
        for result, *images in results:
            assert set(result.restored.values()) == {1.0}
            assert {image.device for image in images} == {GPU}
        assert fetches.operations == ["aten._to_copy.default from gpu:0 to cpu"] * 2, protocol


def test_each_image_is_scored_on_the_gpu_with_one_copy_to_the_host_and_no_other_wait():
    on_a_fake_gpu(score_two_images, ON_DEVICE)


@pytest.fixture
def folders(tmp_path):
    """Folders of parts of two photographs and of their targets, 128 x 160 and 128 x 192."""
    for kind in ("input", "target"):
        for name, width in (("astronaut", 160), ("coffee", 192)):
            photograph = read_image(REFERENCE / f"{name}_{kind}.png")
            write_image(tmp_path / kind / f"{name}.png", photograph[100:228, 100 : 100 + width])
    return tmp_path / "input", tmp_path / "target"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_are_those_of_the_protocol(folders, small_weights, protocol):
    scored = score_images(
        network_method(load_model(small_weights)),
        evaluation_loader(pair_folders(*folders), 0),
        protocol,
        torch.device("cpu"),
        {"lpips": lambda image, target: (image - target).abs().amax((1, 2, 3))},
    )
    for result, input, restored, target in scored:
        for image, scores in ((input, result.input), (restored, result.restored)):
            expected = {key: value.item() for key, value in PROTOCOLS[protocol](image, target).items()}
            assert scores == expected | {"lpips": (image - target).abs().max().item()}


@pytest.mark.parametrize("step", ["restored", "scored"])
@pytest.mark.parametrize(
    "error, reason",
    [
        (RuntimeError("shapes\ndiffer"), "RuntimeError: shapes differ"),
        (MemoryError(), "not enough memory to restore this file"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_whatever_happens_to_one_image_the_others_are_scored(folders, step, error, reason):
    def method(name, input):
        if step == "restored" and name == "astronaut":
            raise error
        return input

    def lpips(image, target):
        if step == "scored" and image.shape[-1] == 160:  # astronaut
            raise error
        return torch.zeros(1)

    loader = evaluation_loader(pair_folders(*folders), 0)
    (failure,), (second, *_) = score_images(method, loader, "rgb", torch.device("cpu"), {"lpips": lpips})
    assert failure == Failure("astronaut", f"astronaut: {reason}")
    assert isinstance(second, Score)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("values", ["every", "one"])
def test_a_restored_image_that_is_not_finite_has_no_score(folders, small_weights, protocol, values):
    model = load_model(small_weights).eval()

    def network(x):
        outputs = model(x)
        if x.shape[-1] == 192:  # coffee
            outputs[-1][..., 3:4, 5:6] = torch.nan
            if values == "every":
                outputs[-1] *= torch.nan
        return outputs

    loader = evaluation_loader(pair_folders(*folders), 0)
    (first, *_), second = score_images(network_method(model, network=network), loader, protocol, torch.device("cpu"))
    assert isinstance(first, Score)
    assert first.name == "astronaut"
    (failure,) = second
    assert isinstance(failure, Failure)
    assert failure.name == "coffee"
    assert failure.problem.startswith("coffee: the restored image is not finite; ")


def test_a_network_that_overflows_ends_test_py_in_one_line(folders, small_weights, tmp_path):
    checkpoint = torch.load(small_weights, weights_only=True)
    for tensor in checkpoint["model"].values():
        if tensor.ndim == 4:
            tensor *= 1e30
    torch.save(checkpoint, tmp_path / "huge.pt")
    input, target = folders
    result = run_script(
        "test.py", "--weights", tmp_path / "huge.pt", "--input", input, "--target", target, "--output", tmp_path / "out"
    )
    reason = "astronaut: the restored image is not finite; the weights are damaged, or the precision is too low"
    assert_refused(result, f"input: none of its 2 images could be scored: {reason}", "(and 1 more)")
    assert not (tmp_path / "out" / "metrics.json").exists()
