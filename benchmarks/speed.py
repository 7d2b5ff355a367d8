"""Time and memory of the network beside its textbook formulation and the machine's own limits.

    python -m benchmarks.speed                    # forward and training step, 4 blocks, without compiling
    python -m benchmarks.speed --compile true     # on the CPU compiling takes minutes for each row
    python -m benchmarks.speed --num_blocks 4 14 16 --rounds 5

All rows of a table are timed in turns, round after round, so that a change of the machine's pace meets them alike;
figures are medians. The limit is the time that the network's multiplications would take at the pace of a large matrix
product in the same arithmetic, timed in the same rounds. Memory is what tensors take at most, weights left out: on
CUDA as its allocator counts it, on the CPU as benchmarks.live does.
"""

import copy
import platform
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.live import LiveBytes
from benchmarks.textbook import TextbookIRNeXt
from losses import MultiScaleLoss
from models import build_model
from utils.compiling import compiled
from utils.config import ScriptParser
from utils.errors import run_script
from utils.evaluation import Stopwatch
from utils.precision import Precision, arithmetic
from utils.results import as_markdown

Work = Callable[[], object]
MATRIX = {"cuda": 8192, "cpu": 3000}  # side of the matrices of the limit
COPY_BYTES = 2**28
TEXTBOOK = "textbook, float32"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = ScriptParser(prog="python -m benchmarks.speed", description=__doc__.split("\n")[0])
    parser.add_argument("--num_blocks", type=int, nargs="+", default=[4], help="one table of each depth")
    parser.add_argument("--channels", type=int, default=32, help="width of the network")
    parser.add_argument("--side", type=int, default=256, help="of the pictures; on CUDA of the training step alone")
    parser.add_argument("--compile", type=bool, default=torch.cuda.is_available(), help="rows of compiled networks")
    parser.add_argument("--rounds", type=int, default=7, help="each row is timed this often")
    args = parser.parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for the limit too: convolutions have it by default
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(f"copying reaches {copy_bandwidth(device, args.rounds) / 1e9:.0f} GB/s (read and written)\n")
    side = args.side
    forwards, steps = (1, side, side), [(2, side, side)]
    if device.type == "cuda":
        forwards, steps = (1, 736, 1280), [(4, side, side), (16, side, side)]  # 736: 720 padded
    for blocks in args.num_blocks:
        model = started(build_model(num_blocks=blocks, channels=args.channels)).to(device)
        for kind, (batch, height, width) in [("forward", forwards), *(("training step", shape) for shape in steps)]:
            x = torch.rand(batch, 3, height, width, device=device)
            torch.compiler.reset()  # or networks beyond the eighth, of whatever depth, silently run uncompiled
            print(f"### {blocks} blocks, {kind}, {batch} x {height} x {width}\n")
            print(table(works(model, kind == "training step", x, args.compile), device, args.rounds), "\n")


def started(model: nn.Module) -> nn.Module:
    """With attentions that do something, as those of a trained network."""
    for name, parameter in model.named_parameters():
        if name.endswith(("modulation", "filtered_weight", "identity_weight")):
            nn.init.normal_(parameter, std=0.3)
    return model


def works(model: nn.Module, training: bool, x: Tensor, compiling: bool) -> dict[str, Work]:
    """What the rows time: training steps or forwards of networks with weights of their own."""
    rows = {TEXTBOOK: work_of(TextbookIRNeXt(model), training, "float32", x)}
    for precision in DTYPES:
        rows[f"ours, {precision}"] = work_of(copy.deepcopy(model), training, precision, x)
        if compiling:
            rows[f"ours, {precision}, compiled"] = work_of(copy.deepcopy(model), training, precision, x, compiling)
    return rows


def work_of(model: nn.Module, training: bool, precision: Precision, x: Tensor, compiling: bool = False) -> Work:
    """One training step as in train.py, or one forward as in test.py."""
    model.train(training)
    network = compiled(model, frozen=not training) if compiling else model
    criterion, target = MultiScaleLoss(), torch.rand_like(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

    def forward() -> None:
        with torch.inference_mode(), arithmetic(precision, x.device):
            network(x)

    def step() -> None:
        with arithmetic(precision, x.device):
            outputs = network(x)
        loss = criterion(outputs, target)
        optimizer.zero_grad()
        loss.total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.001)
        optimizer.step()

    return step if training else forward


def table(rows: dict[str, Work], device: torch.device, rounds: int) -> str:
    """Times, ratios to the textbook's, shares of the limit, and memory, as Markdown."""
    flops = FlopCounterMode(display=False)
    with flops:
        rows[TEXTBOOK]()
    side = MATRIX[device.type]
    products = {}
    for precision, dtype in DTYPES.items():
        a = torch.rand(side, side, device=device).to(dtype)
        products[precision] = lambda a=a: a @ a
    seconds = median_seconds(rows | products, device, rounds)
    pace = {precision: 2 * side**3 / seconds[precision] for precision in DTYPES}  # operations per second
    limits = {precision: flops.get_total_flops() / pace[precision] for precision in DTYPES}
    bytes_used = {name: peak_bytes(work, device) for name, work in rows.items() if can_be_seen(name, device)}
    cells = []
    for name in rows:
        limit = next(limits[precision] for precision in DTYPES if precision in name)
        memory = ["", ""]
        if name in bytes_used:
            memory = [f"{bytes_used[name] / 2**20:.0f}", f"{bytes_used[name] / bytes_used[TEXTBOOK]:.2f}"]
        ratio = f"{seconds[TEXTBOOK] / seconds[name]:.2f}"
        cells.append([name, f"{seconds[name] * 1000:.1f}", ratio, f"{limit / seconds[name]:.0%}", *memory])
    for precision, limit in limits.items():
        name = f"limit, {precision} ({pace[precision] / 1e9:.0f} GFLOP/s)"
        cells.append([name, f"{limit * 1000:.1f}", f"{seconds[TEXTBOOK] / limit:.2f}", "100%", "", ""])
    heading = ["network", "ms", "times faster", "of the limit", "memory, MiB", "of textbook"]
    return as_markdown(heading, cells)


def median_seconds(works: dict[str, Work], device: torch.device, rounds: int) -> dict[str, float]:
    """The median time of each, timed in turns; each has run twice before."""
    for _ in range(2):
        for work in works.values():
            work()
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            watch = Stopwatch(device)
            work()
            watch.stop()
            samples[name].append(watch.seconds())
    return {name: statistics.median(times) for name, times in samples.items()}


def can_be_seen(name: str, device: torch.device) -> bool:
    """Whether the memory of a row can be told: on the CPU not within a compiled graph."""
    return device.type == "cuda" or "compiled" not in name


def peak_bytes(work: Work, device: torch.device) -> int:
    """Memory of tensors at the highest point, less what is there before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    with LiveBytes() as live:
        work()
    return live.peak


def copy_bandwidth(device: torch.device, rounds: int) -> float:
    """Bytes per second that a copy of a large tensor reads and writes."""
    source = torch.rand(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / median_seconds({"copy": lambda: target.copy_(source)}, device, rounds)["copy"]


if __name__ == "__main__":
    run_script(main)
