#!/usr/bin/env python3
"""Times PyTorch and Triton on a GPU on the shapes of `switchyard bench experts`, as the same records.

    tools/peers/torch_cuda_experts.py --config olmoe --tokens 1,16,256,4096 --out torch-cuda.jsonl

Needs a CUDA GPU and PyTorch 2.8 or later from PyPI (its wheels bring Triton). Implementations: `torch_loop`
(linear calls per expert with rows), `torch_grouped_mm` (torch._grouped_mm, where this PyTorch has it) and
`triton_grouped` (a persistent grouped GEMM, gather in its A load and SwiGLU in its epilogue, below).
Rows are gathered from tokens in each, and every output is checked against double precision before it is
timed. Samples are device events; the L2 cache is overwritten before each unless --warm.

This script has not been run on a GPU yet.
"""

import argparse
import datetime
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
    """Weights [E, out, in] as nn.Linear has them, scaled so that activations stay near 1."""

    def __init__(self, experts, hidden, ffn, dtype):
        def weight(rows, cols):
            return torch.cat(
                [(torch.randn(1, rows, cols, device="cuda") / cols**0.5).to(dtype) for _ in range(experts)]
            )

        self.gate, self.up, self.down = weight(ffn, hidden), weight(ffn, hidden), weight(hidden, ffn)
        self.num_experts = experts


class Draw:
    """Which token each row is of, rows sorted by expert."""

    def __init__(self, tokens, experts, top_k):
        chosen = torch.rand(tokens, experts, device="cuda").topk(top_k, dim=1).indices.flatten()
        order = chosen.argsort(stable=True)
        self.token_of_row = (order // top_k).to(torch.int32)
        counts = torch.bincount(chosen, minlength=experts)
        self.ends = counts.cumsum(0).to(torch.int32)
        self.begin = torch.cat([self.ends.new_zeros(1), self.ends])
        self.counts = counts.tolist()


def swiglu(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate.mT) * (x @ up.mT)) @ down.mT


def run_loop(layer, x, draw):
    rows = x[draw.token_of_row]
    out = torch.empty_like(rows)
    begin = 0
    for e, n in enumerate(draw.counts):
        if n:
            out[begin : begin + n] = swiglu(rows[begin : begin + n], layer.gate[e], layer.up[e], layer.down[e])
        begin += n
    return out


def run_grouped_mm(layer, x, draw):
    rows = x[draw.token_of_row]
    product = torch._grouped_mm
    inner = torch.nn.functional.silu(product(rows, layer.gate.mT, draw.ends)) * product(rows, layer.up.mT, draw.ends)
    return product(inner, layer.down.mT, draw.ends)


def run_triton(layer, x, draw):
    num_rows, (experts, ffn, hidden) = draw.token_of_row.numel(), layer.up.shape
    tall = num_rows > 32 * experts
    tile = {"BM": 128 if tall else 16, "BN": 128 if tall else 64, "BK": 64, "num_warps": 8 if tall else 4, "num_stages": 3}
    inner = x.new_empty(num_rows, ffn)
    out = x.new_empty(num_rows, hidden)
    for i, w, w2, o, n, k, gated in (
        (x, layer.gate, layer.up, inner, ffn, hidden, True),
        (inner, layer.down, layer.down, out, hidden, ffn, False),
    ):
        grouped_kernel[(SMS,)](
            i, draw.token_of_row, draw.begin, w, w2, o, n, k, experts, gated, gated, SMS, **tile
        )  # fmt: skip
    return out


IMPLEMENTATIONS = {"torch_loop": run_loop}
if hasattr(torch, "_grouped_mm"):
    IMPLEMENTATIONS["torch_grouped_mm"] = run_grouped_mm
if triton is not None:
    IMPLEMENTATIONS["triton_grouped"] = run_triton


def relative_error(layer, x, draw, out):
    """Against double, on at most 4 rows of every expert."""
    error = norm = 0.0
    begin = 0
    for e, n in enumerate(draw.counts):
        some = slice(begin, begin + min(n, 4))
        if n:
            rows = x[draw.token_of_row[some]].double()
            ref = swiglu(rows, layer.gate[e].double(), layer.up[e].double(), layer.down[e].double())
            error += float(((out[some].double() - ref) ** 2).sum())
            norm += float((ref**2).sum())
        begin += n
    return (error / norm) ** 0.5 if norm else 0.0


def measure(args, tokens, impl):
    experts, hidden, ffn, top_k = CONFIGS[args.config]
    torch.manual_seed(args.seed)
    layer, run = args.layer, IMPLEMENTATIONS[impl]
    x = torch.randn(tokens, hidden, device="cuda").to(DTYPES[args.dtype])
    draws = [Draw(tokens, experts, top_k) for _ in range(NUM_DRAWS)]
    num_rows = tokens * top_k
    tol = 2 * EPSILON[args.dtype] + 2 * (hidden + ffn) ** 0.5 * EPSILON["f32"]
    err = relative_error(layer, x, draws[0], run(layer, x, draws[0]))
    record = {
        "schema": "switchyard/1", "bench": "experts", "impl": impl, "strategy": "topk_softmax",
        "layout": "fused", "device": "cuda", "dtype": args.dtype, "weights": args.dtype, "ranks": 1,
        "tokens": tokens, "hidden": hidden, "ffn": ffn, "experts": experts, "top_k": top_k,
        "capacity_factor": 0.0, "routing": "uniform", "config": args.config, "seed": args.seed,
        "activation": "silu", "gated": True, "cold": not args.warm,
        "library": "PyTorch " + torch.__version__, "gpu": torch.cuda.get_device_name(),
        "ok": err <= tol, "check_rel_err": err, "check_tol": tol,
    }  # fmt: skip
    if err > tol:
        record["error"] = f"the output is off by {err:.3g} relative to the reference"
        record["error_code"] = "check_failed"
        return record
    samples = []
    for i in range(args.warmup + args.iters):
        draw = draws[i % NUM_DRAWS]
        if not args.warm:
            args.flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run(layer, x, draw)
        end.record()
        end.synchronize()
        if i >= args.warmup:
            samples.append(start.elapsed_time(end))
    active = statistics.mean(sum(n > 0 for n in d.counts) for d in draws)
    weight_bytes = active * 3 * hidden * ffn * x.element_size()
    median = statistics.median(samples)
    record.update(
        samples_ms=samples, median_ms=median, mean_ms=statistics.mean(samples),
        std_ms=statistics.pstdev(samples), min_ms=min(samples), tokens_per_s=tokens / median * 1e3,
        flops=6.0 * num_rows * hidden * ffn, tflops=6.0 * num_rows * hidden * ffn / median * 1e-9,
        bytes=weight_bytes + 2.0 * num_rows * hidden * x.element_size(), weight_bytes=weight_bytes,
        timestamp=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        host=platform.node(), command=" ".join(sys.argv),
    )  # fmt: skip
    return record


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        print("torch_cuda_experts.py: PyTorch finds no CUDA GPU here", file=sys.stderr)
        return 5
    SMS = torch.cuda.get_device_properties(0).multi_processor_count
    torch.manual_seed(args.seed)
    experts, hidden, ffn, _ = CONFIGS[args.config]
    args.layer = Layer(experts, hidden, ffn, DTYPES[args.dtype])
    args.flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")  # more than any L2
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
