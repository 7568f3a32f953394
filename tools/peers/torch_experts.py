#!/usr/bin/env python3
"""Times PyTorch on the shapes of `switchyard bench experts` and writes the same records.

    tools/peers/torch_experts.py --config olmoe --tokens 1,16,256 --out torch.jsonl
    switchyard bench experts --config olmoe --tokens 1,16,256 --out ours.jsonl
    switchyard plot ours.jsonl torch.jsonl -k throughput -o both.png

Implementations: `torch_loop` (one pair of linear calls per expert with rows), `torch_bmm` (batched
over [E, max n, H]), and `torch_grouped_mm` where this PyTorch has it. Every output is checked against
double precision before it is timed; caches are emptied and the routing is redrawn for each sample.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time

import torch

CONFIGS = {  # experts, hidden, ffn, top_k
    "mixtral": (8, 4096, 14336, 2),
    "deepseek": (64, 4096, 11008, 8),
    "glm5": (128, 5120, 13696, 8),
    "debug": (4, 512, 1024, 2),
    "olmoe": (64, 2048, 1024, 8),
    "qwen3-30b": (128, 2048, 768, 8),
    "deepseek-v3": (256, 7168, 2048, 8),
    "qwen3-235b": (128, 4096, 1536, 8),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
NUM_DRAWS = 8
EPSILON = {"f32": 2.0**-23, "bf16": 2.0**-7, "f16": 2.0**-10}


class Layer:
    """Weights [E, out, in] as nn.Linear has them, scaled so that activations stay near 1."""

    def __init__(self, experts, hidden, ffn, dtype):
        def weight(rows, cols):
            return (torch.randn(experts, rows, cols) / cols**0.5).to(dtype)

        self.gate, self.up, self.down = weight(ffn, hidden), weight(ffn, hidden), weight(hidden, ffn)
        self.num_experts = experts


def swiglu(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate.mT) * (x @ up.mT)) @ down.mT


def run_loop(layer, rows, counts, out):
    begin = 0
    for e, n in enumerate(counts):
        if n:
            out[begin : begin + n] = swiglu(rows[begin : begin + n], layer.gate[e], layer.up[e], layer.down[e])
        begin += n
    return out


def run_bmm(layer, rows, counts, out):
    padded = rows.new_zeros(layer.num_experts, max(counts), rows.shape[1])
    begin = 0
    for e, n in enumerate(counts):
        padded[e, :n] = rows[begin : begin + n]
        begin += n
    result = swiglu(padded, layer.gate, layer.up, layer.down)
    begin = 0
    for e, n in enumerate(counts):
        out[begin : begin + n] = result[e, :n]
        begin += n
    return out


def run_grouped_mm(layer, rows, counts, out):
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    product = torch._grouped_mm
    inner = torch.nn.functional.silu(product(rows, layer.gate.mT, ends)) * product(rows, layer.up.mT, ends)
    return product(inner, layer.down.mT, ends)


IMPLEMENTATIONS = {"torch_loop": run_loop, "torch_bmm": run_bmm}
if hasattr(torch, "_grouped_mm"):
    IMPLEMENTATIONS["torch_grouped_mm"] = run_grouped_mm


def draw_counts(tokens, experts, top_k):
    """Rows of each expert when every token takes top_k different ones at random."""
    chosen = torch.rand(tokens, experts).topk(top_k, dim=1).indices
    return torch.bincount(chosen.flatten(), minlength=experts).tolist()


def relative_error(layer, rows, counts, out):
    """Against double, on at most 4 rows of every expert."""
    error = norm = 0.0
    begin = 0
    for e, n in enumerate(counts):
        some = range(begin, begin + min(n, 4))
        if n:
            x = rows[some.start : some.stop].double()
            ref = swiglu(x, layer.gate[e].double(), layer.up[e].double(), layer.down[e].double())
            error += float(((out[some.start : some.stop].double() - ref) ** 2).sum())
            norm += float((ref**2).sum())
        begin += n
    return (error / norm) ** 0.5


def peak_rss_bytes():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(": ", 1)[1].strip()
    return platform.processor() or "unknown"


def measure(args, tokens, impl):
    experts, hidden, ffn, top_k = CONFIGS[args.config]
    torch.manual_seed(args.seed)
    layer = args.layer
    dtype = DTYPES[args.dtype]
    draws = [draw_counts(tokens, experts, top_k) for _ in range(NUM_DRAWS)]
    num_rows = tokens * top_k
    rows = torch.randn(num_rows, hidden).to(dtype)
    out = torch.empty_like(rows)
    run = IMPLEMENTATIONS[impl]
    tol = 2 * EPSILON[args.dtype] + 2 * (hidden + ffn) ** 0.5 * EPSILON["f32"]
    record = {
        "schema": "switchyard/1", "bench": "experts", "impl": impl, "strategy": "topk_softmax",
        "layout": "compact", "device": "cpu", "dtype": args.dtype, "weights": args.dtype,
        "threads": args.threads, "ranks": 1, "tokens": tokens, "hidden": hidden, "ffn": ffn,
        "experts": experts, "top_k": top_k, "capacity_factor": 0.0, "routing": "uniform",
        "config": args.config, "seed": args.seed, "activation": "silu", "gated": True, "cold": True,
        "library": "PyTorch " + torch.__version__,
    }  # fmt: skip
    err = relative_error(layer, rows, draws[0], run(layer, rows, draws[0], out))
    record.update(ok=err <= tol, check_rel_err=err, check_tol=tol)
    if err > tol:
        record["error"] = f"the output is off by {err:.3g} relative to the reference"
        record["error_code"] = "check_failed"
    samples = []
    start = time.perf_counter()
    while record["ok"] and len(samples) < args.iters:
        counts = draws[len(samples) % NUM_DRAWS]
        args.flush.sum()
        begin = time.perf_counter()
        run(layer, rows, counts, out)
        samples.append((time.perf_counter() - begin) * 1e3)
        if len(samples) >= 6 and time.perf_counter() - start > args.max_time:
            break
    if samples:
        active = statistics.mean(sum(n > 0 for n in d) for d in draws)
        weight_bytes = active * 3 * hidden * ffn * rows.element_size()
        median = statistics.median(samples)
        record.update(
            samples_ms=samples, median_ms=median, mean_ms=statistics.mean(samples),
            std_ms=statistics.pstdev(samples), min_ms=min(samples),
            tokens_per_s=tokens / median * 1e3, flops=6.0 * num_rows * hidden * ffn,
            tflops=6.0 * num_rows * hidden * ffn / median * 1e-9,
            bytes=weight_bytes + 2.0 * num_rows * hidden * rows.element_size(),
            weight_bytes=weight_bytes,
        )  # fmt: skip
    record.update(
        peak_rss_bytes=peak_rss_bytes(), timestamp=datetime.datetime.now(datetime.timezone.utc)
        .strftime("%Y-%m-%dT%H:%M:%SZ"), host=platform.node(), cpu=cpu_name(),
        command=" ".join(sys.argv),
    )  # fmt: skip
    return record


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="olmoe", choices=CONFIGS)
    parser.add_argument("--tokens", default="1,16,256,4096", help="a comma list")
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--impl", default=",".join(IMPLEMENTATIONS), help="a comma list of " + ", ".join(IMPLEMENTATIONS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--iters", type=int, default=30)
    parser.add_argument("--max-time", type=float, default=20.0, help="seconds for a cell")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--out", help="append records to this .jsonl file")
    args = parser.parse_args()
    args.tokens = [int(t) for t in args.tokens.split(",")]
    args.impl = args.impl.split(",")
    for name in args.impl:
        if name not in IMPLEMENTATIONS:
            parser.error(f"unknown implementation '{name}': expected one of {', '.join(IMPLEMENTATIONS)}")
    if args.threads < 1 or args.iters < 1 or min(args.tokens) < 1:
        parser.error("--threads, --iters and --tokens: expected positive numbers")
    return args


@torch.no_grad()
def main():
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    experts, hidden, ffn, _ = CONFIGS[args.config]
    args.layer = Layer(experts, hidden, ffn, DTYPES[args.dtype])
    args.flush = torch.ones(64 << 20)  # 256 MiB read before each sample
    failed = False
    for tokens in args.tokens:
        for impl in args.impl:
            record = measure(args, tokens, impl)
            failed = failed or not record["ok"]
            line = json.dumps(record, separators=(",", ":"))
            if args.out:
                with open(args.out, "a") as file:
                    file.write(line + "\n")
            state = f"{record['median_ms']:9.3f} ms" if record["ok"] else record["error"]
            print(f"T {tokens:6d}  {impl:16s} {state}  rel. error {record['check_rel_err']:.1e}", file=sys.stderr)
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
