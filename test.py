"""Score a network: PSNR and SSIM of each test set, beside the input's own.

    python test.py --config configs/dehazing_its.yaml --data.root /data/reside-indoor --weights best.pt --output results
    python test.py --weights best.pt --input hazy/ --target gt/ --protocol dehazing --output results

It scores the test sets of a configuration, or two folders of pictures. Weights trained here say which network they are
of; for the authors' released files the configuration says it, or their names do. OUTPUT gets metrics.json,
per_image.csv, the table as table.md, .tex and .csv and, with --save-images, the restored pictures and comparison.png.
A picture that cannot be read is named on stderr and in metrics.json, the rest is scored, and the exit status is 2.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_type_hints

import torch
from jsonargparse import Namespace
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from data.datasets import evaluation_loader, to_8bit
from data.folders import check_inside
from data.layouts import pair_folders
from data.pictures import write_picture
from data.sets import pairs_of_sets, subset_positions
from utils.checkpoint import load_model
from utils.compiling import compiled_for_common_sizes
from utils.config import ScriptParser, TestSetConfig, config_of
from utils.distributed import join_group, leave_group, progress_bar
from utils.errors import InputError, run_script
from utils.evaluation import Failure, Score, report_failures, score_pictures, scored_and_failed
from utils.files import write_whole
from utils.logging import versions
from utils.perceptual import load_lpips
from utils.precision import Precision, supported
from utils.results import average, has_score, results_of, write_scores, write_tables
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
    protocols = get_type_hints(TestSetConfig)["protocol"]
    parser.add_argument("--protocol", type=protocols, default="rgb", help="how they are scored")
    parser.add_argument("--lpips", action="store_true", help="score LPIPS (AlexNet) as well; needs torchmetrics")
    parser.add_argument(
        "--save-images",
        action="store_true",
        help="write the restored pictures (8-bit PNG) and a sheet that compares some",
    )
    parser.add_argument("--self-ensemble", action="store_true", help="average over the eight flips and quarter turns")
    parser.add_argument("--precision", type=Precision, default="float32", help="arithmetic of the network")
    parser.add_argument("--compile", action="store_true", help="compile the network for the sizes that come often")
    return parser.parse()


def main() -> int:
    args = parse_args()
    group = join_group()
    if args.input is not None:
        model = load_model(args.weights)
        name = args.input.resolve().name
        parts = {name: TestSetConfig(folder=str(args.input), protocol=args.protocol)}
        pairs = {name: pair_folders(args.input, args.target)}
        subsets, workers, averaged = {}, FOLDER_WORKERS, False
    else:
        config = config_of(args)
        model = load_model(args.weights, asdict(config.model))
        parts, root = config.data.test, config.data.root
        pairs = pairs_of_sets(root, parts)
        subsets = {name: subset_positions(root, parts[name], len(of_set)) for name, of_set in pairs.items()}
        workers, averaged = config.data.num_workers, config.data.test_average
    restored_files = {
        (name, pair.name): args.output / "images" / name / f"{pair.name}.png"
        for name, of_set in pairs.items()
        for pair in of_set
        if args.save_images
    }
    for path in restored_files.values():
        check_inside(path, args.output)
    lpips = load_lpips(group.device) if args.lpips else None
    args.output.mkdir(parents=True, exist_ok=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    gmacs = count_gmacs(model)
    model.to(group.device)
    precision = supported(args.precision, group.device)
    network = compiled_for_common_sizes(model) if args.compile else model

    protocols = {name: part.protocol for name, part in parts.items()}
    results: dict[str, list[Score | Failure]] = {}
    comparisons = []
    for name, of_set in pairs.items():
        own = []
        share = of_set[group.rank :: group.size]
        compared_every = -(-len(share) // COMPARED_PER_SET)
        loader = evaluation_loader(share, workers)
        options = {"self_ensemble": args.self_ensemble, "precision": precision, "network": network}
        scored = score_pictures(model, loader, parts[name].protocol, group.device, lpips, **options)
        for result, *pictures in progress_bar(group, scored, desc=name, total=len(share), leave=False):
            if args.save_images and isinstance(result, Score):
                input, restored, target = (to_8bit(picture[0]) for picture in pictures)
                write_picture(restored_files[name, result.name], restored)
                if len(own) % compared_every == 0:
                    comparisons.append((input, restored, target))
            own.append(result)
        results[name] = group.gather(own)
        if group.is_main:
            report_failures(scored_and_failed(results[name])[1])
            write_scores(args.output / "per_image.csv", results, protocols)
    leave_group()
    if not group.is_main:
        return 0
    if comparisons:
        write_picture(args.output / "comparison.png", comparison_sheet(comparisons))

    unscored = [name for name, of_set in results.items() if not has_score(of_set)]
    for name in unscored:
        print(f"error: {name}: none of its {len(results[name])} pictures could be scored", file=sys.stderr)
    if len(unscored) == len(results):
        raise InputError(f"{args.output}: nothing could be scored")
    sets = {
        name: results_of(of_set, parts[name], subsets.get(name, {}))
        for name, of_set in results.items()
        if name not in unscored
    }
    metrics = {
        "sets": sets,
        **({"average": average(sets)} if averaged and not unscored else {}),
        "weights": str(args.weights),
        "self_ensemble": args.self_ensemble,
        "precision": precision,
        "parameters": parameters,
        "gmacs_256x256": round(gmacs, 3),
        "versions": versions(),
    }
    write_whole(args.output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    print(write_tables(args.output, metrics))
    print(f"{parameters:,} parameters, {gmacs:.2f} GMACs at 256x256; {versions()['device']}; written to {args.output}")
    return 2 if unscored or any(of_set["failed"] for of_set in sets.values()) else 0


def count_gmacs(model: nn.Module) -> float:
    """Billions of multiply-accumulates of the convolutions for one 256x256 picture (the counter counts each twice)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 256, 256))
    return counter.get_total_flops() / 2e9


if __name__ == "__main__":
    run_script(main)
