"""Networks other than IRNeXt on images that do not fit in memory."""

import pytest
import torch
from conftest import few
from hypothesis import given
from hypothesis import strategies as st
from own_networks import GOOD, LooksAtValues, Pyramid, Single
from skimage.data import astronaut
from torch import nn

from inference import overlapping, whole
from inference.overlapping import peak_memory, restore_overlapping
from models import build_model
from models.build import MODELS
from utils.live_bytes import LiveBytes
from utils.padding import accepted_size

PHOTO = torch.from_numpy(astronaut()[:200, :264].copy()).permute(2, 0, 1)[None] / 255


def build(network: type[nn.Module], monkeypatch) -> nn.Module:
    monkeypatch.setitem(MODELS, "mine", network)
    torch.manual_seed(0)
    return build_model("mine").eval()


@pytest.fixture(autouse=True)
def notes_anew():
    overlapping._note_once.cache_clear()


class Mean(nn.Module):
    """Restores nothing, but shows where it was asked: each call's largest sides."""

    size_multiple, min_size = 8, 24

    def __init__(self) -> None:
        super().__init__()
        self.unit = nn.Parameter(torch.ones(1))
        self.sizes = set()

    def forward(self, x):
        self.sizes.add(tuple(x.shape[-2:]))
        assert not any(side % 8 or side < 24 for side in x.shape[-2:])
        return x * self.unit


@few
@given(height=st.integers(1, 300), width=st.integers(1, 300), tile=st.integers(32, 400))
def test_tiles_cover_every_image_with_what_the_network_accepts(height, width, tile):
    model, image = Mean(), torch.rand(1, 3, height, width)
    restored = whole.restore(model, image, tile=tile)
    torch.testing.assert_close(restored, image, rtol=0, atol=1e-6)
    assert all(side <= max(24, tile) for size in model.sizes for side in size)


@pytest.mark.parametrize("network", GOOD, ids=lambda network: network.__name__)
def test_tiles_differ_from_the_whole_image_at_their_borders_only(network, monkeypatch, capsys):
    model = build(network, monkeypatch)
    expected, progress = whole.restore(model, PHOTO), []
    assert capsys.readouterr().err == ""
    restored = whole.restore(model, PHOTO, tile=96, progress=progress.append)
    assert (restored - expected).abs().mean() < 0.01
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert capsys.readouterr().err.startswith(f"note: {network.__name__} is restored in overlapping tiles, which are")
    whole.restore(model, PHOTO, tile=96)
    assert capsys.readouterr().err == ""  # said once


@pytest.mark.parametrize("network", [Single, Pyramid, LooksAtValues], ids=lambda network: network.__name__)
def test_an_image_that_does_not_fit_is_restored_in_tiles(network, monkeypatch, capsys):
    model = build(network, monkeypatch)
    needed = peak_memory(model, (1, 3, *accepted_size(model, *PHOTO.shape[-2:])))
    monkeypatch.setattr(overlapping, "free_memory", lambda device: needed)
    restored = whole.restore(model, PHOTO)
    assert "overlapping tiles" in capsys.readouterr().err
    monkeypatch.setattr(overlapping, "free_memory", lambda device: 4 * needed)
    assert (whole.restore(model, PHOTO) - restored).abs().mean() < 0.01
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("most", [200, 64, 30])
def test_tiles_are_halved_when_memory_runs_out(most):
    class Small(Mean):
        def forward(self, x):
            if x.device.type != "meta" and max(x.shape[-2:]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    torch.testing.assert_close(whole.restore(Small(), PHOTO), PHOTO, rtol=0, atol=1e-6)
    most = 20
    with pytest.raises(torch.OutOfMemoryError):
        restore_overlapping(Small(), PHOTO, 128, lambda done: None)


def test_any_other_error_of_a_network_is_raised():
    class Broken(Mean):
        def forward(self, x):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        whole.restore(Broken(), PHOTO)


def test_the_memory_of_a_network_is_computed_as_it_was_measured():
    model = build_model(num_blocks=2, channels=16).eval()
    per_pixel = peak_memory(model, (1, 3, 256, 512)) / (256 * 512 * 16)
    assert per_pixel == pytest.approx(whole.WHOLE_BYTES, rel=0.1)  # measured by benchmarks.memory
    with torch.no_grad(), LiveBytes() as live:
        model(torch.zeros(1, 3, 256, 512))
    assert live.peak == peak_memory(model, (1, 3, 256, 512))
    assert live.now == 0


def test_the_memory_of_a_network_that_looks_at_values_grows_with_the_image(monkeypatch):
    model = build(LooksAtValues, monkeypatch)
    sizes = [peak_memory(model, (1, 3, side, 2 * side)) for side in (128, 1024)]
    assert sizes[1] == pytest.approx(64 * sizes[0], rel=0.1)
    assert sizes[1] >= 1024 * 2048 * 3 * 4


def test_a_network_derived_from_irnext_is_not_tiled_as_irnext(monkeypatch):
    class Brighter(MODELS["irnext"]):
        def forward(self, x):
            return super().forward(x)[-1] + 0.1

    monkeypatch.setitem(MODELS, "brighter", Brighter)
    torch.manual_seed(0)
    model = build_model("brighter", num_blocks=1, channels=8).eval()
    whole_image, tiled = whole.restore(model, PHOTO), whole.restore(model, PHOTO, tile=128)
    assert (whole_image - tiled).abs().mean() < 0.02
