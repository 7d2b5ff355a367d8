"""What the tests share: reference data, weights by formula, small data sets of real photographs, the scripts."""

import contextlib
import gc
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO
from unittest import mock

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from album import write_album, write_problems
from hypothesis import HealthCheck, settings
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.cache import DecodedCache
from data.datasets import PairedImages, TrainingSets, train_loader
from data.images import read_image, write_image
from data.layouts import Pair
from data.sampler import EpochSampler, derived_seed
from data.synthetic.degradations import haze
from data.synthetic.depth import smooth_depth
from data.transforms import PairedCropFlip
from models import build_model
from utils.checkpoint_files import save_checkpoint
from utils.degrade_options import Degrade
from utils.padding import extend

# No test depends on the speed of the machine.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")

# Few examples, always the same.
few = settings(
    deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

ROOT = Path(__file__).parent.parent
REFERENCE = Path(__file__).parent / "reference"


def released_state_dict(file: str) -> dict[str, torch.Tensor]:
    """A released-format state dict filled by the formula of tests/reference/README.md."""
    state = {}
    for name, shape in json.loads((REFERENCE / file).read_text()):
        z = np.random.RandomState(zlib.crc32(f"golden:{name}".encode())).standard_normal(shape)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        if name.endswith("running_mean"):
            value = 0.1 * z
        elif name.endswith("running_var"):
            value = 0.5 + abs(z)
        elif len(shape) == 4:
            value = z / np.sqrt(z[0].size)
        elif name.endswith(("lamb_l", "lamb_h", "inside_all")):
            value = 0.1 * z
        else:
            value = 1 + 0.1 * z if name.endswith(".weight") else 0.05 * z
        state[name] = torch.tensor(value, dtype=torch.float32)
    return state


def formula_images(seed: int, n: int = 4, height: int = 64, width: int = 96) -> torch.Tensor:
    """The reference images (n, 3, height, width)."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    images = np.empty((n, 3, height, width), np.float32)
    for i in range(n):
        for j in range(3):
            fy, fx, phase = random.uniform(0.5, 4, 3)
            wave = np.sin(2 * np.pi * (fy * y / height + fx * x / width) + phase)
            images[i, j] = 0.15 + 0.2 * i + 0.1 * wave + 0.1 * random.random_sample((height, width))
    return torch.from_numpy(images)


@pytest.fixture(scope="session")
def golden():
    """What the released network gives with the weights of ``released_state_dict``."""
    return np.load(REFERENCE / "irnext_n4.npz")


@pytest.fixture(scope="session")
def released_file(tmp_path_factory) -> Path:
    """A file as the authors release them, 4 blocks."""
    path = tmp_path_factory.mktemp("released") / "its.pkl"
    torch.save({"model": released_state_dict("released_state_dict.json")}, path)
    return path


def awake(model: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode with attention and running means as of a trained one, at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("modulation", "filtered_weight", "identity_weight")):
                value.copy_(0.5 * torch.randn(value.shape, generator=generator))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


@pytest.fixture
def small() -> nn.Module:
    """A network in training mode, with attention that does something."""
    torch.manual_seed(0)
    return awake(build_model(num_blocks=2, channels=16)).train()


SMALL = {"name": "irnext", "num_blocks": 1, "channels": 8}
ABLATION = SMALL | {"pool_sizes": [4, 2]}


def save_model(path: Path, model: nn.Module, options: dict = ABLATION, **more: object) -> Path:
    """Write a checkpoint as training does; returns the path."""
    save_checkpoint(path, {"model": model.state_dict(), "model_config": options, **more})
    return path


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory) -> Path:
    """The checkpoint of a small network with attention that does something."""
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("weights") / "best.pt", awake(build_model(**SMALL)), SMALL)


@pytest.fixture(scope="session")
def identity_weights(tmp_path_factory) -> Path:
    """The checkpoint of a small network that returns its input."""
    model = build_model(**SMALL)
    with torch.no_grad():
        model.heads[2].weight.zero_()
        model.heads[2].bias.zero_()
    return save_model(tmp_path_factory.mktemp("identity") / "identity.pt", model, SMALL)


@pytest.fixture
def reside(tmp_path) -> Path:
    """``write_reside`` in a folder of the test's own."""
    return write_reside(tmp_path / "reside")


def write_reside(root: Path, hazes: int = 2, test_hazes: int = 2) -> Path:
    """A RESIDE-shaped folder of small photographs: 2 hazes + 1 training pairs over 3 targets, some of one for test."""
    rng = np.random.default_rng(0)
    photographs = {
        "train": [("10", "astronaut", hazes), ("11", "rocket", hazes), ("12", "coffee", 1)],
        "test": [("20", "chelsea", test_hazes)],
    }
    for split, names in photographs.items():
        for number, name, count in names:
            image = cv2.resize(getattr(skimage.data, name)(), (100, 70), interpolation=cv2.INTER_AREA)
            write_image(root / split / "gt" / f"{number}.png", image)
            for index in range(count):
                hazy = haze(image / np.float32(255), smooth_depth(70, 100, rng), rng.uniform(0.6, 1.8), 0.9)
                write_image(root / split / "hazy" / f"{number}_{index + 1}.png", np.uint8(hazy * 255))
    return root


def batches(
    pairs: list[Pair],
    epochs: Iterable[int] = (1, 2),
    start: int = 0,
    workers: int = 0,
    cache: Path | None = None,
    degrade: Degrade | None = None,
) -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
    """Names, inputs and targets of the training batches of ``epochs``, each entered at batch ``start``."""
    sampler = EpochSampler(len(pairs), batch_size=2, seed=5)
    read = read_image if cache is None else DecodedCache(cache).read
    sets = TrainingSets([PairedImages(pairs, PairedCropFlip((64, 64)), 5, degrade, read)])
    loader = train_loader(sets, sampler, workers)
    found = []
    for epoch in epochs:
        sampler.set_position(epoch, start * sampler.batch_size)
        found += [(batch["name"], batch["input"], batch["target"]) for batch in loader]
    return found


def assert_same_batches(ours: list, theirs: list) -> None:
    """The same names and values, bit for bit."""
    for (names, *images), (their_names, *their_images) in zip(ours, theirs, strict=True):
        assert names == their_names
        assert all(torch.equal(*pair) for pair in zip(images, their_images, strict=True))


def drawn_by_torchvision(
    input: np.ndarray, target: np.ndarray, size: tuple[int, int], seed: tuple[int, ...]
) -> list[torch.Tensor]:
    """Whole images converted, then cropped and flipped by torchvision: what PairedCropFlip must equal."""
    pair = []
    for image in (input, target):
        whole = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / np.iinfo(image.dtype).max
        height, width = (max(have, want) for have, want in zip(whole.shape[-2:], size, strict=True))
        pair.append(tv_tensors.Image(extend(whole, height, width)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(*seed))
        return v2.Compose([v2.RandomCrop(size), v2.RandomHorizontalFlip(0.5)])(*pair)


ITS = ROOT / "configs" / "dehazing_its.yaml"

# A network and a schedule that train in seconds; the recipe's other keys stay as they are.
TINY = [
    "--model.num_blocks=1",
    "--model.channels=8",
    "--data.crop_size=64",
    "--data.num_workers=0",
    "--train.batch_size=2",
    "--train.epochs=3",
    "--train.warmup_epochs=1",
    "--train.validate_every=1",
    "--train.log_every=1",
]

# Longer: so long that the network learns something.
SHORT = ["--train.epochs=12", "--train.lr=1e-3", "--train.ema_decay=0.9", "--train.validate_every=12"]


TORCHRUN = "-m torch.distributed.run --standalone --nproc_per_node 2"

# One thread, so that results repeat bit for bit.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
torch.set_num_threads(1)


def command_of(script: str, *arguments: object) -> dict:
    """How to start a script of the project as a user would."""
    return {
        "args": [sys.executable, *script.split(), *map(str, arguments)],
        "cwd": ROOT,
        "env": os.environ | ENVIRONMENT,
        "text": True,
    }


def tiny_arguments(root: Path, output: Path, *arguments: object) -> list:
    """The arguments with which train.py trains ``TINY`` by the ITS recipe on a folder shaped like RESIDE."""
    return ["--config", ITS, "--data.root", root, "--output", output, *TINY, *arguments]


def tiny_training(root: Path, output: Path, *arguments: object) -> dict:
    """How to start train.py with ``tiny_arguments``."""
    return command_of("train.py", *tiny_arguments(root, output, *arguments))


def run_parallel(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a script in two processes, started by torchrun."""
    return run_process(command_of(f"{TORCHRUN} {script}", *arguments))


def train_tiny(root: Path, output: Path, *arguments: object) -> subprocess.CompletedProcess:
    """``run_script`` of train.py with ``tiny_arguments``."""
    return run_script("train.py", *tiny_arguments(root, output, *arguments))


def run_process(command: dict) -> subprocess.CompletedProcess:
    """Run what ``command_of`` gave to the end, whatever its status."""
    return subprocess.run(**command, capture_output=True, timeout=300, check=False)


def run_script(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a script within this process, which saves the seconds that its imports take.

    Status, output and files are those of ``run_process(command_of(script, *arguments))``.
    """
    name = script.removeprefix("-m ")
    path = name if name == script else f"{name.replace('.', '/')}.py"
    wait_for_a_new_second(arguments)
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        with own_state(), redirected("stdout", 1, stdout), redirected("stderr", 2, stderr):
            sys.argv = [path, *map(str, arguments)]
            with pytest.raises(SystemExit) as exit:
                runpy.run_path(path, run_name="__main__")
        output = [file.seek(0) or file.read().decode() for file in (stdout, stderr)]
    return subprocess.CompletedProcess([script, *arguments], exit.value.code or 0, *output)


def wait_for_a_new_second(arguments: Iterable[object]) -> None:
    """TensorBoard orders the files of a run by the second of their start: processes are never as fast as that."""
    folders = [argument for argument in arguments if isinstance(argument, Path) and os.path.isdir(argument)]
    seconds = [int(file.name.split(".")[3]) for folder in folders for file in folder.glob("events.out.tfevents.*")]
    time.sleep(max(0, max(seconds, default=0) + 1 - time.time()))


@contextlib.contextmanager
def own_state() -> Iterator[None]:
    """The process as a script finds it; what scripts change in it is restored at the end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            mock.patch.dict(os.environ, ENVIRONMENT),
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[]),
            contextlib.chdir(ROOT),
            pytest.MonkeyPatch.context() as patch,
        ):
            for module, name in ((sys, "argv"), (threading, "excepthook"), (torch.backends.cudnn, "benchmark")):
                patch.setattr(module, name, getattr(module, name))
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setattr(warnings, "showwarning", print_warning)  # pytest would collect them
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def print_warning(message: Warning, category: type[Warning], filename: str, line_number: int, *_: object) -> None:
    """Print a warning as Python does."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, line_number))


@contextlib.contextmanager
def redirected(name: str, descriptor: int, file: IO[bytes]) -> Iterator[None]:
    """What this process and its children write to a standard stream goes to ``file``."""
    kept = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        options = {"buffering": 1, "encoding": "utf-8", "errors": "backslashreplace", "closefd": False}
        with open(descriptor, "w", **options) as stream, mock.patch.object(sys, name, stream):
            yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def pytest_collection_finish() -> None:
    """Scripts collect garbage before they exit: what was imported is none."""
    gc.freeze()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, Path, subprocess.CompletedProcess]:
    """A data set, the folder of a finished ``train_tiny`` on it, and its result."""
    return trained_in(tmp_path_factory.mktemp("trained"))


def trained_in(folder: Path, *options: object) -> tuple[Path, Path, subprocess.CompletedProcess]:
    """Write ``write_reside`` to a folder and train on it; returns the data set, the folder of the run, its result."""
    root = write_reside(folder / "reside")
    result = train_tiny(root, root / "run", *options)
    assert result.returncode == 0, result.stderr
    return root, root / "run", result


@pytest.fixture(scope="session")
def short_runs(tmp_path_factory) -> Path:
    """A data set, with the folders of the same ``SHORT`` training in float32 and in bf16 in it."""
    root = write_reside(tmp_path_factory.mktemp("precision") / "reside", hazes=6)
    for precision in ("float32", "bf16"):
        result = train_tiny(root, root / precision, *SHORT, f"--train.precision={precision}")
        assert result.returncode == 0, result.stderr
    return root


@pytest.fixture(scope="session")
def album(small_weights, tmp_path_factory) -> tuple[Path, Path, subprocess.CompletedProcess]:
    """Input and output folder of restore.py on sound and broken images, and its result."""
    root = tmp_path_factory.mktemp("album")
    write_album(root / "in")
    write_problems(root / "in")
    result = run_script("restore.py", "--weights", small_weights, "--input", root / "in", "--output", root / "out")
    return root / "in", root / "out", result


# Memory runs out for real: the address space is limited to a little more than what the process has.
LIMITED = """
import resource, sys
sys.path[:0] = [".", "tests"]
import torch
from pathlib import Path
from album import photo_tensor
from conftest import awake, psnr
from inference.tiled import TiledForward
from inference.whole import restore
from models import IRNeXt
torch.manual_seed(0)
model = awake(IRNeXt(num_blocks=1, channels=16))
image = photo_tensor(512, 768)
wanted = restore(model, image, tile=256)
restore(model, image[..., :64, :64])
forward = TiledForward(model, 512)
here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + 180 * 2**20, -1))
with torch.inference_mode():
    restored = eval(sys.argv[1])
print(psnr(restored, wanted), forward.tile)
"""


def in_little_memory(expression: str) -> tuple[float, int]:
    """Restore an ``image`` by an expression for which memory is short.

    A process for each, because oneDNN keeps what it took. With the C library's threshold fixed, freed memory goes back
    at once, and what fits does not depend on chance.

    Returns:
        The PSNR in dB to the image that is restored with enough memory, and the side of the tiles of ``forward``.
    """
    command = command_of("-c", LIMITED, expression)
    command["env"] |= {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    result = run_process(command)
    assert result.returncode == 0, result.stderr[-2000:]
    accuracy, side = result.stdout.split()
    return float(accuracy), int(side)


def kill_when(command: dict, text: str) -> None:
    """Start a script and kill it, with no chance to react, as soon as its output says ``text``."""
    with subprocess.Popen(**command, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            if text in line:
                process.kill()
                return
    raise AssertionError(f"the script never said {text!r}")


@contextlib.contextmanager
def disk_full(most: int) -> Iterator[None]:
    """A limit on the length of files, in bytes, fails as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def weights_of(output: Path, name: str = "last.pt") -> dict:
    """A checkpoint of a run."""
    return torch.load(output / "checkpoints" / name, weights_only=True)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """In dB, of values in [0, 1]."""
    return -10 * torch.log10((a - b).square().mean()).item()


def assert_outputs(outputs, golden, prefix):
    """Each output is ``golden``'s ``prefix`` with its number, within 1e-4 of the largest value."""
    for index, output in enumerate(outputs):
        expected = golden[f"{prefix}{index}"]
        assert output.shape == expected.shape
        assert np.abs(output.detach().cpu().numpy() - expected).max() <= 1e-4 * np.abs(expected).max()


def assert_same_run(one, other):
    """The same weights and optimizer state, bit for bit."""
    for key in ("model", "optimizer"):
        ours, theirs = torch.utils._pytree.tree_leaves(one[key]), torch.utils._pytree.tree_leaves(other[key])
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert one["scheduler"]["last_epoch"] == other["scheduler"]["last_epoch"]


def errors_of(result: subprocess.CompletedProcess) -> list[str]:
    """The lines of stderr that report an error."""
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def assert_refused(result: subprocess.CompletedProcess, *mentions: object) -> None:
    """Status 2 and one line on stderr that names each of ``mentions``."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for mention in mentions:
        assert str(mention) in lines[0]
