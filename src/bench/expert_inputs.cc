#include "bench/expert_inputs.h"

#include <algorithm>
#include <cmath>

#include "workload/tensors.h"

namespace switchyard {
namespace {

Matrix random_projection(Context& context, const Cell& cell, std::int64_t out, std::int64_t in,
                         std::uint64_t stream) {
  Matrix matrix(cell.weights, cell.experts * out, in);
  fill_uniform(context, matrix.view(), cell.seed, stream, 1.0f / std::sqrt(static_cast<float>(in)));
  return matrix;
}

ConstMatricesView per_expert(const Matrix& matrix, const Cell& cell, std::int64_t rows) {
  const MatrixView all = matrix.view();
  return {all.data, all.dtype, cell.experts, rows, all.cols, all.cols, rows * all.cols};
}

}  // namespace

RawExperts::RawExperts(Context& context, const Cell& cell)
    : up_(random_projection(context, cell, cell.ffn, cell.hidden, 1)),
      down_(random_projection(context, cell, cell.hidden, cell.ffn, 2)) {
  weights_.up = per_expert(up_, cell, cell.ffn);
  weights_.down = per_expert(down_, cell, cell.hidden);
  weights_.activation = cell.activation;
  if (cell.gated) {
    gate_ = random_projection(context, cell, cell.ffn, cell.hidden, 3);
    weights_.gate = per_expert(gate_, cell, cell.ffn);
  }
}

std::vector<std::string_view> expert_implementations_ours_first() {
  const auto all = expert_implementations();
  std::vector<std::string_view> names(all.begin(), all.end());
  std::stable_partition(names.begin(), names.end(),
                        [](std::string_view name) { return name == "grouped"; });
  return names;
}

void add_kernel(Record& record, const Experts& experts) {
  record["isa"] = experts.isa();
  if (record["impl"] != "grouped") record["library"] = experts.kernel();
}

}  // namespace switchyard
