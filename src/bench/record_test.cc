#include "bench/record.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <string>

#include "switchyard/error.h"

namespace switchyard {
namespace {

std::string message_of(const Record& record) {
  try {
    in_schema_order(record);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Record, FieldsAreNamedOnceAndExplained) {
  const std::set<std::string_view> types = {"string", "integer", "number", "boolean", "numbers"};
  std::set<std::string_view> names;
  for (const auto& field : record_fields()) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name;
    EXPECT_TRUE(types.contains(field.type)) << field.name;
    EXPECT_FALSE(field.meaning.empty()) << field.name;
    const bool is_measured = field.type == "number" || field.type == "numbers";
    EXPECT_TRUE(!is_measured || !field.unit.empty()) << field.name;
    EXPECT_EQ(field.name.ends_with("_ms"), field.unit == "ms") << field.name;
    EXPECT_EQ(find_record_field(field.name), &field);
  }
  EXPECT_EQ(record_fields().front().name, "schema");
  EXPECT_EQ(find_record_field("median"), nullptr);
}

// docs/benchmarking.md shows the schema as rows "| `name` | type | unit | meaning |".
TEST(Record, DocumentationIsTheSchemas) {
  std::ostringstream text;
  text << std::ifstream(SWITCHYARD_SOURCE_DIR "/docs/benchmarking.md").rdbuf();
  std::size_t after = 0;
  for (const auto& field : record_fields()) {
    std::string row = "| `" + std::string(field.name) + "` | " + std::string(field.type) + " | " +
                      std::string(field.unit) + " | ";
    for (const char c : field.meaning) row += c == '|' ? std::string("\\|") : std::string(1, c);
    const auto at = text.str().find(row + " |\n", after);
    ASSERT_NE(at, std::string::npos) << "missing or out of order: " << row;
    after = at;
  }
}

TEST(Record, OrderIsTheSchemas) {
  const Record ordered = in_schema_order({{"ok", true}, {"tokens", 4}, {"bench", "pack"}});
  EXPECT_EQ(ordered.dump(), R"({"bench":"pack","tokens":4,"ok":true})");
}

TEST(Record, NumbersMayBeWritten) {
  EXPECT_EQ(in_schema_order({{"median_ms", 5}})["median_ms"], 5);
  EXPECT_EQ(in_schema_order({{"samples_ms", Record::array()}})["samples_ms"].size(), 0u);
}

TEST(Record, WrongFieldsAreNamed) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(message_of({{"medain_ms", 1}}),
            "record has unknown field 'medain_ms' (did you mean median_ms?)");
  EXPECT_EQ(message_of({{"tokens", "4"}}), "record field tokens is a string: expected an integer");
  EXPECT_EQ(message_of({{"tokens", 4.5}}), "record field tokens is a number: expected an integer");
  EXPECT_EQ(message_of({{"error", nullptr}}), "record field error is a null: expected a string");
  EXPECT_EQ(message_of({{"samples_ms", {1, "2"}}}),
            "record field samples_ms is a array: expected an array of numbers");
  EXPECT_EQ(message_of({{"median_ms", kNan}}),
            "record field median_ms is not finite: leave it out and say why in error");
  EXPECT_EQ(message_of({{"samples_ms", {1.0, kNan}}}),
            "record field samples_ms is not finite: leave it out and say why in error");
  EXPECT_EQ(message_of(Record::array()), "record is a array: expected an object");
}

}  // namespace
}  // namespace switchyard
