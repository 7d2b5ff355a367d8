"""Restore your own images and videos; no targets are needed.

    python restore.py --task dehazing --input photo.jpg --output restored/
    python restore.py --weights best.pt --input photos/ --output restored/
    python restore.py --weights best.pt --input 'holiday/*.jpg' clip.mp4 --output restored/ --compare

--task selects one of the small networks that come with this project (weights/README.md), --weights any other. INPUT is
any number of files, folders (searched recursively) and glob patterns. Each result is written to OUTPUT under the same
name and subfolder: images in the same format and bit depth, videos as H.264. Existing results are skipped, and a video
continues where it was stopped, so a job that was stopped continues when started again; if results were made with other
weights or options, as OUTPUT/.irnext.jsonl records, nothing is done and the exit status is 2. Images may have any size.
Files that cannot be read are reported on stderr and skipped; the exit status is then 2.
"""

from utils.signals import STOPPED, end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from inference.command_line import parse_args
    from utils.errors import or_exit

    args = or_exit(parse_args, __doc__)

import sys

from jsonargparse import Namespace

from data.decoding.quiet import own_stderr
from evaluation.photographs import SCORES_FILE, Scoring
from inference.folders import Found, Job, check_comparisons, find_jobs
from inference.manifest import NAME, Manifest, settings_of
from inference.restorer import Restorer
from inference.session import Options, Session
from inference.unread import lines_about
from inference.video_reading import SUFFIXES
from utils.errors import listed, printable, run_script
from utils.output import claimed


def main(args: Namespace) -> int:
    found = find_jobs(args.input, args.output, videos=SUFFIXES)
    if args.compare:
        check_comparisons(found.jobs, args.output)
    with claimed(args.output, "restore.py", [args.output / NAME, args.output / SCORES_FILE]), own_stderr():
        return restore(args, found)


def restore(args: Namespace, found: Found) -> int:
    """Restore what was found and return the exit status."""
    jobs = found.jobs
    restorer = Restorer(args.weights, precision=args.precision)
    manifest = Manifest(args.output, settings_of(args.weights, restorer.precision, args.self_ensemble), args.crf)
    if args.compare:
        manifest.check_comparisons(jobs)
    pending = jobs if args.overwrite else unfinished_jobs(jobs, manifest, args.compare)
    options = Options(
        compare=args.compare,
        overwrite=args.overwrite,
        self_ensemble=args.self_ensemble,
        tile=args.tile,
        max_megapixels=args.max_megapixels,
        accept_truncated=args.accept_truncated,
        crf=args.crf,
    )
    for line in lines_about(found.unread):
        print(f"note: {printable(line)}", file=sys.stderr)
    session = Session(restorer, options, manifest, pending)
    finished = session.run()
    scoring = Scoring(manifest, options, session.stop) if args.score else None
    if not finished or (scoring and not scoring.run(jobs)):
        print(printable(f"stopped; run the same command again to continue {args.output}"))
        return STOPPED

    skipped = len(jobs) - session.restored - session.failed
    counts = f"{session.restored} restored, {skipped} skipped, {session.failed} failed"
    added = f", {session.compared} missing comparison(s) added" if session.compared else ""
    print(printable(f"{counts}{added}{passed_over(found)}; written to {args.output}"))
    return 2 if session.failed or (scoring and scoring.failed) else 0


def passed_over(found: Found) -> str:
    """How many files there are besides those to restore; empty if there are none."""
    counts = {"image(s) or video(s)": len(found.unread), "other file(s)": len(found.others)}
    texts = [f"{count} {what.replace('(s)', '' if count == 1 else 's')}" for what, count in counts.items() if count]
    return f"; not read: {', '.join(texts)}" if texts else ""


def unfinished_jobs(jobs: list[Job], manifest: Manifest, compare: bool) -> list[Job]:
    """The jobs without a result or, if there is to be one, without a comparison.

    Raises:
        InputError: a result exists that was made with other weights or options.
    """
    unlisted = manifest.check(job.output for job in jobs if job.output.exists())
    if unlisted:
        skipped = listed([str(path) for path in unlisted], "existing file(s)", show=3)
        note = f"skipping {skipped}; made with unknown weights and options (--overwrite replaces them)"
        print(f"note: {printable(note)}", file=sys.stderr)
    return [job for job in jobs if not job.output.exists() or (compare and not job.comparison.exists())]


if __name__ == "__main__":
    run_script(main, args)
