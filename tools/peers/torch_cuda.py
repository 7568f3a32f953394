#!/usr/bin/env python3
"""Times PyTorch and Triton on a GPU on the shapes of `switchyard bench experts` and `bench layer`, as the
same records.

    tools/peers/torch_cuda.py experts --config olmoe --tokens 1,16,256,4096 --out torch-cuda.jsonl
    tools/peers/torch_cuda.py layer --config mixtral --tokens 4096 --out torch-cuda.jsonl

Needs a CUDA GPU and PyTorch 2.8 or later from PyPI (its wheels bring Triton). Implementations: `torch_loop`
(linear calls per expert with rows), `torch_grouped_mm` (torch._grouped_mm, where this PyTorch has it) and
`triton_grouped` (a persistent grouped GEMM, gather in its A load and SwiGLU in its epilogue, below).
Experts gather their rows from tokens; a layer is logits, softmax, top k, a sort by expert, the experts and the
weighted sum of each token's rows, all on the device (`torch_loop` waits for the counts, as such loops do).
Every output is checked against double precision before it is timed. Samples are device events; the L2 cache
is overwritten before each unless --warm.

This script has not been run on a GPU yet.
"""

import argparse
import datetime
import functools
import json
import platform
import statistics
import sys

import torch

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

CONFIGS = {  # experts, hidden, ffn, top_k
    "mixtral": (8, 4096, 14336, 2),
    "olmoe": (64, 2048, 1024, 8),
    "qwen3-30b": (128, 2048, 768, 8),
    "deepseek-v3": (256, 7168, 2048, 8),
    "qwen3-235b": (128, 4096, 1536, 8),
    "sonic": (128, 4096, 512, 8),
}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
EPSILON = {"f32": 2.0**-23, "bf16": 2.0**-7, "f16": 2.0**-10}
NUM_DRAWS = 8
CHECKED_TOKENS = 32
DEVICE = "cuda"
SMS = 132  # replaced by the device's


if triton is not None:

    @triton.jit
    def grouped_kernel(
        x, token_of_row, begin, w, w2, out, N, K, num_experts,
        GATHER: tl.constexpr, GATED: tl.constexpr, PROGRAMS: tl.constexpr,
        BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ):  # fmt: skip
        """out[r] = x[row of r] w[e]^T, or silu of it times x w2[e]^T; begin [E+1] rows of experts."""
        columns = tl.cdiv(N, BN)
        tile = tl.program_id(0)
        first = 0
        for e in range(num_experts):
            row0 = tl.load(begin + e)
            row1 = tl.load(begin + e + 1)
            tiles = tl.cdiv(row1 - row0, BM) * columns
            while tile < first + tiles:
                in_expert = tile - first
                rows_tiles = tl.cdiv(row1 - row0, BM)
                r = row0 + in_expert % rows_tiles * BM + tl.arange(0, BM)
                n = in_expert // rows_tiles * BN + tl.arange(0, BN)
                k = tl.arange(0, BK)
                row = tl.load(token_of_row + r, mask=r < row1, other=0) if GATHER else r
                a = x + row.to(tl.int64)[:, None] * K + k[None, :]
                at = (e.to(tl.int64) * N + n)[None, :] * K + k[:, None]
                acc = tl.zeros((BM, BN), tl.float32)
                acc2 = tl.zeros((BM, BN), tl.float32)
                for begin_k in range(0, K, BK):
                    left = k < K - begin_k
                    va = tl.load(a + begin_k, mask=(r < row1)[:, None] & left[None, :], other=0.0)
                    mask = (n < N)[None, :] & left[:, None]
                    acc = tl.dot(va, tl.load(w + at + begin_k, mask=mask, other=0.0), acc)
                    if GATED:
                        acc2 = tl.dot(va, tl.load(w2 + at + begin_k, mask=mask, other=0.0), acc2)
                if GATED:
                    acc = acc * tl.sigmoid(acc) * acc2
                target = out + r.to(tl.int64)[:, None] * N + n[None, :]
                tl.store(target, acc.to(out.dtype.element_ty), mask=(r < row1)[:, None] & (n < N)[None, :])
                tile += PROGRAMS
            first += tiles


class Layer:
    """Weights [E, out, in] and a router [E, in] as nn.Linear has them, scaled so that activations stay near 1."""

    def __init__(self, experts, hidden, ffn, dtype):
        def weight(rows, cols):
            return torch.cat(
                [(torch.randn(1, rows, cols, device=DEVICE) / cols**0.5).to(dtype) for _ in range(experts)]
            )

        self.gate, self.up, self.down = weight(ffn, hidden), weight(ffn, hidden), weight(hidden, ffn)
        self.router = (torch.randn(experts, hidden, device=DEVICE) / hidden**0.5).to(dtype)
        self.num_experts = experts


class Plan:
    """Which token each row is of, rows sorted by expert, from the experts [T, K] that tokens chose."""

    def __init__(self, chosen, experts):
        self.order = chosen.flatten().argsort(stable=True)
        self.token_of_row = (self.order // chosen.shape[1]).to(torch.int32)
        self.rows_of_expert = torch.bincount(chosen.flatten(), minlength=experts)
        self.ends = self.rows_of_expert.cumsum(0).to(torch.int32)
        self.begin = torch.cat([self.ends.new_zeros(1), self.ends])

    @functools.cached_property
    def counts(self):  # waits for the device
        return self.rows_of_expert.tolist()


def draw_plan(tokens, experts, top_k):
    plan = Plan(torch.rand(tokens, experts, device=DEVICE).topk(top_k, dim=1).indices, experts)
    assert sum(plan.counts) == tokens * top_k
    return plan


def swiglu(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate.mT) * (x @ up.mT)) @ down.mT


def run_loop(layer, x, plan):
    rows = x.index_select(0, plan.token_of_row)
    out = torch.empty_like(rows)
    begin = 0
    for e, n in enumerate(plan.counts):
        if n:
            out[begin : begin + n] = swiglu(rows[begin : begin + n], layer.gate[e], layer.up[e], layer.down[e])
        begin += n
    return out


def run_grouped_mm(layer, x, plan):
    rows = x.index_select(0, plan.token_of_row)
    product = torch._grouped_mm
    inner = torch.nn.functional.silu(product(rows, layer.gate.mT, plan.ends)) * product(rows, layer.up.mT, plan.ends)
    return product(inner, layer.down.mT, plan.ends)


def run_triton(layer, x, plan):
    num_rows, (experts, ffn, hidden) = plan.token_of_row.numel(), layer.up.shape
    tall = num_rows > 32 * experts
    tile = {"BM": 128 if tall else 16, "BN": 128 if tall else 64, "BK": 64, "num_warps": 8 if tall else 4, "num_stages": 3}
    inner = x.new_empty(num_rows, ffn)
    out = x.new_empty(num_rows, hidden)
    for i, w, w2, o, n, k, gated in (
        (x, layer.gate, layer.up, inner, ffn, hidden, True),
        (inner, layer.down, layer.down, out, hidden, ffn, False),
    ):
        grouped_kernel[(SMS,)](
            i, plan.token_of_row, plan.begin, w, w2, o, n, k, experts, gated, gated, SMS, **tile
        )  # fmt: skip
    return out


IMPLEMENTATIONS = {"torch_loop": run_loop}
if hasattr(torch, "_grouped_mm"):
    IMPLEMENTATIONS["torch_grouped_mm"] = run_grouped_mm
if triton is not None:
    IMPLEMENTATIONS["triton_grouped"] = run_triton


def route(layer, x, top_k):
    """Logits [T, E] in f32, the experts [T, K] with the largest, and their weights, which sum to 1."""
    logits = torch.nn.functional.linear(x, layer.router).float()
    weight, chosen = torch.softmax(logits, dim=1).topk(top_k, dim=1)
    return logits, chosen, weight / weight.sum(dim=1, keepdim=True)


def run_layer(run, layer, x, top_k):
    _, chosen, weight = route(layer, x, top_k)
    plan = Plan(chosen, layer.num_experts)
    rows = run(layer, x, plan)
    row_of_assignment = torch.empty_like(plan.order)
    row_of_assignment[plan.order] = torch.arange(plan.order.numel(), device=DEVICE)
    rows = rows[row_of_assignment].view(*chosen.shape, -1)
    return (rows * weight[..., None]).sum(dim=1).to(x.dtype)


def error_of_layer(layer, x, top_k, out):
    """Against double, on the first tokens, with the experts that the layer's own logits choose."""
    x, out = x[:CHECKED_TOKENS], out[:CHECKED_TOKENS].double()
    logits, chosen, _ = route(layer, x, top_k)
    weight = torch.softmax(logits.double().gather(1, chosen), dim=1)
    ref = torch.zeros_like(out)
    for t in range(x.shape[0]):
        for w, e in zip(weight[t], chosen[t].tolist()):
            ref[t] += w * swiglu(x[t : t + 1].double(), *(m[e].double() for m in (layer.gate, layer.up, layer.down)))[0]
    return float((out - ref).norm() / ref.norm())


def error_of_experts(layer, x, plan, out):
    """Against double, on at most 4 rows of every expert."""
    error = norm = 0.0
    begin = 0
    for e, n in enumerate(plan.counts):
        some = slice(begin, begin + min(n, 4))
        if n:
            rows = x.index_select(0, plan.token_of_row[some]).double()
            ref = swiglu(rows, layer.gate[e].double(), layer.up[e].double(), layer.down[e].double())
            error += float(((out[some].double() - ref) ** 2).sum())
            norm += float((ref**2).sum())
        begin += n
    return (error / norm) ** 0.5 if norm else 0.0


def subjects(args, tokens, run):
    """What to time, a function for each redrawn routing; the error of the first; and active experts."""
    experts, hidden, _, top_k = CONFIGS[args.config]
    layer = args.layer

    def draw_x():
        return torch.randn(tokens, hidden, device=DEVICE).to(DTYPES[args.dtype])

    if args.target == "experts":
        x = draw_x()
        plans = [draw_plan(tokens, experts, top_k) for _ in range(NUM_DRAWS)]
        calls = [functools.partial(run, layer, x, plan) for plan in plans]
        error = error_of_experts(layer, x, plans[0], calls[0]())
    else:
        xs = [draw_x() for _ in range(NUM_DRAWS)]
        plans = [Plan(route(layer, x, top_k)[1], experts) for x in xs]
        calls = [functools.partial(run_layer, run, layer, x, top_k) for x in xs]
        error = error_of_layer(layer, xs[0], top_k, calls[0]())
    return calls, error, statistics.mean(sum(n > 0 for n in plan.counts) for plan in plans)


def time_calls(args, calls):
    samples = []
    for i in range(args.warmup + args.iters):
        if not args.warm:
            args.flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        calls[i % len(calls)]()
        end.record()
        end.synchronize()
        if i >= args.warmup:
            samples.append(start.elapsed_time(end))
    return samples


def measure(args, tokens, impl):
    experts, hidden, ffn, top_k = CONFIGS[args.config]
    torch.manual_seed(args.seed)
    calls, err, active = subjects(args, tokens, IMPLEMENTATIONS[impl])
    num_rows = tokens * top_k
    tol = 2 * EPSILON[args.dtype] + 2 * (hidden + ffn) ** 0.5 * EPSILON["f32"]
    record = {
        "schema": "switchyard/1", "bench": args.target, "impl": impl, "strategy": "topk_softmax",
        "layout": "fused" if impl == "triton_grouped" else "compact", "device": DEVICE, "dtype": args.dtype,
        "weights": args.dtype, "ranks": 1,
        "tokens": tokens, "hidden": hidden, "ffn": ffn, "experts": experts, "top_k": top_k,
        "capacity_factor": 0.0, "routing": "gate" if args.target == "layer" else "uniform",
        "config": args.config, "seed": args.seed,
        "activation": "silu", "gated": True, "cold": not args.warm,
        "library": "PyTorch " + torch.__version__, "gpu": torch.cuda.get_device_name(),
        "ok": err <= tol, "check_rel_err": err, "check_tol": tol,
    }  # fmt: skip
    if not err <= tol:
        record["error"] = f"the output is off by {err:.3g} relative to the reference"
        record["error_code"] = "check_failed"
        return record
    samples = time_calls(args, calls)
    element = args.layer.up.element_size()
    weight_bytes = active * 3 * hidden * ffn * element
    median = statistics.median(samples)
    flops = 6.0 * num_rows * hidden * ffn + (2.0 * tokens * hidden * experts if args.target == "layer" else 0)
    record.update(
        samples_ms=samples, median_ms=median, mean_ms=statistics.mean(samples),
        std_ms=statistics.pstdev(samples), min_ms=min(samples), tokens_per_s=tokens / median * 1e3,
        flops=flops, tflops=flops / median * 1e-9,
        bytes=weight_bytes + 2.0 * num_rows * hidden * element, weight_bytes=weight_bytes,
        timestamp=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        host=platform.node(), command=" ".join(sys.argv),
    )  # fmt: skip
    return record


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["experts", "layer"])
    parser.add_argument("--config", default="olmoe", choices=CONFIGS)
    parser.add_argument("--tokens", default="1,16,256,4096", help="a comma list")
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--impl", default=",".join(IMPLEMENTATIONS), help="a comma list of " + ", ".join(IMPLEMENTATIONS))
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--iters", type=int, default=50)
    parser.add_argument("--warm", action="store_true", help="leave the caches as the sample before left them")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--out", help="append records to this .jsonl file")
    args = parser.parse_args()
    args.tokens = [int(t) for t in args.tokens.split(",")]
    args.impl = args.impl.split(",")
    for name in args.impl:
        if name not in IMPLEMENTATIONS:
            parser.error(f"unknown implementation '{name}': expected one of {', '.join(IMPLEMENTATIONS)}")
    if args.iters < 1 or args.warmup < 0 or min(args.tokens) < 1:
        parser.error("--iters and --tokens: expected positive numbers")
    return args


@torch.no_grad()
def main():
    global SMS
    args = parse()
    if not torch.cuda.is_available():
        print("torch_cuda.py: PyTorch finds no CUDA GPU here", file=sys.stderr)
        return 5
    SMS = torch.cuda.get_device_properties(0).multi_processor_count
    torch.manual_seed(args.seed)
    experts, hidden, ffn, _ = CONFIGS[args.config]
    args.layer = Layer(experts, hidden, ffn, DTYPES[args.dtype])
    args.flush = torch.empty(256 << 20, dtype=torch.int8, device=DEVICE)  # more than any L2
    failed = False
    for tokens in args.tokens:
        for impl in args.impl:
            record = measure(args, tokens, impl)
            failed = failed or not record["ok"]
            if args.out:
                with open(args.out, "a") as file:
                    file.write(json.dumps(record, separators=(",", ":")) + "\n")
            state = f"{record['median_ms']:9.3f} ms" if record["ok"] else record["error"]
            print(f"T {tokens:6d}  {impl:16s} {state}  rel. error {record['check_rel_err']:.1e}", file=sys.stderr)
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
