"""tools/check-layers on small made-up trees: each violation is found, each allowed include is not."""
import contextlib
import importlib.machinery
import importlib.util
import io
import pathlib
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "check-layers"


def load_tool():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("check_layers", str(TOOL))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_layers", loader))
    loader.exec_module(module)
    return module


TOOL_MODULE = load_tool()


def run_on(files):
    """(exit status, output)"""
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = TOOL_MODULE.check(pathlib.Path(root))
        return status, output.getvalue()


class CheckLayers(unittest.TestCase):
    def allows(self, file, include):
        status, output = run_on({file: f"#include {include}\n"})
        self.assertEqual(status, 0, f"{file} {include}: {output}")

    def refuses(self, file, include):
        status, output = run_on({file: f"// first line\n#include {include}\n"})
        self.assertEqual(status, 1, f"{file} {include}: {output}")
        self.assertIn(f"{file}:2: ", output)

    def test_downwards_is_allowed(self):
        self.allows("src/gemm/a.cc", '"base/check.h"')
        self.allows("src/gemm/a.cc", '"gemm/a.h"')
        self.allows("src/gemm/a.cc", '"switchyard/plan.h"')
        self.allows("src/routing/a.cc", '"topk/topk_kernel.h"')
        self.allows("src/layer/a.cc", '"routing/a.h"')
        self.allows("src/bench/a.cc", '"workload/trace.h"')
        self.allows("src/cli/a.cc", "<CLI/CLI.hpp>")
        self.allows("src/cli/a.cc", '"bench/runner.h"')

    def test_upwards_is_refused(self):
        self.refuses("src/base/a.cc", '"gemm/a.h"')
        self.refuses("src/plan/a.h", '"routing/a.h"')
        self.refuses("src/routing/a.cc", '"layer/a.h"')
        self.refuses("src/workload/a.cc", '"bench/a.h"')
        self.refuses("src/bench/a.cc", '"cli/a.h"')

    def test_families_do_not_know_each_other(self):
        self.refuses("src/gemm/a.cc", '"pack/a.h"')
        self.refuses("src/pack/a.cc", '"combine/a.h"')
        self.refuses("src/topk/a.h", '"gemm/a.h"')
        self.refuses("src/combine/a.cc", '"plan/a.h"')

    def test_tests_may_look_up_but_not_at_the_command(self):
        self.allows("src/gemm/a_test.cc", '"layer/layer_reference.h"')
        self.refuses("src/gemm/a_test.cc", '"cli/main.h"')

    def test_public_headers_and_examples_are_self_contained(self):
        self.allows("include/switchyard/a.h", "<vector>")
        self.allows("include/switchyard/a.h", '"switchyard/b.h"')
        self.allows("examples/a.cc", "<switchyard/plan.h>")
        self.refuses("include/switchyard/a.h", "<fmt/core.h>")
        self.refuses("include/switchyard/a.h", '"base/check.h"')
        self.refuses("include/switchyard/a.h", "<immintrin.h>")
        self.refuses("examples/a.cc", '"base/check.h"')

    def test_isa_kernels_see_intrinsics_and_their_family(self):
        self.allows("src/pack/a_x86_avx2.cc", "<immintrin.h>")
        self.allows("src/pack/a_x86_avx2.cc", "<cstdint>")
        self.allows("src/pack/a_x86_avx512_bf16.cc", '"pack/pack_kernel.h"')
        self.refuses("src/pack/a_x86_avx2.cc", "<vector>")
        self.refuses("src/pack/a_x86_avx512.cc", '"base/check.h"')

    def test_devices_and_ranks_stay_in_their_files(self):
        self.allows("src/plan/plan_cuda.cu", "<cuda_runtime.h>")
        self.allows("src/dist/comm_mpi.cc", "<mpi.h>")
        self.refuses("src/plan/plan.cc", "<cuda_runtime.h>")
        self.refuses("src/layer/layer.cc", "<mpi.h>")
        self.refuses("src/dist/exchange.cc", "<nccl.h>")
        self.refuses("src/bench/a.cc", "<CLI/CLI.hpp>")

    def test_an_unknown_folder_is_refused(self):
        self.refuses("src/misc/a.cc", "<vector>")

    def test_an_empty_tree_is_refused(self):
        self.assertEqual(run_on({"README.md": ""})[0], 1)


if __name__ == "__main__":
    unittest.main()
