#include "data/record.h"

#include <utility>

#include "base/file.h"

namespace retort::data {

using formats::Json;

namespace {

Json shape_to_json(const RequestShape& request) {
    return {{"messages", messages_to_json(request.messages)},
            {"model", request.model},
            {"parameters", request.parameters},
            {"sample", request.sample}};
}

Status take(const Json& object, std::string_view key, std::string& out) {
    RETORT_TRY(out, formats::json_string(object, key, std::string()));
    return {};
}

Status take(const Json& object, std::string_view key, std::int64_t& out, std::int64_t fallback = 0) {
    RETORT_TRY(out, formats::json_integer(object, key, fallback));
    return {};
}

Status take(const Json& object, std::string_view key, double& out) {
    RETORT_TRY(out, formats::json_number(object, key, 0.0));
    return {};
}

// The member, an object; empty when absent.
Result<Json> object_member(const Json& object, std::string_view key) {
    const Json* value = formats::json_find(object, key);
    if (value == nullptr) return Json::object();
    if (!value->is_object()) return fail(ErrorCode::format, "{} is not an object", key);
    return *value;
}

Result<Record> record_from_json(const Json& json) {
    if (!json.is_object()) return fail(ErrorCode::format, "a record is a JSON object");
    Record record;
    RETORT_TRY(record.id, formats::json_string(json, "id"));
    RETORT_CHECK(take(json, "prompt_id", record.prompt_id));
    const Json* prompt = formats::json_find(json, "prompt");
    if (prompt == nullptr) return fail(ErrorCode::format, "prompt is missing");
    RETORT_TRY(record.request.messages, messages_from_json(*prompt));

    const Json* answer = formats::json_find(json, "answer");
    if (answer == nullptr || !answer->is_object()) return fail(ErrorCode::format, "answer is not an object");
    RETORT_TRY(record.content, formats::json_string(*answer, "content"));
    RETORT_CHECK(take(*answer, "reasoning", record.reasoning));
    RETORT_CHECK(take(*answer, "finish_reason", record.finish_reason));
    if (const Json* logprobs = formats::json_find(*answer, "logprobs"); logprobs != nullptr) {
        if (!logprobs->is_array()) return fail(ErrorCode::format, "answer.logprobs is not an array");
        record.logprobs = *logprobs;
    }
    RETORT_CHECK(take(*answer, "sha256", record.response_sha256));

    RETORT_TRY(const Json teacher, object_member(json, "teacher"));
    RETORT_CHECK(take(teacher, "model", record.request.model));
    RETORT_CHECK(take(teacher, "endpoint", record.endpoint));
    RETORT_CHECK(take(teacher, "system_fingerprint", record.system_fingerprint));

    RETORT_TRY(const Json terms, object_member(json, "terms"));
    RETORT_CHECK(take(terms, "id", record.terms_id));
    RETORT_CHECK(take(terms, "sha256", record.terms_sha256));

    RETORT_TRY(const Json request, object_member(json, "request"));
    RETORT_TRY(record.request.parameters, object_member(request, "parameters"));
    RETORT_CHECK(take(request, "max_tokens", record.request.max_tokens));
    RETORT_CHECK(take(request, "sample", record.request.sample));
    RETORT_CHECK(take(request, "id", record.request_id));
    RETORT_CHECK(take(request, "sha256", record.request_sha256));

    RETORT_TRY(const Json usage, object_member(json, "usage"));
    RETORT_CHECK(take(usage, "prompt_tokens", record.usage.prompt_tokens));
    RETORT_CHECK(take(usage, "completion_tokens", record.usage.completion_tokens));
    RETORT_CHECK(take(usage, "reasoning_tokens", record.usage.reasoning_tokens));
    RETORT_CHECK(take(usage, "cost", record.cost));

    RETORT_TRY(const Json times, object_member(json, "times"));
    RETORT_CHECK(take(times, "started", record.started));
    RETORT_CHECK(take(times, "seconds", record.seconds));
    RETORT_CHECK(take(times, "attempts", record.attempts, 1));

    RETORT_TRY(record.metadata, object_member(json, "metadata"));
    RETORT_TRY(record.verdicts, object_member(json, "verdicts"));
    return record;
}

}  // namespace

Json messages_to_json(std::span<const Message> messages) {
    Json array = Json::array();
    for (const Message& message : messages) {
        Json entry = {{"role", message.role}, {"content", message.content}};
        if (!message.reasoning.empty()) entry["reasoning_content"] = message.reasoning;
        array.push_back(std::move(entry));
    }
    return array;
}

Result<std::vector<Message>> messages_from_json(const Json& value) {
    if (!value.is_array()) return fail(ErrorCode::format, "messages are not an array");
    if (value.empty()) return fail(ErrorCode::format, "messages are empty");
    std::vector<Message> messages;
    messages.reserve(value.size());
    for (const Json& entry : value) {
        if (!entry.is_object()) return fail(ErrorCode::format, "a message is not an object");
        Message message;
        RETORT_TRY(message.role, formats::json_string(entry, "role"));
        RETORT_TRY(message.content, formats::json_string(entry, "content"));
        RETORT_CHECK(take(entry, "reasoning_content", message.reasoning));
        if (message.role.empty()) return fail(ErrorCode::format, "a message's role is empty");
        messages.push_back(std::move(message));
    }
    return messages;
}

std::string request_key(const RequestShape& request) {
    return base::sha256_hex(formats::write_json(shape_to_json(request)));
}

std::string request_hash(const RequestShape& request) {
    Json json = shape_to_json(request);
    json["max_tokens"] = request.max_tokens;
    return base::sha256_hex(formats::write_json(json));
}

std::string response_hash(std::string_view content, std::string_view reasoning,
                          std::string_view finish_reason) {
    const Json json = {{"content", content}, {"reasoning", reasoning}, {"finish_reason", finish_reason}};
    return base::sha256_hex(formats::write_json(json));
}

void seal(Record& record) {
    record.id = request_key(record.request).substr(0, 32);
    record.request_sha256 = request_hash(record.request);
    record.response_sha256 = response_hash(record.content, record.reasoning, record.finish_reason);
}

Status check_seal(const Record& record) {
    if (record.id != request_key(record.request).substr(0, 32)) {
        return fail(ErrorCode::format, "record {}: its id is not that of its request", record.id);
    }
    if (record.request_sha256 != request_hash(record.request)) {
        return fail(ErrorCode::format, "record {}: request.sha256 is not the hash of its request", record.id);
    }
    if (record.response_sha256 != response_hash(record.content, record.reasoning, record.finish_reason)) {
        return fail(ErrorCode::format, "record {}: answer.sha256 is not the hash of its answer", record.id);
    }
    return {};
}

std::string write_record(const Record& record) {
    Json answer = {{"content", record.content},
                   {"finish_reason", record.finish_reason},
                   {"sha256", record.response_sha256}};
    if (!record.reasoning.empty()) answer["reasoning"] = record.reasoning;
    if (!record.logprobs.is_null()) answer["logprobs"] = record.logprobs;
    Json teacher = {{"endpoint", record.endpoint}, {"model", record.request.model}};
    if (!record.system_fingerprint.empty()) teacher["system_fingerprint"] = record.system_fingerprint;
    Json request = {{"parameters", record.request.parameters},
                    {"max_tokens", record.request.max_tokens},
                    {"sample", record.request.sample},
                    {"sha256", record.request_sha256}};
    if (!record.request_id.empty()) request["id"] = record.request_id;
    Json usage = {{"prompt_tokens", record.usage.prompt_tokens},
                  {"completion_tokens", record.usage.completion_tokens},
                  {"cost", record.cost}};
    if (record.usage.reasoning_tokens != 0) usage["reasoning_tokens"] = record.usage.reasoning_tokens;
    Json json = {
        {"id", record.id},
        {"prompt", messages_to_json(record.request.messages)},
        {"answer", std::move(answer)},
        {"teacher", std::move(teacher)},
        {"terms", {{"id", record.terms_id}, {"sha256", record.terms_sha256}}},
        {"request", std::move(request)},
        {"usage", std::move(usage)},
        {"times", {{"started", record.started}, {"seconds", record.seconds}, {"attempts", record.attempts}}}};
    if (!record.prompt_id.empty()) json["prompt_id"] = record.prompt_id;
    if (!record.metadata.empty()) json["metadata"] = record.metadata;
    if (!record.verdicts.empty()) json["verdicts"] = record.verdicts;
    return formats::write_json(json);
}

Result<Record> parse_record(std::string_view line) {
    RETORT_TRY(const Json json, formats::parse_json(line, "record"));
    auto record = record_from_json(json);
    if (!record) return fail_from(record.error(), "record");
    return record;
}

Status read_records(const std::filesystem::path& path, const std::function<Status(Record&&)>& on_record) {
    RETORT_TRY(const base::MappedFile file, base::MappedFile::open(path));
    std::string_view rest = file.text();
    for (std::int64_t number = 1; !rest.empty(); ++number) {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        auto record = parse_record(line);
        if (!record) return fail_from(record.error(), fmt::format("{}:{}", path.string(), number));
        RETORT_CHECK(on_record(std::move(*record)));
    }
    return {};
}

Result<std::vector<Record>> read_records(const std::filesystem::path& path) {
    std::vector<Record> records;
    RETORT_CHECK(read_records(path, [&](Record&& record) -> Status {
        records.push_back(std::move(record));
        return {};
    }));
    return records;
}

std::string write_messages_line(const Record& record) {
    std::vector<Message> messages = record.request.messages;
    messages.push_back({.role = "assistant", .content = record.content, .reasoning = record.reasoning});
    return formats::write_json({{"messages", messages_to_json(messages)}});
}

}  // namespace retort::data
