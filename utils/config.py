"""The configuration: typed keys from one YAML file, each of which the command line may override."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import yaml

from utils.precision import Precision


@dataclass(kw_only=True)
class ModelConfig:
    """The network"""

    name: Literal["irnext"] = "irnext"
    """Network, a key of models.MODELS."""
    num_blocks: int = 4
    """Residual blocks per CNNBlock; 4 for dehazing and desnowing, 14 for motion deblurring, 16 for deraining."""
    channels: int = 32
    """Width at full size; a multiple of 8."""
    mean_window: float | None = None
    """Window of the attention's mean as a fraction of the image's sides; null takes the whole image."""
    pool_sizes: tuple[int, ...] = (8, 4, 2)
    """Pooling sizes of the multi-scale module, coarse to fine; [] for a network without it (ablation)."""
    local_attention: bool = True
    """Local attention at each pooling size (false: ablation)."""
    frequency_modulation: bool = True
    """Modulation of the attention's high frequencies (false: ablation)."""


@dataclass(kw_only=True)
class LossConfig:
    """The loss: content + fft_weight * fft"""

    fft_weight: float = 0.1
    """Weight of the FFT term."""


@dataclass(kw_only=True)
class SetConfig:
    """Where a set's images are and how they are paired"""

    folder: tuple[str, ...] | str = "."
    """Folder below data.root, in any case; of several names the first that is there counts."""
    layout: tuple[str, str] | str = "plain"
    """How files are named and paired: a key of data.layouts.LAYOUTS, or [INPUT, TARGET] patterns of your own."""
    only: tuple[int, int] | str | None = None
    """A part of the folder: [FIRST, LAST] of its images' numbers, or a text file below data.root that lists it."""

    @property
    def folders(self) -> tuple[str, ...]:
        """The names to look for, in this order."""
        return (self.folder,) if isinstance(self.folder, str) else tuple(self.folder)


@dataclass(kw_only=True)
class TrainSetConfig(SetConfig):
    """A training set"""

    degrade: Literal["haze", "rain", "snow", "motion_blur", "defocus"] | None = None
    """The folder holds clean images (no layout), and this is done to each when it is loaded; null: it holds pairs."""


@dataclass(kw_only=True)
class PublishedScore:
    """What somebody reported for a set"""

    psnr: float | None = None
    """In dB."""
    ssim: float | None = None
    """By the set's protocol, as far as it is known."""
    mae: float | None = None
    """Mean absolute error."""
    lpips: float | None = None
    """LPIPS (AlexNet)."""
    source: str
    """Whose figures they are, and how they are known."""


@dataclass(kw_only=True)
class SubsetConfig:
    """A part of a test set that is scored by itself as well"""

    positions: str
    """NumPy file below the set's folder: positions in its sorted order, counted from 1. Left out where it is absent."""
    published: PublishedScore | None = None
    """Printed beside the score."""


@dataclass(kw_only=True)
class TestSetConfig(SetConfig):
    """A test set"""

    protocol: Literal["rgb", "y", "y_float", "dehazing", "defocus", "realblur"] = "rgb"
    """Scoring protocol, a key of evaluation.metrics.PROTOCOLS."""
    optional: bool = False
    """Left out where its folder is not there."""
    subsets: dict[str, SubsetConfig] = field(default_factory=dict)
    """Parts of it that are scored by themselves as well."""
    published: PublishedScore | None = None
    """Printed beside the score."""
    shares_scenes: bool = False
    """The published split has scenes in training and test: data.check does not fail for it, and the results say so."""
    note: str | None = None
    """What a reader of the score must know."""


@dataclass(kw_only=True)
class DataConfig:
    """The images"""

    root: str
    """Folder of the data set."""
    train: TrainSetConfig
    """The training set: folder, layout."""
    validation: dict[str, TestSetConfig] | None = None
    """Sets that are scored during training, best.pt by their mean PSNR; null: the test sets, as in this field."""
    test: dict[str, TestSetConfig]
    """Test sets by name, each with folder, layout and protocol (rgb, y, y_float, dehazing, defocus, realblur)."""
    test_average: bool = False
    """Print the mean over the test sets as well, as in deraining."""
    crop_size: int | tuple[int, int] = 256
    """Side of the random training crop, or [height, width]; multiples of 32, at least 64."""
    num_workers: int = 4
    """Processes that load images; the result does not depend on it."""
    cache: str | None = None
    """Folder for the decoded training images, so that each is decoded once; it grows by height x width x 3 bytes for
    each (16 bits: twice that) and may be shared or deleted at any time. /dev/shm/NAME: memory; null: no cache."""
    max_broken: int = 10
    """Training images that may turn out to be broken while the run goes on with others; one more ends it."""

    def __post_init__(self) -> None:
        _require(self.num_workers >= 0, "data.num_workers must not be negative")
        _require(self.max_broken >= 0, "data.max_broken must not be negative")
        _require(len(self.test) > 0, "data.test needs at least one test set")
        _require(self.validation is None or len(self.validation) > 0, "data.validation needs a set, or is null")

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of the training crop."""
        return (self.crop_size, self.crop_size) if isinstance(self.crop_size, int) else tuple(self.crop_size)


@dataclass(kw_only=True)
class TrainConfig:
    """The training: Adam, warm-up by epoch to lr, then cosine to min_lr"""

    epochs: int
    """Number of epochs, warm-up included."""
    batch_size: int
    """Images per step, of all processes together."""
    lr: float
    """Learning rate after warm-up."""
    min_lr: float = 1e-6
    """Learning rate at the end."""
    warmup_epochs: int
    """Epochs of warm-up, within epochs."""
    clip_norm: float
    """The gradient's norm is clipped to this."""
    precision: Precision = "float32"
    """Arithmetic of the network; bf16 (fp16 where a GPU has none) is mixed precision. Loss and FFT stay float32."""
    compile: bool | None = None
    """Compile the network, which takes a minute or more at the start; null: on CUDA."""
    max_skipped: int = 20
    """Steps whose loss or gradient is not finite are skipped; the run ends after so many in a row."""
    sync_batch_norm: bool = True
    """Of several processes: the attention's batch norm takes the statistics of the whole batch, not of its share."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, which is then what is validated and kept as best; null for none."""
    validate_every: int
    """Epochs between validations on the test sets (the last epoch is always validated)."""
    log_every: int = 50
    """Steps between points of the curves."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints are kept: last.pt and the ones before it."""

    def __post_init__(self) -> None:
        for key in (
            "epochs",
            "batch_size",
            "lr",
            "clip_norm",
            "max_skipped",
            "validate_every",
            "log_every",
            "keep_checkpoints",
        ):
            _require(getattr(self, key) > 0, f"train.{key} must be positive")
        _require(0 <= self.min_lr <= self.lr, "train.min_lr must lie between 0 and train.lr")
        _require(0 <= self.warmup_epochs < self.epochs, "train.warmup_epochs must be fewer than train.epochs")
        _require(self.ema_decay is None or 0 < self.ema_decay < 1, "train.ema_decay must lie between 0 and 1")


@dataclass(kw_only=True)
class Config:
    """The task"""

    task: str
    """What is restored: dehazing, deblurring, ... (a label)."""
    seed: int = 0
    """Of the initial weights, the order of the images and their augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed must not be negative")

    def to_yaml(self) -> str:
        """All keys with their values, as ``--config`` reads them back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_dict(self) -> dict[str, Any]:
        """All keys with their values as nested dicts, lists, numbers and text."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
