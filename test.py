"""Score a network: PSNR and SSIM of each test set, beside the input's own.

    python test.py --config configs/dehazing_its.yaml --data.root /data/reside-indoor --weights best.pt --output results
    python test.py --weights best.pt --input hazy/ --target gt/ --protocol dehazing --output results

It scores the test sets of a configuration, or two folders of pictures. Weights trained here say which network they are
of; for the authors' released files the configuration says it, or their names do. OUTPUT gets metrics.json,
per_image.csv and, with --save-images, the restored pictures and comparison.png.
"""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Literal

import torch
from jsonargparse import Namespace
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from data.datasets import evaluation_loader, to_8bit
from data.layouts import check_sizes, find_pairs, pair_folders
from data.pictures import write_picture
from utils.checkpoint import load_model
from utils.config import ScriptParser, config_of
from utils.errors import run_script
from utils.evaluation import Score, score_pictures
from utils.logging import versions
from utils.sheet import comparison_sheet

FOLDER_WORKERS = 4
COMPARED_PER_SET = 4  # rows of comparison.png, evenly spaced over the set


def parse_args() -> Namespace:
    about, _, details = __doc__.split("\n\n")
    usage = "python test.py {--config FILE | --input DIR --target DIR} --weights FILE --output DIR"
    parser = ScriptParser(usage=usage, description=f"{about} {details}")
    folders_only = any(argument.split("=")[0] in ("--input", "--target") for argument in sys.argv)
    if not folders_only:
        parser.add_config()
    parser.add_argument("--weights", type=Path, required=True, help="a checkpoint of this project or the authors'")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--input", type=Path, required=folders_only, help="in place of --config: degraded pictures")
    parser.add_argument("--target", type=Path, required=folders_only, help="folder of their targets, named alike")
    parser.add_argument("--protocol", type=Literal["rgb", "y", "dehazing"], default="rgb", help="how they are scored")
    parser.add_argument(
        "--save-images",
        action="store_true",
        help="write the restored pictures (8-bit PNG) and a sheet that compares some",
    )
    parser.add_argument("--self-ensemble", action="store_true", help="average over the eight flips and quarter turns")
    return parser.parse()


def main() -> None:
    args = parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.input is not None:
        model = load_model(args.weights)
        sets = {args.input.resolve().name: (pair_folders(args.input, args.target), args.protocol)}
        workers = FOLDER_WORKERS
    else:
        config = config_of(args)
        model = load_model(args.weights, asdict(config.model))
        root = Path(config.data.root)
        sets = {
            name: (find_pairs(root / test.folder, test.layout), test.protocol)
            for name, test in config.data.test.items()
        }
        workers = config.data.num_workers
    for pairs, _ in sets.values():
        check_sizes(pairs)
    args.output.mkdir(parents=True, exist_ok=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    gmacs = count_gmacs(model)
    model.to(device)

    results, comparisons = {}, []
    with open(args.output / "per_image.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["set", "protocol", *Score.__dataclass_fields__])
        for name, (pairs, protocol) in sets.items():
            scores = []
            compared_every = -(-len(pairs) // COMPARED_PER_SET)
            scored = score_pictures(model, evaluation_loader(pairs, workers), protocol, device, args.self_ensemble)
            for score, *pictures in tqdm(scored, name, len(pairs), leave=False, disable=None):
                if args.save_images:
                    input, restored, target = (to_8bit(picture[0]) for picture in pictures)
                    write_picture(args.output / "images" / name / f"{score.name}.png", restored)
                    if len(scores) % compared_every == 0:
                        comparisons.append((input, restored, target))
                scores.append(score)
                table.writerow([name, protocol, *asdict(score).values()])
            results[name] = summary(scores, protocol)
    if comparisons:
        write_picture(args.output / "comparison.png", comparison_sheet(comparisons))

    metrics = {
        "sets": results,
        "weights": str(args.weights),
        "self_ensemble": args.self_ensemble,
        "parameters": parameters,
        "gmacs_256x256": round(gmacs, 3),
        "versions": versions(),
    }
    (args.output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(format_table(results))
    print(f"{parameters:,} parameters, {gmacs:.2f} GMACs at 256x256; {versions()['device']}; written to {args.output}")


def summary(scores: list[Score], protocol: str) -> dict:
    """A set's scores, as metrics.json has them: means, and the median time (the first picture's is the warm-up's)."""
    return {
        "images": len(scores),
        "protocol": protocol,
        "input": {"psnr": mean(s.input_psnr for s in scores), "ssim": mean(s.input_ssim for s in scores)},
        "restored": {"psnr": mean(s.psnr for s in scores), "ssim": mean(s.ssim for s in scores)},
        "seconds_per_image": median(s.seconds for s in scores),
    }


def count_gmacs(model: nn.Module) -> float:
    """Billions of multiply-accumulates of the convolutions for one 256x256 picture (the counter counts each twice)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 256, 256))
    return counter.get_total_flops() / 2e9


def format_table(results: dict[str, dict]) -> str:
    """The results as a table of text."""
    header = ["set", "protocol", "images", "input PSNR", "SSIM", "restored PSNR", "SSIM", "s/image"]
    rows = [
        [
            name,
            result["protocol"],
            str(result["images"]),
            f"{result['input']['psnr']:.2f}",
            f"{result['input']['ssim']:.4f}",
            f"{result['restored']['psnr']:.2f}",
            f"{result['restored']['ssim']:.4f}",
            f"{result['seconds_per_image']:.3f}",
        ]
        for name, result in results.items()
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
    )


if __name__ == "__main__":
    run_script(main)
