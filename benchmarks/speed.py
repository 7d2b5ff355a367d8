"""Time and memory of the network, compared with its textbook formulation and the machine's peak throughput.

    python -m benchmarks.speed                    # forward pass and training step, 4 blocks
    python -m benchmarks.speed --compile true     # adds compiled networks; on the CPU, minutes per row
    python -m benchmarks.speed --num_blocks 4 14 16 --rounds 5

Rows of a table are timed in an interleaved fashion, so that changes in clock speed or load affect them equally;
figures are medians. The limit is the time in which the machine would perform the network's floating-point operations
at the throughput of a large matrix product of the same precision, timed in the same rounds. Memory is the peak of live
tensors excluding weights, measured by the allocator on CUDA and by utils.live_bytes on the CPU.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import copy
import json
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.textbook import TextbookIRNeXt
from evaluation.scoring import Stopwatch
from evaluation.tables import as_markdown
from losses import MultiScaleLoss
from models import build_model
from training.step import TrainingStep
from utils.cli import ScriptParser, number_type
from utils.compiling import compiled
from utils.errors import run_script
from utils.files import write_atomically
from utils.live_bytes import LiveBytes
from utils.memory_format import memory_format
from utils.precision import Precision, autocast

Workload = Callable[[], object]
MATRIX_SIDE = {"cuda": 8192, "cpu": 3000}  # of the matrix product that determines the limit
COPY_BYTES = 2**28
TEXTBOOK = "textbook, float32"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = ScriptParser(prog="python -m benchmarks.speed", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--num_blocks", type=number_type(int, 1, 256), nargs="+", default=[4], help="residual blocks per CNNBlock"
    )
    parser.add_argument("--channels", type=number_type(int, 8, 256), default=32, help="width of the network")
    parser.add_argument(
        "--side", type=number_type(int, 64, 8192), default=256, help="side of the images; on CUDA, for training only"
    )
    parser.add_argument("--compile", type=bool, default=torch.cuda.is_available(), help="also time compiled networks")
    parser.add_argument("--rounds", type=number_type(int, 1, 10_000), default=7, help="number of timings per row")
    parser.add_argument("--precisions", nargs="+", choices=tuple(DTYPES), default=list(DTYPES), help="of our network")
    parser.add_argument(
        "--matrix", type=number_type(int, 1, 2**16), help="side of the matrices for the limit (8192 on CUDA, else 3000)"
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    args = parser.parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for the limit as well; convolutions use it by default
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    if device.type == "cpu":
        print(f"CPU capability {torch.backends.cpu.get_cpu_capability()}")
    formats = (f"{kind}: {memory_format(device, kind == 'training')}" for kind in ("forward", "training"))
    print(f"memory format of our network: {', '.join(formats)}\n")
    print(f"copy bandwidth: {copy_bandwidth(device, args.rounds) / 1e9:.0f} GB/s (read + write)\n")
    side = args.side
    forwards, steps = (1, side, side), [(2, side, side)]
    if device.type == "cuda":
        forwards, steps = (1, 736, 1280), [(4, side, side), (16, side, side)]  # 720p, padded to a multiple of 32
    rows = []
    for blocks in args.num_blocks:
        model = with_random_attention(build_model(num_blocks=blocks, channels=args.channels)).to(device)
        for kind, (batch, height, width) in [("forward", forwards), *(("training step", shape) for shape in steps)]:
            x = torch.rand(batch, 3, height, width, device=device)
            torch.compiler.reset()  # otherwise, after eight networks, further ones silently run uncompiled
            workloads = build_workloads(model, kind == "training step", x, args.precisions, args.compile)
            measured = measure(workloads, args.precisions, device, args.rounds, args.matrix or MATRIX_SIDE[device.type])
            print(f"### {blocks} blocks, {kind}, {batch} x {height} x {width}\n")
            print(table(measured), "\n")
            rows += [{"blocks": blocks, "kind": kind, "batch": batch, **row} for row in measured]
    if args.json is not None:
        write_atomically(args.json, json.dumps(rows, indent=2) + "\n")


def with_random_attention(model: nn.Module) -> nn.Module:
    """Randomise the attention weights, which are initialised to identity, so that attention has an effect."""
    for name, parameter in model.named_parameters():
        if name.endswith(("modulation", "filtered_weight", "identity_weight")):
            nn.init.normal_(parameter, std=0.3)
    return model


def build_workloads(
    model: nn.Module, training: bool, x: Tensor, precisions: Sequence[Precision], compiling: bool
) -> dict[str, Workload]:
    """The workload of each row, training steps or forward passes. Every network has its own copy of the weights."""
    rows = {TEXTBOOK: build_workload(TextbookIRNeXt(model), training, "float32", x)}
    for precision in precisions:
        rows[f"ours, {precision}"] = build_workload(copy.deepcopy(model), training, precision, x)
        if compiling:
            rows[f"ours, {precision}, compiled"] = build_workload(
                copy.deepcopy(model), training, precision, x, compiling
            )
    return rows


def build_workload(
    model: nn.Module, training: bool, precision: Precision, x: Tensor, compiling: bool = False
) -> Workload:
    """One training step as in train.py, or one forward pass as in test.py."""
    model.train(training).to(memory_format=memory_format(x.device, training))
    network = compiled(model, frozen=not training) if compiling else model
    if training:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
        step = TrainingStep(model, MultiScaleLoss(), optimizer, 0.001, precision=precision, network=network)
        batch = {"input": x, "target": torch.rand_like(x)}
        return lambda: step(batch)

    def forward() -> None:
        with torch.inference_mode(), autocast(precision, x.device):
            network(x)

    return forward


def measure(
    rows: dict[str, Workload], precisions: Sequence[Precision], device: torch.device, rounds: int, side: int
) -> list[dict]:
    """Time (ms), speedup over the textbook, fraction of the limit and memory (bytes; None if unknown) of each row.

    The last rows are the limits, from the product of two matrices of ``side`` x ``side``.
    """
    flops = FlopCounterMode(display=False)
    with flops:
        rows[TEXTBOOK]()
    products = {}
    for precision in dict.fromkeys(("float32", *precisions)):
        a = torch.rand(side, side, device=device).to(DTYPES[precision])
        products[precision] = lambda a=a: a @ a
    seconds = median_seconds(rows | products, device, rounds)
    throughput = {precision: 2 * side**3 / seconds[precision] for precision in products}  # FLOP/s
    limits = {precision: flops.get_total_flops() / throughput[precision] for precision in products}
    bytes_used = {name: peak_bytes(work, device) for name, work in rows.items() if is_memory_known(name, device)}
    measured = []
    for name in rows:
        limit = next(limits[precision] for precision in products if precision in name)
        memory = bytes_used.get(name)
        measured.append(_row(name, seconds[name], seconds[TEXTBOOK], limit, memory, bytes_used[TEXTBOOK]))
    for precision, limit in limits.items():
        name = f"limit, {precision} ({throughput[precision] / 1e9:.0f} GFLOP/s)"
        measured.append(_row(name, limit, seconds[TEXTBOOK], limit, None, bytes_used[TEXTBOOK]))
    return measured


def _row(name: str, seconds: float, textbook: float, limit: float, memory: int | None, textbook_memory: int) -> dict:
    return {
        "network": name,
        "ms": seconds * 1000,
        "times_faster": textbook / seconds,
        "of_limit": limit / seconds,
        "memory_bytes": memory,
        "memory_of_textbook": None if memory is None else memory / textbook_memory,
    }


def table(measured: list[dict]) -> str:
    """The rows of ``measure`` as a Markdown table."""
    cells = []
    for row in measured:
        memory = ["", ""]
        if row["memory_bytes"] is not None:
            memory = [f"{row['memory_bytes'] / 2**20:.0f}", f"{row['memory_of_textbook']:.2f}"]
        times = [f"{row['ms']:.1f}", f"{row['times_faster']:.2f}", f"{row['of_limit']:.0%}"]
        cells.append([row["network"], *times, *memory])
    heading = ["network", "ms", "speedup", "of limit", "memory, MiB", "of textbook"]
    return as_markdown(heading, cells)


def median_seconds(workloads: dict[str, Workload], device: torch.device, rounds: int) -> dict[str, float]:
    """Median time of each workload, interleaved, after two warm-up runs of each."""
    for _ in range(2):
        for work in workloads.values():
            work()
    samples: dict[str, list[float]] = {name: [] for name in workloads}
    for _ in range(rounds):
        for name, work in workloads.items():
            watch = Stopwatch(device)
            work()
            watch.stop()
            samples[name].append(watch.seconds())
    return {name: statistics.median(times) for name, times in samples.items()}


def is_memory_known(name: str, device: torch.device) -> bool:
    """Whether a row's memory can be measured; on the CPU, tensors inside a compiled graph are not visible."""
    return device.type == "cuda" or "compiled" not in name


def peak_bytes(work: Workload, device: torch.device) -> int:
    """Peak bytes of tensors during ``work``, excluding those allocated before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    with LiveBytes() as live:
        work()
    return live.peak


def copy_bandwidth(device: torch.device, rounds: int) -> float:
    """Bytes per second read and written when copying a large tensor."""
    source = torch.rand(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / median_seconds({"copy": lambda: target.copy_(source)}, device, rounds)["copy"]


if __name__ == "__main__":
    run_script(main)
