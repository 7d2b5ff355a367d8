"""The loss against its definition, term by term."""

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from conftest import formula_images
from skimage.metrics import structural_similarity

from losses import MultiScaleLoss
from losses.multi_scale import fft_l1, gaussian_window


@pytest.mark.parametrize("height, width", [(8, 8), (6, 9), (5, 4), (1, 1), (4, 1), (3, 2)])
def test_half_spectrum_gives_the_mean_over_the_whole(height, width):
    difference = torch.randn(2, 3, height, width, dtype=torch.float64)
    whole = torch.view_as_real(torch.fft.fft2(difference)).abs().mean()
    torch.testing.assert_close(fft_l1(difference), whole)


def test_terms_are_sums_over_scales():
    target = torch.rand(2, 3, 32, 48)
    outputs = [torch.rand(2, 3, 32 // scale, 48 // scale) for scale in (4, 2, 1)]
    content = fft = 0.0
    for output in outputs:
        scaled = F.interpolate(target, size=output.shape[-2:], mode="bilinear", align_corners=False)
        content += F.l1_loss(output, scaled)
        spectra = (torch.view_as_real(torch.fft.fft2(image)) for image in (output, scaled))
        fft += F.l1_loss(*spectra)
    loss = MultiScaleLoss(fft_weight=0.3)(outputs, target)
    torch.testing.assert_close(loss.content, content)
    torch.testing.assert_close(loss.fft, fft)
    torch.testing.assert_close(loss.total, content + 0.3 * fft)


def test_equal_images_have_no_loss_and_a_finite_gradient():
    target = torch.rand(1, 3, 16, 16)
    output = target.clone().requires_grad_()
    loss = MultiScaleLoss()([output], target)
    loss.total.backward()
    assert loss.total.item() == 0
    assert output.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_compared_in_float32(dtype):
    target = torch.rand(2, 3, 24, 40)
    output = torch.rand(2, 3, 24, 40).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = MultiScaleLoss()([output], target)
    expected = MultiScaleLoss()([output.float()], target)
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


ALL_TERMS = {"l1_weight": 0.5, "charbonnier_weight": 2.0, "ssim_weight": 0.3, "lpips_weight": 0.7}


def distance(restored, target):
    """In place of LPIPS: a score per image."""
    return (restored - target).square().flatten(1).mean(1)


def photographs(noise=0.1):
    """Outputs at three scales and their target, two photographs."""
    images = [getattr(skimage.data, name)()[:96, :128] / 255 for name in ("astronaut", "coffee")]
    target = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)).float()
    generator = torch.Generator().manual_seed(0)
    outputs = [F.interpolate(target, scale_factor=1 / scale) for scale in (4, 2, 1)]
    return [output + noise * torch.randn(output.shape, generator=generator) for output in outputs], target


def test_the_default_is_the_loss_of_the_paper_and_has_no_other_terms():
    outputs, target = photographs()
    loss = MultiScaleLoss()(outputs, target)
    assert loss.computed().keys() == {"total", "content", "fft"}
    assert torch.equal(loss.total, loss.content + 0.1 * loss.fft)


def test_every_term_counts_with_its_weight():
    outputs, target = photographs()
    loss = MultiScaleLoss(0.2, **ALL_TERMS, lpips=distance)(outputs, target)
    weights = {"content": 0.5, "fft": 0.2, "charbonnier": 2.0, "ssim": 0.3, "lpips": 0.7}
    terms = loss.computed()
    assert terms.keys() == weights.keys() | {"total"}
    torch.testing.assert_close(loss.total, sum(weight * terms[name] for name, weight in weights.items()))


def test_ssim_is_that_of_scikit_image_at_full_size():
    outputs, target = photographs()
    loss = MultiScaleLoss(ssim_weight=1.0)(outputs, target)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    maps = [
        structural_similarity(
            *(image.numpy().astype(np.float64) for image in pair), full=True, channel_axis=0, **options
        )
        for pair in zip(outputs[-1], target, strict=True)
    ]
    inside = [values[:, 5:-5, 5:-5].mean() for _, values in maps]  # where the window fits
    assert loss.ssim.item() == pytest.approx(1 - np.mean(inside), abs=1e-5)
    assert gaussian_window().sum().item() == pytest.approx(3)


def test_charbonnier_is_l1_for_large_and_smooth_for_no_differences():
    target = torch.zeros(1, 3, 8, 8)
    for difference in (0.5, 0.01, 0.0):
        loss = MultiScaleLoss(charbonnier_weight=1.0)([target + difference], target)
        assert loss.charbonnier.item() == pytest.approx((difference**2 + 1e-6) ** 0.5, rel=1e-4)


def test_the_terms_of_micro_batches_add_up_to_those_of_the_batch():
    outputs, target = photographs()
    criterion = MultiScaleLoss(**ALL_TERMS, lpips=distance)
    halves = [criterion([output[i : i + 1] for output in outputs], target[i : i + 1]).computed() for i in range(2)]
    for name, term in criterion(outputs, target).computed().items():
        torch.testing.assert_close(sum(half[name] for half in halves) / 2, term)


def test_every_term_has_a_finite_gradient_where_the_output_is_perfect_or_flat():
    criterion = MultiScaleLoss(**ALL_TERMS, lpips=distance)
    flat = torch.full((1, 3, 64, 64), 0.5)
    for target in (formula_images(3, n=1), flat):
        output = target.clone().requires_grad_()
        criterion([output], target).total.backward()
        assert output.grad.isfinite().all()


def test_other_terms_are_computed_in_float32_under_autocast():
    outputs, target = photographs()
    criterion = MultiScaleLoss(**ALL_TERMS, lpips=distance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = criterion([output.bfloat16() for output in outputs], target)
    torch.testing.assert_close(loss, criterion([output.bfloat16().float() for output in outputs], target))
