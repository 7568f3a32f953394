#!/usr/bin/env python3
"""tools/perf-check: what it is given, and a race of a binary against itself. No time is asserted."""

import pathlib
import subprocess
import sys
import unittest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "perf-check"
SWITCHYARD = sys.argv.pop()


def perf_check(*args):
    return subprocess.run([TOOL, *args], capture_output=True, text=True)


class PerfCheckTest(unittest.TestCase):
    def test_usage(self):
        for args in (
            [],
            ["--help"],
            ["--binaries", SWITCHYARD],
            ["--binaries", SWITCHYARD, SWITCHYARD, "0"],
            ["--binaries", SWITCHYARD, SWITCHYARD, "2", "--filter", "topk"],
        ):
            result = perf_check(*args)
            self.assertEqual(result.returncode, 2, args)
            self.assertIn("usage: tools/perf-check REV", result.stderr)

    def test_what_is_not_there(self):
        result = perf_check("no-such-revision")
        self.assertEqual(result.returncode, 2)
        self.assertIn("no revision 'no-such-revision'", result.stderr)
        self.assertEqual(perf_check("--binaries", "/no/such/program", SWITCHYARD).returncode, 2)

    def test_a_race_against_itself(self):
        options = ["--filter", "bench=topk", "--iters", "6", "--cache", "warm"]
        result = perf_check("--binaries", SWITCHYARD, SWITCHYARD, "2", "--", *options)
        self.assertIn(result.returncode, (0, 4), result.stderr)
        self.assertIn("B has several records of 1 cells", result.stdout)
        self.assertIn("round 2 of 2, after", result.stderr)
        self.assertNotIn("left out", result.stderr)


if __name__ == "__main__":
    unittest.main()
