#include "base/context.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "switchyard/error.h"

namespace switchyard {
namespace {

class MaxIsa : public testing::Test {
 protected:
  MaxIsa() {
    const char* value = std::getenv("SWITCHYARD_MAX_ISA");
    if (value != nullptr) before_ = value;
  }
  ~MaxIsa() override { setenv("SWITCHYARD_MAX_ISA", before_.c_str(), 1); }
  std::string before_;
};

TEST_F(MaxIsa, CapsTheDefault) {
  for (const Isa isa : kAllIsas) {
    setenv("SWITCHYARD_MAX_ISA", std::string(name_of(isa)).c_str(), 1);
    EXPECT_LE(default_isa(), isa);
    EXPECT_EQ(isa_is_available(isa), default_isa() == isa) << name_of(isa);
  }
}

TEST_F(MaxIsa, NonsenseIsAnErrorThatListsTheNames) {
  setenv("SWITCHYARD_MAX_ISA", "nonsense", 1);
  try {
    Context context;
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("nonsense"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("avx2"), std::string::npos);
  }
}

TEST(Context, RefusesBadThreadCounts) {
  EXPECT_THROW(Context({.threads = -1, .isa = {}}), Error);
  EXPECT_THROW(Context({.threads = 1 << 20, .isa = {}}), Error);
  EXPECT_EQ(Context({.threads = 3, .isa = {}}).threads(), 3);
}

TEST(Context, AnIsaTheMachineLacksIsUnavailable) {
  for (const Isa isa : kAllIsas) {
    if (isa_is_available(isa)) {
      EXPECT_EQ(Context({.threads = 1, .isa = isa}).isa(), isa);
    } else {
      EXPECT_THROW(Context({.threads = 1, .isa = isa}), Error);
    }
  }
}

}  // namespace
}  // namespace switchyard
