#include "text/jinja_value.h"

#include <cmath>

#include "text/jinja_python.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

constexpr int max_value_depth = 200;

// Equal keys have equal texts: 1, 1.0 and True are one key.
bool key_text(const Value& key, std::string& out) {
    if (key.is_string()) {
        out = "s" + key.text();
    } else if (key.is_integer()) {
        out = "i" + std::to_string(key.as_integer());
    } else if (key.is<double>()) {
        const double number = key.as_number();
        out = number == std::floor(number) && std::abs(number) < 9e15
                  ? "i" + std::to_string(static_cast<std::int64_t>(number))
                  : "f" + float_text(number);
    } else if (key.is_none()) {
        out = "n";
    } else {
        return false;
    }
    return true;
}

}  // namespace

const Value* Dict::find(std::string_view key) const {
    if (entries_.size() <= 8) {
        for (const Entry& entry : entries_) {
            if (entry.key.is_string() && entry.key.text() == key) return &entry.value;
        }
        return nullptr;
    }
    const auto found = index_.find("s" + std::string(key));
    return found == index_.end() ? nullptr : &entries_[found->second].value;
}

const Value* Dict::find(const Value& key) const {
    if (key.is_string()) return find(std::string_view(key.text()));
    std::string text;
    if (!key_text(key, text)) return nullptr;
    const auto found = index_.find(text);
    return found == index_.end() ? nullptr : &entries_[found->second].value;
}

bool Dict::set(const Value& key, Value value) {
    std::string text;
    if (!key_text(key, text)) return false;
    const auto [at, inserted] = index_.emplace(std::move(text), entries_.size());
    if (inserted) {
        entries_.push_back({key, std::move(value)});
    } else {
        entries_[at->second].value = std::move(value);
    }
    return true;
}

std::string_view type_name(const Value& value) {
    struct Names {
        std::string_view operator()(const Undefined&) const { return "Undefined"; }
        std::string_view operator()(const None&) const { return "NoneType"; }
        std::string_view operator()(bool) const { return "bool"; }
        std::string_view operator()(std::int64_t) const { return "int"; }
        std::string_view operator()(double) const { return "float"; }
        std::string_view operator()(const String&) const { return "str"; }
        std::string_view operator()(const ListPointer& list) const {
            switch (list->kind) {
                case List::Kind::list:
                    return "list";
                case List::Kind::tuple:
                    return "tuple";
                case List::Kind::generator:
                    return "generator";
                case List::Kind::view:
                    return "dict view";
            }
            return "list";
        }
        std::string_view operator()(const DictPointer&) const { return "dict"; }
        std::string_view operator()(const std::shared_ptr<Namespace>&) const { return "Namespace"; }
        std::string_view operator()(const std::shared_ptr<Loop>&) const { return "LoopContext"; }
        std::string_view operator()(const std::shared_ptr<const Callable>&) const { return "function"; }
    };
    return std::visit(Names{}, value.data());
}

bool truthy(const Value& value) {
    struct Truth {
        bool operator()(const Undefined&) const { return false; }
        bool operator()(const None&) const { return false; }
        bool operator()(bool b) const { return b; }
        bool operator()(std::int64_t i) const { return i != 0; }
        bool operator()(double d) const { return d != 0; }
        bool operator()(const String& s) const { return !s->empty(); }
        bool operator()(const ListPointer& list) const {
            return list->kind == List::Kind::generator || !list->items.empty();
        }
        bool operator()(const DictPointer& dict) const { return !dict->entries().empty(); }
        bool operator()(const std::shared_ptr<Namespace>&) const { return true; }
        bool operator()(const std::shared_ptr<Loop>&) const { return true; }
        bool operator()(const std::shared_ptr<const Callable>&) const { return true; }
    };
    return std::visit(Truth{}, value.data());
}

bool equal(const Value& left, const Value& right, std::uint64_t& budget, int depth) {
    if (depth > max_value_depth) return false;
    const std::uint64_t cost = 1 + (left.is_string() ? left.text().size() / 256 : 0);
    budget = budget > cost ? budget - cost : 0;
    if (budget == 0) return false;
    if (left.is_number() && right.is_number()) {
        if (left.is_integer() && right.is_integer()) return left.as_integer() == right.as_integer();
        return left.as_number() == right.as_number();
    }
    if (left.data().index() != right.data().index()) return false;
    if (left.is_string()) return left.text() == right.text();
    if (left.is_none() || left.is_undefined()) return true;
    if (const List* a = left.as_list()) {
        const List* b = right.as_list();
        if (a == b) return true;
        if (a->kind != b->kind || a->items.size() != b->items.size() || a->kind == List::Kind::generator)
            return false;
        for (std::size_t i = 0; i < a->items.size(); ++i) {
            if (!equal(a->items[i], b->items[i], budget, depth + 1)) return false;
        }
        return true;
    }
    if (const Dict* a = left.as_dict()) {
        const Dict* b = right.as_dict();
        if (a == b) return true;
        if (a->entries().size() != b->entries().size()) return false;
        for (const Dict::Entry& entry : a->entries()) {
            const Value* other = b->find(entry.key);
            if (other == nullptr || !equal(entry.value, *other, budget, depth + 1)) return false;
        }
        return true;
    }
    // Namespaces, loops and functions: the same one.
    const auto pointer = [](const Value& value) -> const void* {
        if (const auto* space = std::get_if<std::shared_ptr<Namespace>>(&value.data())) return space->get();
        if (const auto* loop = std::get_if<std::shared_ptr<Loop>>(&value.data())) return loop->get();
        if (const auto* function = std::get_if<std::shared_ptr<const Callable>>(&value.data()))
            return function->get();
        return nullptr;
    };
    return pointer(left) == pointer(right);
}

Result<int> compare(const Value& left, const Value& right, std::uint64_t& budget, int depth) {
    const auto order = [](const auto& a, const auto& b) { return a < b ? -1 : (b < a ? 1 : 0); };
    if (left.is_number() && right.is_number()) {
        if (left.is_integer() && right.is_integer()) return order(left.as_integer(), right.as_integer());
        return order(left.as_number(), right.as_number());
    }
    // UTF-8 sorts as its code points do.
    if (left.is_string() && right.is_string()) return order(left.text(), right.text());
    const List* a = left.as_list();
    const List* b = right.as_list();
    if (a != nullptr && b != nullptr && a->kind == b->kind && depth < max_value_depth &&
        (a->kind == List::Kind::list || a->kind == List::Kind::tuple)) {
        for (std::size_t i = 0; i < a->items.size() && i < b->items.size(); ++i) {
            if (equal(a->items[i], b->items[i], budget)) continue;
            return compare(a->items[i], b->items[i], budget, depth + 1);
        }
        return order(a->items.size(), b->items.size());
    }
    return fail(ErrorCode::invalid_argument, "no order between '{}' and '{}'", type_name(left),
                type_name(right));
}

Value from_json(const nlohmann::ordered_json& json, int depth) {
    if (depth > max_value_depth) return Value::none();
    switch (json.type()) {
        case nlohmann::ordered_json::value_t::boolean:
            return Value::boolean(json.get<bool>());
        case nlohmann::ordered_json::value_t::number_integer:
            return Value::integer(json.get<std::int64_t>());
        case nlohmann::ordered_json::value_t::number_unsigned: {
            const auto number = json.get<std::uint64_t>();
            if (number > static_cast<std::uint64_t>(INT64_MAX))
                return Value::number(static_cast<double>(number));
            return Value::integer(static_cast<std::int64_t>(number));
        }
        case nlohmann::ordered_json::value_t::number_float:
            return Value::number(json.get<double>());
        case nlohmann::ordered_json::value_t::string: {
            const auto& text = json.get_ref<const std::string&>();
            return Value::string(is_valid_utf8(text) ? text : lossy_utf8(text));
        }
        case nlohmann::ordered_json::value_t::array: {
            std::vector<Value> items;
            items.reserve(json.size());
            for (const auto& item : json) items.push_back(from_json(item, depth + 1));
            return Value::list(std::move(items));
        }
        case nlohmann::ordered_json::value_t::object: {
            Dict dict;
            for (const auto& [key, item] : json.items())
                dict.set(Value::string(key), from_json(item, depth + 1));
            return Value::dict(std::move(dict));
        }
        default:
            return Value::none();
    }
}

bool iterable(const Value& value) {
    return value.is_string() || value.is_undefined() || value.as_list() != nullptr ||
           value.as_dict() != nullptr;
}

std::vector<Value> items_of(const Value& value) {
    if (const List* list = value.as_list()) return list->items;
    std::vector<Value> items;
    if (const Dict* dict = value.as_dict()) {
        for (const Dict::Entry& entry : dict->entries()) items.push_back(entry.key);
    } else if (value.is_string()) {
        const std::string& text = value.text();
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t length = decode_valid(text, at).length;
            items.push_back(Value::string(text.substr(at, length)));
            at += length;
        }
    }
    return items;
}

}  // namespace retort::text::jinja
