// How --help is laid out: two columns, wrapped at 100.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>

namespace retort::cli {

std::shared_ptr<CLI::FormatterBase> make_help_formatter();

// `text` in lines of at most `width`, each but the first indented by `indent`.
std::string wrapped(std::string_view text, std::size_t width, std::size_t indent);

}  // namespace retort::cli
