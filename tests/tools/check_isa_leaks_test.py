"""tools/check-isa-leaks on made-up libraries: a leaked inline function is found, clean code passes.

The C++ compiler to use is the environment variable CXX.
"""
import os
import pathlib
import subprocess
import tempfile
import unittest

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "check-isa-leaks"
CLEAN = "static int twice(int x) { return 2 * x; }\nint kernel(int x) { return twice(x); }\n"
LEAKY = """
template <class T> __attribute__((noinline)) T twice(T x) { return x + x; }
int kernel(int x) { return twice(x); }
"""


def run_on(object_name, source):
    with tempfile.TemporaryDirectory() as folder:
        object_file = pathlib.Path(folder, object_name)
        library = pathlib.Path(folder, "libx.a")
        subprocess.run([os.environ.get("CXX", "c++"), "-O2", "-x", "c++", "-c", "-", "-o",
                        object_file], input=source, text=True, check=True)
        subprocess.run(["ar", "rc", library, object_file], check=True)
        return subprocess.run([TOOL, library], capture_output=True, text=True)


class CheckIsaLeaks(unittest.TestCase):
    def test_clean_kernels_pass(self):
        self.assertEqual(run_on("pack_x86_avx2.cc.o", CLEAN).returncode, 0)

    def test_inline_code_is_found_and_named(self):
        result = run_on("pack_x86_avx512_bf16.cc.o", LEAKY)
        self.assertEqual(result.returncode, 1)
        self.assertIn("int twice<int>(int)", result.stdout)

    def test_a_library_without_kernels_is_an_error(self):
        result = run_on("pack_portable.cc.o", LEAKY)
        self.assertEqual(result.returncode, 1)
        self.assertIn("no kernels", result.stderr)


if __name__ == "__main__":
    unittest.main()
