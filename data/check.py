"""Look at every image of a configuration's sets before a run meets it.

    python -m data.check --config configs/dehazing_its.yaml --data.root /data/reside-indoor

It reports counts, sizes, unpaired, unreadable, cut-off, differently sized and non-RGB images, and test targets that
are in the training set too. That reads headers, ten thousand in seconds; --decode decodes every image, which finds
damage inside and targets that are the same image in another file. Exit status 2 if anything would stop or spoil a
run.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from data.images import Header
from data.layouts import Pair
from data.sets import pairs_of_set, resolve_folder
from data.survey import appearances_of, headers_of, problems_of, shared_targets
from utils.cli import ScriptParser, config_of
from utils.config import Config, SetConfig, TestSetConfig
from utils.errors import InputError, listed, run_script

NOT_RGB = {"L": "grey", "P": "palette", "RGBA": "with alpha", "LA": "grey with alpha", "1": "black and white"}


def main() -> None:
    about, _, details = __doc__.split("\n\n")
    parser = ScriptParser(prog="python -m data.check", description=f"{about} {details}")
    parser.add_config()
    parser.add_argument("--decode", action="store_true", help="decode every image, on all cores")
    args = parser.parse()
    if problems := check(config_of(args), args.decode):
        raise InputError(listed(problems, "problem(s)", show=1) + " (all are listed above)")
    print("nothing that would stop or spoil a run")


def check(config: Config, decode: bool) -> list[str]:
    """Print what there is in each set; returns what would stop or spoil a run."""
    root = Path(config.data.root)
    training: list[Pair] = []
    appearances = {}
    problems = []
    for title, part in sets_of(config):
        if isinstance(part, TestSetConfig) and part.optional and resolve_folder(root, part.folders) is None:
            print(f"{title}: not there, which is allowed")
            continue
        try:
            pairs = pairs_of_set(root, part)
        except InputError as error:
            found = [str(error)]
            print(f"{title}:")
        else:
            headers = headers_of(pairs, title)
            if decode:
                looks = appearances_of(pairs, title)
                headers |= {path: look for path, look in looks.items() if isinstance(look, InputError)}
                appearances |= looks
            found = problems_of(pairs, headers)
            print(f"{title}: {len(pairs):,} pairs, {len({pair.target for pair in pairs}):,} targets")
            for line in notes(headers.values(), config.data.crop if title == "train" else None):
                print(f"    {line}")
            if title == "train":
                training = pairs
            else:
                shared = [f"{test} is {twin}" for test, twin in shared_targets(training, pairs, appearances)]
                line = listed(shared, "test target(s) in the training set too", show=3) if shared else ""
                if part.shares_scenes:
                    print(f"    the published split has scenes in training and test; found here: {line or 'none'}")
                elif shared:
                    found.append(line)
        for line in found:
            print(f"    problem: {line}")
        problems += [f"{title}: {line}" for line in found]
    return problems


def sets_of(config: Config) -> list[tuple[str, SetConfig]]:
    """The training set, then the validation and test sets, with a title each."""
    sets = [("train", config.data.train)]
    for kind, parts in (("validation", config.data.validation or {}), ("test", config.data.test)):
        sets += [(f"{kind} {name}", part) for name, part in parts.items()]
    return sets


def notes(headers: Iterable[Header | InputError], crop: tuple[int, int] | None) -> list[str]:
    """Sizes and kinds of the images, and how many are smaller than the training crop."""
    headers = [header for header in headers if isinstance(header, Header)]
    if not headers:
        return []
    sizes = Counter(f"{header.width}x{header.height}" for header in headers)
    common = ", ".join(f"{size} ({count:,})" for size, count in sizes.most_common(3))
    lines = [f"sizes: {common}" + (f" and {len(sizes) - 3} others" if len(sizes) > 3 else "")]
    kinds = Counter(NOT_RGB.get(header.mode, header.mode) for header in headers if header.mode != "RGB")
    if kinds:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        lines.append(f"not RGB: {counts}; they are read as RGB, without alpha")
    small = sum(header.height < crop[0] or header.width < crop[1] for header in headers) if crop else 0
    if small:
        lines.append(f"smaller than the crop of {crop[0]}x{crop[1]}: {small:,}; they are extended by reflection")
    return lines


if __name__ == "__main__":
    run_script(main)
