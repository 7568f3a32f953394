#include "bench/weight_cache.h"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard {
namespace {

std::string key_of(const Cell& cell) {
  return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {}", cell.experts, cell.hidden, cell.ffn,
                     name_of(cell.dtype), name_of(cell.weights), cell.quant.group,
                     cell.quant.zero_points, name_of(cell.quant.search), cell.gated,
                     name_of(cell.activation), cell.seed, cell.threads,
                     cell.device == Device::cuda ? "cuda" : "cpu");
}

}  // namespace

void WeightCache::keep_for(std::span<const Cell> cells) {
  const std::string key = cells.empty() ? "" : key_of(cells[0]);
  if (key != key_) {
    raw_.reset();
    experts_of_impl_.clear();
    key_ = key;
  }
  std::erase_if(experts_of_impl_, [&](const auto& held) {
    if (!cells.empty() && cells[0].device == Device::cuda) return true;
    return std::none_of(cells.begin(), cells.end(),
                        [&](const Cell& cell) { return cell.impl == held.first; });
  });
}

std::int64_t WeightCache::bytes() const {
  std::int64_t bytes = raw_ ? raw_->bytes() : 0;
  for (const auto& held : experts_of_impl_) bytes += held.second->weight_bytes();
  return bytes;
}

void WeightCache::set_spare(std::int64_t bytes) {
  spare_ = bytes;
  if (raw_ && raw_->spare_bytes() > bytes) raw_.reset();
}

std::shared_ptr<const RawExperts> WeightCache::raw(Context& context, const Cell& cell) {
  if (!raw_) raw_ = std::make_shared<const RawExperts>(context, cell, spare_);
  return raw_;
}

std::shared_ptr<Experts> WeightCache::experts(Context& context, const Cell& cell) {
  const auto held = experts_of_impl_.find(cell.impl);
  if (held != experts_of_impl_.end()) return held->second;
  std::shared_ptr<Experts> made = raw(context, cell)->make(context, cell.impl);
  experts_of_impl_.emplace(cell.impl, made);
  return made;
}

std::int64_t WeightCache::bytes_of(std::string_view impl) const {
  const auto held = experts_of_impl_.find(impl);
  return held == experts_of_impl_.end() ? 0 : held->second->weight_bytes();
}

}  // namespace switchyard
