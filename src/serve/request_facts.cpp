#include "serve/request_facts.h"

#include <simdjson.h>

#include <algorithm>
#include <vector>

#include "base/hash.h"
#include "serve/request_sketch.h"

namespace retort::serve {

namespace {

constexpr std::int64_t bytes_per_token = 3;
constexpr std::int64_t most = std::int64_t{1} << 40U;

api::ApiError bad_body(std::string message) {
    api::ApiError error;
    error.message = std::move(message);
    error.code = "invalid_value";
    return error;
}

bool is_sampling_field(std::string_view name) {
    return name == "temperature" || name == "top_p" || name == "top_k" || name == "min_p" ||
           name == "max_tokens" || name == "max_completion_tokens" || name == "frequency_penalty" ||
           name == "presence_penalty" || name == "repetition_penalty" || name == "seed" || name == "stop" ||
           name == "n" || name == "logprobs" || name == "top_logprobs";
}

void read_field(RequestFacts& facts, std::string_view name, const simdjson::dom::element& value) {
    const auto whole = [&](std::int64_t otherwise) {
        std::int64_t number = 0;
        if (value.get(number) != simdjson::SUCCESS) return otherwise;
        return std::clamp<std::int64_t>(number, 0, most);
    };
    std::string_view text;
    bool flag = false;
    simdjson::dom::array list;
    if (name == "model") {
        if (value.get(text) == simdjson::SUCCESS) facts.model = text;
    } else if (name == "max_completion_tokens") {
        facts.max_tokens = whole(facts.max_tokens);
    } else if (name == "max_tokens") {
        if (facts.max_tokens < 0) facts.max_tokens = whole(-1);
    } else if (name == "n") {
        facts.choices = std::clamp<std::int64_t>(whole(1), 1, 1024);
    } else if (name == "stream") {
        if (value.get(flag) == simdjson::SUCCESS) facts.stream = flag;
    } else if (name == "logprobs" || name == "top_logprobs") {
        const bool is_bool = value.get(flag) == simdjson::SUCCESS;
        facts.logprobs = facts.logprobs || (is_bool ? flag : !value.is_null());
    } else if (name == "echo") {
        if (value.get(flag) == simdjson::SUCCESS) facts.echo = flag;
    } else if (name == "logit_bias") {
        simdjson::dom::object object;
        facts.logit_bias = value.get(object) == simdjson::SUCCESS && object.size() > 0;
    } else if (name == "messages") {
        if (value.get(list) == simdjson::SUCCESS) facts.messages = static_cast<std::int64_t>(list.size());
    } else if (name == "stream_options") {
        if (value["include_usage"].get(flag) == simdjson::SUCCESS) facts.include_usage = flag;
        if (value["continuous_usage_stats"].get(flag) == simdjson::SUCCESS && flag)
            facts.running_usage = true;
    } else if (name == "timings_per_token") {
        if (value.get(flag) == simdjson::SUCCESS && flag) facts.running_usage = true;
    }
}

}  // namespace

api::ApiResult<RequestFacts> read_facts(std::string_view body, const guard::SketchKey* key) {
    thread_local simdjson::dom::parser parser;
    simdjson::dom::element root;
    simdjson::dom::object object;
    if (parser.parse(body.data(), body.size()).get(root) != simdjson::SUCCESS ||
        root.get(object) != simdjson::SUCCESS) {
        return tl::make_unexpected(bad_body("The request's body is not a JSON object."));
    }
    RequestFacts facts;
    std::vector<std::string_view> names;
    names.reserve(16);
    for (const auto& [name, value] : object) {
        if (std::find(names.begin(), names.end(), name) != names.end()) {
            api::ApiError error = bad_body(fmt::format("The field '{}' is given twice.", name));
            error.param = std::string(name);
            return tl::make_unexpected(std::move(error));
        }
        names.push_back(name);
        if (names.size() > 256) return tl::make_unexpected(bad_body("The request has more than 256 fields."));
        read_field(facts, name, value);
        if (is_sampling_field(name)) {
            const std::string text = std::string(name) + simdjson::minify(value);
            // A sum: the order of fields says nothing.
            facts.parameters += base::xxh3_64(text);
        }
    }
    if (key != nullptr) facts.sketch = sketch_request(*key, object);
    return facts;
}

std::int64_t guess_prompt_tokens(std::string_view body) {
    return static_cast<std::int64_t>(body.size()) / bytes_per_token + 1;
}

}  // namespace retort::serve
