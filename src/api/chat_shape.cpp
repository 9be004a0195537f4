// What shapes an answer beyond its sampling: response_format, tools and tool_choice.
#include "api/fields.h"

namespace retort::api {

namespace {

using nlohmann::json;

// The member as it was written, in its own order, which templates and grammars keep; the parser's own objects
// are sorted.
std::string in_given_order(std::string_view body, const nlohmann::json::json_pointer& at) {
    const auto ordered = nlohmann::ordered_json::parse(body, nullptr, false);
    const nlohmann::ordered_json::json_pointer pointer(at.to_string());
    return ordered.contains(pointer) ? dump_json(ordered.at(pointer)) : std::string();
}

ApiResult<void> read_response_format(const json& object, std::string_view body, ResponseFormat& out) {
    const json* format = member(object, "response_format");
    if (format == nullptr) return {};
    if (!format->is_object()) return wrong_type("response_format", "an object", *format);
    std::string type;
    RETORT_CHECK(read_string(*format, "type", "response_format.type", type));
    if (type == "text") return {};
    if (type == "json_object") {
        out.kind = ResponseFormat::Kind::json_object;
        return {};
    }
    if (type != "json_schema") {
        return bad_value("response_format.type", "it is none of text, json_object, json_schema");
    }
    const json* wrapper = member(*format, "json_schema");
    if (wrapper == nullptr) return bad_value("response_format.json_schema", "it is missing");
    if (!wrapper->is_object()) return wrong_type("response_format.json_schema", "an object", *wrapper);
    out.kind = ResponseFormat::Kind::json_schema;
    const json* schema = member(*wrapper, "schema");
    if (schema == nullptr) return bad_value("response_format.json_schema.schema", "it is missing");
    if (!schema->is_object()) return wrong_type("response_format.json_schema.schema", "an object", *schema);
    out.schema_json = in_given_order(body, json::json_pointer("/response_format/json_schema/schema"));
    return {};
}

ApiResult<void> check_tool(const json& tool, std::size_t index) {
    const std::string at = fmt::format("tools[{}]", index);
    if (!tool.is_object()) return wrong_type(at, "an object", tool);
    std::string type;
    RETORT_CHECK(read_string(tool, "type", at + ".type", type));
    if (type != "function") {
        return tl::make_unexpected(unsupported_parameter(
            at + ".type", fmt::format("Tools of type '{}' are not supported; only 'function' is.", type)));
    }
    const json* function = member(tool, "function");
    if (function == nullptr) return bad_value(at + ".function", "it is missing");
    if (!function->is_object()) return wrong_type(at + ".function", "an object", *function);
    std::string name;
    RETORT_CHECK(read_string(*function, "name", at + ".function.name", name));
    constexpr std::size_t max_name = 64;
    const bool usable =
        !name.empty() && name.size() <= max_name &&
        name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
            std::string::npos;
    if (!usable) return bad_value(at + ".function.name", "it must be 1–64 letters, digits, '_' or '-'");
    if (const json* parameters = member(*function, "parameters");
        parameters != nullptr && !parameters->is_object()) {
        return wrong_type(at + ".function.parameters", "an object", *parameters);
    }
    return {};
}

bool has_tool(const json& tools, const std::string& name) {
    for (const json& tool : tools) {
        if (tool["function"]["name"] == json(name)) return true;
    }
    return false;
}

ApiResult<void> read_tool_choice(const json& object, const json* tools, ToolChoice& out) {
    const json* choice = member(object, "tool_choice");
    if (choice == nullptr) return {};
    if (choice->is_string()) {
        const std::string name = choice->get<std::string>();
        if (name == "none") {
            out.kind = ToolChoice::Kind::none;
        } else if (name == "required") {
            out.kind = ToolChoice::Kind::required;
        } else if (name != "auto") {
            return bad_value("tool_choice", "it is none of none, auto, required");
        }
    } else if (choice->is_object()) {
        std::string type = "function";
        RETORT_CHECK(read_string(*choice, "type", "tool_choice.type", type));
        if (type != "function") {
            return tl::make_unexpected(unsupported_parameter(
                "tool_choice.type",
                fmt::format("Choices of type '{}' are not supported; only 'function' is.", type)));
        }
        const json* function = member(*choice, "function");
        if (function == nullptr) return bad_value("tool_choice.function", "it is missing");
        RETORT_CHECK(read_string(*function, "name", "tool_choice.function.name", out.function));
        if (tools == nullptr || !has_tool(*tools, out.function)) {
            return bad_value("tool_choice.function.name", "it is none of 'tools'");
        }
        out.kind = ToolChoice::Kind::function;
    } else {
        return wrong_type("tool_choice", "a string or an object", *choice);
    }
    if (out.kind == ToolChoice::Kind::required && (tools == nullptr || tools->empty())) {
        return bad_value("tool_choice", "it is only allowed when 'tools' are given");
    }
    return {};
}

ApiResult<void> read_tools(const json& object, std::string_view body, ChatRequest& request) {
    constexpr std::size_t max_tools = 128;
    const json* tools = member(object, "tools");
    if (tools != nullptr) {
        if (!tools->is_array()) return wrong_type("tools", "an array", *tools);
        if (tools->size() > max_tools) return bad_value("tools", "more than 128 tools");
        for (std::size_t i = 0; i < tools->size(); ++i) RETORT_CHECK(check_tool((*tools)[i], i));
        if (!tools->empty()) request.tools_json = in_given_order(body, json::json_pointer("/tools"));
    }
    RETORT_CHECK(read_boolean(object, "parallel_tool_calls", request.parallel_tool_calls));
    return read_tool_choice(object, tools, request.tool_choice);
}

}  // namespace

ApiResult<void> read_shape(const json& object, std::string_view body, ChatRequest& request) {
    RETORT_CHECK(read_response_format(object, body, request.response_format));
    return read_tools(object, body, request);
}

}  // namespace retort::api
