"""Train and evaluate a small network on every task, compared with a classical method.

    python -m benchmarks.embedded --output results/benchmark
    python -m benchmarks.embedded --output results/benchmark --tasks dehazing deraining

The data are scikit-image's sample photographs, degraded by data.synthetic.benchmark, and the recipes are
configs/benchmark_TASK.yaml. The parameters of the classical methods (benchmarks/classical.py) are tuned on training
images. Writes the table benchmark.md, of each task the test image with the median gain in benchmark.jpg, and one folder
per task to OUTPUT. Tasks that already have results are not run again, and interrupted training resumes. Results of
other code or library versions give a warning, those of another configuration are refused. The exit status is 1 if, on
any task, the network's PSNR does not exceed that of both the input and the classical method.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import csv
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.classical import METHODS, Restore, as_array, as_tensor, classical_method, scores_of
from data.datasets import PairedImages, centre_crop, to_8bit
from data.sets import pairs_of_set
from data.synthetic.benchmark import TASKS, write_benchmark
from data.synthetic.photographs import PHOTOGRAPHS
from evaluation.sheets import CAPTION, HEIGHT, labelled_sheet, region_of_interest
from inference.whole import restore
from models import load_model
from utils.cli import ScriptParser, config_of, number_type
from utils.config import Config
from utils.errors import InputError, run_script
from utils.files import replacing, write_atomically
from utils.text_files import read_text
from utils.versions import git_commit, versions

ROOT = Path(__file__).resolve().parents[1]
ROWS = ("input", "classical", "restored")
REGION = (HEIGHT - CAPTION, 220)  # of an example, in pixels, shown as they are


def main() -> int:
    about, _, details = __doc__.split("\n\n")
    parser = ScriptParser(prog="python -m benchmarks.embedded", description=f"{about} {details}")
    parser.add_argument("--output", type=Path, default=Path("results/benchmark"), help="folder for the results")
    parser.add_argument("--data", type=Path, default=Path("datasets/benchmark"), help="folder for the generated images")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS), help="tasks to run")
    parser.add_argument(
        "--epochs", type=number_type(int, 1, 10**6), help="number of epochs; overrides the configurations"
    )
    args = parser.parse()

    results = {task: run_task(task, args.data, args.output, args.epochs) for task in args.tasks}
    report = f"{table(results)}\n\n{provenance(results)}\n"
    write_atomically(args.output / "benchmark.md", report)
    print(report)
    rows = [np.load(args.output / task / "row.npz") for task in args.tasks]
    captions = ("input", "classical method", "IRNeXt", "original")
    sheet = labelled_sheet(
        [
            [(image, f"{task}: {caption}") for image, caption in zip(row.values(), captions, strict=True)]
            for task, row in zip(args.tasks, rows, strict=True)
        ]
    )
    content = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    write_atomically(args.output / "benchmark.jpg", content.tobytes())
    behind = [task for task, result in results.items() if not is_ahead(result)]
    if behind:
        print(f"PSNR does not exceed both the input's and the classical method's: {', '.join(behind)}", file=sys.stderr)
    return 1 if behind else 0


def run_task(task: str, data: Path, output: Path, epochs: int | None) -> dict:
    """Train and evaluate on one task, or return the stored result of an earlier call.

    Raises:
        InputError: the stored result was made with another configuration.
    """
    folder = output / task
    recipe = ["--config", ROOT / f"configs/benchmark_{task}.yaml", "--data.root", data / task]
    recipe += [] if epochs is None else ["--train.epochs", epochs]
    config = read_config(recipe)
    about = {"configuration": digest(config), "commit": git_commit(), **versions()}
    if (folder / "result.json").exists():
        return stored_result(folder, about)
    start = time.monotonic()
    print(f"\n{task}", flush=True)
    write_benchmark(data, [task])
    run_project_script("train.py", *recipe, "--output", folder, "--resume", "auto")
    weights = folder / "checkpoints" / "best.pt"
    run_project_script("test.py", *recipe, "--weights", weights, "--output", folder)

    method = METHODS[task]
    classical, parameters = method.fit(training_images(config, data / task))
    sets = json.loads(read_text(folder / "metrics.json"))["sets"]
    result = {
        "task": task,
        "images": sum(sets[name]["images"] for name in config.data.test),
        "protocol": ", ".join(sorted({test.protocol for test in config.data.test.values()})),
        "input": average([sets[name]["input"] for name in config.data.test]),
        "classical": average(score_by_set(classical, config, data / task)),
        "restored": average([sets[name]["restored"] for name in config.data.test]),
        "method": method.name,
        "parameters": parameters,
        "made_with": about,
    }
    with replacing(folder / "row.npz") as file:
        np.savez(file, *example_row(classical, weights, config, data / task, folder / "per_image.csv"))
    result["minutes"] = (time.monotonic() - start) / 60
    write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def read_config(recipe: list) -> Config:
    """The configuration of train.py's arguments."""
    parser = ScriptParser()
    parser.add_config()
    return config_of(parser.instantiate(parser.parse_args([str(argument) for argument in recipe])))


def digest(config: Config) -> str:
    """SHA-256 of a configuration, whatever the folder of its data."""
    options = config.to_dict()
    del options["data"]["root"]
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def stored_result(folder: Path, about: Mapping[str, str | None]) -> dict:
    """Read result.json; ``about`` describes the present code. Differences from the stored description are reported.

    Raises:
        InputError: the configuration differs, or the file is damaged.
    """
    path = folder / "result.json"
    advice = f"remove {folder} to run the task again"
    try:
        result = json.loads(read_text(path))
        made_with = dict(result["made_with"])
    except (ValueError, LookupError, TypeError):
        raise InputError(f"{path}: damaged, or of an older version of this benchmark; {advice}") from None
    if made_with.get("configuration") != about["configuration"]:
        raise InputError(f"{path}: made with another configuration or number of epochs; {advice}")
    different = [
        f"{key} {made_with.get(key)} instead of {about.get(key)}"
        for key in about.keys() | made_with.keys()
        if made_with.get(key) != about.get(key)
    ]
    if different:
        print(f"warning: {path}: made with {', '.join(sorted(different))}; {advice}", file=sys.stderr)
    return result


def run_project_script(script: str, *arguments: object) -> None:
    """Run train.py or test.py; exit with its status if it fails."""
    with subprocess.Popen([sys.executable, str(ROOT / script), *map(str, arguments)]) as process:
        status = process.wait()
    if status:
        sys.exit(status if status > 0 else 128 - status)


def training_images(config: Config, root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """One (degraded, target) pair per training photograph: central crops, float32 (H, W, 3) in [0, 1]."""
    pairs = pairs_of_set(root, config.data.train)
    samples = PairedImages(pairs[:: len(pairs) // len(PHOTOGRAPHS["train"])])
    return [tuple(central_crop(as_array(sample[key])) for key in ("input", "target")) for sample in samples]


def central_crop(image: np.ndarray, side: int = 256) -> np.ndarray:
    """(H, W, 3) -> at most (side, side, 3)."""
    return centre_crop(image, *(min(side, length) for length in image.shape[:2]))


def score_by_set(classical: Restore, config: Config, root: Path) -> list[dict[str, float]]:
    """Mean psnr and ssim of the classical method on each test set, by the set's protocol."""
    means = []
    for name, test in config.data.test.items():
        samples = tqdm(PairedImages(pairs_of_set(root, test)), f"classical, {name}", leave=False, disable=None)
        scores = list(scores_of(classical_method(classical), torch.device("cpu"), samples, test.protocol))
        means.append({key: mean(score.restored[key] for score in scores) for key in ("psnr", "ssim")})
    return means


def example_row(classical: Restore, weights: Path, config: Config, root: Path, scores: Path) -> list[np.ndarray]:
    """Input, classical result, restored and target of the test image with the median gain, uint8 (h, w, 3).

    Shown is the region where the input differs most from the target. ``scores`` is test.py's per_image.csv.
    """
    name, test = next(iter(config.data.test.items()))
    with open(scores, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == name]
    ranked = sorted(rows, key=lambda row: float(row["psnr"]) - float(row["input_psnr"]))
    shown = ranked[len(ranked) // 2]["name"]
    (sample,) = PairedImages([pair for pair in pairs_of_set(root, test) if pair.name == shown])
    baseline = as_tensor(classical(as_array(sample["input"])))
    restored = restore(load_model(weights), sample["input"][None])[0]
    rows, columns = region_of_interest(sample["input"], sample["target"], *REGION)
    images = (sample["input"], baseline, restored, sample["target"])
    return [to_8bit(image[:, rows, columns]) for image in images]


def average(scores: list[dict[str, float]]) -> dict[str, float]:
    """Mean psnr and ssim over sets."""
    return {key: mean(score[key] for score in scores) for key in ("psnr", "ssim")}


def is_ahead(result: dict) -> bool:
    """Whether the network's PSNR exceeds that of both the input and the classical method; False if any is NaN."""
    return all(result["restored"]["psnr"] > result[row]["psnr"] for row in ("input", "classical"))


def table(results: dict[str, dict]) -> str:
    """Markdown table with one row per task: PSNR in dB / SSIM."""
    lines = [("task", "images", "protocol", "input", "classical method", "IRNeXt")]
    for task, result in results.items():
        scores = [f"{result[row]['psnr']:.2f} / {result[row]['ssim']:.4f}" for row in ROWS]
        scores[1] = f"{scores[1]} ({result['method']})"
        lines.append((task, str(result["images"]), result["protocol"], *scores))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def provenance(results: dict[str, dict]) -> str:
    """The table's caption: metrics, total time, and what the results were made with."""
    minutes = sum(result["minutes"] for result in results.values())

    def all_of(key: str) -> str:
        return " and ".join(sorted({result["made_with"].get(key) or "unknown" for result in results.values()}))

    return (
        f"PSNR in dB / SSIM on photographs not used for training. {minutes:.1f} minutes in total on "
        f"{all_of('device')} with torch {all_of('torch')}, commit {all_of('commit')}."
    )


if __name__ == "__main__":
    run_script(main)
