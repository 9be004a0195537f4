#include "api/fields.h"

#include <charconv>
#include <cmath>

namespace retort::api {

using nlohmann::json;

tl::unexpected<ApiError> wrong_type(const std::string& param, std::string_view expected, const json& got) {
    return tl::make_unexpected(
        invalid_value(param, fmt::format("Invalid type for '{}': expected {}, but got {} instead.", param,
                                         expected, kind_of(got))));
}

tl::unexpected<ApiError> bad_value(const std::string& param, std::string_view message) {
    return tl::make_unexpected(
        invalid_value(param, fmt::format("Invalid value for '{}': {}.", param, message)));
}

ApiResult<void> read_number(const json& object, const char* name, double low, double high,
                            std::optional<double>& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_number()) return wrong_type(name, "a number", *value);
    const double number = value->get<double>();
    if (!(number >= low && number <= high)) {
        return bad_value(name, fmt::format("{} is not in {}–{}", number, low, high));
    }
    out = number;
    return {};
}

ApiResult<void> read_integer(const json& object, const char* name, std::int64_t low, std::int64_t high,
                             std::optional<std::int64_t>& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_number_integer()) return wrong_type(name, "an integer", *value);
    const bool above = value->is_number_unsigned() && value->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
    const std::int64_t number = above ? INT64_MAX : value->get<std::int64_t>();
    if (number < low || number > high) {
        const std::string shown = dump_json(*value);
        return high == INT64_MAX ? bad_value(name, fmt::format("{} is less than {}", shown, low))
                                 : bad_value(name, fmt::format("{} is not in {}–{}", shown, low, high));
    }
    out = number;
    return {};
}

ApiResult<void> read_boolean(const json& object, const char* name, bool& out, const std::string& param) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_boolean()) return wrong_type(param.empty() ? name : param, "a boolean", *value);
    out = value->get<bool>();
    return {};
}

ApiResult<void> read_string(const json& object, const char* name, const std::string& param,
                            std::string& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_string()) return wrong_type(param, "a string", *value);
    out = value->get_ref<const std::string&>();
    return {};
}

// Fields that would change the answer, and that this server does not have.
ApiResult<void> refuse(const json& object, std::initializer_list<const char*> names) {
    for (const char* name : names) {
        if (member(object, name) == nullptr) continue;
        return tl::make_unexpected(
            unsupported_parameter(name, fmt::format("'{}' is not supported by this server.", name)));
    }
    return {};
}

ApiResult<json> read_body(std::string_view body) {
    Result<json> parsed = parse_json(body);
    if (!parsed) {
        ApiError error = invalid_value("", fmt::format("The request's body is {}.", parsed.error().message));
        error.param.reset();
        return tl::make_unexpected(std::move(error));
    }
    if (!parsed->is_object()) {
        ApiError error =
            invalid_value("", fmt::format("The request's body is {}, not an object.", kind_of(*parsed)));
        error.param.reset();
        return tl::make_unexpected(std::move(error));
    }
    return std::move(*parsed);
}

ApiResult<std::string> read_model(const json& object) {
    const json* model = member(object, "model");
    if (model == nullptr) {
        return tl::make_unexpected(invalid_value("model", "You must provide a 'model' parameter."));
    }
    if (!model->is_string()) return wrong_type("model", "a string", *model);
    return model->get<std::string>();
}

namespace {

ApiResult<void> read_stop(const json& object, std::vector<std::string>& out) {
    const json* value = member(object, "stop");
    if (value == nullptr) return {};
    constexpr std::size_t max_stops = 4;
    constexpr std::size_t max_stop_length = 1024;
    if (value->is_string()) {
        out.push_back(value->get<std::string>());
    } else if (value->is_array()) {
        if (value->size() > max_stops) return bad_value("stop", "more than 4 stop strings");
        for (const json& entry : *value) {
            if (!entry.is_string()) return wrong_type("stop", "a string or an array of strings", entry);
            out.push_back(entry.get<std::string>());
        }
    } else {
        return wrong_type("stop", "a string or an array of strings", *value);
    }
    for (const std::string& entry : out) {
        if (entry.empty()) return bad_value("stop", "a stop string is empty");
        if (entry.size() > max_stop_length)
            return bad_value("stop", "a stop string is longer than 1024 bytes");
    }
    return {};
}

ApiResult<void> read_logit_bias(const json& object, std::vector<std::pair<std::int32_t, double>>& out) {
    const json* value = member(object, "logit_bias");
    if (value == nullptr) return {};
    if (!value->is_object()) return wrong_type("logit_bias", "an object of biases by token id", *value);
    constexpr std::size_t max_biases = 4096;
    if (value->size() > max_biases) return bad_value("logit_bias", "more than 4096 entries");
    for (const auto& [key, bias] : value->items()) {
        std::int32_t token = 0;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
        if (error != std::errc{} || end != key.data() + key.size() || token < 0) {
            return bad_value("logit_bias", "a key is not a token id");
        }
        if (!bias.is_number()) return wrong_type("logit_bias", "a number for each token id", bias);
        const double number = bias.get<double>();
        if (!(number >= -100 && number <= 100)) {
            return bad_value("logit_bias", fmt::format("{} is not in -100–100", number));
        }
        out.emplace_back(token, number);
    }
    return {};
}

}  // namespace

ApiResult<void> read_sampling(const json& object, SamplingFields& out, std::int64_t least_tokens) {
    constexpr std::int64_t max_choices = 128;
    RETORT_CHECK(read_integer(object, "max_tokens", least_tokens, INT64_MAX, out.max_tokens));
    RETORT_CHECK(read_integer(object, "max_completion_tokens", 1, INT64_MAX, out.max_tokens));
    RETORT_CHECK(read_number(object, "temperature", 0, 2, out.temperature));
    RETORT_CHECK(read_number(object, "top_p", 0, 1, out.top_p));
    RETORT_CHECK(read_integer(object, "top_k", -1, INT32_MAX, out.top_k));
    RETORT_CHECK(read_number(object, "min_p", 0, 1, out.min_p));
    RETORT_CHECK(read_number(object, "repetition_penalty", 0.01, 10, out.repetition_penalty));
    RETORT_CHECK(read_number(object, "frequency_penalty", -2, 2, out.frequency_penalty));
    RETORT_CHECK(read_number(object, "presence_penalty", -2, 2, out.presence_penalty));
    RETORT_CHECK(read_logit_bias(object, out.logit_bias));
    RETORT_CHECK(read_stop(object, out.stop));
    RETORT_CHECK(read_integer(object, "seed", INT64_MIN, INT64_MAX, out.seed));
    std::optional<std::int64_t> n;
    RETORT_CHECK(read_integer(object, "n", 1, max_choices, n));
    out.n = n.value_or(1);
    return {};
}

ApiResult<void> read_stream(const json& object, bool& stream, bool& include_usage) {
    RETORT_CHECK(read_boolean(object, "stream", stream));
    const json* options = member(object, "stream_options");
    if (options == nullptr) return {};
    if (!options->is_object()) return wrong_type("stream_options", "an object", *options);
    if (!stream) return bad_value("stream_options", "it is only allowed when 'stream' is true");
    bool ignored = false;  // padding against guesses from sizes: nothing is added here
    RETORT_CHECK(
        read_boolean(*options, "include_obfuscation", ignored, "stream_options.include_obfuscation"));
    return read_boolean(*options, "include_usage", include_usage, "stream_options.include_usage");
}

}  // namespace retort::api
