#include "escrow/records.h"

#include <sodium.h>

#include <array>

#include "base/hash.h"

namespace retort::escrow {

using formats::Json;

namespace {

constexpr std::array kinds{RecordKind::twin, RecordKind::identical, RecordKind::broken, RecordKind::served,
                           RecordKind::canary};

}  // namespace

std::string_view record_kind_name(RecordKind kind) {
    switch (kind) {
        case RecordKind::twin:
            return "twin";
        case RecordKind::identical:
            return "identical";
        case RecordKind::broken:
            return "broken";
        case RecordKind::served:
            return "served";
        case RecordKind::canary:
            return "canary";
    }
    return "";
}

std::string random_nonce() {
    std::array<std::uint8_t, 16> bytes{};
    randombytes_buf(bytes.data(), bytes.size());
    return base::to_hex(bytes);
}

std::string write_record(const Record& record) {
    Json json{{"kind", record_kind_name(record.kind)},
              {"nonce", record.nonce},
              {"index", record.index},
              {"time_ms", record.time_ms},
              {"channel", record.channel}};
    if (!record.scheme.empty()) json["scheme"] = record.scheme;
    if (!record.messages.empty()) json["messages"] = record.messages;
    if (!record.prompt.empty()) json["prompt"] = record.prompt;
    if (!record.answers.empty()) json["answers"] = record.answers;
    if (record.kind == RecordKind::twin) json["served"] = record.served;
    if (!record.sent_whole) json["sent_whole"] = false;
    if (!record.canary.empty()) json["canary"] = record.canary;
    return formats::write_json(json);
}

Result<Record> parse_record(std::string_view text) {
    RETORT_TRY(const Json json, formats::parse_json(text, "escrowed record"));
    if (!json.is_object()) return fail(ErrorCode::format, "an escrowed record is no JSON object");
    Record record;
    RETORT_TRY(const std::string kind, formats::json_string(json, "kind"));
    bool known = false;
    for (const RecordKind candidate : kinds) {
        if (kind != record_kind_name(candidate)) continue;
        record.kind = candidate;
        known = true;
    }
    if (!known) return fail(ErrorCode::format, "an escrowed record's kind \"{}\" is not known", kind);
    RETORT_TRY(record.nonce, formats::json_string(json, "nonce"));
    RETORT_TRY(const std::int64_t index, formats::json_integer(json, "index", 0));
    if (index < 0) return fail(ErrorCode::format, "an escrowed record's index is below 0");
    record.index = static_cast<std::uint64_t>(index);
    RETORT_TRY(record.time_ms, formats::json_integer(json, "time_ms", 0));
    RETORT_TRY(record.channel, formats::json_string(json, "channel", ""));
    RETORT_TRY(record.scheme, formats::json_string(json, "scheme", ""));
    RETORT_TRY(record.prompt, formats::json_string(json, "prompt", ""));
    RETORT_TRY(record.served, formats::json_integer(json, "served", 0));
    RETORT_TRY(record.sent_whole, formats::json_boolean(json, "sent_whole", true));
    RETORT_TRY(record.canary, formats::json_string(json, "canary", ""));
    if (const Json* messages = formats::json_find(json, "messages")) {
        if (!messages->is_array())
            return fail(ErrorCode::format, "an escrowed record's messages are no array");
        record.messages = *messages;
    }
    if (const Json* answers = formats::json_find(json, "answers")) {
        if (!answers->is_array()) return fail(ErrorCode::format, "an escrowed record's answers are no array");
        for (const Json& answer : *answers) {
            if (!answer.is_string()) return fail(ErrorCode::format, "an escrowed answer is no string");
            record.answers.push_back(answer.get<std::string>());
        }
    }
    const std::size_t wanted = record.kind == RecordKind::twin     ? 2
                               : record.kind == RecordKind::served ? 1
                                                                   : record.answers.size();
    if (record.answers.size() != wanted || record.served < 0 ||
        record.served > (record.kind == RecordKind::twin ? 1 : 0)) {
        return fail(ErrorCode::format, "an escrowed {} has {} answers, of which number {} was served", kind,
                    record.answers.size(), record.served);
    }
    return record;
}

}  // namespace retort::escrow
