"""The configuration: typed keys, read from a YAML file and overridden on the command line."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import yaml

from utils.precision import Precision


@dataclass(kw_only=True)
class ModelConfig:
    """The network"""

    name: Literal["irnext"] = "irnext"
    """Name of the network, a key of models.MODELS."""
    num_blocks: int = 4
    """Residual blocks per CNNBlock; 4 for dehazing and desnowing, 14 for motion deblurring, 16 for deraining."""
    channels: int = 32
    """Number of channels at full size; a multiple of 8."""
    mean_window: float | None = None
    """Window of the attention's local mean, as a fraction of height and width; null: mean over the whole image."""
    pool_sizes: tuple[int, ...] = (8, 4, 2)
    """Pooling sizes of the multi-scale module, coarse to fine; []: no multi-scale module (ablation)."""
    local_attention: bool = True
    """Use local attention at each pooling size (false: ablation)."""
    frequency_modulation: bool = True
    """Modulate the high frequencies in the attention (false: ablation)."""


@dataclass(kw_only=True)
class LossConfig:
    """The loss: content + fft_weight * fft"""

    fft_weight: float = 0.1
    """Weight of the FFT term."""


@dataclass(kw_only=True)
class SetConfig:
    """Where the images of a set are and how they are paired"""

    folder: tuple[str, ...] | str = "."
    """Folder below data.root, case-insensitive; of several names, the first that exists is used."""
    layout: tuple[str, str] | str = "plain"
    """How files are named and paired: a key of data.layouts.LAYOUTS, or your own [INPUT, TARGET] patterns."""
    only: tuple[int, int] | str | None = None
    """Part of the folder to use: image numbers [FIRST, LAST], or a text file below data.root that lists the images."""

    @property
    def folders(self) -> tuple[str, ...]:
        """The folder names to try, in this order."""
        return (self.folder,) if isinstance(self.folder, str) else tuple(self.folder)


@dataclass(kw_only=True)
class TrainSetConfig(SetConfig):
    """A training set"""

    degrade: Literal["haze", "rain", "snow", "motion_blur", "defocus"] | None = None
    """The folder contains clean images only, and each is degraded like this when loaded; null: it contains pairs."""


@dataclass(kw_only=True)
class PublishedScore:
    """Published score of a set"""

    psnr: float | None = None
    """In dB."""
    ssim: float | None = None
    """Computed with the protocol of the set, as far as is known."""
    mae: float | None = None
    """Mean absolute error."""
    lpips: float | None = None
    """LPIPS (AlexNet)."""
    source: str
    """Who reported the figures, and how they are known."""


@dataclass(kw_only=True)
class SubsetConfig:
    """A part of a test set that is also scored separately"""

    positions: str
    """NumPy file below the set's folder with positions in the sorted images, from 1; skipped if it is missing."""
    published: PublishedScore | None = None
    """Reported next to the score."""


@dataclass(kw_only=True)
class TestSetConfig(SetConfig):
    """A test set"""

    protocol: Literal["rgb", "y", "y_float", "dehazing", "defocus", "realblur"] = "rgb"
    """Scoring protocol, a key of evaluation.metrics.PROTOCOLS."""
    optional: bool = False
    """Skip the set if its folder does not exist."""
    subsets: dict[str, SubsetConfig] = field(default_factory=dict)
    """Parts of the set that are also scored separately."""
    published: PublishedScore | None = None
    """Reported next to the score."""
    shares_scenes: bool = False
    """The published split shares scenes between training and test; data.check accepts this, and the results note it."""
    note: str | None = None
    """Remark reported with the score."""


@dataclass(kw_only=True)
class DataConfig:
    """The images"""

    root: str
    """Root folder of the data set."""
    train: TrainSetConfig
    """The training set."""
    validation: dict[str, TestSetConfig] | None = None
    """Sets scored during training, whose mean PSNR selects best.pt; null: the test sets, as is common in the field."""
    test: dict[str, TestSetConfig]
    """Test sets by name, each with folder, layout and protocol (rgb, y, y_float, dehazing, defocus, realblur)."""
    test_average: bool = False
    """Also report the mean over the test sets, as is usual in deraining."""
    crop_size: int | tuple[int, int] = 256
    """Side of the random training crop in pixels, or [height, width]; multiples of 32, at least 64."""
    num_workers: int = 4
    """Loader workers per training process, at most one per core; does not affect the result."""
    cache: str | None = None
    """Folder in which decoded training images are cached; each takes height x width x 3 bytes (twice that at 16 bits).
    It may be shared between runs and deleted at any time. /dev/shm/NAME: in memory; null: no cache."""
    max_broken: int = 10
    """Number of training images that may turn out to be broken and are replaced by others; one more ends the run."""

    def __post_init__(self) -> None:
        _require(self.num_workers >= 0, "data.num_workers must not be negative")
        _require(self.max_broken >= 0, "data.max_broken must not be negative")
        _require(len(self.test) > 0, "data.test needs at least one test set")
        _require(self.validation is None or len(self.validation) > 0, "data.validation needs at least one set, or null")

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of the training crop."""
        return (self.crop_size, self.crop_size) if isinstance(self.crop_size, int) else tuple(self.crop_size)


@dataclass(kw_only=True)
class TrainConfig:
    """Training: Adam, linear warm-up to lr, then cosine decay to min_lr, updated once per epoch"""

    epochs: int
    """Number of epochs, including warm-up."""
    batch_size: int
    """Global batch size: images per step, across all processes."""
    lr: float
    """Peak learning rate, reached at the end of warm-up."""
    min_lr: float = 1e-6
    """Final learning rate."""
    warmup_epochs: int
    """Number of warm-up epochs."""
    clip_norm: float
    """Maximum L2 norm of the gradient; larger gradients are clipped."""
    precision: Precision = "float32"
    """bf16 and fp16 train in mixed precision, with the loss in float32; bf16 falls back to fp16 on GPUs without it."""
    compile: bool | None = None
    """Compile the network with torch.compile, which takes a minute or more at the start; null: only on CUDA."""
    deterministic: bool = False
    """Use torch's deterministic algorithms: a run on CUDA can be repeated bit for bit, as on the CPU, but is slower."""
    max_skipped: int = 20
    """A step whose loss or gradient is not finite is skipped; the run ends after this many skipped steps in a row."""
    sync_batch_norm: bool = True
    """With several processes, compute the statistics of batch norm over the global batch, not per process."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, which is then validated and saved in best.pt; null: no average."""
    validate_every: int
    """Epochs between validations (the last epoch is always validated)."""
    log_every: int = 50
    """Steps between points of the training curves."""
    keep_checkpoints: int = 2
    """Number of recent checkpoints to keep, including last.pt."""

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
            _require(getattr(self, key) > 0, f"train.{key} must be positive, not {getattr(self, key)}")
        _require(0 <= self.min_lr <= self.lr, "train.min_lr must be between 0 and train.lr")
        _require(
            0 <= self.warmup_epochs < self.epochs, "train.warmup_epochs must be at least 0 and less than train.epochs"
        )
        _require(
            self.ema_decay is None or 0 < self.ema_decay < 1, "train.ema_decay must be between 0 and 1, both excluded"
        )


@dataclass(kw_only=True)
class Config:
    """The task"""

    task: str
    """Label of the task: dehazing, deblurring, ..."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and their augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed must not be negative")

    def to_yaml(self) -> str:
        """All keys and values, in a form that ``--config`` reads back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_dict(self) -> dict[str, Any]:
        """All keys and values as nested dicts, lists, numbers and text."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
