// Values of the template language, with Python's semantics: what None prints as, when things are equal, true,
// ordered. Knows nothing of syntax.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace retort::text::jinja {

class Value;
struct Callable;
struct Loop;

struct Undefined {
    std::string_view name;  // what was not defined, for messages; lives as long as the template
};
struct None {};

struct List {
    // A generator (what map and select give) is true even when empty; a view is what dict.items() gives.
    enum class Kind { list, tuple, generator, view };
    Kind kind = Kind::list;
    std::vector<Value> items;
};

class Dict {
  public:
    struct Entry;
    [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
    [[nodiscard]] const Value* find(const Value& key) const;
    [[nodiscard]] const Value* find(std::string_view key) const;
    // False for a key that cannot be one (a list, a dict).
    bool set(const Value& key, Value value);

  private:
    std::vector<Entry> entries_;
    std::unordered_map<std::string, std::size_t> index_;
};

struct Namespace {
    std::vector<std::pair<std::string, Value>> attributes;
};

using String = std::shared_ptr<const std::string>;
using ListPointer = std::shared_ptr<const List>;
using DictPointer = std::shared_ptr<const Dict>;

class Value {
  public:
    using Data =
        std::variant<Undefined, None, bool, std::int64_t, double, String, ListPointer, DictPointer,
                     std::shared_ptr<Namespace>, std::shared_ptr<Loop>, std::shared_ptr<const Callable>>;

    Value() = default;
    Value(Data data) : data_(std::move(data)) {}  // NOLINT(google-explicit-constructor): a value is its data
    static Value none() { return {Data(None{})}; }
    static Value boolean(bool value) { return {Data(value)}; }
    static Value integer(std::int64_t value) { return {Data(value)}; }
    static Value number(double value) { return {Data(value)}; }
    static Value string(std::string text) {
        return {Data(std::make_shared<const std::string>(std::move(text)))};
    }
    static Value list(std::vector<Value> items, List::Kind kind = List::Kind::list) {
        return {Data(std::make_shared<const List>(List{kind, std::move(items)}))};
    }
    static Value undefined(std::string_view name = {}) { return {Data(Undefined{name})}; }
    static Value dict(Dict dict) { return {Data(std::make_shared<const Dict>(std::move(dict)))}; }

    [[nodiscard]] const Data& data() const { return data_; }
    template <typename T>
    [[nodiscard]] bool is() const {
        return std::holds_alternative<T>(data_);
    }
    [[nodiscard]] bool is_undefined() const { return is<Undefined>(); }
    [[nodiscard]] bool is_none() const { return is<None>(); }
    [[nodiscard]] bool is_string() const { return is<String>(); }
    [[nodiscard]] const std::string& text() const { return *std::get<String>(data_); }
    [[nodiscard]] const List* as_list() const {
        const auto* list = std::get_if<ListPointer>(&data_);
        return list != nullptr ? list->get() : nullptr;
    }
    [[nodiscard]] const Dict* as_dict() const {
        const auto* dict = std::get_if<DictPointer>(&data_);
        return dict != nullptr ? dict->get() : nullptr;
    }
    // bool counts as an integer, as in Python.
    [[nodiscard]] bool is_integer() const { return is<std::int64_t>() || is<bool>(); }
    [[nodiscard]] bool is_number() const { return is_integer() || is<double>(); }
    [[nodiscard]] std::int64_t as_integer() const {
        return is<bool>() ? static_cast<std::int64_t>(std::get<bool>(data_)) : std::get<std::int64_t>(data_);
    }
    [[nodiscard]] double as_number() const {
        return is<double>() ? std::get<double>(data_) : static_cast<double>(as_integer());
    }

  private:
    Data data_;
};

struct Dict::Entry {
    Value key;
    Value value;
};

// What a loop body sees as `loop`.
struct Loop {
    ListPointer items;
    std::size_t index = 0;
    std::int64_t depth = 1;
    std::vector<Value> last_changed;
    bool changed_before = false;
};

std::string_view type_name(const Value& value);  // Python's: "str", "dict", …
bool truthy(const Value& value);
// `budget` goes down with each value looked at, since lists that share their parts can be exponentially
// large; when it reaches 0 the answer means nothing.
bool equal(const Value& left, const Value& right, std::uint64_t& budget, int depth = 0);
// −1, 0, 1 as Python's < would order them; an error names the types that have no order.
Result<int> compare(const Value& left, const Value& right, std::uint64_t& budget, int depth = 0);
// Nesting beyond 200 levels becomes none.
Value from_json(const nlohmann::ordered_json& json, int depth = 0);

// What Python would iterate over: the items of a list, the keys of a dict, the characters of a string,
// nothing for an undefined value.
bool iterable(const Value& value);
std::vector<Value> items_of(const Value& value);

}  // namespace retort::text::jinja
