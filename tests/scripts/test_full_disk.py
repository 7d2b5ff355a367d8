"""Full disks: each script ends with one line, and what is written stays as it was."""

import ast
import itertools
import re

import numpy as np
import pytest
from clips import pan, write_clip
from conftest import (
    ITS,
    ROOT,
    SMALL,
    assert_refused,
    assert_same_run,
    disk_full,
    run_script,
    train_tiny,
    weights_of,
)

from data.images import write_image
from data.layouts import Pair
from data.synthetic.benchmark import write_defocus
from evaluation.photographs import write_table
from evaluation.results import write_scores
from evaluation.scoring import Score
from evaluation.tables import write_tables
from inference.manifest import NAME, Manifest
from inference.photo_files import Photograph
from inference.photo_writing import write_photograph
from models import build_model
from models.weights import save_weights

# Where each module that writes files meets a full disk: in a test of this module, or in another file.
WRITERS = {
    "training/run.py": "test_training_loses_nothing",
    "training/folder.py": "test_training_loses_nothing",
    "training/profiling.py": "tests/utils/test_files.py",
    "training/event_files.py": "test_training_loses_nothing",
    "training/sinks/__init__.py": "tests/training/test_sinks.py",
    "utils/checkpoint_files.py": "test_training_loses_nothing",
    "test.py": "test_a_script_loses_nothing",
    "models/convert.py": "test_a_script_loses_nothing",
    "inference/session.py": "test_a_script_loses_nothing",
    "inference/video_segments.py": "test_a_script_loses_nothing",
    "inference/video_writing.py": "test_a_script_loses_nothing",
    "data/synthetic/demo.py": "test_a_script_loses_nothing",
    "data/images.py": "test_a_writer_loses_nothing",
    "data/synthetic/benchmark.py": "test_a_writer_loses_nothing",
    "evaluation/results.py": "test_a_writer_loses_nothing",
    "evaluation/tables.py": "test_a_writer_loses_nothing",
    "inference/manifest.py": "test_a_writer_loses_nothing",
    "inference/photo_writing.py": "test_a_writer_loses_nothing",
    "models/weights.py": "test_a_writer_loses_nothing",
    "data/cache.py": "tests/data/test_cache.py",
    "inference/export.py": "tests/inference/test_export.py",
    "inference/page/tasks.py": "data/images.py",
    "inference/page/work.py": "tests/inference/test_page.py",
    "data/preview.py": "data/images.py",
    "benchmarks/loader.py": "data/images.py",
    "benchmarks/restoring.py": "inference/photo_writing.py",
    "benchmarks/speed.py": "tests/utils/test_files.py",
    "benchmarks/embedded.py": "tests/utils/test_files.py",
    "benchmarks/ablation.py": "tests/utils/test_files.py",
    "benchmarks/evidence.py": "tests/utils/test_files.py",
    "benchmarks/pictures.py": "tests/utils/test_files.py",
    "benchmarks/trainings.py": "tests/utils/test_files.py",
    "evaluation/compare.py": "tests/utils/test_files.py",
    "docs/curves.py": "tests/utils/test_files.py",
    "evaluation/photographs.py": "test_a_writer_loses_nothing",
}
OURS = {"replacing", "write_atomically", "write_image", "write_photograph", "save_checkpoint", "save_weights"}
# What would write a file in place, and the calls that do not.
FOREIGN = {"write_text", "write_bytes", "imwrite", "save", "savez", "savez_compressed", "savefig", "tofile", "to_csv"}
FOREIGN |= {"dump", "copyfile", "copy2", "copytree", "SummaryWriter", "VideoWriter", "fdopen"}
INTO_MEMORY = {
    "Image.fromarray(np.ascontiguousarray(_pixels(photograph))).save",
    "tifffile.imwrite",
    "torch.export.save",
    "figure.savefig",
    "safetensors.torch.save",
}
HARMLESS = {
    "data/cache.py": {"np.save"},  # into memory, too
    "data/decoding/quiet.py": {"open"},  # standard error
    "benchmarks/ablation.py": {"open"},  # the output of a training, as it comes
    "training/plan.py": {"torch.save"},  # into memory, to know the size
    "utils/files.py": {"open"},
    "utils/checkpoint_files.py": {"torch.save"},  # into the file of ``replacing``, as the next two
    "data/synthetic/benchmark.py": {"np.save"},
    "benchmarks/embedded.py": {"np.savez"},
    "inference/video_writing.py": {"open", "av.open"},  # likewise, and to /dev/null
    "training/event_files.py": {"SummaryWriter"},  # new files with random names
    "inference/video_segments.py": {"open"},  # appends to the frames so far, which are checked when they are read
    "inference/manifest.py": {"open"},  # appends a line; an incomplete one is not read
    "docs/curves.py": {"sheet.quantize(96).save"},  # into memory
    "docs/architecture.py": {"Path(__file__).with_suffix('.svg').write_text"},
}


def writing_calls(file):
    """The calls in a file that write one, as they stand in the source."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.split(".")[-1]
            values = [value.value for value in ast.walk(node) if isinstance(value, ast.Constant)]
            opens = last == "open" and any(re.fullmatch("[rwaxbt+]*[wax+][rwaxbt+]*", str(value)) for value in values)
            if last in OURS | FOREIGN or opens:
                yield name


def test_every_writer_is_listed_and_none_writes_in_place():
    files = [path.relative_to(ROOT) for room in ("*.py", "[a-z]*/**/*.py") for path in ROOT.glob(room)]
    files = [str(file) for file in files if file.parts[0] not in ("tests", "pytorch-gradual-warmup-lr")]
    found = {file: set(writing_calls(file)) for file in files}
    names = {file: {call.split(".")[-1] for call in calls} for file, calls in found.items()}
    assert {file for file in files if names[file] & OURS} == WRITERS.keys() | {"utils/files.py"}
    for file, calls in found.items():
        in_place = {call for call in calls - INTO_MEMORY if call.split(".")[-1] not in OURS}
        assert in_place <= HARMLESS.get(file, set()), file
    for place in WRITERS.values():
        assert place in globals() or (ROOT / place).exists()


def test_training_loses_nothing(reside, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("hazy/20_1", "hazy/20_2", "hazy/20_3", "gt/20"):  # the curves' images of noise outgrow a checkpoint
        write_image(reside / "test" / f"{name}.png", rng.integers(0, 256, (500, 400, 3), np.uint8))
    whole, output = tmp_path / "whole", tmp_path / "part"
    options = ["--train.epochs=2", "--resume=auto"]
    assert train_tiny(reside, whole, *options).returncode == 0
    last = output / "checkpoints" / "last.pt"
    size = (whole / "checkpoints" / "last.pt").stat().st_size
    for most, named in ((500, output / "config.yaml"), (size // 2, last), (size + 20_000, output)):
        with disk_full(most):
            assert_refused(train_tiny(reside, output, *options), named)
        assert not list(output.rglob("*.part"))
    before = last.read_bytes()
    for events in output.glob("events.out.tfevents.*"):  # its cut-off end would be removed first
        events.unlink()
    with disk_full(size // 2):
        assert_refused(train_tiny(reside, output, *options), last)
    assert last.read_bytes() == before
    assert train_tiny(reside, output, *options).returncode == 0
    assert_same_run(weights_of(output), weights_of(whole))


def arguments_of(script, reside, weights, output):
    """The command that writes ``files_of(script)`` to ``output``."""
    data = ["--config", ITS, "--data.root", reside, "--data.num_workers=0", "--weights", weights, "--output", output]
    photographs = ["--input", reside / "test" / "hazy", "--weights", weights, "--output", output, "--overwrite"]
    return {
        "test.py": data,
        "test.py images": [*data, "--save-images"],
        "restore.py": photographs,
        "restore.py comparison": [*photographs, "--compare"],
        "restore.py video": ["--input", reside / "clip.mp4", *photographs[2:]],
        "-m models.convert": [weights, output / "weights.safetensors"],
        "-m data.synthetic.demo": ["--output", output],
    }[script]


FIRST = {
    "test.py": "per_image.csv",
    "test.py images": "images/SOTS-Indoor/hazy/20_1.png",
    "restore.py": "20_1.png",
    "restore.py comparison": "20_1.png.compare.png",
    "restore.py video": "clip.mp4",
    "-m models.convert": "weights.safetensors",
    "-m data.synthetic.demo": "train/gt/astronaut.png",
}


@pytest.mark.parametrize("script", FIRST)
def test_a_script_loses_nothing(reside, identity_weights, tmp_path, script):
    if "video" in script:
        write_clip(reside / "clip.mp4", pan(3))
    old = tmp_path / "out" / FIRST[script]
    old.parent.mkdir(parents=True)
    old.write_text("old")
    arguments = arguments_of(script, reside, identity_weights, tmp_path / "out")
    with disk_full(400):
        assert_refused(run_script(re.sub(r"(?<=py) \w+", "", script), *arguments), old)
    assert old.read_text() == "old"
    assert not list((tmp_path / "out").rglob("*.part"))


SCORE = Score("1", {"psnr": 10.0, "ssim": 0.5}, {"psnr": 20.0, "ssim": 0.75}, 0.1)


def manifest(path):
    Manifest(path.parent, {"sha256": "0" * 64}).record(path.parent / f"{next(COUNT)}.png")


COUNT = itertools.count()


METRICS = {"sets": {"a": {"protocol": "rgb", "images": 1, "failed": {}, "seconds_per_image": 0.1}}}
METRICS["sets"]["a"] |= {side: {"psnr": 20.0, "ssim": 0.75} for side in ("input", "restored")}
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
WRITES = {
    "a.png": lambda path: write_image(path, PIXELS),
    "a.jpg": lambda path: write_photograph(path, Photograph(PIXELS)),
    "deep.tif": lambda path: write_photograph(path, Photograph(PIXELS.astype(np.uint16))),
    "per_image.csv": lambda path: write_scores(path, {"a": [SCORE]}, {"a": "rgb"}, {"a": [Pair("1", path, path)]}),
    "table.md": lambda path: write_tables(path.parent, METRICS),
    "scores.csv": lambda path: write_table(Manifest(path.parent, {})),
    NAME: manifest,
    "a.pt": lambda path: save_weights(path, build_model(**SMALL).state_dict(), SMALL),
    "a.safetensors": lambda path: save_weights(path, build_model(**SMALL).state_dict(), SMALL),
    "test_c/indoor_labels.npy": lambda path: write_defocus(
        path.parents[1], {"train": 0, "validation": 0, "test": 0}, 0
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_writer_loses_nothing(tmp_path, name):
    path = tmp_path / name
    WRITES[name](path)
    before = path.read_bytes()
    with disk_full(min(50, len(before) // 2)), pytest.raises(OSError) as error:
        WRITES[name](path)
    assert error.value.filename == str(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))
