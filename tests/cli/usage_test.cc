// What the command says of itself, and what it says when it is misused.

#include <gtest/gtest.h>

#include "command.h"

namespace switchyard::test {
namespace {

const std::vector<std::string> kVerbs = {"bench", "info", "layout", "trace", "plan"};

/// A run that must fail as usage, with every piece of text in its sentence.
void expect_refused(const std::string& line, const std::vector<std::string>& pieces,
                    const Setting& setting = {}) {
  const Result result = run(line, setting);
  EXPECT_EQ(result.status, 2) << line << '\n' << result.err;
  EXPECT_EQ(result.out, "") << line;
  for (const std::string& piece : pieces) {
    EXPECT_NE(result.err.find(piece), std::string::npos) << line << ": " << result.err;
  }
}

TEST(Usage, FirstLineOfHelpIsAnExample) {
  const Result top = run("--help");
  EXPECT_EQ(top.status, 0);
  EXPECT_EQ(top.out.rfind("switchyard ", 0), 0u);
  for (const std::string& verb : kVerbs) {
    EXPECT_NE(top.out.find("\n  " + verb), std::string::npos);
    const Result help = run(verb + " --help");
    EXPECT_EQ(help.status, 0) << verb;
    EXPECT_EQ(help.out.rfind("switchyard " + verb, 0), 0u) << help.out;
    EXPECT_EQ(help.err, "");
  }
}

TEST(Usage, HelpFitsATerminal) {
  for (const std::string& verb : kVerbs) {
    const std::string help = run(verb + " --help").out;
    for (std::size_t begin = 0, end; (end = help.find('\n', begin)) != std::string::npos;) {
      EXPECT_LE(end - begin, 100u) << help.substr(begin, end - begin);
      begin = end + 1;
    }
  }
}

TEST(Usage, VersionNamesCommitCompilerAndParts) {
  const Result result = run("--version");
  EXPECT_EQ(result.status, 0);
  for (const std::string piece : {"switchyard 0.", "commit ", "ONEDNN", "OPENBLAS"}) {
    EXPECT_NE(result.out.find(piece), std::string::npos) << result.out;
  }
}

TEST(Usage, NothingAskedIsUsage) {
  const Result result = run("");
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("Usage: switchyard VERB"), std::string::npos);
}

TEST(Usage, UnknownNamesAreRefusedWithTheNearest) {
  expect_refused("bnech layer", {"unknown verb 'bnech'", "did you mean bench?"});
  expect_refused("bench layr", {"'layr'", "did you mean layer?"});
  expect_refused("bench layer --tokns 4", {"'--tokns'", "did you mean --tokens?"});
  expect_refused("bench layer --strategy topk_sofmax", {"'topk_sofmax'", "mean topk_softmax?"});
  expect_refused("bench layer --config olmo", {"'olmo'", "did you mean olmoe?"});
  expect_refused("bench layer --dtype bf61", {"'bf61'", "did you mean bf16?"});
  expect_refused("bench layer --weights f23", {"'f23'", "did you mean f32?"});
  expect_refused("bench layer --impl groupd", {"'groupd'", "did you mean grouped?"});
  expect_refused("bench layer --layout compct", {"'compct'", "did you mean compact?"});
  expect_refused("bench layer --drop-policy prob", {"'prob'", "did you mean probs?"});
  expect_refused("bench layer --activation sliu", {"'sliu'", "did you mean silu?"});
  expect_refused("bench layer --device gpu", {"'gpu'", "cpu, cuda"});
  expect_refused("bench layer --cache cool", {"'cool'", "did you mean cold?"});
  expect_refused("bench layer -o jsno", {"'jsno'", "did you mean json"});
  expect_refused("bench layer --routing unifrom", {"'unifrom'", "uniform"});
  expect_refused("info strategie", {"'strategie'", "did you mean strategies?"});
  expect_refused("trace stat x", {"'stat'", "did you mean stats?"});
}

TEST(Usage, SizesAreChecked) {
  expect_refused("bench layer --tokens 0", {"--tokens", "0"});
  expect_refused("bench layer --tokens -4", {"--tokens", "-4"});
  expect_refused("bench layer --hidden 99999999999999999999", {"--hidden", "too large"});
  expect_refused("bench layer --experts many", {"--experts", "'many'", "number"});
  expect_refused("bench layer --ffn 1.5", {"--ffn", "1.5"});
  expect_refused("bench layer --tokens 8:4:*2", {"--tokens", "backwards"});
  expect_refused("bench layer --tokens 4,,8", {"--tokens"});
  expect_refused("bench layer --min-time -1", {"--min-time", "-1"});
  expect_refused("bench layer --iters 0", {"--iters", "0"});
  expect_refused("bench layer --capacity-factor nan", {"--capacity-factor", "nan"});
  expect_refused("bench layer --experts 4 --top-k 5", {"--top-k 5", "--experts 4"});
  expect_refused("bench layer --threads 0", {"--threads"});
}

TEST(Usage, ArgumentsAreChecked) {
  expect_refused("bench", {"target", "bench layer"});
  expect_refused("bench layer pack", {"unexpected argument 'pack'"});
  expect_refused("bench layer --tokens", {"--tokens", "needs a value"});
  expect_refused("bench layer --tokens=", {"--tokens", "needs a value"});
  expect_refused("bench layer --tokens 4 --tokens 5", {"--tokens"});
  expect_refused("bench layer --out --dry-run", {"--out", "needs a value"});
  expect_refused("bench layer --dry-run=yes", {"--dry-run", "no value"});
  expect_refused("bench layer --resume", {"--resume", "--out"});
  expect_refused("bench layer --out records.txt", {"records.txt", ".jsonl"});
  expect_refused("trace stats", {"FILE"});
}

TEST(Usage, AnUnknownInstructionSetIsRefusedByEveryVerb) {
  const Setting setting{{{"SWITCHYARD_MAX_ISA", "nonsense"}}, ""};
  for (const std::string line : {"info", "bench --list", "plan"}) {
    expect_refused(line, {"SWITCHYARD_MAX_ISA", "nonsense", "portable", "avx512"}, setting);
  }
}

TEST(Usage, CudaIsAbsentInPlainWords) {
  const Result result = run("bench layer --device cuda");
  EXPECT_EQ(result.status, 5);
  EXPECT_NE(result.err.find("device cuda is not available"), std::string::npos);
}

TEST(Usage, OutputThatCannotBeWrittenIsAFailure) {
  EXPECT_EQ(run("info", {{}, "/dev/full"}).status, 1);
  EXPECT_NE(run("info", {{}, "/dev/full"}).err.find("standard output"), std::string::npos);
  EXPECT_EQ(run("info", {{}, "closed"}).status, 1);
  const Result unread = run("--help", {{}, "unread"});
  EXPECT_EQ(unread.status, 1);
  EXPECT_EQ(unread.err, "");
}

}  // namespace
}  // namespace switchyard::test
