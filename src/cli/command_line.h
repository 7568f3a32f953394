#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::cli {

/// One option of a verb: parsing and help both come from here.
struct Option {
  std::vector<std::string> names;  ///< the first is its own, the rest are aliases; "--tokens", "-o"
  std::string value;               ///< what stands for its value in help; empty for a flag
  std::string help;
  std::function<void(const std::string& value)> set;  ///< value is "" for a flag
};

struct OptionGroup {
  std::string title;
  std::vector<Option> options;
};

struct Positional {
  std::string name;  ///< as help shows it: "TARGET"
  std::string help;
  bool required = true;
  std::function<void(const std::string& value)> set;
  bool repeated = false;  ///< any number of them; `set` is called for each
};

/// Everything a verb accepts.
struct CommandLine {
  std::string verb;
  std::string summary;                ///< one sentence
  std::vector<std::string> examples;  ///< without the leading "switchyard "
  std::vector<Positional> positionals;
  std::vector<OptionGroup> groups;
};

/// Calls `set` of everything in `args`, in the order of the specification. An underscore in an
/// option's name is read as a hyphen. Returns false, having called nothing, when help was asked
/// for. Throws Error(invalid_argument) for an option that does not exist, one without its value, a
/// missing or an unexpected argument.
bool parse(const CommandLine& line, std::span<const std::string> args);

/// The first names of the options in `args`. Throws as parse does for
/// those, and when help is asked for.
std::vector<std::string> options_in(const CommandLine& line, std::span<const std::string> args);

/// `args` without the options that `stronger` has too, under whichever name, and then `stronger`.
/// Throws as options_in does.
std::vector<std::string> overridden(const CommandLine& line, std::span<const std::string> args,
                                    std::span<const std::string> stronger);

/// Examples first, then usage and options.
std::string help_of(const CommandLine& line);

/// `text` in lines of at most `width` columns, each but the first indented.
std::string wrapped(std::string_view text, std::size_t width, std::size_t indent);

}  // namespace switchyard::cli
