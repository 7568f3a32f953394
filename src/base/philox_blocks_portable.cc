#include "base/philox.h"
#include "base/philox_blocks.h"

namespace switchyard {

void philox_blocks_portable(const PhiloxBlocks& args) noexcept {
  const Philox random(args.seed, args.stream);
  std::uint32_t* words = args.words;
  for (std::int64_t b = 0; b < args.count; ++b) {
    for (const std::uint32_t word : random.block(args.first + static_cast<std::uint64_t>(b))) {
      *words++ = word;
    }
  }
}

}  // namespace switchyard
