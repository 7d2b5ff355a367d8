"""What the documentation names is there."""

import ast
import re
import shutil
import subprocess
import sys

import torch
from conftest import ROOT
from torch import Tensor, nn

from models import IRNeXt


def test_every_test_of_the_table_exists():
    text = (ROOT / "docs" / "reliability.md").read_text()
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", text)
    assert len(named) > 35
    for file, test in named:
        functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")]
        assert test in functions, f"{file}::{test}"


def test_the_figure_is_what_its_script_draws(tmp_path):
    script = shutil.copy(ROOT / "docs" / "architecture.py", tmp_path)
    subprocess.run([sys.executable, script], check=True)
    assert (tmp_path / "architecture.svg").read_bytes() == (ROOT / "docs" / "architecture.svg").read_bytes()


def test_the_figure_has_the_names_and_sizes_of_the_network():
    model = IRNeXt(num_blocks=1)
    inputs, outputs = {}, {}
    for module in model.modules():
        module.register_forward_hook(lambda module, arguments, output: note_sizes(module, arguments[0], output))

    def note_sizes(module: nn.Module, input: Tensor, output: Tensor | list[Tensor]) -> None:
        inputs[module] = {size_of(input)}
        outputs[module] = {size_of(output)} if isinstance(output, Tensor) else set(map(size_of, output))

    with torch.inference_mode():
        model(torch.rand(1, 3, 256, 256))

    texts = re.findall(r">([^<>]+)</t(?:ext|span)>", (ROOT / "docs" / "architecture.svg").read_text())
    sizes = {text for text in texts if re.fullmatch(r"\d+×\d+×\d+", text)}
    assert len(sizes) > 10
    assert sizes <= set().union(*inputs.values(), *outputs.values())

    multi_scale = model.encoder[0][-1].between
    boxes = [box for box in zip(texts, texts[1:], texts[2:], strict=False) if re.fullmatch(r"\w+\[\d\]", box[0])]
    assert len(boxes) > 20
    for label, kind, size in boxes:
        name, index = label.rstrip("]").split("[")
        module = getattr(multi_scale if hasattr(multi_scale, name) else model, name)[int(index)]
        if kind[0].isupper():
            assert (type(module).__name__, outputs[module]) == (kind, {size}), label


def size_of(x: Tensor) -> str:
    return "×".join(map(str, x.shape[1:]))
