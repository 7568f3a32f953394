#include "plan/validate_routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "plan/plan_reference.h"
#include "plan/random_routing.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

// Large enough that several threads have work.
Routing valid_routing() {
  return random_routing({.seed = 11, .tokens = 3000, .experts = 16, .top_k = 6, .ragged = false});
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

TEST(ValidateRouting, AcceptsWhatIsValid) {
  Context context({.threads = 3, .isa = {}});
  Routing empty;
  empty.num_experts = 1;
  empty.token_begin = {0};
  for (const Routing& routing : {valid_routing(), empty}) {
    EXPECT_NO_THROW(validate(routing));
    EXPECT_NO_THROW(validate_routing(context, routing));
    EXPECT_TRUE(is_valid_reference(routing));
  }
}

struct Fault {
  std::string_view named;  ///< what the sentence must contain
  std::function<void(Routing&)> inject;
};

TEST(ValidateRouting, NamesTheFirstFaultOnAnyNumberOfThreads) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Fault kFaults[] = {
      {"num_tokens", [](Routing& r) { r.num_tokens = -1; }},
      {"token_begin", [](Routing& r) { ++r.num_tokens; }},
      {"num_experts", [](Routing& r) { r.num_experts = 0; }},
      {"num_experts", [](Routing& r) { r.num_experts = 1 << 30; }},
      {"weight has", [](Routing& r) { r.weight.pop_back(); }},
      {"token_begin[0]", [](Routing& r) { r.token_begin[0] = 1; }},
      {"token_begin[3000]", [](Routing& r) { --r.token_begin[3000]; }},
      {"token_begin[1500]", [](Routing& r) { r.token_begin[1500] = -5; }},
      {"token_begin[1500]", [](Routing& r) { r.token_begin[1500] = std::int64_t{1} << 60; }},
      {"token_begin[1500]", [](Routing& r) { r.token_begin[1500] -= 7; }},
      {"expert[9000] of token 1500 is -1", [](Routing& r) { r.expert[9000] = -1; }},
      {"expert[9000] of token 1500 is 16", [](Routing& r) { r.expert[9000] = 16; }},
      {"expert[17999]", [](Routing& r) { r.expert[17999] = r.expert[17994]; }},
      {"weight[9000] of token 1500 is nan", [](Routing& r) { r.weight[9000] = kNan; }},
      {"weight[9000]", [](Routing& r) { r.weight[17999] = r.weight[9000] = -kInf; }},
      {"expert[8999]", [](Routing& r) { r.expert[8999] = -7, r.weight[9000] = kNan; }},
  };
  for (const Fault& fault : kFaults) {
    Routing routing = valid_routing();
    fault.inject(routing);
    EXPECT_FALSE(is_valid_reference(routing)) << fault.named;
    const std::string sentence = error_of([&] { validate(routing); });
    EXPECT_NE(sentence.find(fault.named), std::string::npos) << fault.named << ": " << sentence;
    for (const int threads : {1, 2, 4}) {
      Context context({.threads = threads, .isa = {}});
      EXPECT_EQ(error_of([&] { validate_routing(context, routing); }), sentence);
    }
  }
}

}  // namespace
}  // namespace switchyard
