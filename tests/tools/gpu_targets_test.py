#!/usr/bin/env python3
"""tools/gpu-targets on made-up records: of a device that keeps every promise, and of one that does not."""

import json
import pathlib
import subprocess
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "gpu-targets"
DENSE = 800.0  # Tflop/s


def record(bench, **fields):
    return {"bench": bench, "impl": "grouped", "device": "cuda", "ok": True, **fields}


def gemm(tflops, **fields):
    flops = 1e13
    limit_ms = flops / DENSE * 1e-9
    return record("experts", flops=flops, tflops=tflops, limit_ms=limit_ms, limit_kind="compute",
                  fraction_of_limit=tflops / DENSE, **fields)


def kept():
    return [
        record("topk", tokens=16384, experts=128, top_k=8, median_ms=0.009),
        record("plan", tokens=4096, experts=256, top_k=8, median_ms=0.011),
        record("pack", tokens=4096, hidden=7168, top_k=8, limit_ms=0.08, t_pack_ms=0.1),
        record("combine", tokens=4096, hidden=7168, top_k=8, fraction_of_limit=0.76),
        record("experts", config="qwen3-30b", tokens=1, fraction_of_limit=0.85),
        gemm(0.81 * DENSE, config="mixtral", tokens=8192),
        gemm(0.61 * DENSE, tokens=32768, hidden=4096, ffn=512, experts=128),
    ]


def run(records):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)
        file.flush()
        return subprocess.run([TOOL, file.name], capture_output=True, text=True)


class GpuTargetsTest(unittest.TestCase):
    def test_promises_that_are_kept(self):
        result = run(kept())
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertNotIn("MISSED", result.stdout)

    def test_each_promise_can_be_missed(self):
        for i, worse in enumerate(
            ({"median_ms": 0.011}, {"median_ms": 0.013}, {"t_pack_ms": 0.2}, {"fraction_of_limit": 0.7},
             {"fraction_of_limit": 0.7}, {"tflops": 0.79 * DENSE}, {"tflops": 0.5 * DENSE})
        ):
            records = kept()
            records[i].update(worse)
            result = run(records)
            self.assertEqual(result.returncode, 1, records[i])
            self.assertEqual(result.stdout.count("MISSED"), 1, result.stdout)

    def test_a_record_that_failed_keeps_nothing(self):
        records = kept()
        records[1].update(ok=False, error="the device is gone")
        result = run(records)
        self.assertEqual(result.returncode, 1)
        self.assertIn("the device is gone", result.stdout)
        self.assertIn("no record", result.stdout)

    def test_usage(self):
        self.assertNotEqual(subprocess.run([TOOL], capture_output=True).returncode, 0)


if __name__ == "__main__":
    unittest.main()
