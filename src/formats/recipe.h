// Recipes: TOML files read with typed getters, whose errors name file, line and key. A key that nobody asked
// for is an error too, so that a misspelt one never passes for its default. Knows nothing of what the keys
// mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/json.h"

namespace retort::formats {

class TomlTable {
  public:
    static Result<TomlTable> read(const std::filesystem::path& path);
    static Result<TomlTable> parse(std::string_view text, std::string name);

    [[nodiscard]] bool has(std::string_view key) const;

    // Keys that must be there.
    [[nodiscard]] Result<std::string> string(std::string_view key) const;
    [[nodiscard]] Result<std::int64_t> integer(std::string_view key) const;
    [[nodiscard]] Result<double> number(std::string_view key) const;  // an integer will do
    [[nodiscard]] Result<bool> boolean(std::string_view key) const;
    [[nodiscard]] Result<std::vector<std::string>> strings(std::string_view key) const;
    [[nodiscard]] Result<std::vector<double>> numbers(std::string_view key) const;
    [[nodiscard]] Result<TomlTable> table(std::string_view key) const;
    [[nodiscard]] Result<std::vector<TomlTable>> tables(std::string_view key) const;  // [[key]]

    // Keys that may be absent; of another type, or out of range, is still an error.
    [[nodiscard]] Result<std::string> string_or(std::string_view key, std::string fallback) const;
    [[nodiscard]] Result<std::int64_t> integer_or(
        std::string_view key, std::int64_t fallback,
        std::int64_t least = std::numeric_limits<std::int64_t>::min(),
        std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
    [[nodiscard]] Result<double> number_or(std::string_view key, double fallback,
                                           double least = -std::numeric_limits<double>::infinity(),
                                           double most = std::numeric_limits<double>::infinity()) const;
    [[nodiscard]] Result<bool> boolean_or(std::string_view key, bool fallback) const;
    [[nodiscard]] Result<std::vector<std::string>> strings_or(std::string_view key,
                                                              std::vector<std::string> fallback) const;
    [[nodiscard]] Result<TomlTable> table_or_empty(std::string_view key) const;
    [[nodiscard]] Result<std::vector<TomlTable>> tables_or_empty(std::string_view key) const;

    // One of a few words: an error lists them.
    [[nodiscard]] Result<std::string> choice_or(std::string_view key, std::string fallback,
                                                const std::vector<std::string_view>& choices) const;

    // Call when every getter has run: the first key, here or in a table got from here, that none of them
    // named is an error that names the nearest one that was.
    [[nodiscard]] Status check_unknown_keys() const;

    // An error about a key's value, beginning "file:line: key": for checks that the getters do not make.
    [[nodiscard]] tl::unexpected<base::Error> error_at(std::string_view key, std::string_view message) const;

    // Everything in the table, for a manifest; dates and times as text.
    [[nodiscard]] Json to_json() const;

  private:
    struct Node;
    explicit TomlTable(std::shared_ptr<Node> node) : node_(std::move(node)) {}
    std::shared_ptr<Node> node_;
};

}  // namespace retort::formats
