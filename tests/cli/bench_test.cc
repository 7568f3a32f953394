// switchyard bench from end to end, on shapes that take milliseconds.

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "command.h"

namespace switchyard::test {
namespace {

using Json = nlohmann::json;

const std::string kSmall = " --hidden 37 --ffn 19 --experts 5 --top-k 3 --dtype f32 ";
const std::string kQuick = " --iters 3 --warmup 1 --cache warm -o jsonl ";

std::vector<Json> records_of(const std::string& line, int status = 0) {
  const Result result = run(line);
  EXPECT_EQ(result.status, status) << line << '\n' << result.err;
  return json_lines(result.out);
}

TEST(Bench, EveryTargetAndImplementationRuns) {
  const Result list = run("bench --list");
  ASSERT_EQ(list.status, 0);
  std::istringstream lines(list.out);
  std::string line;
  std::getline(lines, line);
  int targets = 0;
  while (std::getline(lines, line)) {
    const auto columns = words(line);
    const Result result =
        run("bench " + columns[0] + " --impl " + columns[1] + " --tokens 7" + kSmall + kQuick);
    const auto records = json_lines(result.out);
    EXPECT_FALSE(records.empty()) << columns[0];
    bool lacks_library = false;
    for (const Json& record : records) {
      EXPECT_EQ(record["bench"], columns[0]);
      // A build without oneDNN lacks these in bf16, and says so.
      const bool needs_library = record["impl"] == "loop" || record["impl"] == "padded";
      if (needs_library && record.value("error_code", "") == "unavailable") {
        lacks_library = true;
        continue;
      }
      ASSERT_TRUE(record["ok"].get<bool>()) << record;
      EXPECT_EQ(record["samples_ms"].size(), 3u);
      EXPECT_LE(record["check_rel_err"].get<double>(), record["check_tol"].get<double>());
    }
    EXPECT_EQ(result.status, lacks_library ? 5 : 0) << result.err;
    ++targets;
  }
  EXPECT_GE(targets, 9);
}

// Experts that choose leave tokens with any number of experts, and some with none.
TEST(Bench, EveryTargetTakesEveryStrategy) {
  std::string strategies;
  std::map<std::string, bool> is_causal;
  for (const Json& strategy : Json::parse(run("info strategies -o json").out)) {
    if (strategy["name"] == "soft_moe") continue;
    if (!strategies.empty()) strategies += ',';
    strategies += strategy["name"].get<std::string>();
    is_causal[strategy["name"]] = strategy["causal"];
  }
  for (const std::string target : {"topk", "router", "pack", "combine", "dispatch", "layer"}) {
    const auto records = records_of("bench " + target + " --strategy " + strategies +
                                    " --choice-capacity 0.7 --tokens 23" + kSmall + kQuick);
    EXPECT_EQ(records.size(), is_causal.size());
    for (const Json& record : records) {
      ASSERT_TRUE(record["ok"].get<bool>()) << record;
      EXPECT_EQ(record["causal"], is_causal[record["strategy"]]) << record["strategy"];
      if (record["strategy"] == "expert_choice") {
        EXPECT_EQ(record["load_cv"], 0);
        EXPECT_EQ(record["router_params"], "choice_capacity=0.7");
      }
    }
  }
}

TEST(Bench, MixingIsRefusedWhereNothingIsSent) {
  for (const std::string target : {"topk", "router", "pack", "combine", "dispatch"}) {
    const auto records =
        records_of("bench " + target + " --strategy soft_moe --tokens 7" + kSmall + kQuick, 2);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0]["error"],
              "strategy 'soft_moe' mixes all tokens: expected one that sends tokens to experts");
  }
  EXPECT_EQ(run("plan --strategy soft_moe --tokens 7" + kSmall).status, 2);
}

TEST(Bench, LayersThatMixAreMeasuredWithoutWhatDoesNotApply) {
  for (const std::string routing : {"uniform", "gate"}) {
    const auto records =
        records_of("bench layer --strategy soft_moe --slots-per-expert 1,3 --routing " + routing +
                   " --tokens 23" + kSmall + kQuick);
    ASSERT_EQ(records.size(), 2u);
    for (const Json& record : records) {
      ASSERT_TRUE(record["ok"].get<bool>()) << record;
      EXPECT_EQ(record["causal"], false);
      for (const char* const field : {"top_k", "layout", "load_cv", "drop_rate", "gate_entropy"}) {
        EXPECT_FALSE(record.contains(field)) << field;
      }
      EXPECT_GT(record["t_combine_ms"], 0);
    }
    // Router, dispatch, combine: 2 T S H each; experts 6 S H F.
    EXPECT_EQ(records[1]["flops"], 3 * 2.0 * 23 * 15 * 37 + 6.0 * 15 * 37 * 19);
  }
  const auto refused = records_of(
      "bench layer --strategy soft_moe --routing zipf:1 --tokens 7" + kSmall + kQuick, 2);
  EXPECT_NE(refused[0]["error"].get<std::string>().find("expected uniform or gate"),
            std::string::npos);
}

TEST(Bench, RecordsHoldWhatWasAskedFor) {
  const auto records = records_of(
      "bench pack --num_tokens 6 --d_model 32 --num-experts 4 --top_k 2"
      " --dtype half --seed 5 --threads 1 --routing zipf:1.5" +
      kQuick);
  ASSERT_EQ(records.size(), 1u);
  const Json& r = records[0];
  EXPECT_EQ(r["schema"], "switchyard/1");
  EXPECT_EQ(r["tokens"], 6);
  EXPECT_EQ(r["hidden"], 32);
  EXPECT_EQ(r["experts"], 4);
  EXPECT_EQ(r["top_k"], 2);
  EXPECT_EQ(r["dtype"], "f16");
  EXPECT_EQ(r["seed"], 5);
  EXPECT_EQ(r["threads"], 1);
  EXPECT_EQ(r["routing"], "zipf:1.5");
  EXPECT_EQ(r["command"].get<std::string>().rfind("switchyard bench pack --num_tokens 6", 0), 0u);
}

TEST(Bench, ListsAndRangesGiveTheCartesianProduct) {
  const auto records = records_of("bench topk --tokens 2:8:*2 --experts 4,9 --top-k 1,2" + kQuick);
  std::set<std::string> cells;
  for (const Json& r : records) {
    cells.insert(r["tokens"].dump() + "/" + r["experts"].dump() + "/" + r["top_k"].dump());
  }
  EXPECT_EQ(cells.size(), 12u);
  EXPECT_EQ(records.size(), 12u);
}

TEST(Bench, PermTakesBatchesOfSequencesAndAGivenBandwidth) {
  const Folder folder;
  const std::string csv = folder.file("perm.csv");
  const auto records = records_of(
      "bench perm --seq-len 8 --batch-sizes 1,2,4 --hidden 64 --experts 8 --top-k 2"
      " --impl sort,counting,atomic,mask_scan --peak-bw-gbs 25 --csv-out " +
      csv + kQuick);
  ASSERT_EQ(records.size(), 12u);
  for (const Json& r : records) {
    ASSERT_TRUE(r["ok"].get<bool>()) << r;
    EXPECT_EQ(r["seq_len"], 8);
    EXPECT_EQ(r["tokens"], 8 * r["batch_size"].get<int>());
    EXPECT_EQ(r["deterministic"], r["impl"] != "atomic");
    EXPECT_EQ(r["peak_bw_source"], "given");
    EXPECT_NEAR(r["peak_bw_GBps"].get<double>(), 25, 1e-9);
    // T*H elements read, T*K*H written
    const double bytes = r["tokens"].get<double>() * (1 + 2) * 64 * 2;
    EXPECT_NEAR(r["limit_ms"].get<double>(), bytes / 25e9 * 1e3, 1e-12);
    EXPECT_NEAR(r["bw_GBps_strict"].get<double>(), bytes / r["median_ms"].get<double>() * 1e-6,
                1e-9);
    EXPECT_NEAR(r["fraction_of_limit"].get<double>(), r["bw_GBps_strict"].get<double>() / 25, 1e-9);
  }
  const std::string table = read_file(csv);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 1 + 12);
  EXPECT_EQ(table.rfind("schema,bench,impl", 0), 0u);
}

TEST(Bench, CapacityTakesEveryAxisOfTheStudy) {
  const auto records = records_of(
      "bench capacity --capacity-factors 0.9,1.5 --experts 8,16 --top-k 1,2 --strategy softk,top1"
      " --routing uniform,zipf:1 --drop-policy position,probs --tokens 64 --hidden 8" +
      kQuick);
  ASSERT_EQ(records.size(), 64u);
  for (const Json& r : records) {
    ASSERT_TRUE(r["ok"].get<bool>()) << r;
    EXPECT_GT(r["tokens_per_s"].get<double>(), 0);
    EXPECT_GE(r["drop_rate"].get<double>(), 0);
    EXPECT_GE(r["dropless_capacity_factor"].get<double>(), 1);
  }
}

TEST(Bench, MeasuredBandwidthsSaySo) {
  const auto records =
      records_of("bench perm --batch-sizes 2 --hidden 32 --experts 4 --top-k 2" + kQuick);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0]["tokens"], 2 * 128);
  EXPECT_EQ(records[0]["peak_bw_source"], "measured");
}

TEST(Bench, RefusesTokensGivenTwiceAndACsvThatIsNone) {
  const auto refused = [](const std::string& options, const std::string& word) {
    const Result result = run("bench perm " + options);
    EXPECT_EQ(result.status, 2) << options;
    EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
  };
  refused("--tokens 4 --batch-sizes 2", "twice");
  refused("--batch-sizes 1000000 --seq-len 1000000", "product");
  refused("--csv-out perm.json", ".csv");
  refused("--out same.csv --csv-out same.csv", "two files");
}

TEST(Bench, ResumeTellsBatchesOfTheSameTokensApart) {
  const Folder folder;
  const std::string line =
      "bench perm --hidden 16 --experts 4 --top-k 2 --csv-out " + folder.file("p.csv") + kQuick;
  EXPECT_EQ(records_of(line + "--seq-len 4 --batch-sizes 2,4").size(), 2u);
  EXPECT_EQ(records_of(line + "--resume --seq-len 8 --batch-sizes 1,2").size(), 2u);
  EXPECT_EQ(records_of(line + "--resume --seq-len 4 --batch-sizes 1,2").size(), 1u);
  EXPECT_EQ(records_of(line + "--resume --tokens 8").size(), 1u);
}

TEST(Bench, ConfigSetsTheShapeAndOptionsWin) {
  const auto records =
      records_of("bench layer --config debug --ffn 64 --hidden 32 --tokens 3" + kQuick);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0]["config"], "debug");
  EXPECT_EQ(records[0]["experts"], 4);
  EXPECT_EQ(records[0]["top_k"], 2);
  EXPECT_EQ(records[0]["ffn"], 64);
  EXPECT_EQ(records[0]["hidden"], 32);
}

TEST(Bench, RouterImplementationsStandBesideEachOther) {
  const auto records = records_of(
      "bench router --impl fused_select,fused_logits,naive_topk,masked_matmul"
      " --batch-sizes 3 --seq-len 4 --skew-experts 1,2 --skew-bias 2.5" +
      kSmall + kQuick);
  ASSERT_EQ(records.size(), 8u);
  for (const Json& r : records) {
    EXPECT_TRUE(r["ok"].get<bool>()) << r;
    EXPECT_EQ(r["router"], "linear");
    EXPECT_EQ(r.contains("t_logit_ms"), r["impl"] != "fused_logits");
    for (const char* field : {"t_select_ms", "t_pack_ms", "t_route_ms", "z_loss", "balance_loss",
                              "sequence_balance_loss"}) {
      EXPECT_TRUE(r.contains(field)) << field << r;
    }
  }
  EXPECT_EQ(records[0]["routing"], "skew:1:2.5");
  EXPECT_EQ(records[7]["routing"], "skew:2:2.5");
  EXPECT_EQ(records[0]["balance_loss"], records[3]["balance_loss"]);
  EXPECT_NE(records[0]["balance_loss"], records[0]["sequence_balance_loss"]);
}

TEST(Bench, RoutersAreAnAxis) {
  const auto records =
      records_of("bench layer --router linear,mlp,mlp_hadamard --router-hidden 11 --tokens 5" +
                 kSmall + kQuick);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0]["router"], "linear");
  EXPECT_FALSE(records[0].contains("router_hidden"));
  EXPECT_EQ(records[2]["router"], "mlp_hadamard");
  EXPECT_EQ(records[2]["router_hidden"], 11);
}

TEST(Bench, MaskedMatmulSaysWhyItRefuses) {
  const auto records =
      records_of("bench router --impl masked_matmul --experts 128 --tokens 4" + kQuick, 2);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_NE(records[0]["error"].get<std::string>().find("at most 64, because"), std::string::npos);
}

TEST(Bench, SkewIsSpelledOneWayAtATime) {
  for (const std::string options :
       {"--skew-experts 2", "--skew-bias 1", "--skew-experts 2 --skew-bias 1 --routing uniform"}) {
    const Result result = run("bench router " + options);
    EXPECT_EQ(result.status, 2) << options;
    EXPECT_NE(result.err.find("--skew-"), std::string::npos) << result.err;
  }
}

TEST(Bench, FormatsAgree) {
  const std::string line = "bench topk --tokens 4 --experts 8 --top-k 2 --iters 3 --cache warm -o ";
  const Json array = Json::parse(run(line + "json").out);
  ASSERT_EQ(array.size(), 1u);
  EXPECT_EQ(array[0]["tokens"], 4);
  const std::string csv = run(line + "csv").out;
  EXPECT_EQ(csv.rfind("schema,bench,impl", 0), 0u);
  EXPECT_NE(csv.find("\nswitchyard/1,topk,"), std::string::npos);
  EXPECT_EQ(run(line + "md").out.find('|') == std::string::npos, false);
  EXPECT_NE(run(line + "table").out.find("topk"), std::string::npos);
}

TEST(Bench, DryRunMeasuresNothing) {
  const auto records = records_of("bench layer --config olmoe --tokens 1,1024 --dry-run -o jsonl");
  ASSERT_EQ(records.size(), 2u);
  for (const Json& r : records) {
    EXPECT_GT(r["memory_bytes"].get<double>(), 3e8);
    EXPECT_GT(r["flops"].get<double>(), 1e8);
    EXPECT_FALSE(r.contains("median_ms"));
    EXPECT_FALSE(r.contains("ok"));
  }
  // 6 * T * K * H * F, and the router's 2 * T * H * E
  EXPECT_NEAR(records[1]["flops"].get<double>(), 1024 * (6.0 * 8 * 2048 * 1024 + 2.0 * 2048 * 64),
              1e9);
}

TEST(Bench, WhatDoesNotFitIsARowAndTheSweepGoesOn) {
  const auto records = records_of(
      "bench layer --tokens 4,1000000000 --hidden 65536 --ffn 64 --experts 8 --top-k 8" + kQuick,
      5);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_TRUE(records[0]["ok"].get<bool>());
  EXPECT_FALSE(records[1]["ok"].get<bool>());
  EXPECT_EQ(records[1]["error_code"], "out_of_memory");
  EXPECT_FALSE(records[1].contains("median_ms"));
}

TEST(Bench, AStrategysBadParameterIsARowToo) {
  const auto records = records_of(
      "bench topk --tokens 4 --experts 8 --top-k 2 --strategy group_limited --n-group 3" + kQuick,
      2);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_FALSE(records[0]["ok"].get<bool>());
  EXPECT_NE(records[0]["error"].get<std::string>().find("n_group"), std::string::npos);
}

TEST(Bench, ResumeMeasuresOnlyWhatIsMissing) {
  for (const std::string suffix : {".jsonl", ".csv", ".json"}) {
    const Folder folder;
    const std::string out = folder.file("r" + suffix);
    const std::string line =
        "bench topk --experts 8 --top-k 2 --temperature 0.5 --out " + out + kQuick;
    EXPECT_EQ(records_of(line + "--tokens 2,3").size(), 2u);
    EXPECT_EQ(records_of(line + "--resume --tokens 2,3,4").size(), 1u) << suffix;
    EXPECT_EQ(records_of(line + "--resume --tokens 2,3,4").size(), 0u) << suffix;
    EXPECT_EQ(records_of(line + "--resume --tokens 2 --seed 1").size(), 1u) << suffix;
    EXPECT_EQ(records_of(line + "--resume --tokens 2 --strategy top1").size(), 1u) << suffix;
  }
}

TEST(Bench, ATornRowIsMeasuredAgain) {
  const Folder folder;
  const std::string out = folder.file("r.jsonl");
  const std::string line = "bench topk --tokens 2,3 --experts 8 --top-k 2 --out " + out + kQuick;
  records_of(line);
  const std::string whole = read_file(out);
  folder.write("r.jsonl", whole.substr(0, whole.size() - 40));
  EXPECT_EQ(records_of(line + "--resume").size(), 1u);
}

TEST(Bench, InterruptKeepsTheRowsAndSaysHowToResume) {
  for (const int number : {SIGINT, SIGTERM}) {
    const Folder folder;
    const std::string out = folder.file("r.jsonl");
    Process process(
        words("bench topk --tokens 4:400:+1 --experts 8 --top-k 2 --min-time 0.2 "
              "--cache warm --out " +
              out));
    for (int i = 0; i < 600 && json_lines(read_file(out)).empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    process.signal(number);
    const Result result = process.wait();
    EXPECT_EQ(result.status, 130);
    EXPECT_NE(result.err.find("--resume"), std::string::npos) << result.err;
    EXPECT_NE(result.out, "");
    EXPECT_FALSE(json_lines(read_file(out)).empty());
  }
}

TEST(Bench, AFullFileLosesNothing) {
  const Folder folder;
  const std::string out = folder.file("full.jsonl");
  std::filesystem::create_symlink("/dev/full", out);
  const Result result =
      run("bench topk --tokens 2,3 --experts 8 --top-k 2 --iters 3 --cache warm --out " + out);
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("No space left"), std::string::npos) << result.err;
  EXPECT_NE(result.out.find("\"samples_ms\":["), std::string::npos) << result.out;
}

TEST(Bench, AFileThatCannotBeCreatedIsRefusedAtOnce) {
  const Result result = run("bench layer --config mixtral --out /nonexistent/r.jsonl");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("/nonexistent/r.jsonl"), std::string::npos);
}

TEST(Bench, AStandardOutputThatFailsStillKeepsTheFile) {
  const Folder folder;
  const std::string out = folder.file("r.jsonl");
  const std::string line = "bench topk --tokens 2 --experts 8 --top-k 2 --out " + out + kQuick;
  EXPECT_EQ(run(line, {{}, "closed"}).status, 1);
  EXPECT_EQ(json_lines(read_file(out)).size(), 1u);
  EXPECT_EQ(run(line, {{}, "unread"}).status, 1);
  EXPECT_EQ(json_lines(read_file(out)).size(), 2u);
}

}  // namespace
}  // namespace switchyard::test
