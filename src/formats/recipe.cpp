#include "formats/recipe.h"

#include <toml++/toml.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "base/file.h"
#include "base/strings.h"

namespace retort::formats {

namespace {

constexpr std::size_t largest_recipe = std::size_t{1} << 20U;

std::string_view kind_of(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::table:
            return "a table";
        case toml::node_type::array:
            return "an array";
        case toml::node_type::string:
            return "a string";
        case toml::node_type::integer:
            return "an integer";
        case toml::node_type::floating_point:
            return "a number";
        case toml::node_type::boolean:
            return "true or false";
        default:
            return "a date or time";
    }
}

Json json_of(const toml::node& node) {
    if (const auto* table = node.as_table()) {
        Json object = Json::object();
        for (const auto& [key, value] : *table) object[std::string(key.str())] = json_of(value);
        return object;
    }
    if (const auto* array = node.as_array()) {
        Json list = Json::array();
        for (const toml::node& value : *array) list.push_back(json_of(value));
        return list;
    }
    if (const auto* text = node.as_string()) return text->get();
    if (const auto* whole = node.as_integer()) return whole->get();
    if (const auto* number = node.as_floating_point()) return number->get();
    if (const auto* truth = node.as_boolean()) return truth->get();
    std::ostringstream out;
    node.visit([&out](const auto& value) {
        if constexpr (toml::is_value<decltype(value)>) out << value.get();
    });
    return out.str();
}

}  // namespace

struct TomlTable::Node {
    std::shared_ptr<const toml::table> root;  // owns `table`, which is it or lies within it
    const toml::table* table = nullptr;
    std::string file;
    std::string path;  // "train.optimiser", empty at the root
    std::set<std::string, std::less<>> asked;
    std::map<std::string, std::vector<std::shared_ptr<Node>>, std::less<>> children;

    [[nodiscard]] std::string full(std::string_view key) const {
        return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
    }
    [[nodiscard]] std::string place(const toml::node& node) const {
        return fmt::format("{}:{}", file, node.source().begin.line);
    }
    const toml::node* find(std::string_view key) {
        asked.emplace(key);
        return table->get(key);
    }
    tl::unexpected<base::Error> missing(std::string_view key) const {
        if (path.empty()) return fail(ErrorCode::invalid_argument, "{}: {} is missing", file, key);
        return fail(ErrorCode::invalid_argument, "{}: {} is missing from [{}]", place(*table), key, path);
    }
    tl::unexpected<base::Error> wrong_type(std::string_view key, const toml::node& node,
                                           std::string_view wanted) const {
        return fail(ErrorCode::invalid_argument, "{}: {} is {}, not {}", place(node), full(key),
                    kind_of(node), wanted);
    }
    std::shared_ptr<Node> child(std::string_view key, const toml::table& inner,
                                const std::string& inner_path) {
        auto node = std::make_shared<Node>();
        node->root = root;
        node->table = &inner;
        node->file = file;
        node->path = inner_path;
        children[std::string(key)].push_back(node);
        return node;
    }
    [[nodiscard]] Status check() const;
};

Status TomlTable::Node::check() const {
    for (const auto& [toml_key, value] : *table) {
        const std::string_view key = toml_key.str();
        if (asked.contains(key)) continue;
        std::string_view nearest;
        std::size_t least = std::max<std::size_t>(key.size() / 2, 1) + 1;
        for (const std::string& known : asked) {
            if (const std::size_t distance = base::edit_distance(key, known); distance < least) {
                least = distance;
                nearest = known;
            }
        }
        const std::string line = fmt::format("{}:{}", file, toml_key.source().begin.line);
        if (!nearest.empty()) {
            return fail(ErrorCode::invalid_argument, "{}: unknown key {}; is {} meant?", line, full(key),
                        full(nearest));
        }
        return fail(ErrorCode::invalid_argument, "{}: unknown key {}; known here: {}", line, full(key),
                    fmt::join(asked, ", "));
    }
    for (const auto& [key, nodes] : children) {
        for (const auto& node : nodes) RETORT_CHECK(node->check());
    }
    return {};
}

Result<TomlTable> TomlTable::read(const std::filesystem::path& path) {
    RETORT_TRY(const auto text, base::read_file(path, largest_recipe));
    return parse(text, path.string());
}

Result<TomlTable> TomlTable::parse(std::string_view text, std::string name) {
    if (text.size() > largest_recipe) {
        return fail(ErrorCode::invalid_argument, "{}: {} bytes are more than a recipe may have", name,
                    text.size());
    }
    try {
        auto node = std::make_shared<Node>();
        node->root = std::make_shared<const toml::table>(toml::parse(text));
        node->table = node->root.get();
        node->file = std::move(name);
        return TomlTable(std::move(node));
    } catch (const toml::parse_error& error) {
        return fail(ErrorCode::invalid_argument, "{}:{}: {}", name, error.source().begin.line,
                    error.description());
    }
}

bool TomlTable::has(std::string_view key) const {
    return node_->find(key) != nullptr;
}

Result<std::string> TomlTable::string(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    if (const auto* text = found->as_string()) return text->get();
    return node_->wrong_type(key, *found, "a string");
}

Result<std::int64_t> TomlTable::integer(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    if (const auto* whole = found->as_integer()) return whole->get();
    return node_->wrong_type(key, *found, "an integer");
}

Result<double> TomlTable::number(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    if (const auto* number = found->as_floating_point()) return number->get();
    if (const auto* whole = found->as_integer()) return static_cast<double>(whole->get());
    return node_->wrong_type(key, *found, "a number");
}

Result<bool> TomlTable::boolean(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    if (const auto* truth = found->as_boolean()) return truth->get();
    return node_->wrong_type(key, *found, "true or false");
}

Result<std::vector<std::string>> TomlTable::strings(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    const auto* array = found->as_array();
    if (array == nullptr) return node_->wrong_type(key, *found, "an array of strings");
    std::vector<std::string> result;
    for (const toml::node& value : *array) {
        const auto* text = value.as_string();
        if (text == nullptr) return node_->wrong_type(key, value, "a string like the others in the array");
        result.push_back(text->get());
    }
    return result;
}

Result<std::vector<double>> TomlTable::numbers(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    const auto* array = found->as_array();
    if (array == nullptr) return node_->wrong_type(key, *found, "an array of numbers");
    std::vector<double> result;
    for (const toml::node& value : *array) {
        const auto number = value.value<double>();
        if (!number || !value.is_number())
            return node_->wrong_type(key, value, "a number like the others in the array");
        result.push_back(*number);
    }
    return result;
}

Result<TomlTable> TomlTable::table(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    const auto* inner = found->as_table();
    if (inner == nullptr) return node_->wrong_type(key, *found, "a table");
    return TomlTable(node_->child(key, *inner, node_->full(key)));
}

Result<std::vector<TomlTable>> TomlTable::tables(std::string_view key) const {
    const toml::node* found = node_->find(key);
    if (found == nullptr) return node_->missing(key);
    const auto* array = found->as_array();
    if (array == nullptr) return node_->wrong_type(key, *found, "an array of tables");
    std::vector<TomlTable> result;
    for (const toml::node& value : *array) {
        const auto* inner = value.as_table();
        if (inner == nullptr) return node_->wrong_type(key, value, "a table like the others in the array");
        const std::string path = fmt::format("{}[{}]", node_->full(key), result.size());
        result.push_back(TomlTable(node_->child(key, *inner, path)));
    }
    return result;
}

Result<std::string> TomlTable::string_or(std::string_view key, std::string fallback) const {
    if (!has(key)) return fallback;
    return string(key);
}

Result<std::int64_t> TomlTable::integer_or(std::string_view key, std::int64_t fallback, std::int64_t least,
                                           std::int64_t most) const {
    if (!has(key)) return fallback;
    RETORT_TRY(const std::int64_t value, integer(key));
    if (value < least) return error_at(key, fmt::format("is {}; at least {} is possible", value, least));
    if (value > most) return error_at(key, fmt::format("is {}; at most {} is possible", value, most));
    return value;
}

Result<double> TomlTable::number_or(std::string_view key, double fallback, double least, double most) const {
    if (!has(key)) return fallback;
    RETORT_TRY(const double value, number(key));
    if (!(value >= least)) return error_at(key, fmt::format("is {}; at least {} is possible", value, least));
    if (!(value <= most)) return error_at(key, fmt::format("is {}; at most {} is possible", value, most));
    return value;
}

Result<bool> TomlTable::boolean_or(std::string_view key, bool fallback) const {
    if (!has(key)) return fallback;
    return boolean(key);
}

Result<std::vector<std::string>> TomlTable::strings_or(std::string_view key,
                                                       std::vector<std::string> fallback) const {
    if (!has(key)) return fallback;
    return strings(key);
}

Result<TomlTable> TomlTable::table_or_empty(std::string_view key) const {
    if (has(key)) return table(key);
    static const toml::table nothing;
    auto node = std::make_shared<Node>();
    node->table = &nothing;
    node->file = node_->file;
    node->path = node_->full(key);
    return TomlTable(std::move(node));
}

Result<std::vector<TomlTable>> TomlTable::tables_or_empty(std::string_view key) const {
    if (!has(key)) return std::vector<TomlTable>{};
    return tables(key);
}

Result<std::string> TomlTable::choice_or(std::string_view key, std::string fallback,
                                         const std::vector<std::string_view>& choices) const {
    if (!has(key)) return fallback;
    RETORT_TRY(auto value, string(key));
    if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
        return error_at(key, fmt::format("is \"{}\"; possible are {}", value, fmt::join(choices, ", ")));
    }
    return value;
}

Status TomlTable::check_unknown_keys() const {
    return node_->check();
}

tl::unexpected<base::Error> TomlTable::error_at(std::string_view key, std::string_view message) const {
    const toml::node* found = node_->find(key);
    const std::string place = found == nullptr ? node_->file : node_->place(*found);
    return fail(ErrorCode::invalid_argument, "{}: {} {}", place, node_->full(key), message);
}

Json TomlTable::to_json() const {
    return json_of(*node_->table);
}

}  // namespace retort::formats
