#include "api/json.h"

namespace retort::api {

namespace {

// Depth by counting brackets outside strings: exact for valid JSON, and enough to refuse the rest early.
bool is_too_deep(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') {
                ++i;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > max_json_depth) return true;
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return false;
}

template <typename Value>
std::string dump(const Value& value) {
    return value.dump(-1, ' ', false, Value::error_handler_t::replace);
}

}  // namespace

Result<nlohmann::json> parse_json(std::string_view text) {
    if (text.size() > max_json_bytes) {
        return fail(ErrorCode::format, "JSON of {} bytes is longer than {}", text.size(), max_json_bytes);
    }
    if (is_too_deep(text)) {
        return fail(ErrorCode::format, "JSON is nested deeper than {} levels", max_json_depth);
    }
    try {
        return nlohmann::json::parse(text);
    } catch (const nlohmann::json::exception& error) {
        // "[json.exception.parse_error.101] parse error at line 1, column 2: …": the library's tag says
        // nothing.
        std::string_view what = error.what();
        if (const std::size_t tag = what.find("] "); tag != std::string_view::npos)
            what.remove_prefix(tag + 2);
        return fail(ErrorCode::format, "not valid JSON: {}", what.substr(0, 300));
    }
}

std::string dump_json(const nlohmann::ordered_json& value) {
    return dump(value);
}

std::string dump_json(const nlohmann::json& value) {
    return dump(value);
}

std::string_view kind_of(const nlohmann::json& value) {
    using Type = nlohmann::json::value_t;
    switch (value.type()) {
        case Type::null:
            return "null";
        case Type::object:
            return "an object";
        case Type::array:
            return "an array";
        case Type::string:
            return "a string";
        case Type::boolean:
            return "a boolean";
        case Type::number_integer:
        case Type::number_unsigned:
            return "an integer";
        case Type::number_float:
            return "a number";
        default:
            return "something else";
    }
}

const nlohmann::json* member(const nlohmann::json& object, const char* name) {
    if (!object.is_object()) return nullptr;
    const auto it = object.find(name);
    return it == object.end() || it->is_null() ? nullptr : &*it;
}

}  // namespace retort::api
