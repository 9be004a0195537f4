#include "store/marks.h"

#include <nlohmann/json.hpp>

namespace retort::store {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::string_view entry_columns = "number, time, kind, verdict, body, hash";
constexpr std::int64_t page = 1000;

TrailEntry entry_of(const Row& row) {
    return {row.integer(0), row.integer(1), row.text(2), row.integer(3), row.text(4), row.text(5)};
}

template <typename T>
void read(const nlohmann::json& json, const char* name, T& out) {
    const auto found = json.find(name);
    if (found != json.end()) out = found->get<T>();
}

}  // namespace

Json to_json(const Mark& mark) {
    return {{"level", mark.level},
            {"verdict", mark.verdict},
            {"since", mark.since},
            {"reason", mark.reason},
            {"review", mark.review},
            {"requests_per_minute", mark.requests_per_minute},
            {"tokens_per_day", mark.tokens_per_day},
            {"no_logprobs", mark.no_logprobs},
            {"reasoning", mark.reasoning},
            {"watermark", mark.watermark},
            {"twins", mark.twins},
            {"allowed", mark.allowed},
            {"allowed_by", mark.allowed_by},
            {"appeal", mark.appeal}};
}

Result<Mark> mark_from_json(std::string_view text) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return fail(ErrorCode::format, "a mark that is not a JSON object");
    Mark mark;
    try {
        read(json, "level", mark.level);
        read(json, "verdict", mark.verdict);
        read(json, "since", mark.since);
        read(json, "reason", mark.reason);
        read(json, "review", mark.review);
        read(json, "requests_per_minute", mark.requests_per_minute);
        read(json, "tokens_per_day", mark.tokens_per_day);
        read(json, "no_logprobs", mark.no_logprobs);
        read(json, "reasoning", mark.reasoning);
        read(json, "watermark", mark.watermark);
        read(json, "twins", mark.twins);
        read(json, "allowed", mark.allowed);
        read(json, "allowed_by", mark.allowed_by);
        read(json, "appeal", mark.appeal);
    } catch (const nlohmann::json::exception& error) {
        return fail(ErrorCode::format, "a mark: {}", error.what());
    }
    return mark;
}

std::string Marks::hash_of(const TrailEntry& entry, const std::string& before) const {
    // As JSON, so that no two entries write alike.
    const Json all = {before, entry.number, entry.time, entry.kind, entry.verdict, entry.body};
    return hash_text(secret_->hash("guard trail", all.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

Result<std::vector<AccountMark>> Marks::marks(std::int64_t since_revision) {
    RETORT_TRY(const auto rows,
               database_->query("SELECT account, fields FROM marks WHERE revision > $1 ORDER BY account",
                                {since_revision}));
    std::vector<AccountMark> out;
    for (const Row& row : rows) {
        auto mark = mark_from_json(row.text(1));
        if (!mark) return fail_from(mark.error(), "account " + row.text(0));
        out.push_back({row.text(0), std::move(*mark)});
    }
    return out;
}

Result<Mark> Marks::mark(const std::string& account) {
    RETORT_TRY(const auto rows, database_->query("SELECT fields FROM marks WHERE account = $1", {account}));
    if (rows.empty()) return Mark{};
    return mark_from_json(rows[0].text(0));
}

Status Marks::change(TrailEntry entry, const std::vector<AccountMark>& marks) {
    return database_->transaction([&]() -> Status {
        // The lock on the counter orders entries too.
        RETORT_TRY(const auto rows,
                   database_->query(
                       "UPDATE meta SET number = number + 1 WHERE name = 'revision' RETURNING number", {}));
        if (rows.empty()) return fail(ErrorCode::invalid_argument, "the store has no accounts yet");
        RETORT_TRY(const TrailHead before, head());
        entry.number = before.entries;
        entry.hash = hash_of(entry, before.hash);
        RETORT_CHECK(database_->execute(
            "INSERT INTO guard_trail (number, time, kind, verdict, body, hash) VALUES ($1, $2, $3, $4, $5, "
            "$6)",
            {entry.number, entry.time, entry.kind, entry.verdict, entry.body, entry.hash}));
        for (const AccountMark& each : marks) {
            const std::string fields =
                to_json(each.mark).dump(-1, ' ', false, Json::error_handler_t::replace);
            RETORT_CHECK(database_->execute(
                "INSERT INTO marks (account, fields, revision) VALUES ($1, $2, $3) ON CONFLICT (account) DO "
                "UPDATE SET fields = $2, revision = $3",
                {each.account, fields, rows[0].integer(0)}));
        }
        return {};
    });
}

Result<std::vector<TrailEntry>> Marks::trail(std::int64_t from, std::int64_t count) {
    RETORT_TRY(const auto rows,
               database_->query(fmt::format("SELECT {} FROM guard_trail WHERE number >= $1 ORDER BY number "
                                            "LIMIT $2",
                                            entry_columns),
                                {from, count}));
    std::vector<TrailEntry> out;
    for (const Row& row : rows) out.push_back(entry_of(row));
    return out;
}

Result<TrailHead> Marks::head() {
    RETORT_TRY(const auto rows,
               database_->query("SELECT number, hash FROM guard_trail ORDER BY number DESC LIMIT 1", {}));
    if (rows.empty()) return TrailHead{};
    return TrailHead{rows[0].integer(0) + 1, rows[0].text(1)};
}

Result<std::int64_t> Marks::last_verdict() {
    RETORT_TRY(
        const auto rows,
        database_->query("SELECT COALESCE(MAX(verdict), -1) FROM guard_trail WHERE kind = 'verdict'", {}));
    return rows.at(0).integer(0);
}

Result<TrailHead> Marks::verify(const TrailHead& expected) {
    TrailHead at;
    for (;;) {
        RETORT_TRY(const auto entries, trail(at.entries, page));
        for (const TrailEntry& entry : entries) {
            if (entry.number != at.entries) {
                return fail(ErrorCode::format, "the guard's trail has no entry {}: it was taken out",
                            at.entries);
            }
            if (hash_of(entry, at.hash) != entry.hash) {
                return fail(
                    ErrorCode::format,
                    "entry {} of the guard's trail is not what was written there, or one before it is "
                    "missing",
                    entry.number);
            }
            at = {entry.number + 1, entry.hash};
            if (at.entries == expected.entries && !expected.hash.empty() && at.hash != expected.hash) {
                return fail(ErrorCode::format, "entry {} of the guard's trail is another than the one noted",
                            entry.number);
            }
        }
        if (entries.size() < page) break;
    }
    if (at.entries < expected.entries) {
        return fail(ErrorCode::format,
                    "the guard's trail ends after {} entries; {} were noted: its end is cut off", at.entries,
                    expected.entries);
    }
    return at;
}

}  // namespace retort::store
