"""The configuration: typed keys, read from a YAML file and overridden on the command line."""

import math
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from itertools import pairwise
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

import yaml

from utils.degrade_options import Degrade, parse_degrade

Precision = Literal["float32", "bf16", "fp16"]
Protocol = Literal["rgb", "y", "y_float", "dehazing", "defocus", "realblur"]  # the keys of evaluation.metrics.PROTOCOLS


def bounded(least: float, most: float, why: str, *, default: Any = MISSING) -> Any:
    """A field for a number, or several numbers, from ``least`` to ``most``; ``why`` is the reason for these bounds."""
    return field(default=default, metadata={"bounds": (least, most, why)})


def both_sides(crop_size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a crop size."""
    return (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)


@dataclass(kw_only=True)
class ModelConfig:
    """The network"""

    name: str = "irnext"
    """Name of the network, a key of models.MODELS; the keys below are those of irnext, options those of any other."""
    num_blocks: int = bounded(1, 256, "the deepest published network has 16", default=4)
    """Residual blocks per CNNBlock; 4 for dehazing and desnowing, 14 for motion deblurring, 16 for deraining."""
    channels: int = bounded(8, 256, "the published networks have 32", default=32)
    """Number of channels at full size; a multiple of 8."""
    mean_window: float | None = bounded(0, 1, "it is a fraction of the image", default=None)
    """Window of the attention's local mean, as a fraction of height and width; null: mean over the whole image."""
    pool_sizes: tuple[int, ...] = bounded(1, 256, "an image has at least 8 times this side", default=(8, 4, 2))
    """Pooling sizes of the multi-scale module, coarse to fine; []: no multi-scale module (ablation)."""
    local_attention: bool = True
    """Use local attention at each pooling size (false: ablation)."""
    frequency_modulation: bool = True
    """Modulate the high frequencies in the attention (false: ablation)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of a network of your own, by name (docs/networks.md)."""

    def arguments(self) -> dict[str, Any]:
        """The arguments of ``models.build_model``."""
        if self.name != "irnext":
            return {"name": self.name, **self.options}
        return {key: value for key, value in asdict(self).items() if key != "options"}


@dataclass(kw_only=True)
class LossConfig:
    """The loss: a weighted sum of terms; L1 + 0.1 FFT in the recipes"""

    l1_weight: float = bounded(0, 1e6, "beyond, the other terms are lost in rounding", default=1.0)
    """Weight of the mean absolute difference of pixels (curve loss/content), summed over the output scales."""
    fft_weight: float = bounded(0, 1e6, "beyond, the content term is lost in rounding", default=0.1)
    """Weight of the mean absolute difference of Fourier coefficients (loss/fft), summed over the output scales."""
    charbonnier_weight: float = bounded(0, 1e6, "beyond, the other terms are lost in rounding", default=0.0)
    """Weight of the Charbonnier term, a smooth L1 (loss/charbonnier), summed over the scales; 0: no such term."""
    ssim_weight: float = bounded(0, 1e6, "beyond, the other terms are lost in rounding", default=0.0)
    """Weight of 1 - SSIM of the full-size output (loss/ssim); 0: no such term."""
    lpips_weight: float = bounded(0, 1e6, "beyond, the other terms are lost in rounding", default=0.0)
    """Weight of LPIPS (AlexNet) of the full-size output (loss/lpips); needs torchmetrics. 0: no such term."""


@dataclass(kw_only=True)
class SetConfig:
    """Where the images of a set are and how they are paired"""

    folder: tuple[str, ...] | str = "."
    """Folder below data.root, case-insensitive; of several names, the first that exists is used."""
    layout: tuple[str, str] | str = "plain"
    """How files are named and paired: a key of data.layouts.LAYOUTS, or your own [INPUT, TARGET] patterns."""
    only: tuple[int, int] | str | None = bounded(0, 10**18, "numbers have at most 18 digits", default=None)
    """Part of the folder to use: image numbers [FIRST, LAST], or a text file below data.root that lists the images."""
    degrade: Degrade | None = None
    """The folder contains clean images only, and each is degraded like this when loaded (a test image always in the
    same way): haze, rain, light_rain, heavy_rain, snow, motion_blur, defocus, low_light, noise or jpeg, one with
    parameters ({noise: {sigma: 25}}, see docs/degradations.md), or a chain ([motion_blur, noise, jpeg]); null: it
    contains pairs."""

    @property
    def folders(self) -> tuple[str, ...]:
        """The folder names to try, in this order."""
        return (self.folder,) if isinstance(self.folder, str) else tuple(self.folder)


@dataclass(kw_only=True)
class MixedSetConfig(SetConfig):
    """One of several training sets"""

    repeats: int = bounded(1, 10**6, "an epoch has to end", default=1)
    """Crops of each image per epoch: with few images, more than one make an epoch of useful length."""
    weight: float | None = bounded(1e-6, 1e6, "it is relative to those of the other sets", default=None)
    """With several sets: share of this one in an epoch, relative to the weights of the others; null, for all of them:
    each image as often as its set repeats."""


@dataclass(kw_only=True)
class TrainSetConfig(MixedSetConfig):
    """The training set, or several"""

    sets: list[MixedSetConfig] = field(default_factory=list)
    """Several training sets, each with the keys above and a weight; in a file, data.train itself is the list."""

    @property
    def parts(self) -> list[MixedSetConfig]:
        """The sets, at least one."""
        return self.sets or [self]


@dataclass(kw_only=True)
class PublishedScore:
    """Published score of a set"""

    psnr: float | None = bounded(-100, 200, "it is in dB", default=None)
    """In dB."""
    ssim: float | None = bounded(-1, 1, "these are its limits", default=None)
    """Computed with the protocol of the set, as far as is known."""
    mae: float | None = bounded(0, 255, "it is a difference of grey levels", default=None)
    """Mean absolute error."""
    lpips: float | None = bounded(0, 100, "it is about 1 for unrelated images", default=None)
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

    protocol: Protocol = "rgb"
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
    """The training set, or a list of several."""
    validation: dict[str, TestSetConfig] | None = None
    """Sets scored during training, whose mean PSNR selects best.pt; null: the test sets, as is common in the field."""
    test: dict[str, TestSetConfig]
    """Test sets by name, each with folder, layout and protocol (rgb, y, y_float, dehazing, defocus, realblur)."""
    test_average: bool = False
    """Also report the mean over the test sets, as is usual in deraining."""
    crop_size: int | tuple[int, int] = bounded(1, 8192, "a crop of 8192 takes 0.8 GB before any layer", default=256)
    """Side of the random training crop in pixels, or [height, width]; multiples of 32, at least 64."""
    vertical_flip: bool = False
    """Flip half of the training crops vertically, besides the half that is flipped horizontally."""
    quarter_turns: bool = False
    """Turn training crops by 0, 90, 180 or 270 degrees, each as likely."""
    num_workers: int = bounded(0, 256, "each is a process of 0.3 GB", default=4)
    """Loader workers per training process, at most one per core; does not affect the result."""
    cache: str | None = None
    """Folder in which decoded training images are cached; each takes height x width x 3 bytes (twice that at 16 bits).
    It may be shared between runs and deleted at any time. /dev/shm/NAME: in memory; null: no cache."""
    max_broken: int = bounded(0, 10**6, "the largest training set has 313,950 pairs", default=10)
    """Number of training images that may turn out to be broken and are replaced by others; one more ends the run."""

    @property
    def validated(self) -> dict[str, TestSetConfig]:
        """The sets scored during training."""
        return self.validation or self.test


@dataclass(kw_only=True)
class CropStage:
    """A later part of a run, with crops of another size"""

    epoch: int = bounded(2, 10**6, "before, data.crop_size and train.batch_size apply")
    """First epoch of the stage."""
    crop_size: int | tuple[int, int] = bounded(1, 8192, "as data.crop_size")
    """As data.crop_size."""
    batch_size: int = bounded(1, 2**16, "as train.batch_size")
    """As train.batch_size."""


@dataclass(kw_only=True)
class TrainConfig:
    """Training: Adam or AdamW, linear warm-up to lr, then cosine decay to min_lr, updated once per epoch"""

    epochs: int = bounded(1, 10**6, "the longest recipe has 5000")
    """Number of epochs, including warm-up."""
    batch_size: int = bounded(1, 2**16, "the recipes have 2 to 8")
    """Global batch size: images per update of the weights, across all processes and micro-batches."""
    progressive: list[CropStage] = field(default_factory=list)
    """Crops and batches of later epochs, as {epoch: 93, crop_size: 160, batch_size: 40}: from this epoch on."""
    accumulate: int = bounded(1, 2**16, "each micro-batch has at least one image", default=1)
    """Gradient accumulation: each process computes its images of an update in this many micro-batches, one after the
    other, which takes the memory of one. train.batch_size remains the whole batch: 8 with accumulate 4 is 4 times 2."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """adam, as in the recipes, or adamw, whose weight decay does not pass through Adam's scaling."""
    betas: tuple[float, float] = bounded(0, 1 - 1e-9, "1 would never forget a gradient", default=(0.9, 0.999))
    """Decay of the moving averages of the gradient and of its square in Adam and AdamW."""
    weight_decay: float = bounded(0, 1000, "beyond, nothing is left of the weights", default=0.0)
    """Weight decay of convolution weights; norms, biases and the attention's weights per channel never decay."""
    lr: float = bounded(1e-15, 1000, "Adam moves each weight by about this much in a step")
    """Peak learning rate, reached at the end of warm-up."""
    min_lr: float = bounded(0, 1000, "it is at most train.lr", default=1e-6)
    """Final learning rate."""
    warmup_epochs: int = bounded(0, 10**6, "it is less than train.epochs")
    """Number of warm-up epochs."""
    clip_norm: float = bounded(1e-15, 1e9, "beyond, nothing is clipped")
    """Maximum L2 norm of the gradient; larger gradients are clipped."""
    precision: Precision = "float32"
    """bf16 and fp16 train in mixed precision, with the loss in float32; bf16 falls back to fp16 on GPUs without it."""
    compile: bool | None = None
    """Compile the network with torch.compile, which takes a minute or more at the start; null: only on CUDA."""
    deterministic: bool = False
    """Use torch's deterministic algorithms: a run on CUDA can be repeated bit for bit, as on the CPU, but is slower."""
    max_skipped: int = bounded(1, 10**6, "as many steps in a row learn nothing", default=20)
    """A step whose loss or gradient is not finite is skipped; the run ends after this many skipped steps in a row."""
    sync_batch_norm: bool = True
    """With several processes, compute the statistics of batch norm over the global batch, not per process."""
    ema_decay: float | None = bounded(1e-6, 1 - 1e-9, "0 and 1 would not average", default=None)
    """Decay of the moving average of the weights, which is then validated and saved in best.pt; null: no average."""
    validate_every: int = bounded(1, 10**6, "as train.epochs")
    """Epochs between validations (the last epoch is always validated)."""
    validate_every_steps: int | None = bounded(1, 10**9, "no run has more steps", default=None)
    """Also validate after every so many steps, within an epoch, too; null: only after epochs."""
    validate_start: bool = False
    """Also validate before the first step: what the run starts from, and the first candidate for best.pt."""
    validate_images: int | None = bounded(1, 10**9, "a validation needs an image", default=None)
    """Validate on at most this many images of each set, evenly spaced in it; null: on all."""
    best_by: Literal["psnr", "ssim"] = "psnr"
    """The score, averaged over the validation sets, by which best.pt is chosen."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained: names of modules or parameters, in which * stands for anything; a batch norm
    that is frozen keeps its running statistics, too. [encoder, "*.norm"] for example."""
    init_from_strict: bool = True
    """--init-from needs a file for just this network; false: load what matches, and print what does not and why."""
    profile: int | None = bounded(1, 1000, "each step adds some megabytes to the trace", default=None)
    """Record so many steps with torch.profiler, after five to warm up, for TensorBoard (OUTPUT/profile); null: none."""
    log_every: int = bounded(1, 10**9, "no run has more steps", default=50)
    """Steps between points of the training curves."""
    sinks: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Services that get the curves and images, too, besides TensorBoard: [wandb], [mlflow] or both."""
    keep_checkpoints: int = bounded(1, 1000, "each is a file of at least 60 MB in the recipes", default=2)
    """Number of recent checkpoints to keep, including last.pt."""


@dataclass(kw_only=True)
class Config:
    """The task"""

    task: str
    """Label of the task: dehazing, deblurring, ..."""
    seed: int = bounded(0, 2**63 - 1, "random generators take a signed 64-bit integer", default=0)
    """Seed of the initial weights, the order of the images and their augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        check_values(self)
        data, train = self.data, self.train
        _require(
            self.model.name != "irnext" or not self.model.options,
            "model.options: for a network of your own, named by model.name; remove it: irnext has the other keys",
        )
        _require("name" not in self.model.options, "model.options: name is not one of them; set model.name")
        _require(len(data.test) > 0, "data.test needs at least one test set")
        for name in [*data.test, *(data.validation or {})]:
            is_folder_name = name not in ("", ".", "..") and set(name).isdisjoint("/\\\0")
            _require(
                is_folder_name, f"data: the set {name!r} needs another name: its images go to a folder of that name"
            )
        _check_training_sets(data.train)
        _require(data.validation is None or len(data.validation) > 0, "data.validation needs at least one set, or null")
        weights = asdict(self.loss)
        _require(any(weights.values()), f"loss: one of {', '.join(weights)} must be more than 0")
        shortest = min(min(both_sides(stage.crop_size)) for stage in self.stages())
        for key, least in (("ssim_weight", 11), ("lpips_weight", 32)):
            _require(
                not weights[key] or shortest >= least,
                f"loss.{key}: needs a data.crop_size of at least {least}, not {shortest}",
            )
        _require(train.min_lr <= train.lr, f"train.min_lr: {train.min_lr} is more than train.lr, {train.lr}")
        _require(
            train.warmup_epochs < train.epochs,
            f"train.warmup_epochs: {train.warmup_epochs} is not less than train.epochs, {train.epochs}",
        )
        smallest = min(stage.batch_size for stage in self.stages())
        _require(
            train.accumulate <= smallest,
            f"train.accumulate: {train.accumulate} micro-batches need at least as many images, but train.batch_size, "
            f"the whole batch, is {smallest}",
        )
        epochs = [stage.epoch for stage in train.progressive]
        _require(
            all(before < after for before, after in pairwise(epochs)),
            f"train.progressive: expected stages in the order of their epochs, not {', '.join(map(str, epochs))}",
        )

    def stages(self) -> list[CropStage]:
        """The crops and batches of the run: from its first epoch on, then those of ``train.progressive``."""
        first = CropStage(epoch=1, crop_size=self.data.crop_size, batch_size=self.train.batch_size)
        return [first, *self.train.progressive]

    def to_yaml(self) -> str:
        """All keys and values, in a form that ``--config`` reads back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_dict(self) -> dict[str, Any]:
        """All keys and values as nested dicts, lists, numbers and text."""
        values = _plain(asdict(self))
        if sets := values["data"]["train"].pop("sets"):
            values["data"]["train"] = sets
        return values


def _check_training_sets(train: TrainSetConfig) -> None:
    """Check that keys are given for each of several sets, not beside them, and weights for all or none.

    Raises:
        ValueError: naming the key.
    """
    for entry in fields(MixedSetConfig) if train.sets else ():
        if getattr(train, entry.name) != entry.default:
            raise ValueError(
                f"data.train.{entry.name}: data.train is a list of {len(train.sets)} sets; give {entry.name} in each "
                "of them, in the configuration file"
            )
    weighted = [part.weight is not None for part in train.sets]
    if any(weighted) and not all(weighted):
        raise ValueError(f"data.train[{weighted.index(False)}].weight: expected a number, as other sets have a weight")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def check_values(section: Any, where: str = "") -> None:
    """Check every value of a dataclass and of those in it: null only where it is allowed, numbers within their bounds.

    Raises:
        ValueError: naming the key.
    """
    hints = get_type_hints(type(section))
    for entry in fields(section):
        key, value = where + entry.name, getattr(section, entry.name)
        if value is None and NoneType not in get_args(hints[entry.name]):
            raise ValueError(f"{key}: expected a value, not null")
        for number in _numbers(value):
            least, most, why = entry.metadata.get("bounds", (-math.inf, math.inf, ""))
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{key}: expected a finite number, not {number}")
            if not least <= number <= most:
                raise ValueError(f"{key}: expected a number from {least} to {most} ({why}), not {_short(number)}")
        if isinstance(section, SetConfig) and entry.name == "degrade" and value is not None:
            try:
                parse_degrade(value)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        if isinstance(value, list):
            parts = [(f"{key.removesuffix('.sets')}[{number}]", part) for number, part in enumerate(value)]
        elif isinstance(value, dict):
            parts = [(f"{key}.{name}", part) for name, part in value.items()]
        else:
            parts = [(key, value)]
        for name, part in parts:
            if is_dataclass(part):
                check_values(part, f"{name}.")


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _short(number: int | float) -> str:
    text = str(number)
    return text if len(text) <= 30 else f"{text[:27]}..."


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
