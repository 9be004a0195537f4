// What a run has got so far: a journal of answers and failures, read back on start so that nothing is asked
// twice. Frames are JSON (docs/formats/journal.md has the frame, docs/collect.md what they hold). Knows no
// network.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/journal.h"
#include "base/result.h"
#include "collect/budget.h"
#include "data/record.h"

namespace retort::collect {

struct Failure {
    std::string id;  // of the request, as a record's
    std::string prompt_id;
    std::int64_t sample = 0;
    std::string kind;  // rejected, too_long, gave_up
    std::string reason;
    int status = 0;
    std::int64_t attempts = 1;
    std::string time;
};

// What was paid for a request whose answer is not kept: the slower of two for the same answer.
struct Payment {
    std::string id;  // of the request, as a record's
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
    double cost = 0;
};

std::string write_answer_frame(const data::Record& record);
std::string write_failure_frame(const Failure& failure);
std::string write_payment_frame(const Payment& payment);

struct Frame {
    std::optional<data::Record> record;  // one of the three
    std::optional<Failure> failure;
    std::optional<Payment> payment;
};
Result<Frame> parse_frame(std::string_view frame);

class AnswerStore {
  public:
    static Result<AnswerStore> open(const std::filesystem::path& path);

    // The latest answer to a request, whatever its max_tokens; null when there is none.
    [[nodiscard]] const data::Record* find(const std::string& id) const;
    [[nodiscard]] const Failure* find_failure(const std::string& id) const;
    // Whether the request still needs asking: no answer, or one that a lower max_tokens cut.
    [[nodiscard]] bool is_missing(const std::string& id, std::int64_t max_tokens) const;

    // In the file when it returns; on the disk after the next sync.
    Status add(const data::Record& record);
    Status add(const Failure& failure);
    Status add(const Payment& payment);
    // fsync when 32 frames or a second have gathered, or (force) when anything has.
    Status sync_if_due(double now, bool force = false);

    // Of all that the journal holds: superseded answers were paid for too.
    [[nodiscard]] const Spent& spent() const { return spent_; }
    [[nodiscard]] std::uint64_t torn_bytes() const { return torn_bytes_; }

  private:
    explicit AnswerStore() = default;
    Status append(std::string_view bytes, Frame&& frame);
    void take(Frame&& frame);
    std::optional<base::Journal> journal_;
    std::unordered_map<std::string, data::Record> answers_;
    std::unordered_map<std::string, Failure> failures_;
    Spent spent_;
    std::uint64_t torn_bytes_ = 0;
    int unsynced_ = 0;
    double first_unsynced_ = 0;
};

}  // namespace retort::collect
