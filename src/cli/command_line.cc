#include "cli/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>

#include "base/check.h"

namespace switchyard::cli {
namespace {

constexpr std::size_t kHelpWidth = 100;

bool is_long(std::string_view arg) { return arg.starts_with("--"); }

template <class Use>
void for_each_option(const CommandLine& line, Use&& use) {
  for (const OptionGroup& group : line.groups) {
    for (const Option& option : group.options) use(option);
  }
}

const Option* find(const CommandLine& line, std::string_view name) {
  const Option* found = nullptr;
  for_each_option(line, [&](const Option& option) {
    if (std::find(option.names.begin(), option.names.end(), name) != option.names.end()) {
      found = &option;
    }
  });
  return found;
}

[[noreturn]] void throw_unknown(const CommandLine& line, std::string_view name) {
  std::vector<std::string_view> names = {"--help"};
  for_each_option(line, [&](const Option& option) {
    names.insert(names.end(), option.names.begin(), option.names.end());
  });
  const std::string_view suggestion = is_long(name) ? nearest(name, names) : "";
  throw Error(ErrorCode::invalid_argument,
              fmt::format("unknown option '{}'{}: `switchyard {} --help` lists those it has", name,
                          suggestion.empty() ? "" : fmt::format(" (did you mean {}?)", suggestion),
                          line.verb));
}

/// An option as typed: "--some_name=4", "--flag", "-o", "-ojson".
struct Typed {
  std::string name;  ///< with hyphens
  std::optional<std::string> value;
};

Typed typed_option(const std::string& arg) {
  if (!is_long(arg)) {
    return {arg.substr(0, 2), arg.size() > 2 ? std::optional(arg.substr(2)) : std::nullopt};
  }
  const std::size_t equals = arg.find('=');
  Typed typed{arg.substr(0, equals), std::nullopt};
  if (equals != std::string::npos) typed.value = arg.substr(equals + 1);
  std::replace(typed.name.begin(), typed.name.end(), '_', '-');
  return typed;
}

bool asks_for_help(std::string_view arg) { return arg == "--help" || arg == "-h"; }

/// One argument, checked: an option with its value, or a positional.
struct Argument {
  const Option* option = nullptr;  ///< null: positional
  std::string text;                ///< the option's name as typed but with hyphens, or the word
  std::optional<std::string> value;
};

/// Names with hyphens, values apart. Refuses what the parser would take for something else: an
/// unknown name, or an option in the place of a value. Nothing when help is asked for.
std::optional<std::vector<Argument>> checked(const CommandLine& line,
                                             std::span<const std::string> args) {
  std::vector<Argument> out;
  bool only_positionals = false;  // after "--"
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (!only_positionals && asks_for_help(args[i])) return std::nullopt;
    if (!only_positionals && args[i] == "--") {
      only_positionals = true;
      continue;
    }
    if (only_positionals || args[i].size() < 2 || args[i][0] != '-') {
      out.push_back({nullptr, args[i], std::nullopt});
      continue;
    }
    Typed typed = typed_option(args[i]);
    const Option* option = find(line, typed.name);
    if (option == nullptr) throw_unknown(line, typed.name);
    if (option->value.empty()) {
      require(!typed.value, "option {} takes no value: got '{}'", typed.name, args[i]);
      out.push_back({option, typed.name, std::nullopt});
      continue;
    }
    if (!typed.value && i + 1 < args.size() && !is_long(args[i + 1])) typed.value = args[++i];
    require(typed.value && !typed.value->empty(), "option {} needs a value ({})", typed.name,
            option->value);
    out.push_back({option, typed.name, typed.value});
  }
  return out;
}

/// The same where help cannot be given.
std::vector<Argument> checked_without_help(const CommandLine& line,
                                           std::span<const std::string> args) {
  auto arguments = checked(line, args);
  require(arguments.has_value(), "--help has no place here: `switchyard {} --help`", line.verb);
  return std::move(*arguments);
}

/// Options first, then the positionals, so that none is taken for the other.
std::vector<std::string> flattened(std::span<const Argument> arguments) {
  std::vector<std::string> options, positionals;
  for (const Argument& argument : arguments) {
    (argument.option != nullptr ? options : positionals).push_back(argument.text);
    if (argument.value) options.push_back(*argument.value);
  }
  if (std::any_of(positionals.begin(), positionals.end(),
                  [](const std::string& word) { return word.starts_with('-'); })) {
    options.emplace_back("--");
  }
  options.insert(options.end(), positionals.begin(), positionals.end());
  return options;
}

void add(CLI::App& app, const Option& option) {
  const std::string names = fmt::format("{}", fmt::join(option.names, ","));
  if (option.value.empty()) {
    app.add_flag_callback(names, [&option] { option.set(""); });
  } else {
    app.add_option_function<std::string>(
        names, [&option](const std::string& value) { option.set(value); });
  }
}

std::string usage(const CommandLine& line) {
  std::string out = fmt::format("usage: switchyard {}", line.verb);
  for (const Positional& positional : line.positionals) {
    const std::string name = positional.name + (positional.repeated ? "..." : "");
    out += positional.required ? fmt::format(" {}", name) : fmt::format(" [{}]", name);
  }
  return out + " [OPTIONS]";
}

std::string entry(std::string_view left, std::string_view help) {
  constexpr std::size_t kColumn = 30;
  std::string out = fmt::format("  {:<{}}", left, kColumn - 2);
  if (left.size() + 3 > kColumn) out += fmt::format("\n{:{}}", "", kColumn);
  return out + wrapped(help, kHelpWidth - kColumn, kColumn) + '\n';
}

}  // namespace

bool parse(const CommandLine& line, std::span<const std::string> args) {
  const auto arguments = checked(line, args);
  if (!arguments) return false;
  std::vector<std::string> rest = flattened(*arguments);
  CLI::App app;
  app.set_help_flag();
  for_each_option(line, [&](const Option& option) { add(app, option); });
  for (const Positional& positional : line.positionals) {
    const auto& set = positional.set;
    auto* added = positional.repeated ? app.add_option_function<std::vector<std::string>>(
                                            positional.name,
                                            [&set](const std::vector<std::string>& values) {
                                              for (const std::string& value : values) set(value);
                                            })
                                      : app.add_option_function<std::string>(positional.name, set);
    added->required(positional.required);
  }
  try {
    std::reverse(rest.begin(), rest.end());  // CLI11 takes arguments from the back
    app.parse(rest);
  } catch (const CLI::ExtrasError&) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("unexpected argument '{}': {}", app.remaining().front(), usage(line)));
  } catch (const CLI::RequiredError& error) {
    throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", error.what(), usage(line)));
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCode::invalid_argument, error.what());
  }
  return true;
}

std::vector<std::string> options_in(const CommandLine& line, std::span<const std::string> args) {
  std::vector<std::string> names;
  for (const Argument& argument : checked_without_help(line, args)) {
    if (argument.option != nullptr) names.push_back(argument.option->names[0]);
  }
  return names;
}

std::vector<std::string> overridden(const CommandLine& line, std::span<const std::string> args,
                                    std::span<const std::string> stronger) {
  std::vector<Argument> merged = checked_without_help(line, args);
  const std::vector<Argument> winners = checked_without_help(line, stronger);
  std::erase_if(merged, [&](const Argument& argument) {
    return argument.option != nullptr &&
           std::any_of(winners.begin(), winners.end(),
                       [&](const Argument& winner) { return winner.option == argument.option; });
  });
  merged.insert(merged.end(), winners.begin(), winners.end());
  return flattened(merged);
}

std::string help_of(const CommandLine& line) {
  std::string out;
  for (const std::string& example : line.examples) out += fmt::format("switchyard {}\n", example);
  out += fmt::format("\n{}\n\n{}\n", wrapped(line.summary, kHelpWidth, 0), usage(line));
  for (const Positional& positional : line.positionals)
    out += entry(positional.name, positional.help);
  for (const OptionGroup& group : line.groups) {
    out += fmt::format("\n{}:\n", group.title);
    for (const Option& option : group.options) {
      const std::string_view space = option.value.empty() ? "" : " ";
      out += entry(fmt::format("{}{}{}", fmt::join(option.names, ", "), space, option.value),
                   option.help);
    }
  }
  return out;
}

std::string wrapped(std::string_view text, std::size_t width, std::size_t indent) {
  std::string out;
  std::size_t column = 0;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (column > 0 && column + 1 + word.size() > width) {
      out += fmt::format("\n{:{}}", "", indent);
      column = 0;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

}  // namespace switchyard::cli
