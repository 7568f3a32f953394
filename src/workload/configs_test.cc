#include "workload/configs.h"

#include <gtest/gtest.h>

#include <string>

#include "switchyard/error.h"

namespace switchyard {
namespace {

TEST(Configs, EveryOneIsFoundByItsNameAndIsALayer) {
  for (const NamedConfig& config : named_configs()) {
    EXPECT_EQ(&find_config(config.name), &config);
    EXPECT_GE(config.hidden, 1);
    EXPECT_GE(config.ffn, 1);
    EXPECT_GE(config.top_k, 1);
    EXPECT_GE(config.experts, config.top_k);
  }
  EXPECT_EQ(find_config("olmoe").experts, 64);
  EXPECT_EQ(find_config("deepseek-v3").hidden, 7168);
}

TEST(Configs, ATypoIsAnErrorWithASuggestion) {
  try {
    find_config("mixtrl");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("did you mean mixtral?"), std::string::npos);
  }
}

}  // namespace
}  // namespace switchyard
