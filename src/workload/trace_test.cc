#include "workload/trace.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "switchyard/error.h"
#include "workload/trace_lines.h"

namespace switchyard {
namespace {

Trace read_text(const std::string& text, std::string_view layer = {}) {
  std::istringstream in(text);
  return read_trace(in, "t", layer);
}

void expect_error(const std::string& text, ErrorCode code, std::string_view piece,
                  std::string_view layer = {}) {
  try {
    read_text(text, layer);
    ADD_FAILURE() << "accepted: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(piece), std::string::npos) << error.what();
  }
}

void expect_bad_data(const std::string& text, std::string_view piece) {
  expect_error(text, ErrorCode::invalid_data, piece);
}

bool has_note(const Trace& trace, std::string_view piece) {
  return std::any_of(trace.notes.begin(), trace.notes.end(), [&](const std::string& note) {
    return note.find(piece) != std::string::npos;
  });
}

std::string route(int layer, const std::string& ids, const std::string& weights) {
  return fmt::format(
      "{{\"type\":\"route\",\"req_id\":\"r1\",\"layer\":{},\"token_idx\":0,"
      "\"topk_ids\":[{}],\"topk_weights\":[{}]}}\n",
      layer, ids, weights);
}

std::string route(int layer, const std::string& ids) {
  return fmt::format("{{\"type\":\"route\",\"layer\":{},\"topk_ids\":[{}]}}\n", layer, ids);
}

using Ids = std::vector<std::int32_t>;

TEST(VllmTrace, ReadsTokensInOrder) {
  const Trace trace = read_text(route(7, "3, 1", "0.75, 0.25") + route(7, "0, 2", "0.5, 0.5"));
  EXPECT_EQ(trace.format, TraceFormat::vllm);
  EXPECT_EQ(trace.layer, "7");
  EXPECT_EQ(trace.tokens, 2);
  EXPECT_EQ(trace.top_k, 2);
  EXPECT_EQ(trace.experts, 4);
  EXPECT_EQ(trace.expert, (Ids{3, 1, 0, 2}));
  EXPECT_EQ(trace.weight, (std::vector<float>{0.75f, 0.25f, 0.5f, 0.5f}));
  EXPECT_EQ(trace.load, (std::vector<std::int64_t>{1, 1, 1, 1}));
  EXPECT_TRUE(trace.notes.empty());
}

TEST(VllmTrace, MetaLineBlankLinesByteOrderMarkAndLineEndsOfWindows) {
  const Trace trace = read_text(
      "\xef\xbb\xbf{\"type\":\"meta\",\"model_id\":\"m\",\"top_k\":2,\"num_experts\":8}\r\n"
      "\r\n{\"type\":\"route\",\"layer\":0,\"topk_ids\":[1,2]}\r\n\n"
      "{\"type\":\"end\"}\n{\"layer\":0,\"topk_ids\":[3,0]}");
  EXPECT_EQ(trace.experts, 8);
  EXPECT_EQ(trace.expert, (Ids{1, 2, 3, 0}));
  EXPECT_TRUE(has_note(trace, "skipped 1 records"));
  EXPECT_TRUE(has_note(trace, "no weights: every one is 1/2"));
}

TEST(VllmTrace, LayersAreChosenByName) {
  const std::string text = route(3, "0,1") + route(11, "5,4,6") + route(3, "1,0");
  const Trace first = read_text(text);
  EXPECT_EQ(first.layer, "3");
  EXPECT_EQ(first.tokens, 2);
  EXPECT_TRUE(has_note(first, "took layer 3, the first of 2"));
  const Trace other = read_text(text, "11");
  EXPECT_EQ(other.top_k, 3);
  EXPECT_EQ(other.expert, (Ids{5, 4, 6}));
  expect_error(text, ErrorCode::invalid_argument, "no layer '1': expected one of 3, 11", "1");

  std::istringstream in(text);
  const auto layers = read_trace_layers(in, "t");
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0].tokens, 2);
  EXPECT_EQ(layers[1].layer, "11");
}

TEST(VllmTrace, IdenticalRowsAtTheBeginningAreDropped) {
  std::string warm_up;
  for (int i = 0; i < 16; ++i) warm_up += route(0, "1,2", "0.5,0.5");
  const Trace trace = read_text(warm_up + route(0, "2,1", "0.6,0.4") + warm_up);
  EXPECT_EQ(trace.tokens, 17) << "only at the beginning";
  EXPECT_EQ(trace.weight.size(), 34u);
  EXPECT_TRUE(has_note(trace, "dropped 16 identical warm-up rows"));
  EXPECT_EQ(trace.load[1], 17) << "the load is of what is left";

  const Trace constant = read_text(warm_up);
  EXPECT_EQ(constant.tokens, 16);
  EXPECT_TRUE(has_note(constant, "all 16 rows are identical: kept"));

  std::string few;
  for (int i = 0; i < 15; ++i) few += route(0, "1,2");
  EXPECT_EQ(read_text(few + route(0, "2,1")).tokens, 16);
}

TEST(VllmTrace, DamageIsNamedWithItsLine) {
  const std::string good = route(0, "0,1", "0.5,0.5");
  expect_bad_data(good + route(0, "0,1,2", "1,1,1"), "t:2: a token has 3 experts: expected 2");
  expect_bad_data(good + route(0, "0,-1", "1,1"), "t:2: expert is -1: expected 0 to 65535");
  expect_bad_data(good + route(0, "0,65536", "1,1"), "expert is 65536");
  expect_bad_data(good + route(0, "0,99999999999999999999", "1,1"), "topk_ids is not an integer");
  expect_bad_data(good + route(0, "0,1.5", "1,1"), "topk_ids is not an integer");
  expect_bad_data(good + route(0, "4,4", "1,1"), "expert 4 twice");
  expect_bad_data(good + route(0, "", ""), "no experts");
  expect_bad_data(good + route(0, "0,1", "0.5"), "1 weights: expected one for each of its 2");
  expect_bad_data(good + route(0, "0,1", "-0.5,1"), "a weight is -0.5");
  expect_bad_data(good + route(0, "0,1", "1e39,1"), "a weight is 1e+39");
  expect_bad_data(good + route(0, "0,1", "1e999,1"), "t:2: holds a number");
  expect_bad_data(good + route(0, "0,1", "NaN,1"), "t:2: is not JSON at column");
  expect_bad_data(good + route(0, "0,1", "NaN,1"), "'NaN");
  expect_bad_data(good + route(0, "0,1", "null,1"), "topk_weights holds a JSON null");
  expect_bad_data(good + route(0, "0,1"), "0 weights: earlier tokens of layer 0 had 2");
  expect_bad_data(good + good.substr(0, 50), "t:2: is truncated JSON");
  expect_bad_data(good + "{\"layer\":0}\n", "t:2: has no 'topk_ids'");
  expect_bad_data(good + "{\"topk_ids\":[1,2],\"topk_weights\":[1,1]}\n", "t:2: has no 'layer'");
  expect_bad_data(good + "{\"layer\":0,\"topk_ids\":7}\n", "topk_ids is a JSON number");
  expect_bad_data(good + "{\"type\":7}\n", "type is a JSON number");
  expect_bad_data(good + "[1,2]\n", "t:2: is a JSON array: expected an object");
  expect_bad_data("{\"type\":\"meta\"}\n", "holds no routing");
  expect_bad_data("{\"type\":\"meta\",\"num_experts\":2}\n" + route(0, "2,1"),
                  "t:2: expert is 2: expected 0 to 1");
  expect_bad_data("{\"type\":\"meta\",\"num_experts\":0}\n" + good, "number of experts is 0");
}

std::string megatron(int layer, const std::string& rows, const std::string& more = "") {
  return fmt::format(
      "{{\"step\":0,\"stage\":\"pre_dispatch\",\"block\":\"decoder\",\"layer\":{},"
      "\"rank\":0{},\"top_indices\":[{}]}}\n",
      layer, more, rows);
}

TEST(MegatronTrace, StepsOfALayerFollowEachOther) {
  const std::string text = megatron(3, "[0,1],[4,2]", ",\"num_tokens\":2,\"topk\":2") +
                           megatron(4, "[7,6]") + megatron(3, "", ",\"num_tokens\":0") +
                           megatron(3, "[3,0]") + megatron(3, "[5,1]", ",\"mtp_idx\":0") +
                           "{\"stage\":\"post_dispatch\",\"layer\":3,\"top_indices\":[[9,8]]}\n";
  const Trace trace = read_text(text);
  EXPECT_EQ(trace.format, TraceFormat::megatron);
  EXPECT_EQ(trace.layer, "3");
  EXPECT_EQ(trace.expert, (Ids{0, 1, 4, 2, 3, 0}));
  EXPECT_TRUE(trace.weight.empty());
  EXPECT_TRUE(has_note(trace, "the first of 3 layers"));
  EXPECT_TRUE(has_note(trace, "skipped 1 records of other stages"));
  EXPECT_EQ(read_text(text, "mtp.0/3").expert, (Ids{5, 1}));
  EXPECT_EQ(read_text(text, "3").tokens, 3) << "the exact name wins";
}

TEST(MegatronTrace, DamageIsNamedWithItsLine) {
  expect_bad_data(megatron(3, "[0,1]", ",\"num_tokens\":5"), "t:1: num_tokens is 5: expected 1");
  expect_bad_data(megatron(3, "[0,1]", ",\"topk\":3"), "topk is 3: expected 2");
  expect_bad_data(megatron(3, "[0,1],[2]"), "a token has 1 experts: expected 2");
  expect_bad_data(megatron(3, "[0,1],7"), "a row of top_indices is a JSON number");
  expect_bad_data("{\"top_indices\":3}\n", "top_indices is not an array");
  expect_bad_data("{\"top_indices\":[[0]]}\n", "has no 'layer'");
  expect_bad_data(megatron(3, "[0,1]") + route(0, "1,2"), "t:2: has no 'top_indices'");
}

TEST(SglangTrace, ReadsLoads) {
  const std::string text = "layer_id, expert_id, count\n0,0,5\n0,2,7\n1,0,9\n";
  const Trace trace = read_text(text);
  EXPECT_EQ(trace.format, TraceFormat::sglang);
  EXPECT_TRUE(trace.is_loads_only());
  EXPECT_EQ(trace.experts, 3);
  EXPECT_EQ(trace.load, (std::vector<std::int64_t>{5, 0, 7}));
  EXPECT_TRUE(has_note(trace, "took layer 0"));
  EXPECT_TRUE(has_note(trace, "loads only"));
  EXPECT_EQ(read_text(text, "1").load, (std::vector<std::int64_t>{9}));
}

TEST(SglangTrace, DamageIsNamedWithItsLine) {
  const std::string header = "layer_id,expert_id,count\n";
  expect_bad_data(header, "holds no routing");
  expect_bad_data(header + "0,1\n", "t:2: has only 2 fields: expected 3");
  expect_bad_data(header + "0,1,2,3\n", "t:2: has more than 3 fields");
  expect_bad_data(header + "0,1,x\n", "count is 'x'");
  expect_bad_data(header + "0,1,\n", "count is ''");
  expect_bad_data(header + "0,1,-4\n", "count is -4");
  expect_bad_data(header + "0,1,9223372036854775807\n", "count is 9223372036854775807");
  expect_bad_data(header + "0,1,nan\n", "count is 'nan'");
  expect_bad_data(header + "0,-1,4\n", "expert is -1");
  expect_bad_data(header + "0,1,4\n0,1,5\n", "t:3: expert 1 of layer 0 has a second count");
}

TEST(CountsTrace, ARunIsChosenByTheLastPartsOfItsName) {
  const std::string text =
      "model,selection,domain,layer,expert,count\n"
      "olmoe,topk,wikipedia,0,0,3\nolmoe,topk,wikipedia,7,1,4\nolmoe,topk,arxiv,7,0,5\n";
  expect_error(text, ErrorCode::invalid_argument,
               "several runs: expected a layer from olmoe/topk/wikipedia/0, ");
  expect_error(text, ErrorCode::invalid_argument, "2 layers '7': expected a whole name", "7");
  expect_error(text, ErrorCode::invalid_argument, "no layer 'pedia/0'", "pedia/0");
  EXPECT_EQ(read_text(text, "olmoe/topk/arxiv/7").load, (std::vector<std::int64_t>{5}));
  EXPECT_EQ(read_text(text, "wikipedia/7").load, (std::vector<std::int64_t>{0, 4}));
  EXPECT_EQ(read_text(text, "0").layer, "olmoe/topk/wikipedia/0");
}

TEST(CountsTrace, OneRunNeedsNoChoice) {
  const Trace trace = read_text(
      "\"model\",\"selection\",\"domain\",\"layer\",\"expert\",\"count\"\n"
      "m,topk,d,7,0,3\nm,topk,d,0,0,9\n");
  EXPECT_EQ(trace.format, TraceFormat::counts);
  EXPECT_EQ(trace.layer, "m/topk/d/7");
}

TEST(CountsTrace, NamesMustBePrintable) {
  expect_bad_data("model,selection,domain,layer,expert,count\n\xff\x01,a,b,0,0,1\n", "is no name");
}

TEST(Trace, WhatIsNoTraceIsSaid) {
  expect_bad_data("", "t: is empty");
  expect_bad_data("\n \n\r\n", "t: is empty");
  expect_bad_data("hello\n", "t:1: 'hello' begins no known trace");
  expect_bad_data("a,b,c\n1,2,3\n", "begins no known trace");
  expect_bad_data("{\"x\":1}\n", "without 'topk_ids'");
  expect_bad_data("{\n", "truncated JSON");
  expect_bad_data(std::string("\x1f\x8b\x08\0\0\0", 6), "is binary");
  expect_bad_data("\x89PNG\r\n", "'?PNG' begins no known trace");
}

TEST(Trace, ALineWithoutEndIsRefusedBeforeItIsHeld) {
  expect_bad_data(std::string(LineReader::kMaxLineBytes + 1, 'x'), "t:1: is longer than 64 MiB");
}

TEST(Trace, DeepNestingIsNoCrash) {
  expect_bad_data("{\"a\":" + std::string(200000, '['), "truncated JSON");
}

TEST(Trace, FilesThatCannotBeReadAreNamed) {
  const auto expect_io = [](const std::string& path, std::string_view piece) {
    try {
      read_trace(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::io);
      EXPECT_NE(std::string(error.what()).find(piece), std::string::npos) << error.what();
    }
  };
  expect_io("/nonexistent/trace.jsonl", "No such file");
  expect_io(std::filesystem::temp_directory_path().string(), "is a directory");
}

// Whatever a file holds, reading it ends in a trace or in an Error.
TEST(Trace, NoiseEndsInAnError) {
  const bool ok = rc::check("noise", [] {
    std::string text = route(0, "1,2", "0.5,0.5") + megatron(1, "[1,2],[3,4]") + route(1, "3,4");
    const int edits = *rc::gen::inRange(1, 6);
    for (int i = 0; i < edits; ++i) {
      const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
      text[at] = *rc::gen::arbitrary<char>();
    }
    text.resize(*rc::gen::inRange<std::size_t>(0, text.size() + 1));
    try {
      const Trace trace = read_text(text);
      RC_ASSERT(static_cast<std::int64_t>(trace.expert.size()) == trace.tokens * trace.top_k);
      RC_ASSERT(static_cast<int>(trace.load.size()) == trace.experts);
    } catch (const Error& error) {
      RC_ASSERT(!std::string(error.what()).empty());
    }
  });
  EXPECT_TRUE(ok);
}

/// The recorded trace that lies beside checkouts of this project, where there is one.
std::filesystem::path recorded_trace() {
  const char* const folder = std::getenv("SWITCHYARD_DATA");
  const std::filesystem::path data =
      folder != nullptr ? std::filesystem::path(folder)
                        : std::filesystem::path(SWITCHYARD_SOURCE_DIR) / ".." / "shared" / "data";
  return data / "routing" / "olmoe_layer7_tokens.jsonl";
}

TEST(Trace, TheRecordedOlmoeTraceHasItsKnownLoad) {
  const auto path = recorded_trace();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const Trace trace = read_trace(path.string());
  EXPECT_EQ(trace.tokens, 8192);
  EXPECT_EQ(trace.experts, 64);
  EXPECT_EQ(trace.top_k, 8);
  EXPECT_EQ(trace.layer, "7");
  const auto largest = *std::max_element(trace.load.begin(), trace.load.end());
  EXPECT_NEAR(static_cast<double>(largest) * 64 / (8192 * 8), 5.36, 0.005);
}

}  // namespace
}  // namespace switchyard
