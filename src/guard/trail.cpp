#include "guard/trail.h"

namespace retort::guard {

using formats::Json;

namespace {

std::string place(const store::TrailEntry& entry) {
    return fmt::format("entry {} of the guard's trail ({})", entry.number, entry.kind);
}

Result<std::string> member(const store::TrailEntry& entry, const Json& body, std::string_view name) {
    auto text = formats::json_string(body, name);
    if (!text) return fail_from(text.error(), place(entry));
    return *std::move(text);
}

}  // namespace

Result<Json> entry_body(const store::TrailEntry& entry) {
    RETORT_TRY(Json body, formats::parse_json(entry.body, place(entry)));
    if (!body.is_object()) {
        return fail(ErrorCode::format, "{}: its body is {} {}, not an object", place(entry),
                    body.is_array() ? "an" : "a", body.type_name());
    }
    return body;
}

Result<WrittenVerdict> written_verdict(const store::TrailEntry& entry) {
    RETORT_TRY(const Json body, entry_body(entry));
    RETORT_TRY(const std::string level, member(entry, body, "level"));
    WrittenVerdict out;
    out.level = Level::none;
    for (const Level each : {Level::review, Level::throttle, Level::suspend})
        if (level == level_name(each)) out.level = each;
    if (out.level == Level::none)
        return fail(ErrorCode::format, "{}: level is \"{}\", not review, throttle or suspend", place(entry),
                    level);
    const Json* accounts = formats::json_find(body, "accounts");
    if (accounts == nullptr) return fail(ErrorCode::format, "{}: accounts is missing", place(entry));
    if (!accounts->is_array()) {
        return fail(ErrorCode::format, "{}: accounts is {} {}, not an array", place(entry),
                    accounts->is_object() ? "an" : "a", accounts->type_name());
    }
    for (const Json& account : *accounts) {
        if (!account.is_string()) {
            return fail(ErrorCode::format, "{}: accounts[{}] is {} {}, not a string", place(entry),
                        out.accounts.size(), account.is_structured() ? "an" : "a", account.type_name());
        }
        out.accounts.push_back(account.get<std::string>());
    }
    return out;
}

Result<std::string> written_account(const store::TrailEntry& entry) {
    RETORT_TRY(const Json body, entry_body(entry));
    return member(entry, body, "account");
}

Result<Json> readable_body(const store::TrailEntry& entry) {
    if (entry.kind == "verdict") RETORT_CHECK(written_verdict(entry));
    if (entry.kind == "allow" || entry.kind == "disallow" || entry.kind == "appeal")
        RETORT_CHECK(written_account(entry));
    return entry_body(entry);
}

}  // namespace retort::guard
