"""The configuration: typed keys from one YAML file, each of which the command line may override."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from utils.errors import InputError

set_parsing_settings(docstring_parse_attribute_docstrings=True)


@dataclass(kw_only=True)
class ModelConfig:
    """The network"""

    name: Literal["irnext"] = "irnext"
    """Network, a key of models.MODELS."""
    num_blocks: int = 4
    """Residual blocks per CNNBlock; 4 for dehazing and desnowing, 14 for motion deblurring."""
    channels: int = 32
    """Width at full size; a multiple of 8."""
    mean_window: float | None = None
    """Window of the attention's mean as a fraction of the picture's sides; null takes the whole picture."""
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
    """Where a set's pictures are and how they are paired"""

    folder: str = "."
    """Folder below data.root."""
    layout: str = "plain"
    """How files are named and paired, a key of data.layouts.LAYOUTS."""


@dataclass(kw_only=True)
class TestSetConfig(SetConfig):
    """A test set"""

    protocol: Literal["rgb", "y", "dehazing"] = "rgb"
    """How it is scored, a key of utils.metrics.PROTOCOLS."""


@dataclass(kw_only=True)
class DataConfig:
    """The pictures"""

    root: str
    """Folder of the data set."""
    train: SetConfig
    """The training set: folder and layout."""
    test: dict[str, TestSetConfig]
    """Test sets by name, each with folder, layout and protocol (rgb, y or dehazing)."""
    crop_size: int | tuple[int, int] = 256
    """Side of the random training crop, or [height, width]; multiples of 32, at least 64."""
    num_workers: int = 4
    """Processes that load pictures; the result does not depend on it."""

    def __post_init__(self) -> None:
        _require(self.num_workers >= 0, "data.num_workers must not be negative")
        _require(len(self.test) > 0, "data.test needs at least one test set")

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
    """Pictures per step."""
    lr: float
    """Learning rate after warm-up."""
    min_lr: float = 1e-6
    """Learning rate at the end."""
    warmup_epochs: int
    """Epochs of warm-up, within epochs."""
    clip_norm: float
    """The gradient's norm is clipped to this."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Arithmetic of the network; bf16 and fp16 are mixed precision, fp16 needs CUDA. Loss and FFT stay float32."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, which is then what is validated and kept as best; null for none."""
    validate_every: int
    """Epochs between validations on the test sets (the last epoch is always validated)."""
    log_every: int = 50
    """Steps between points of the curves."""

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "lr", "clip_norm", "validate_every", "log_every"):
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
    """Of the initial weights, the order of the pictures and their augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed must not be negative")

    def to_yaml(self) -> str:
        """All keys with their values, as ``--config`` reads them back."""
        return yaml.safe_dump(_plain(asdict(self)), sort_keys=False, allow_unicode=True)


class ScriptParser(ArgumentParser):
    """jsonargparse's parser, which ends with one line and status 2 when a file or key is wrong."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **{"exit_on_error": False, **options})

    def add_config(self) -> None:
        """``--config FILE`` and an option for every key of ``Config``."""
        self.add_argument("--config", action="config", help="YAML file of the task (configs/)", required=True)
        self.add_class_arguments(Config)

    def parse(self) -> Namespace:
        """The command line's values; sections are instances of their dataclasses.

        Raises:
            InputError: unknown or missing key, wrong value, missing or malformed file.
        """
        try:
            return self.instantiate(self.parse_args())
        except (ArgumentError, ValueError, TypeError) as error:
            raise InputError(f"{' '.join(str(error).split())} (--help lists the keys)") from None


def config_of(args: Namespace) -> Config:
    """The ``Config`` among the parsed values."""
    return Config(**{key: args[key] for key in Config.__dataclass_fields__})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
