"""tools/check-docs on made-up pages and a made-up command that logs how it was called."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "check-docs"
COMMAND = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/log"
case "$1" in fail) echo reason; exit 3;; esac
"""


def run_on(page):
    """(exit status, output, command lines seen)"""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        command = folder / "switchyard"
        command.write_text(COMMAND)
        command.chmod(0o755)
        (folder / "page.md").write_text(page)
        result = subprocess.run([sys.executable, TOOL, command, folder / "page.md"],
                                capture_output=True, text=True)
        log = folder / "log"
        return result.returncode, result.stdout, log.read_text().splitlines() if log.exists() else []


class CheckDocs(unittest.TestCase):
    def test_runs_commands_of_sh_and_console_blocks(self):
        status, _, calls = run_on("```sh\nswitchyard a\ncmake x\nbuild/release/bin/switchyard b\n```\n"
                                  "```console\n$ switchyard c\nswitchyard output\n```\n")
        self.assertEqual((status, calls), (0, ["a", "b", "c"]))

    def test_leaves_other_blocks_and_prose_alone(self):
        status, _, calls = run_on("switchyard a\n```text\nswitchyard b\n```\n```\nswitchyard c\n```\n")
        self.assertEqual((status, calls), (0, []))

    def test_joins_continued_lines_and_knows_pipes(self):
        status, _, calls = run_on("```sh\nswitchyard a \\\n  --b 1 \\\n  --c | cat\n```\n")
        self.assertEqual((status, calls), (0, ["a --b 1 --c"]))

    def test_a_failing_command_is_named_with_what_it_printed(self):
        status, output, calls = run_on("text\n```sh\nswitchyard fail\nswitchyard after\n```\n")
        self.assertEqual((status, calls), (1, ["fail", "after"]))
        self.assertIn("page.md:3: switchyard fail\nexit status 3\nreason", output)

    def test_dead_links_are_found(self):
        self.assertEqual(run_on("[a](page.md) [b](https://example.org/x)\n")[0], 0)
        status, output, _ = run_on("[a](nowhere.md#part)\n")
        self.assertEqual(status, 1)
        self.assertIn("page.md:1: nothing at nowhere.md", output)


if __name__ == "__main__":
    unittest.main()
