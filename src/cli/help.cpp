#include "cli/help.h"

#include <algorithm>
#include <vector>

namespace retort::cli {

namespace {

constexpr std::size_t page_width = 100;
constexpr std::size_t left_column = 30;

std::string two_columns(const std::string& left, std::string_view right) {
    std::string line = "  " + left;
    if (right.empty()) return line + "\n";
    if (line.size() + 2 > left_column) {
        line += "\n" + std::string(left_column, ' ');
    } else {
        line.resize(left_column, ' ');
    }
    return line + wrapped(right, page_width - left_column, left_column) + "\n";
}

// "retort bench peak"
std::string full_name(const CLI::App* command) {
    std::string name = command->get_name();
    for (const CLI::App* parent = command->get_parent(); parent != nullptr; parent = parent->get_parent()) {
        name.insert(0, parent->get_name() + " ");
    }
    return name;
}

// "N" of "N:INT in [0 - 4096]", but the whole of "NAME:{gguf,safetensors}": what a validator adds is said by
// the description, except for a set of words.
std::string value_name(const CLI::Option* option) {
    const std::string name = option->get_type_name();
    const std::size_t colon = name.find(':');
    if (colon == std::string::npos) return name.empty() ? "VALUE" : name;
    if (colon + 1 < name.size() && name[colon + 1] == '{') return name.substr(colon + 1);
    return name.substr(0, colon);
}

std::string positional_name(const CLI::Option* option) {
    std::string name = option->get_name(true, false);
    for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    return name;
}

class HelpFormatter : public CLI::Formatter {
  public:
    HelpFormatter() { label("Positionals", "Arguments"); }

    std::string make_option(const CLI::Option* option, bool is_positional) const override {
        std::string left = is_positional ? positional_name(option) : option->get_name(false, true);
        if (is_positional && !option->get_required()) left = "[" + left + "]";
        const bool is_flag = option->get_expected_max() == 0;
        if (!is_positional && !is_flag) left += " " + value_name(option);
        std::string right = option->get_description();
        if (option->get_required() && !is_positional) right += " (required)";
        if (!is_flag && !option->get_default_str().empty() && option->get_default_str() != "[]")
            right += " [" + option->get_default_str() + "]";
        return two_columns(left, right);
    }

    std::string make_usage(const CLI::App* command, std::string /*name*/) const override {
        std::string usage = "\nUsage: " + full_name(command);
        if (!command->get_subcommands({}).empty()) return usage + " COMMAND [OPTIONS]\n";
        for (const CLI::Option* option : command->get_options()) {
            if (!option->get_positional()) continue;
            std::string word = positional_name(option);
            if (option->get_expected_max() > 1) word += "...";
            usage += option->get_required() ? " " + word : " [" + word + "]";
        }
        return usage + " [OPTIONS]\n";
    }

    std::string make_subcommand(const CLI::App* command) const override {
        return two_columns(command->get_name(), command->get_description());
    }

    std::string make_description(const CLI::App* command) const override {
        const std::string name = command->get_parent() == nullptr ? "" : full_name(command) + " - ";
        return wrapped(name + command->get_description(), page_width, 0) + "\n";
    }

    std::string make_footer(const CLI::App* command) const override {
        return command->get_footer().empty() ? "" : "\n" + command->get_footer() + "\n";
    }
};

}  // namespace

std::string wrapped(std::string_view text, std::size_t width, std::size_t indent) {
    std::string out;
    std::size_t column = 0;
    std::size_t at = 0;
    while (at < text.size()) {
        const std::size_t end = std::min(text.find(' ', at), text.size());
        const std::string_view word = text.substr(at, end - at);
        at = end + 1;
        if (word.empty()) continue;
        if (column != 0 && column + 1 + word.size() > width) {
            out += '\n';
            out.append(indent, ' ');
            column = 0;
        }
        if (column != 0) {
            out += ' ';
            ++column;
        }
        out += word;
        column += word.size();
    }
    return out;
}

std::shared_ptr<CLI::FormatterBase> make_help_formatter() {
    return std::make_shared<HelpFormatter>();
}

}  // namespace retort::cli
