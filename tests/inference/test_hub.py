"""torch.hub.load gives networks with the weights of this project, whatever else the caller has imported."""

import inspect
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from skimage.data import chelsea

import hubconf
from inference import Restorer
from inference.any_size import AnySize
from inference.shipped import TASKS

PHOTO = torch.from_numpy(chelsea()[:101, :70].copy()).permute(2, 0, 1)[None] / 255


def load(**options):
    return torch.hub.load(str(ROOT), "irnext", source="local", **options)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_restores_as_the_restorer_does(task):
    network, images = load(task=task), torch.cat([PHOTO, PHOTO.flip(-1)])
    assert not network.training
    with torch.inference_mode():
        restored = network(images)
        torch.testing.assert_close(restored, Restorer(task, "cpu").restore(images), rtol=0, atol=1e-5)
        assert network(images[:1, :, :1, :5]).shape == (1, 3, 1, 5)
    assert task in inspect.getdoc(hubconf.irnext)


def test_the_default_is_dehazing_and_gradients_reach_the_image():
    images = PHOTO[..., :33, :40].clone().requires_grad_()
    network = load()
    network(images).mean().backward()
    assert images.grad.abs().sum() > 0
    assert torch.equal(network(images), load(task="dehazing")(images))


def test_wrong_use_is_one_line():
    with pytest.raises(Exception, match=r"expected one of dehazing, deblurring, .*, not 'denoising'"):
        load(task="denoising")
    for shape in ((3, 64, 64), (1, 1, 64, 64), (1, 3, 0, 64)):
        with pytest.raises(ValueError, match=re.escape(f"(N, 3, H, W), got {shape}")):
            AnySize(torch.nn.Identity())(torch.zeros(shape))


CALLER = """
import sys
import utils, models
from models import user_net

sys.modules.update(dict.fromkeys(BLOCKED))  # cannot be imported
import torch
network = torch.hub.load(ROOT, "irnext", source="local", task="deraining")
assert network(torch.rand(1, 3, 40, 70)).shape == (1, 3, 40, 70)
assert utils is sys.modules["utils"] and utils.MINE
from models import user_net as again
assert again is user_net and "inference" not in sys.modules
assert ROOT not in sys.path
print("fine")
"""


def test_modules_of_the_callers_own_stay_his_and_the_dependencies_suffice(tmp_path):
    (tmp_path / "utils.py").write_text("MINE = True\n")
    (tmp_path / "models").mkdir()
    for name in ("__init__", "user_net"):
        (tmp_path / "models" / f"{name}.py").touch()
    required = re.findall(r"^([\w-]+)(?:\[\w+\])?==", (ROOT / "requirements.txt").read_text(), re.M)
    modules = {"opencv-python-headless": "cv2", "pillow": "PIL", "scikit-image": "skimage", "numpy": None}
    blocked = {modules.get(name, name.replace("-", "_")) for name in required} - {None, *hubconf.dependencies}
    assert {"cv2", "psutil", "jsonargparse", "torchvision"} <= blocked
    script = f"ROOT, BLOCKED = {str(ROOT)!r}, {blocked!r}\n{CALLER}"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
    )
    assert result.stdout == "fine\n", result.stderr
