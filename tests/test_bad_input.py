"""Whatever a user may hand in: it is used, or refused in one line by ``InputError``; never another exception."""

import io
import json
import os
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from conftest import ROOT, TINY, assert_refused, run_script, train_tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.datasets import evaluation_loader, train_loader
from data.images import image_header, read_image, write_image
from data.layouts import find_pairs, pair_folders
from data.sampler import EpochSampler
from inference.photo_files import read_photograph
from utils.cli import ScriptParser, config_of
from utils.config import Config
from utils.errors import InputError

few = settings(
    deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ITS = ROOT / "configs" / "dehazing_its.yaml"


def parsed(path: Path, *arguments: str) -> Config | InputError:
    """What becomes of a configuration file: the parser, in this process."""
    parser = ScriptParser(prog="train.py")
    parser.add_config()
    before, sys.argv = sys.argv, ["train.py", "--config", str(path), *arguments]
    try:
        return config_of(parser.parse())
    except InputError as error:
        return error
    finally:
        sys.argv = before


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "rgb", "reside", "1e-4", "../..", "-1", "", "${HOME}", "!!python/object:os.system"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
sections = {
    "task": [],
    "seed": [],
    "base": [],
    "model": ["name", "num_blocks", "channels", "mean_window", "pool_sizes", "local_attention"],
    "loss": ["fft_weight"],
    "data": ["root", "train", "validation", "test", "crop_size", "num_workers", "max_broken"],
    "train": ["epochs", "batch_size", "lr", "warmup_epochs", "precision", "ema_decay", "keep_checkpoints"],
}


@st.composite
def changed_configs(draw):
    """The ITS recipe with some of its keys, or whole sections, replaced by something else."""
    config = yaml.safe_load(ITS.read_text()) | {"base": str(ROOT / "configs" / "base" / "recipe.yaml")}
    for section in draw(st.lists(st.sampled_from(list(sections)), min_size=1, max_size=3)):
        key = draw(st.sampled_from(sections[section])) if sections[section] else None
        if key is None or not isinstance(config.get(section), dict) or draw(st.integers(0, 4)) == 0:
            config[section] = draw(values)
        else:
            config[section][key] = draw(values)
    return config


@few
@given(changed_configs())
def test_configurations_with_any_values(tmp_path, config):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    result = parsed(path)
    assert isinstance(result, (Config, InputError))


@few
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")))
def test_configurations_of_any_bytes(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    assert isinstance(parsed(tmp_path / "config.yaml"), InputError)


BASE = f"base: {ITS}\n"
ODD_CONFIGS = {
    **{f"{key} null": BASE + f"{key}: null" for key in ("seed", "task", "model", "data", "train")},
    **{f"{key} null": BASE + f"data: {{{key}: null}}" for key in ("root", "train", "test", "crop_size")},
    "blocks null": BASE + "model: {num_blocks: null}",
    "null in a set": BASE + "data: {test: {SOTS-Indoor: {protocol: null}}}",
    "no end": BASE + "train: {lr: .inf}",
    "loop": "a: &a [*a]",
    "loop of keys": "train: &a {epochs: *a}",
    "bomb": "a: &a [1, 1, 1]\n" + "".join(f"{key}: &{key} [{f'*{chr(ord(key) - 1)},' * 9}]\n" for key in "bcdefghi"),
    "deep": "[" * 3000,
    "deep keys": "{a: " * 2000 + "1" + "}" * 2000,
    "key": "? [1, 2]\n: 3",
    "number": "1: 2",
    "null": "null: 2",
    "code": "task: !!python/object/apply:os.system ['true']",
    "tag": "task: !mine 3",
    "date": "task: 2020-01-01",
    "twice": "task: a\ntask: b",
    "documents": "---\ntask: a\n---\ntask: b",
    "bytes": "task: !!binary aGVsbG8=",
    "set": "task: !!set {a, b}",
    "zero": "task: \0",
    "merge": "<<: 3",
    "base loop": "base: config.yaml",
    "base folder": "base: .",
    "base list": "base: [1]",
    "base null byte": 'base: "a\\0b"',
    "base long": f"base: {'a' * 5000}",
    "integer": f"seed: {'9' * 5000}",
    "infinite": "train: {epochs: .inf, lr: .nan}",
}


@pytest.mark.parametrize("kind", ODD_CONFIGS)
def test_odd_configurations(tmp_path, kind):
    (tmp_path / "config.yaml").write_text(ODD_CONFIGS[kind])
    assert isinstance(parsed(tmp_path / "config.yaml"), InputError)


@few
@given(st.sampled_from([f"--{s}.{k}" for s, keys in sections.items() for k in keys]), st.text(max_size=12))
def test_command_lines_with_any_values(key, value):
    assert isinstance(parsed(ITS, f"{key}={value}"), (Config, InputError))


RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 17, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def sound_images() -> dict[str, bytes]:
    """Every kind of image that cameras, scanners and programs write."""
    photo = Image.fromarray(PIXELS)
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = PIXELS.astype(np.uint16) * 257
    pages = io.BytesIO()
    tifffile.imwrite(pages, np.stack([PIXELS, PIXELS]), photometric="rgb")
    images = {
        "rgb.png": encoded(photo, "PNG"),
        "rgb.jpg": encoded(photo, "JPEG"),
        "progressive.jpg": encoded(photo, "JPEG", progressive=True),
        "turned.jpg": encoded(photo, "JPEG", exif=turned),
        "turned.png": encoded(photo, "PNG", exif=turned),
        "turned.tif": encoded(photo, "TIFF", exif=turned),
        "turned.webp": encoded(photo, "WEBP", exif=turned),
        "cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG"),
        "grey.jpg": encoded(photo.convert("L"), "JPEG"),
        "lzw.tif": encoded(photo, "TIFF", compression="tiff_lzw"),
        "pages.tif": pages.getvalue(),
        "rgb.bmp": encoded(photo, "BMP"),
        "lossless.webp": encoded(photo, "WEBP", lossless=True),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "deep_grey.png": cv2.imencode(".png", deep[..., 0])[1].tobytes(),
        "deep.tif": cv2.imencode(".tif", deep)[1].tobytes(),
        "pixel.png": encoded(photo.crop((0, 0, 1, 1)), "PNG"),
        "wide.png": encoded(Image.new("RGB", (30_000, 1)), "PNG"),
        "high.jpg": encoded(Image.new("RGB", (2, 30_000)), "JPEG"),
    }
    for mode in ("1", "L", "LA", "P", "RGBA"):
        images[f"{mode}.png"] = encoded(photo.convert(mode), "PNG")
    return images


BYTES = st.integers(0, 255)
STARTS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF", b"GIF89a"]
SOUND = sound_images()


def look(path: Path, whole: bool = False) -> None:
    """Each reader gives an image or an InputError that names the file; of whole files all agree on the size."""
    found = []
    for read in (image_header, read_image, read_photograph):
        try:
            found.append(read(path))
        except InputError as error:
            found.append(error)
    for error in found:
        assert not isinstance(error, InputError) or (str(path) in str(error) and "\n" not in str(error))
    header, image, photograph = (None if isinstance(item, InputError) else item for item in found)
    if image is not None:
        assert image.dtype in (np.uint8, np.uint16)
    if whole:
        assert image.shape == (header.height, header.width, 3)
        assert photograph.colour.shape[:2] == (header.height, header.width)


@pytest.mark.parametrize("name", SOUND)
def test_every_kind_of_image_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(SOUND[name])
    look(tmp_path / name, whole=True)


@settings(few, max_examples=150)
@given(st.sampled_from(sorted(SOUND)), st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), BYTES), max_size=4))
def test_damaged_images(tmp_path, name, length, changes):
    """Cut off anywhere, and with any bytes changed."""
    content = bytearray(SOUND[name])
    for position, value in changes:
        content[int(position * (len(content) - 1))] = value
    (tmp_path / name).write_bytes(content[: int(length * len(content)) or 1] if length < 0.7 else content)
    look(tmp_path / name)


@few
@given(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF", b"GIF89a"]),
)
def test_bytes_that_are_no_image(tmp_path, content, start):
    (tmp_path / "a.png").write_bytes(start + content)
    look(tmp_path / "a.png")


def test_names_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "empty.png").touch()
    for path in [*tmp_path.iterdir(), tmp_path / ("a" * 300 + ".png"), Path("/dev/zero"), Path("/proc/self/mem")]:
        for read in (image_header, read_image, read_photograph):
            with pytest.raises(InputError):
                read(path)


def test_a_image_larger_than_any_memory(tmp_path):
    for name, content in (("bomb.png", SOUND["rgb.png"]), ("bomb.bmp", SOUND["rgb.bmp"])):
        content = bytearray(content)
        if name == "bomb.png":
            content[16:24] = (40_000).to_bytes(4) * 2
            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
        else:
            content[18:26] = (40_000).to_bytes(4, "little") * 2
        (tmp_path / name).write_bytes(content)
        for read in (image_header, read_image, read_photograph):
            with pytest.raises(InputError, match="40000x40000 are more than 500 megapixels"):
                read(tmp_path / name)


NAMES = [
    "with space",
    "übung-\u4e2d\u6587-\U0001f600",
    "-dash",
    "line\nbreak",
    "quote\"'`$(true)",
    "a" * 240,
    os.fsdecode(b"no-\xff\xfe-text"),
    "comma,semi;colon:",
    "tab\tand\\backslash",
    "%s{id}*[a]?",
    "dots..",
    os.fsdecode(b" first-\xff"),
]


@pytest.fixture
def oddly_named(tmp_path):
    """Pairs of images with names that file systems allow."""
    for name in NAMES:
        for side in ("input", "target"):
            write_image(tmp_path / "set" / side / f"{name}.png", np.tile(PIXELS, (6, 4, 1)))
    return tmp_path / "set"


def test_odd_names_are_paired_and_loaded(oddly_named):
    pairs = find_pairs(oddly_named, "plain")
    assert len(pairs) == len(pair_folders(oddly_named / "input", oddly_named / "target")) == len(NAMES)
    sampler = EpochSampler(len(pairs), 4, seed=0)
    names = [name for batch in train_loader(pairs, (64, 64), sampler, 0, 1) for name in batch["name"]]
    assert sorted(names) == sorted(f"input/{name}" for name in NAMES)
    assert [batch["name"] for batch in evaluation_loader(pairs, 1)] == [[pair.name] for pair in pairs]


def test_odd_names_go_through_the_scripts(oddly_named, small_weights, tmp_path):
    (oddly_named / "input" / f"{NAMES[6]}.png").write_bytes(b"broken")
    source = oddly_named / "input"
    folders = ["--input", source, "--target", oddly_named / "target", "--output", tmp_path / "out"]
    result = run_script("test.py", "--weights", small_weights, *folders, "--save-images")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "no-\\udcff\\udcfe-text.png" in result.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["sets"]["input"]
    assert (metrics["images"], list(metrics["failed"])) == (len(NAMES) - 1, [NAMES[6]])
    written = {path.name for path in (tmp_path / "out" / "images" / "input").iterdir()}
    assert written == {f"{name}.png" for name in NAMES if name != NAMES[6]}
    arguments = ["--weights", small_weights, "--input", source, "--output", tmp_path / "restored"]
    result = run_script("restore.py", *arguments)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert {path.name for path in (tmp_path / "restored").iterdir()} == written


def test_odd_names_are_trained_on(oddly_named, tmp_path):
    (oddly_named / "input" / f"{NAMES[6]}.png").write_bytes(SOUND["deep.png"])  # another size, found at the start
    config = tmp_path / "mine.yaml"
    sets = "{train: {folder: ., layout: plain}, test: {mine: {folder: ., layout: plain}}}"
    config.write_text(f"base: {ROOT}/configs/base/recipe.yaml\ntask: mine\ndata: {sets}\n")
    common = ["--config", config, "--data.root", oddly_named, "--output", tmp_path / "run", *TINY, "--train.epochs=2"]
    assert_refused(run_script("train.py", *common), "no-\\udcff", "different size")
    content = bytearray((oddly_named / "target" / f"{NAMES[6]}.png").read_bytes())
    content[60:200] = bytes(140)
    (oddly_named / "input" / f"{NAMES[6]}.png").write_bytes(content)
    result = run_script("train.py", *common)
    assert result.returncode == 0, result.stderr
    assert f"warning: {oddly_named}/input/no-\\udcff\\udcfe-text.png: not a readable image" in result.stderr
    resumed = run_script("train.py", *common, "--resume=auto")
    assert resumed.returncode == 0, resumed.stderr


def test_links_in_the_results_do_not_lead_out(reside, small_weights, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "20_1.png").write_text("mine")
    source = ["--input", reside / "test" / "hazy", "--target", reside / "test" / "gt"]
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "hazy").symlink_to(elsewhere)
    result = run_script("test.py", "--weights", small_weights, *source, "--output", tmp_path / "out", "--save-images")
    assert_refused(result, tmp_path / "out" / "images" / "hazy", "leads out of the output folder")
    assert [(path.name, path.read_text()) for path in elsewhere.iterdir()] == [("20_1.png", "mine")]


@pytest.mark.parametrize(
    "script, output",
    [
        ("train.py", "file/below"),
        ("train.py", "/proc/nowhere"),
        ("test.py", "a" * 300),
        ("restore.py", "/dev/null"),
    ],
)
def test_outputs_that_cannot_be(reside, small_weights, tmp_path, script, output):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / output
    source = ["--weights", small_weights, "--output", path, "--input", reside / "test" / "hazy"]
    source += ["--target", reside / "test" / "gt"] if script == "test.py" else []
    assert_refused(train_tiny(reside, path) if script == "train.py" else run_script(script, *source), path)
    assert (tmp_path / "file").read_text() == "mine"
