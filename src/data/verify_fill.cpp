#include "data/verify_rule.h"

namespace retort::data {

using formats::Json;

Result<std::string> fill(std::string_view text, const Json& metadata) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '{') {
            out.push_back(text[i]);
            continue;
        }
        if (i + 1 < text.size() && text[i + 1] == '{') {
            out.push_back('{');
            ++i;
            continue;
        }
        const std::size_t end = text.find('}', i);
        if (end == std::string_view::npos) {
            return fail(ErrorCode::invalid_argument, "verifier: \"{}\" has an open brace", text);
        }
        const std::string_view name = text.substr(i + 1, end - i - 1);
        const Json* value = formats::json_find(metadata, name);
        if (value == nullptr) {
            return fail(ErrorCode::invalid_argument,
                        "verifier: \"{{{}}}\" is asked for, but the prompt's metadata has no \"{}\"", name,
                        name);
        }
        out += value->is_string() ? value->get<std::string>() : formats::write_json(*value);
        i = end;
    }
    return out;
}

}  // namespace retort::data
