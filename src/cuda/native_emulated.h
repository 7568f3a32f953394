#pragma once

#include <functional>
#include <vector>

#include "cuda/gpu.h"

namespace switchyard::cuda {

using Work = std::function<void()>;

struct Gpu::Native {
  /// Does `work` now, or records it.
  void submit(Work work) {
    if (recording != nullptr) {
      recording->push_back(std::move(work));
    } else {
      work();
    }
  }

  std::vector<Work>* recording = nullptr;
  std::uint64_t num_grids = 0;  ///< run so far: the seed of the next one's order
};

}  // namespace switchyard::cuda
