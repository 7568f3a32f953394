#include "report/fields.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"

namespace switchyard {
namespace {

// What names mention first, in this order; other identity fields follow in the schema's.
constexpr std::string_view kFirst[] = {
    "bench",   "config", "impl",   "strategy", "layout",  "routing", "batch_size",
    "seq_len", "tokens", "hidden", "ffn",      "experts", "top_k",   "capacity_factor"};

// Where and with what a cell was measured.
constexpr std::string_view kProvenance[] = {"isa",     "library", "cpu",      "gpu",      "host",
                                            "version", "git_sha", "compiler", "timestamp"};

std::vector<std::string_view> all_naming_fields() {
  std::vector<std::string_view> fields(std::begin(kFirst), std::end(kFirst));
  for (const RecordField& field : record_fields()) {
    const bool is_there = std::find(fields.begin(), fields.end(), field.name) != fields.end();
    if (field.is_identity && !is_there && field.name != "seed") fields.push_back(field.name);
  }
  fields.push_back("seed");
  fields.insert(fields.end(), std::begin(kProvenance), std::end(kProvenance));
  return fields;
}

struct Symbol {
  std::string_view field;
  std::string_view before;
  std::string_view after;
};

constexpr Symbol kSymbols[] = {
    {"tokens", "T ", ""},
    {"batch_size", "batch ", ""},
    {"seq_len", "sequence length ", ""},
    {"hidden", "H ", ""},
    {"ffn", "F ", ""},
    {"experts", "E ", ""},
    {"top_k", "K ", ""},
    {"capacity_factor", "capacity ", ""},
    {"threads", "", " threads"},
    {"ranks", "", " ranks"},
    {"seed", "seed ", ""},
    {"weights", "", " weights"},
    {"drop_policy", "drops by ", ""},
    {"git_sha", "commit ", ""},
    {"device", "", ""},
};

struct Title {
  std::string_view field;
  std::string_view title;
};

constexpr Title kTitles[] = {
    {"tokens", "tokens, T"},
    {"batch_size", "batch size, sequences"},
    {"seq_len", "sequence length, tokens"},
    {"hidden", "elements of a token row, H"},
    {"ffn", "width of an expert, F"},
    {"experts", "experts, E"},
    {"top_k", "experts per token, K"},
    {"capacity_factor", "capacity factor"},
    {"median_ms", "median time"},
    {"tokens_per_s", "tokens per second"},
    {"tflops", "useful work"},
    {"bw_GiBps_strict", "effective bandwidth"},
    {"fraction_of_limit", "of the limit"},
    {"drop_rate", "dropped assignments"},
    {"token_drop_rate", "tokens that lost every assignment"},
    {"routing_share", "time that is not the experts'"},
    {"load_max_over_mean", "load of the busiest expert over the mean"},
    {"load_cv", "coefficient of variation of the load"},
    {"check_rel_err", "relative error"},
};

constexpr std::string_view kShares[] = {"fraction_of_limit", "drop_rate", "token_drop_rate",
                                        "routing_share"};

template <class Table>
const auto* find_in(const Table& table, std::string_view field) {
  const auto* found = std::find_if(std::begin(table), std::end(table),
                                   [&](const auto& row) { return row.field == field; });
  return found == std::end(table) ? nullptr : found;
}

bool goes_without_saying(const Record& record, std::string_view field) {
  if (field == "bench" || field == "seed" || field == "git_sha" || field == "cpu") return true;
  if (field == "host" || field == "version" || field == "compiler") return true;
  if (field == "timestamp" || field == "activation" || field == "library") return true;
  if (field == "ranks") return number_of(record, field) == 1;
  if (field == "device") return text_of(record, field) == "cpu";
  if (field == "capacity_factor") return number_of(record, field) == 0;
  if (field == "weights") return text_of(record, field) == text_of(record, "dtype");
  if (field == "drop_policy") return number_of(record, "capacity_factor").value_or(0) == 0;
  return false;
}

// The number of bytes of the UTF-8 sequence that `text` begins with, 0 when it is none.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t length = byte(0) < 0x80                      ? 1
                             : byte(0) >= 0xc2 && byte(0) < 0xe0 ? 2
                             : byte(0) >= 0xe0 && byte(0) < 0xf0 ? 3
                             : byte(0) >= 0xf0 && byte(0) < 0xf5 ? 4
                                                                 : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF are told by the second byte.
  if (byte(0) == 0xe0 && byte(1) < 0xa0) return 0;
  if (byte(0) == 0xed && byte(1) >= 0xa0) return 0;
  if (byte(0) == 0xf0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xf4 && byte(1) >= 0x90) return 0;
  return length;
}

}  // namespace

std::optional<double> number_of(const Record& record, std::string_view field) {
  const auto found = record.find(field);
  if (found == record.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::string text_of(const Record& record, std::string_view field) {
  const auto found = record.find(field);
  if (found == record.end()) return "";
  if (found->is_string()) return clean_text(found->get_ref<const std::string&>());
  if (found->is_number()) return short_number(found->get<double>());
  return clean_text(found->dump(-1, ' ', false, Record::error_handler_t::replace));
}

std::string short_number(double value) {
  if (value == std::round(value) && std::abs(value) < 1e7) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

std::string clean_text(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      clean += "\xef\xbf\xbd";
    } else if (first < 0x20 || first == 0x7f) {
      clean += ' ';
    } else {
      clean += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(1, length));
  }
  return clean;
}

bool is_ok(const Record& record) { return record.value("ok", false); }

std::span<const std::string_view> naming_fields() {
  static const std::vector<std::string_view> fields = all_naming_fields();
  return fields;
}

std::string named_value(const Record& record, std::string_view field) {
  const std::string text = text_of(record, field);
  if (text.empty()) return text;
  if (field == "git_sha") return "commit " + text.substr(0, 7);
  if (field == "cold") return text == "true" ? "cold caches" : "warm caches";
  if (field == "gated") return text == "true" ? "gated" : "not gated";
  if (field == "renormalise") return text == "true" ? "renormalised" : "not renormalised";
  if (field == "routing" && text.starts_with("trace:")) {
    // Its folders tell nothing, and a long name would crowd out what follows.
    constexpr std::size_t kMost = 16;
    const std::string file = text.substr(std::max(text.find_last_of('/') + 1, std::size_t{6}));
    return "trace:" + (file.size() <= kMost ? file : file.substr(0, kMost) + "…");
  }
  const Symbol* symbol = find_in(kSymbols, field);
  if (symbol != nullptr) return fmt::format("{}{}{}", symbol->before, text, symbol->after);
  const RecordField* known = find_record_field(field);
  if (known != nullptr && known->type == "string") return text;
  return fmt::format("{} {}", field, text);
}

std::string named_values(const Record& record, std::span<const std::string> fields) {
  std::string out;
  for (const std::string& field : fields) {
    const std::string value = named_value(record, field);
    if (!value.empty()) out += fmt::format("{}{}", out.empty() ? "" : ", ", value);
  }
  return out;
}

std::string common_values(std::span<const Record* const> records,
                          std::span<const std::string> without) {
  if (records.empty()) return "";
  const Record& first = *records[0];
  const auto is_common = [&](std::string_view field) {
    const std::string text = text_of(first, field);
    return !text.empty() && std::all_of(records.begin(), records.end(), [&](const Record* record) {
      return text_of(*record, field) == text;
    });
  };
  std::vector<std::string> fields;
  for (const std::string_view field : naming_fields()) {
    const bool is_left_out = std::find(without.begin(), without.end(), field) != without.end();
    if (!is_left_out && is_common(field) && !goes_without_saying(first, field)) {
      fields.emplace_back(field);
    }
  }
  for (const char* field : {"cpu", "git_sha"}) {
    if (is_common(field)) fields.emplace_back(field);
  }
  return named_values(first, fields);
}

Quantity quantity_of(std::string_view field, double largest) {
  const RecordField* known = find_record_field(field);
  if (known == nullptr) {
    std::vector<std::string_view> names;
    for (const RecordField& f : record_fields()) names.push_back(f.name);
    const auto near = nearest(field, names);
    require(false, "records have no field '{}'{}", field,
            near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
  }
  require(known->type == "number" || known->type == "integer",
          "field {} is a {}: expected a numeric one", field, known->type);
  const Title* title = find_in(kTitles, field);
  const std::string name = title != nullptr ? std::string(title->title) : std::string(field);
  if (std::find(std::begin(kShares), std::end(kShares), field) != std::end(kShares)) {
    return {name + ", %", 100};
  }
  if (known->unit == "ms" && largest < 0.1) return {name + ", \u00b5s", 1e3};
  if (known->unit == "ms") return {name + ", ms", 1};
  if (known->unit == "bytes" && largest >= 1 << 30) return {name + ", GiB", 1.0 / (1 << 30)};
  if (known->unit == "bytes" && largest >= 1 << 20) return {name + ", MiB", 1.0 / (1 << 20)};
  if (known->unit == "tokens/s" && largest >= 2e6) return {name + ", millions", 1e-6};
  if (known->unit == "tokens/s" && largest >= 2e3) return {name + ", thousands", 1e-3};
  if (known->unit.empty() || known->unit == "1" || known->unit == "tokens/s") return {name, 1};
  return {fmt::format("{}, {}", name, known->unit), 1};
}

}  // namespace switchyard
