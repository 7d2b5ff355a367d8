"""Check every image of a configuration's data sets before training.

    python -m data.check --config configs/dehazing_its.yaml --data.root /data/reside-indoor

Reports the number and sizes of the images, images that are unpaired, unreadable, truncated or not RGB, pairs of
different size, and test targets that also occur in the training set. By default only headers are read, ten thousand
in seconds. --decode decodes every image, which also finds corrupt pixel data and duplicate targets stored in different
files. The exit status is 2 if a problem was found.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from utils.cli import ScriptParser
    from utils.errors import or_exit

    parser = ScriptParser(prog="python -m data.check", doc=__doc__)
    parser.add_config()
    parser.add_argument("--decode", action="store_true", help="decode every image, using all cores")
    args = or_exit(parser.parse)

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from jsonargparse import Namespace

from data.images import Header
from data.layouts import Pair
from data.sets import pairs_of_set, resolve_folder
from data.survey import find_problems, image_hashes, read_headers, shared_targets
from utils.cli import config_of
from utils.config import Config, MixedSetConfig, SetConfig, TestSetConfig, both_sides
from utils.errors import InputError, listed, printable, run_script

# Pillow's modes other than RGB, in words.
MODE_NAMES = {"L": "greyscale", "P": "palette", "RGBA": "RGBA", "LA": "greyscale with alpha", "1": "bilevel"}


def main(args: Namespace) -> None:
    if problems := check(config_of(args), args.decode):
        raise InputError(listed(problems, "problem(s)", show=1) + " (all are listed above)")
    print("no problems found")


def check(config: Config, decode: bool) -> list[str]:
    """Print a summary of each set and return the problems found, one line each."""
    root = Path(config.data.root)
    crop = tuple(map(max, zip(*(both_sides(stage.crop_size) for stage in config.stages()), strict=True)))
    training: list[Pair] = []
    hashes = {}
    problems = []
    for title, part in sets_of(config):
        if isinstance(part, TestSetConfig) and part.optional and resolve_folder(root, part.folders) is None:
            print(printable(f"{title}: optional, skipped (folder not found)"))
            continue
        try:
            pairs = pairs_of_set(root, part)
        except InputError as error:
            found = [str(error)]
            print(printable(f"{title}:"))
        else:
            headers = read_headers(pairs, title)
            if decode:
                set_hashes = image_hashes(pairs, title)
                headers |= {path: value for path, value in set_hashes.items() if isinstance(value, InputError)}
                hashes |= set_hashes
            found = find_problems(pairs, headers)
            targets = len({pair.target for pair in pairs})
            print(printable(f"{title}: {len(pairs):,} pairs, {targets:,} targets"))
            for line in describe(headers.values(), crop if isinstance(part, MixedSetConfig) else None):
                print(f"    {line}")
            if isinstance(part, MixedSetConfig):
                training += pairs
            else:
                shared = [f"{test} is a duplicate of {twin}" for test, twin in shared_targets(training, pairs, hashes)]
                line = listed(shared, "test target(s) also in the training set", show=3) if shared else ""
                if part.shares_scenes:
                    found_here = printable(line) or "none"
                    print(f"    the published training and test splits share scenes; found here: {found_here}")
                elif shared:
                    found.append(line)
        for line in found:
            print(f"    problem: {printable(line)}")
        problems += [f"{title}: {line}" for line in found]
    return problems


def sets_of(config: Config) -> list[tuple[str, SetConfig]]:
    """(title, set) of the training sets, then the validation sets, then the test sets."""
    several = len(config.data.train.parts) > 1
    sets: list[tuple[str, SetConfig]] = [
        (f"train[{number}]" if several else "train", part) for number, part in enumerate(config.data.train.parts)
    ]
    for kind, parts in (("validation", config.data.validation or {}), ("test", config.data.test)):
        sets += [(f"{kind} {name}", part) for name, part in parts.items()]
    return sets


def describe(headers: Iterable[Header | InputError], crop: tuple[int, int] | None) -> list[str]:
    """One line each: common sizes, images that are not RGB, images smaller than the training crop."""
    headers = [header for header in headers if isinstance(header, Header)]
    if not headers:
        return []
    sizes = Counter(f"{header.width}x{header.height}" for header in headers)
    common = ", ".join(f"{size} ({count:,})" for size, count in sizes.most_common(3))
    lines = [f"sizes: {common}" + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")]
    kinds = Counter(MODE_NAMES.get(header.mode, header.mode) for header in headers if header.mode != "RGB")
    if kinds:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        lines.append(f"not RGB: {counts}; converted to RGB when read, alpha is dropped")
    small = sum(header.height < crop[0] or header.width < crop[1] for header in headers) if crop else 0
    if small:
        lines.append(f"smaller than the crop of {crop[0]}x{crop[1]}: {small:,}; padded by reflection")
    return lines


if __name__ == "__main__":
    run_script(main, args)
