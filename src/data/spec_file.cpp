#include "data/spec_file.h"

#include <toml++/toml.h>
#include <sstream>

#include "base/file.h"

namespace retort::data {

using formats::Json;

namespace {

constexpr std::size_t max_spec_bytes = std::size_t{1} << 20U;

template <typename Value>
std::string printed(const Value& value) {
    std::ostringstream out;
    out << value;
    return out.str();
}

// Recursion is bounded by the parser's own limit on nesting.
Json to_json(const toml::node& node) {  // NOLINT(misc-no-recursion)
    if (const auto* table = node.as_table()) {
        Json json = Json::object();
        for (const auto& [key, value] : *table) json[std::string(key.str())] = to_json(value);
        return json;
    }
    if (const auto* array = node.as_array()) {
        Json json = Json::array();
        for (const auto& value : *array) json.push_back(to_json(value));
        return json;
    }
    if (const auto* text = node.as_string()) return text->get();
    if (const auto* number = node.as_integer()) return number->get();
    if (const auto* number = node.as_floating_point()) return number->get();
    if (const auto* flag = node.as_boolean()) return flag->get();
    if (const auto* date = node.as_date()) return printed(date->get());
    if (const auto* time = node.as_time()) return printed(time->get());
    if (const auto* moment = node.as_date_time()) return printed(moment->get());
    return nullptr;
}

}  // namespace

Result<Json> parse_spec(std::string_view text, std::string_view name) {
    if (text.size() > max_spec_bytes) {
        return fail(ErrorCode::format, "{}: {} bytes; a settings file has at most {}", name, text.size(),
                    max_spec_bytes);
    }
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && text[first] == '{') return formats::parse_json(text, name);
    try {
        return to_json(toml::parse(text, name));
    } catch (const toml::parse_error& error) {
        return fail(ErrorCode::format, "{}:{}: {}", name, error.source().begin.line, error.description());
    }
}

Result<Json> read_spec_file(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path, max_spec_bytes));
    return parse_spec(text, path.string());
}

}  // namespace retort::data
