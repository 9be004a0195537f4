#include "formats/json.h"

#include <cmath>
#include <limits>

#include "base/file.h"

namespace retort::formats {

namespace {

// Brackets outside strings; what is malformed otherwise is the parser's to say.
bool deeper_than(std::string_view text, int limit) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > limit) return true;
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return false;
}

tl::unexpected<base::Error> wrong_type(const Json& value, std::string_view key, std::string_view wanted) {
    return fail(ErrorCode::format, "{} is {} {}, not {}", key,
                value.is_object() || value.is_array() ? "an" : "a", value.type_name(), wanted);
}

tl::unexpected<base::Error> absent(std::string_view key) {
    return fail(ErrorCode::format, "{} is missing", key);
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view name, const JsonLimits& limits) {
    if (text.size() > limits.bytes) {
        return fail(ErrorCode::format, "{}: {} bytes of JSON, more than the {} allowed", name, text.size(),
                    limits.bytes);
    }
    if (deeper_than(text, limits.depth)) {
        return fail(ErrorCode::format, "{}: JSON nested deeper than {}", name, limits.depth);
    }
    try {
        return Json::parse(text);
    } catch (const nlohmann::json::exception& error) {
        // "[json.exception.parse_error.101] parse error at line 1, column 5: ..."
        std::string_view what = error.what();
        if (const auto end = what.find("] "); end != std::string_view::npos) what.remove_prefix(end + 2);
        return fail(ErrorCode::format, "{}: {}", name, what);
    }
}

Result<Json> read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
    RETORT_TRY(const auto text, base::read_file(path, limits.bytes));
    return parse_json(text, path.string(), limits);
}

std::string write_json(const Json& value, int indent) {
    return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

const Json* json_find(const Json& object, std::string_view key) {
    if (!object.is_object()) return nullptr;
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<std::int64_t> json_integer(const Json& object, std::string_view key) {
    const Json* value = json_find(object, key);
    if (value == nullptr) return absent(key);
    if (value->is_number_unsigned()) {
        const auto number = value->get<std::uint64_t>();
        if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
            return fail(ErrorCode::format, "{} is {}, beyond a signed 64-bit integer", key, number);
        }
        return static_cast<std::int64_t>(number);
    }
    if (value->is_number_integer()) return value->get<std::int64_t>();
    if (value->is_number_float()) {  // 32768.0, as some writers put it
        const auto number = value->get<double>();
        constexpr double exact = 9007199254740992.0;  // 2^53
        if (std::fabs(number) <= exact && std::trunc(number) == number)
            return static_cast<std::int64_t>(number);
    }
    return wrong_type(*value, key, "an integer");
}

Result<double> json_number(const Json& object, std::string_view key) {
    const Json* value = json_find(object, key);
    if (value == nullptr) return absent(key);
    if (!value->is_number()) return wrong_type(*value, key, "a number");
    return value->get<double>();
}

Result<std::string> json_string(const Json& object, std::string_view key) {
    const Json* value = json_find(object, key);
    if (value == nullptr) return absent(key);
    if (!value->is_string()) return wrong_type(*value, key, "a string");
    return value->get<std::string>();
}

Result<std::int64_t> json_integer(const Json& object, std::string_view key, std::int64_t fallback) {
    if (json_find(object, key) == nullptr) return fallback;
    return json_integer(object, key);
}

Result<double> json_number(const Json& object, std::string_view key, double fallback) {
    if (json_find(object, key) == nullptr) return fallback;
    return json_number(object, key);
}

Result<bool> json_boolean(const Json& object, std::string_view key, bool fallback) {
    const Json* value = json_find(object, key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) return wrong_type(*value, key, "true or false");
    return value->get<bool>();
}

Result<std::string> json_string(const Json& object, std::string_view key, std::string fallback) {
    if (json_find(object, key) == nullptr) return fallback;
    return json_string(object, key);
}

}  // namespace retort::formats
