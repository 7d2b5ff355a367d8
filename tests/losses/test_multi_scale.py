"""The loss against its definition, term by term."""

import pytest
import torch
import torch.nn.functional as F

from losses import MultiScaleLoss
from losses.multi_scale import fft_l1


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
