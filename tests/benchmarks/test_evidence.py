"""The evidence: its script on photographs in the folders of published sets, and docs/evidence.md."""

import csv
import json
import shutil
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import pytest
import skimage.data
from conftest import ROOT, assert_refused, run_script

from benchmarks.classical import METHODS
from benchmarks.documents import markers
from benchmarks.evidence import COMMAND, OURS
from benchmarks.evidence_report import tables
from data.images import read_image, write_image
from data.synthetic.drawn import DEGRADATIONS
from data.transforms import to_tensor
from evaluation.metrics import PROTOCOLS
from models.weights import load_model, read_model, save_weights

BEGIN, END = markers(COMMAND)
PHOTOGRAPHS = [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.astronaut(), skimage.data.rocket()]


def write_published(root: Path) -> None:
    """SOTS with two levels of haze, Rain100L and Rain100H: of each, images for choosing and for the table."""
    rng = np.random.default_rng(0)
    clean = [cv2.resize(photograph, (80, 64), interpolation=cv2.INTER_AREA) for photograph in PHOTOGRAPHS]

    def degraded(image: np.ndarray, name: str) -> np.ndarray:
        return np.uint8(DEGRADATIONS[name](image / np.float32(255), rng) * 255)

    for number, image in zip((1414, 1415, 1416), clean, strict=False):
        write_image(root / "SOTS-Indoor" / "gt" / f"{number}.png", image)
        for level in (3, 7):
            write_image(root / "SOTS-Indoor" / "hazy" / f"{number}_{level}.png", degraded(image, "haze"))
    for number, image in zip((3, 20, 21, 99), clean, strict=True):
        write_image(root / "Rain100L" / "target" / f"{number}.png", image)
        for name in ("Rain100L", "Rain100H"):
            write_image(root / name / "input" / f"{number}.png", degraded(image, "rain"))


def array_of(file: Path) -> np.ndarray:
    return read_image(file).astype(np.float32) / 255


@pytest.fixture(scope="module")
def evidence(identity_weights, tmp_path_factory):
    """The data, the output folder, its evidence.json and what the script printed; weights for dehazing only."""
    root = tmp_path_factory.mktemp("evidence")
    write_published(root / "data")
    model, options = read_model(identity_weights)
    save_weights(root / "weights" / "dehazing.safetensors", model.state_dict(), options)
    (root / "page.md").write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    arguments = ["--data", root / "data", "--weights", root / "weights", "--limit", 2, "--document", root / "page.md"]
    result = run_script("-m benchmarks.evidence", *arguments, "--output", root / "out")
    assert result.returncode == 0, result.stderr
    return root, json.loads((root / "out" / "evidence.json").read_text()), result


def row(results: dict, name: str, method: str, part: int = 0) -> dict:
    return [row for row in results["rows"] if (row["set"], row["method"]) == (name, method)][part]


def test_every_set_on_disk_has_a_row_for_each_method_and_what_is_missing_is_named(evidence):
    _, results, printed = evidence
    methods = {}
    for entry in results["rows"]:
        methods.setdefault(entry["set"], set()).add(entry["method"])
    prior = METHODS["dehazing"].name
    assert methods["SOTS-Indoor"] == {"input", prior, f"{prior}, published parameters", f"{prior}, patch 7", OURS}
    assert methods["Rain100L"] == methods["Rain100H"] == {"input", "median"}
    assert {name for name in methods if name.startswith("BSDS500")} == {
        "BSDS500, shaken",
        "BSDS500, defocused",
        "BSDS500, with snow",
    }
    assert "skipping GoPro: no GoPro-test-sample/input and" in printed.stdout
    assert "no weights for deraining" in printed.stdout


def test_scores_are_those_of_the_protocol_on_the_part_of_the_table(evidence):
    root, results, _ = evidence
    for name, protocol, files in (
        ("SOTS-Indoor", "dehazing", [("hazy/1415_3", "gt/1415"), ("hazy/1415_7", "gt/1415")]),
        ("Rain100L", "y", [("input/21", "target/21"), ("input/99", "target/99")]),
    ):
        entry = row(results, name, "input")
        pairs = [[to_tensor(read_image(root / "data" / name / f"{file}.png"))[None] for file in pair] for pair in files]
        scores = [PROTOCOLS[protocol](*pair) for pair in pairs]
        assert entry["images"] == 2
        for metric in ("psnr", "ssim"):
            assert entry[metric]["mean"] == pytest.approx(mean(float(score[metric]) for score in scores))
    assert row(results, "SOTS-Indoor", "input")["scenes"] == 1
    assert row(results, "SOTS-Indoor", "input")["psnr"]["interval"] is None
    assert row(results, "Rain100L", "input")["scenes"] == 2
    assert row(results, "Rain100L", "input")["psnr"]["interval"] is None  # two scenes are too few


def test_the_network_is_scored_with_the_weights_of_its_task(evidence):
    root, results, _ = evidence
    ours = row(results, "SOTS-Indoor", OURS)
    assert ours["gain"]["mean"] == pytest.approx(0, abs=1e-4)  # these weights return their input
    assert ours["seconds_per_image"] > 0
    assert ours["memory_bytes"] > 4 * 64 * 80 * 8  # one tensor of features
    weights = results["weights"]["dehazing"]
    assert weights["parameters"] == sum(p.numel() for p in load_model(root / "weights" / weights["file"]).parameters())
    assert len(weights["sha256"]) == 64


def test_parameters_are_chosen_on_images_that_are_not_in_the_table(evidence):
    root, results, _ = evidence
    folder = root / "data" / "Rain100H"
    targets = root / "data" / "Rain100L" / "target"
    pairs = [(array_of(folder / "input" / f"{n}.png"), array_of(targets / f"{n}.png")) for n in (20, 3)]
    restore, parameters = METHODS["deraining"].fit(pairs)
    entry = row(results, "Rain100H", "median")
    assert entry["about"] == parameters
    restored = [
        to_tensor(np.uint8(np.round(restore(array_of(folder / "input" / f"{n}.png")) * 255)))[None] for n in (21, 99)
    ]
    wanted = [
        float(PROTOCOLS["y"](image, to_tensor(read_image(targets / f"{n}.png"))[None])["psnr"])
        for image, n in zip(restored, (21, 99), strict=True)
    ]
    assert entry["psnr"]["mean"] == pytest.approx(mean(wanted), abs=0.02)


def test_per_image_scores_tables_figure_and_document_are_written(evidence):
    root, results, printed = evidence
    with open(root / "out" / "per_image.csv") as file:
        lines = list(csv.DictReader(file))
    of_ours = [line for line in lines if line["set"] == f"SOTS-Indoor, {OURS}"]
    assert of_ours[0]["input_file"] == "SOTS-Indoor/hazy/1414_3.png"
    assert sorted(line["name"] for line in of_ours) == ["1414_3", "1414_7", "1415_3", "1415_7"]
    text = tables(results)
    assert not (root / "out" / "evidence.md").exists()
    assert text in printed.stdout
    assert (root / "page.md").read_text() == f"# Before\n\n{BEGIN}\n\n{text}\n{END}\n\nafter\n"
    assert read_image(root / "out" / "cost.png").shape == (500, 1000, 3)
    assert "The first 2 images" in text


def test_wrong_folders_and_documents_are_refused_before_the_work(evidence, tmp_path):
    root, _, _ = evidence
    arguments = ["--output", tmp_path / "out", "--weights", root / "weights"]
    assert_refused(run_script("-m benchmarks.evidence", "--data", tmp_path, *arguments), "none of the sets found")
    (tmp_path / "page.md").write_text("no place")
    document = ["--document", tmp_path / "page.md"]
    assert_refused(
        run_script("-m benchmarks.evidence", "--data", root / "data", *arguments, *document), "page.md", BEGIN
    )
    shutil.copytree(root / "data", tmp_path / "data")
    broken = tmp_path / "data" / "Rain100L" / "input" / "21.png"
    broken.write_bytes(broken.read_bytes()[:100])
    result = run_script("-m benchmarks.evidence", "--data", tmp_path / "data", *arguments)
    assert_refused(result, "21.png")


def test_the_document_shows_what_its_results_say_and_explains_every_difference():
    results = json.loads((ROOT / "docs" / "evidence" / "evidence.json").read_text())
    document = (ROOT / "docs" / "evidence.md").read_text()
    assert f"{BEGIN}\n\n{tables(results)}\n{END}" in document
    assert results["limit"] is None
    assert "not explained" not in document
    assert f"{row(results, 'Rain100L', 'input', 1)['psnr']['mean']:.3f}" == "26.900"
    assert f"{row(results, 'Rain100H', 'input', 1)['psnr']['mean']:.3f}" == "13.551"
    assert f"{row(results, 'SOTS-Indoor', 'input', 2)['psnr']['mean']:.3f}" == "13.417"
