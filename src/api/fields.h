// Reading the fields of a request's JSON, with errors that name the field. Private to this part.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/chat_request.h"
#include "api/error.h"
#include "api/json.h"

namespace retort::api {

tl::unexpected<ApiError> wrong_type(const std::string& param, std::string_view expected,
                                    const nlohmann::json& got);
tl::unexpected<ApiError> bad_value(const std::string& param, std::string_view message);

// An object, or a 400 that names no field.
ApiResult<nlohmann::json> read_body(std::string_view body);
// What is absent or null leaves `out` as it is.
ApiResult<void> read_number(const nlohmann::json& object, const char* name, double low, double high,
                            std::optional<double>& out);
ApiResult<void> read_integer(const nlohmann::json& object, const char* name, std::int64_t low,
                             std::int64_t high, std::optional<std::int64_t>& out);
// `param` is what errors call it; empty: its name.
ApiResult<void> read_boolean(const nlohmann::json& object, const char* name, bool& out,
                             const std::string& param = {});
ApiResult<void> read_string(const nlohmann::json& object, const char* name, const std::string& param,
                            std::string& out);
ApiResult<std::string> read_model(const nlohmann::json& object);
// Any of these fields, when it is there, is refused by name.
ApiResult<void> refuse(const nlohmann::json& object, std::initializer_list<const char*> names);

ApiResult<void> read_sampling(const nlohmann::json& object, SamplingFields& out,
                              std::int64_t least_tokens = 1);
ApiResult<void> read_stream(const nlohmann::json& object, bool& stream, bool& include_usage);
ApiResult<std::vector<std::int32_t>> read_tokens(const nlohmann::json& array, const char* name);
// A string, a list of token ids, or a list of either.
ApiResult<void> read_prompts(const nlohmann::json& object, const char* name, std::size_t max_prompts,
                             std::vector<CompletionRequest::Prompt>& out);
// tools, tool_choice, parallel_tool_calls, response_format; `body` is the text that `object` was read from.
ApiResult<void> read_shape(const nlohmann::json& object, std::string_view body, ChatRequest& request);

}  // namespace retort::api
