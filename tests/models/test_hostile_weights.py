"""Weights files made to do harm: each is refused in one short line, without a trace, a hang or gigabytes."""

import json
import warnings
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from conftest import (
    SMALL,
    assert_refused,
    run_script,
    train_tiny,
)

from models import build_model, load_model
from utils.errors import InputError, printable

NAME = "encoder.1.0.conv1.weight"
SHAPE = (16, 16, 3, 3)


WEIGHTS = build_model(**SMALL).state_dict()


def state_dict() -> dict:
    """Sound weights of the network ``SMALL``."""
    return dict(WEIGHTS)


def refused(path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as error:
        load_model(path)
    line = printable(str(error.value))
    assert line.startswith(printable(str(path)))
    assert len(line) - len(str(path)) < 400
    return line


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nested and sparse tensors are announced as experimental
    TENSORS = {
        "a number": 1.5,
        "a boolean": True,
        "text": "text",
        "bytes": b"bytes",
        "nothing": None,
        "a list": [torch.zeros(SHAPE)],
        "a mapping": {"weight": torch.zeros(SHAPE)},
        "no dimension": torch.tensor(1.0),
        "another shape": torch.zeros(16, 16, 3),
        "empty": torch.zeros(0),
        "integers": torch.zeros(SHAPE, dtype=torch.int64),
        "bytes as numbers": torch.zeros(SHAPE, dtype=torch.uint8),
        "booleans": torch.zeros(SHAPE, dtype=torch.bool),
        "complex": torch.zeros(SHAPE, dtype=torch.complex64),
        "float8": torch.zeros(SHAPE).to(torch.float8_e4m3fn),
        "uint16": torch.zeros(SHAPE, dtype=torch.uint16),
        "quantised": torch.quantize_per_tensor(torch.zeros(SHAPE), 0.1, 0, torch.qint8),
        "sparse": torch.zeros(SHAPE).to_sparse(),
        "sparse rows": torch.zeros(16, 16).to_sparse_csr(),
        "meta": torch.zeros(SHAPE, device="meta"),
        "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        "NaN": torch.full(SHAPE, float("nan")),
        "infinite": torch.full(SHAPE, float("inf")),
        "infinite in float32": torch.full(SHAPE, 1e300, dtype=torch.float64),
        "terabytes of one value": torch.zeros(1).expand(10**6, 10**6),
        "terabytes in this shape": torch.zeros(1).expand(16, 16, 10**6, 10**6),
    }


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("section", ["model", "ema"])
def test_anything_in_place_of_a_tensor_is_refused(tmp_path, kind, section):
    states = {"model": state_dict(), "ema": {f"module.{name}": value for name, value in state_dict().items()}}
    states[section]["module." * (section == "ema") + NAME] = TENSORS[kind]
    torch.save({**states, "model_config": SMALL}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt")
    if section == "model":
        torch.save({"params": states[section]}, tmp_path / "w.pth")
        refused(tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.complex64, torch.float8_e5m2, torch.int64])
def test_safetensors_of_another_type_are_refused(tmp_path, dtype):
    weights = {name: value.contiguous() for name, value in state_dict().items()} | {NAME: torch.zeros(SHAPE).to(dtype)}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors", {"model_config": json.dumps(SMALL)})
    refused(tmp_path / "w.safetensors")


def test_statistics_that_cannot_be_are_refused(tmp_path):
    for name, value, words in [
        ("running_var", -1.0, "1 negative"),
        ("running_var", float("nan"), "1 not finite"),
        ("num_batches_tracked", -3, "1 not a count"),
        ("num_batches_tracked", torch.tensor(2.5), "1 not a count"),
        ("num_batches_tracked", torch.tensor(float("nan")), "1 not a count"),
    ]:
        weights = state_dict()
        (key, *_) = (key for key in weights if key.endswith(name))
        weights[key] = value if isinstance(value, torch.Tensor) else torch.full_like(weights[key], value)
        torch.save({"model": weights, "model_config": SMALL}, tmp_path / "w.pt")
        assert f"damaged weights: {words} ({key})" in refused(tmp_path / "w.pt")


KEYS = {
    "a number": 7,
    "a tuple": ("embed", "weight"),
    "nothing": None,
    "bytes": b"embed",
    "another name": "embed.wight",
    "no name": "",
    "terminal escapes": "\x1b[2J\x1b]0;title\x07",
    "lines": "a\nb\rerror: none",
    "a million characters": "a" * 1_000_000,
    "many digits": f"encoder.0.{'9' * 5000}.conv1.weight",
    "many parts": "module." * 100_000,
}


@pytest.mark.parametrize("kind", KEYS)
def test_names_that_are_none_are_refused(tmp_path, kind):
    for weights in (state_dict() | {KEYS[kind]: torch.zeros(1)}, {KEYS[kind]: torch.zeros(1)}):
        torch.save({"model": weights, "model_config": SMALL}, tmp_path / "w.pt")
        refused(tmp_path / "w.pt")
        torch.save({"model": weights}, tmp_path / "w.pkl")
        refused(tmp_path / "w.pkl")


def test_a_released_name_with_thousands_of_digits_is_refused(tmp_path):
    name = f"Encoder.0.layers.{'9' * 5000}.main.0.main.0.weight"
    torch.save(
        {"model": {"feat_extract.0.main.0.weight": torch.zeros(8, 3, 3, 3), name: torch.zeros(1)}}, tmp_path / "w.pkl"
    )
    refused(tmp_path / "w.pkl")
    torch.save(
        {"model": {"feat_extract.0.main.0.weight": torch.zeros(8, 3, 3, 3), "Encoder.0.layers.9999.": torch.zeros(1)}},
        tmp_path / "w.pkl",
    )
    assert "num_blocks must be" in refused(tmp_path / "w.pkl")


OPTIONS = [
    *[{"num_blocks": value} for value in (0, 10**5, 10**9, 10**30, 2.0, float("nan"), True, "4", None, [4], {})],
    *[{"channels": value} for value in (0, 12, 8_000, 10**9, 8.0, float("inf"), "8")],
    *[
        {"pool_sizes": value}
        for value in (3, "842", [10**9], [2**40, 2], list(range(10**5, 0, -1)), [8.0], [[8]], {8: 4})
    ],
    *[{"mean_window": value} for value in (0, -1, 2, float("nan"), "half", [0.5])],
    *[{"local_attention": value} for value in (0, "no", None)],
    *[{"name": value} for value in ("unet", "u" * 10**6, 3, None, [], {}, torch.zeros(2))],
    *[{key: 1} for key in (7, None, "\x1b[2J", "k" * 10**6, "self")],
    *[{"num_blocks": torch.tensor(1)}, {"channels": torch.zeros(10)}],
    *[[], 3, "irnext", None, torch.zeros(1), (("name", "irnext"),)],
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_stored_options_out_of_range_are_refused(tmp_path, options):
    options = SMALL | options if isinstance(options, dict) else options
    torch.save({"model": state_dict(), "model_config": options}, tmp_path / "w.pt")
    assert "model_config" in refused(tmp_path / "w.pt")


NESTED = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize(
    "text",
    [
        NESTED,
        '{"a":' * 9_000 + "1" + "}" * 9_000,
        "[]",
        "3",
        "{",
        "",
        "null",
        '{"num_blocks": 1e999}',
        '{"channels": ' + "9" * 5000 + "}",
    ],
)
def test_safetensors_with_other_options_are_refused(tmp_path, text):
    weights = {name: value.contiguous() for name, value in state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors", {"model_config": text})
    refused(tmp_path / "w.safetensors")


class Hidden(OrderedDict):
    """Pickled as an OrderedDict whose attributes hide its methods."""

    def __reduce__(self):
        attributes = dict.fromkeys(("items", "keys", "values", "get", "copy", "_metadata"), 5)
        return OrderedDict, (), attributes, None, iter(dict.items(self))


@pytest.mark.parametrize("hidden", ["all", "model", "ema", "model_config"])
def test_attributes_that_hide_methods_do_no_harm(tmp_path, hidden):
    average = Hidden({f"module.{name}": value for name, value in WEIGHTS.items()})
    content = Hidden(model=Hidden(WEIGHTS), ema=average, model_config=Hidden(SMALL))
    parts = {key: value if hidden in ("all", key) else dict(dict.items(value)) for key, value in dict.items(content)}
    torch.save(Hidden(parts) if hidden == "all" else parts, tmp_path / "w.pt")
    assert str(load_model(tmp_path / "w.pt")) == str(build_model(**SMALL))


def test_every_script_refuses_hostile_weights_in_one_line(tmp_path, reside):
    path, hazy = tmp_path / "w.pt", reside / "test" / "hazy"
    weights = state_dict() | {NAME: TENSORS["terabytes of one value"], "\x1b[2J" * 1000: torch.zeros(1)}
    torch.save({"model": weights, "model_config": SMALL | {"num_blocks": 10**9}}, path)
    scripts = {
        "restore.py": ("--weights", path, "--input", hazy),
        "test.py": ("--weights", path, "--input", hazy, "--target", hazy),
        "-m inference.export": ("--weights", path, "--format", "onnx"),
    }
    for script, arguments in scripts.items():
        assert_refused(run_script(script, *arguments, "--output", tmp_path / "out.onnx"), path, "num_blocks must be")
    assert_refused(run_script("-m models.convert", path, tmp_path / "out.safetensors"), path, "num_blocks must be")
    refusal = train_tiny(reside, tmp_path / "run", "--init-from", path)
    assert_refused(refusal, path, "weights of another network", "\\x1b[2J")
    assert len(refusal.stderr) < 500
    assert {file.name for file in tmp_path.iterdir()} == {"w.pt", "reside"}
