#include "grammar/schemas_apart.h"

#include <algorithm>

namespace retort::grammar {

namespace {

// What a reference within the schema leads to; the schema itself where it is none.
const Json& resolved(const Json& root, const Json& schema) {
    if (!schema.is_object() || !schema.contains("$ref") || !schema["$ref"].is_string()) return schema;
    const std::string target = schema["$ref"].get<std::string>();
    try {
        if (target.starts_with("#/")) return root.at(Json::json_pointer(target.substr(1)));
    } catch (const nlohmann::json::exception&) {
        return schema;
    }
    return schema;
}

}  // namespace

bool are_apart(const Json& root, const Json& first, const Json& second) {
    const Json& a = resolved(root, first);
    const Json& b = resolved(root, second);
    if (!a.is_object() || !b.is_object()) return false;
    const auto constants_apart = [](const Json& x, const Json& y) {
        const auto list = [](const Json& s) {
            if (s.is_object() && s.contains("const")) return Json::array({s["const"]});
            return s.is_object() && s.contains("enum") && s["enum"].is_array() ? s["enum"] : Json();
        };
        const Json left = list(x);
        const Json right = list(y);
        return left.is_array() && right.is_array() &&
               std::none_of(left.begin(), left.end(), [&](const Json& v) {
                   return std::find(right.begin(), right.end(), v) != right.end();
               });
    };
    if (constants_apart(a, b)) return true;
    const Json left = a.value("type", Json());
    const Json right = b.value("type", Json());
    if (!left.is_string() || !right.is_string()) return false;
    const auto family = [](const Json& type) { return type == Json("integer") ? Json("number") : type; };
    if (family(left) != family(right)) return true;
    if (left != Json("object") || !a.contains("properties") || !b.contains("properties")) return false;
    for (const auto& [name, value] : a["properties"].items()) {
        const auto is_required = [name = name](const Json& s) {
            const Json list = s.value("required", Json::array());
            return list.is_array() && std::find(list.begin(), list.end(), Json(name)) != list.end();
        };
        if (b["properties"].is_object() && b["properties"].contains(name) && is_required(a) &&
            is_required(b) && constants_apart(value, b["properties"][name])) {
            return true;
        }
    }
    return false;
}

}  // namespace retort::grammar
