// What is kept for an audit: the plain text of an escrowed record, as JSON, and back. The format is
// docs/formats/escrow.md. Knows no file and no key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/json.h"

namespace retort::escrow {

enum class RecordKind {
    twin,       // two answers to one request, of which one was served
    identical,  // the two were the same, so that nothing can be learnt from them
    broken,     // one of the two was not finished: the server stopped
    served,     // an answer as it was served, marked
    canary,     // a canary's answer was served
};

struct Record {
    RecordKind kind = RecordKind::twin;
    std::string nonce;        // random: without it a leaf's hash could be guessed
    std::uint64_t index = 0;  // in the coin stream: twin, identical, broken
    std::int64_t time_ms = 0;
    std::string channel;                              // whose key asked
    std::string scheme;                               // of the mark: "red-green", …; empty: none
    formats::Json messages = formats::Json::array();  // of a conversation: {role, content}
    std::string prompt;                               // of a plain completion instead
    std::vector<std::string> answers;                 // twin: both, in the order drawn; served: the one
    std::int64_t served = 0;                          // twin: which of them
    bool sent_whole = true;                           // false: the client went before the end
    std::string canary;                               // its id

    bool operator==(const Record&) const = default;
    [[nodiscard]] const std::string& served_answer() const {
        return answers[static_cast<std::size_t>(served)];
    }
    [[nodiscard]] const std::string& withheld_answer() const {
        return answers[static_cast<std::size_t>(1 - served)];
    }
};

std::string_view record_kind_name(RecordKind kind);
std::string random_nonce();
std::string write_record(const Record& record);  // one line; keys sorted: its bytes are what a leaf hashes
Result<Record> parse_record(std::string_view text);

}  // namespace retort::escrow
