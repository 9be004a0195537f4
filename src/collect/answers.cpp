#include "collect/answers.h"

#include <utility>

namespace retort::collect {

using formats::Json;

namespace {
constexpr int group_frames = 32;
constexpr double group_seconds = 1.0;
}  // namespace

// The record's own line, so that it need not be parsed twice to be written out again.
std::string write_answer_frame(const data::Record& record) {
    return "A" + data::write_record(record);
}

std::string write_failure_frame(const Failure& failure) {
    return "F" + formats::write_json({{"id", failure.id},
                                      {"prompt_id", failure.prompt_id},
                                      {"sample", failure.sample},
                                      {"kind", failure.kind},
                                      {"reason", failure.reason},
                                      {"status", failure.status},
                                      {"attempts", failure.attempts},
                                      {"time", failure.time}});
}

std::string write_payment_frame(const Payment& payment) {
    return "P" + formats::write_json({{"id", payment.id},
                                      {"prompt_tokens", payment.prompt_tokens},
                                      {"completion_tokens", payment.completion_tokens},
                                      {"cost", payment.cost}});
}

namespace {

Result<Payment> parse_payment(std::string_view text) {
    RETORT_TRY(const Json json, formats::parse_json(text, "payment"));
    Payment payment;
    RETORT_TRY(payment.id, formats::json_string(json, "id"));
    RETORT_TRY(payment.prompt_tokens, formats::json_integer(json, "prompt_tokens"));
    RETORT_TRY(payment.completion_tokens, formats::json_integer(json, "completion_tokens"));
    RETORT_TRY(payment.cost, formats::json_number(json, "cost"));
    if (payment.prompt_tokens < 0 || payment.completion_tokens < 0 || !(payment.cost >= 0))
        return fail(ErrorCode::format, "payment {}: less than nothing was paid", payment.id);
    return payment;
}

}  // namespace

Result<Frame> parse_frame(std::string_view frame) {
    Frame out;
    if (frame.starts_with('A')) {
        RETORT_TRY(out.record, data::parse_record(frame.substr(1)));
        return out;
    }
    if (frame.starts_with('P')) {
        RETORT_TRY(out.payment, parse_payment(frame.substr(1)));
        return out;
    }
    if (!frame.starts_with('F')) {
        return fail(ErrorCode::format, "a frame that is no answer (A), failure (F) or payment (P)");
    }
    RETORT_TRY(const Json json, formats::parse_json(frame.substr(1), "failure"));
    Failure failure;
    RETORT_TRY(failure.id, formats::json_string(json, "id"));
    RETORT_TRY(failure.prompt_id, formats::json_string(json, "prompt_id", std::string()));
    RETORT_TRY(failure.sample, formats::json_integer(json, "sample", 0));
    RETORT_TRY(failure.kind, formats::json_string(json, "kind"));
    RETORT_TRY(failure.reason, formats::json_string(json, "reason", std::string()));
    RETORT_TRY(const std::int64_t status, formats::json_integer(json, "status", 0));
    failure.status = static_cast<int>(status);
    RETORT_TRY(failure.attempts, formats::json_integer(json, "attempts", 1));
    RETORT_TRY(failure.time, formats::json_string(json, "time", std::string()));
    out.failure = std::move(failure);
    return out;
}

Result<AnswerStore> AnswerStore::open(const std::filesystem::path& path) {
    AnswerStore store;
    base::JournalRecovery recovery;
    RETORT_TRY(store.journal_, base::Journal::open(
                                   path,
                                   [&](std::string_view bytes) -> Status {
                                       RETORT_TRY(Frame frame, parse_frame(bytes));
                                       store.take(std::move(frame));
                                       return {};
                                   },
                                   &recovery));
    store.torn_bytes_ = recovery.torn_bytes;
    return store;
}

void AnswerStore::take(Frame&& frame) {
    if (frame.record) {
        spent_.requests += frame.record->attempts;
        spent_.prompt_tokens += frame.record->usage.prompt_tokens;
        spent_.completion_tokens += frame.record->usage.completion_tokens;
        spent_.cost += frame.record->cost;
        failures_.erase(frame.record->id);
        std::string id = frame.record->id;
        answers_.insert_or_assign(std::move(id), std::move(*frame.record));
    } else if (frame.failure) {
        spent_.requests += frame.failure->attempts;
        std::string id = frame.failure->id;
        failures_.insert_or_assign(std::move(id), std::move(*frame.failure));
    } else if (frame.payment) {
        spent_.requests += 1;
        spent_.prompt_tokens += frame.payment->prompt_tokens;
        spent_.completion_tokens += frame.payment->completion_tokens;
        spent_.cost += frame.payment->cost;
    }
}

const data::Record* AnswerStore::find(const std::string& id) const {
    const auto found = answers_.find(id);
    return found == answers_.end() ? nullptr : &found->second;
}

const Failure* AnswerStore::find_failure(const std::string& id) const {
    const auto found = failures_.find(id);
    return found == failures_.end() ? nullptr : &found->second;
}

bool AnswerStore::is_missing(const std::string& id, std::int64_t max_tokens) const {
    if (const Failure* failure = find_failure(id); failure != nullptr && failure->kind == "too_long")
        return false;
    const data::Record* record = find(id);
    if (record == nullptr) return true;
    if (record->finish_reason != "length" || record->request.max_tokens == 0) return false;
    return max_tokens == 0 || max_tokens > record->request.max_tokens;
}

Status AnswerStore::append(std::string_view bytes, Frame&& frame) {
    RETORT_CHECK(journal_->append(bytes));
    ++unsynced_;
    take(std::move(frame));
    return {};
}

Status AnswerStore::add(const data::Record& record) {
    return append(write_answer_frame(record), {.record = record, .failure = {}, .payment = {}});
}

Status AnswerStore::add(const Failure& failure) {
    return append(write_failure_frame(failure), {.record = {}, .failure = failure, .payment = {}});
}

Status AnswerStore::add(const Payment& payment) {
    return append(write_payment_frame(payment), {.record = {}, .failure = {}, .payment = payment});
}

Status AnswerStore::sync_if_due(double now, bool force) {
    if (unsynced_ == 0) {
        first_unsynced_ = now;
        return {};
    }
    if (!force && unsynced_ < group_frames && now - first_unsynced_ < group_seconds) return {};
    RETORT_CHECK(journal_->sync());
    unsynced_ = 0;
    first_unsynced_ = now;
    return {};
}

}  // namespace retort::collect
