#include "base/arena.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Arena, PiecesAreAlignedAndDisjoint) {
  Arena arena;
  Arena::Scope scope(arena);
  const auto a = scope.take<char>(3);
  const auto b = scope.take<double>(100000);
  const auto c = scope.take<int>(1);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % 64, 0u);
  for (char& x : a) x = 1;
  for (double& x : b) x = 2;
  c[0] = 3;
  EXPECT_EQ(a[2], 1);
  EXPECT_EQ(b[99999], 2.0);
}

TEST(Arena, SecondScopeOfASizeReusesTheMemory) {
  Arena arena;
  const auto take = [&] {
    Arena::Scope scope(arena);
    scope.take<char>(100);
    return scope.take<char>(1 << 20).data();
  };
  take();
  const char* second = take();
  EXPECT_EQ(second, take());
}

TEST(Arena, KnowsTheMostThatWasTakenAtOnce) {
  Arena arena;
  for (const int pieces : {1, 3, 2}) {
    Arena::Scope scope(arena);
    for (int i = 0; i < pieces; ++i) scope.take<float>(1024);
  }
  EXPECT_EQ(arena.high_water(), 3 * 4096);
}

TEST(Arena, NestedScopesGiveBackOnlyTheirOwn) {
  Arena arena;
  Arena::Scope outer(arena);
  auto kept = outer.take<int>(4);
  kept[0] = 7;
  {
    Arena::Scope inner(arena);
    inner.take<int>(1000)[0] = 9;
  }
  EXPECT_EQ(kept[0], 7);
}

}  // namespace
}  // namespace switchyard
