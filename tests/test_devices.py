"""On a fake GPU: nothing meets a tensor of another device, and training does not wait for the GPU."""

import pytest
import torch
from fake_gpu import GPU, Waits, fake_group, on_a_fake_gpu

import training.parallel
import training.watch
from data.sampler import EpochSampler
from inference.whole import restore
from models import build_model
from training.run import Run
from training.watch import Meter, TimedLoader
from utils import config
from utils.distributed import Group


def small_config(mean_window: float | None, precision: str) -> config.Config:
    model = config.ModelConfig(num_blocks=2, channels=8, mean_window=mean_window)
    sets = {"train": config.TrainSetConfig(), "test": {"set": config.TestSetConfig()}}
    data = config.DataConfig(root="nowhere", crop_size=64, **sets)
    schedule = {"lr": 1e-3, "epochs": 2, "warmup_epochs": 1, "validate_every": 1}
    train = config.TrainConfig(**schedule, batch_size=2, clip_norm=0.1, ema_decay=0.9, precision=precision)
    return config.Config(task="", model=model, data=data, train=train)


def train_two_steps(mean_window, precision, processes, folder):
    def on_one_device(model, process_group):
        """What DistributedDataParallel requires; it would read the memory that fake tensors do not have."""
        assert {tensor.device for tensor in model.state_dict().values()} == {GPU}
        return model

    training.parallel.DistributedDataParallel = on_one_device
    training.watch.LAG = 9  # the count of skipped steps, read by then, has no value here
    group = Group(0, processes, GPU)
    with fake_group(processes):
        run = Run(small_config(mean_window, precision), folder, group, EpochSampler(2, 2, seed=0))
        meter = Meter(group, 20, TimedLoader([]))
        batch = {"input": torch.rand(2, 3, 64, 64), "target": torch.rand(2, 3, 64, 64), "name": ["a", "b"]}
        assert run.step.scaler.is_enabled() == (precision == "fp16")
        run.model.train()
        meter.add(run.step(batch), batch)
        with Waits() as waits:
            meter.add(run.step(batch, 0.5), batch)
        assert waits.operations == []
        on_gpu = [*run.model.state_dict().values(), *run.evaluated.state_dict().values()]
        on_gpu.append(meter.sums.on_device)
        assert {tensor.device for tensor in on_gpu} == {GPU}


@pytest.mark.parametrize("mean_window, precision, processes", [(None, "float32", 2), (120 / 256, "fp16", 1)])
def test_training_steps_stay_on_the_gpu_and_never_wait_for_it(mean_window, precision, processes, tmp_path):
    on_a_fake_gpu(train_two_steps, mean_window, precision, processes, tmp_path)


def restore_images():
    for mean_window in (None, 120 / 256):
        model = build_model(num_blocks=1, channels=8, mean_window=mean_window).to(GPU).eval()
        image = torch.rand(1, 3, 70, 90)
        for tile in (None, 64):
            restored = restore(model, image, tile=tile, self_ensemble=tile is None)
            assert restored.device == torch.device("cpu")
            assert restored.shape == image.shape


def test_an_image_is_restored_on_the_gpu_whole_and_in_tiles():
    on_a_fake_gpu(restore_images)
