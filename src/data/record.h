// Records: what was asked of a teacher and what it answered, with the provenance that lets another person
// check both. One JSON object a line (docs/formats/records.md). Knows no network and no tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "formats/json.h"

namespace retort::data {

struct Message {
    std::string role;  // system, user, assistant, tool
    std::string content;
    std::string reasoning;  // of an earlier assistant's turn; mostly empty
    bool operator==(const Message&) const = default;
};

struct Usage {
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
    std::int64_t reasoning_tokens = 0;  // of the completion
    bool operator==(const Usage&) const = default;
};

// Everything that shapes an answer. The key of an answer is the hash of all of it but max_tokens, so that a
// raised limit asks again only for the answers that the old one cut.
struct RequestShape {
    std::vector<Message> messages;
    std::string model;
    formats::Json parameters = formats::Json::object();  // temperature, top_p, seed, …: as sent
    std::int64_t max_tokens = 0;                         // 0: not sent
    std::int64_t sample = 0;                             // which of several answers to the same prompt
    bool operator==(const RequestShape&) const = default;
};

struct Record {
    std::string id;         // the first half of the request key, in hex
    std::string prompt_id;  // as the prompt file names it
    RequestShape request;
    std::string content;
    std::string reasoning;
    std::string finish_reason;  // stop, length, content_filter, tool_calls
    std::string endpoint;
    std::string system_fingerprint;
    std::string request_id;
    std::string terms_id;
    std::string terms_sha256;
    Usage usage;
    std::string started;  // UTC
    double seconds = 0;
    std::int64_t attempts = 1;
    double cost = 0;  // in the currency of the run's prices
    std::string request_sha256;
    std::string response_sha256;
    formats::Json logprobs;                            // an array, one entry a token, or null
    formats::Json metadata = formats::Json::object();  // of the prompt
    formats::Json verdicts = formats::Json::object();  // of filters and verifiers, by their name
    bool operator==(const Record&) const = default;
};

// SHA-256 over canonical JSON (keys sorted, no white space), in hex.
std::string request_key(const RequestShape& request);   // without max_tokens
std::string request_hash(const RequestShape& request);  // with it
std::string response_hash(std::string_view content, std::string_view reasoning,
                          std::string_view finish_reason);
// Sets id and both hashes from the rest.
void seal(Record& record);
// Whether id and hashes are those of the contents; the message says which is not.
Status check_seal(const Record& record);

formats::Json messages_to_json(std::span<const Message> messages);
Result<std::vector<Message>> messages_from_json(const formats::Json& value);

std::string write_record(const Record& record);  // one line, without its end
Result<Record> parse_record(std::string_view line);

// Calls on_record for each line, blank lines skipped; an error names file and line.
Status read_records(const std::filesystem::path& path, const std::function<Status(Record&&)>& on_record);
Result<std::vector<Record>> read_records(const std::filesystem::path& path);

// {"messages":[…]} with the answer as the last turn, which Hugging Face `datasets` and most trainers load.
std::string write_messages_line(const Record& record);

}  // namespace retort::data
