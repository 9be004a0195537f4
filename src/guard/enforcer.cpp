#include "guard/enforcer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "guard/trail.h"

namespace retort::guard {

using Json = nlohmann::ordered_json;

namespace {

// A reason or an appeal comes from outside and may be no UTF-8.
std::string body_text(const Json& body) {
    return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Json to_json(const Verdict& verdict) {
    Json evidence = Json::object();
    for (std::size_t k = 0; k < evidence_kinds; ++k) evidence[std::string(evidence_name(k))] = verdict.z[k];
    Json scaffold = Json::array();
    for (const std::uint32_t gram : verdict.scaffold) scaffold.push_back(gram);
    return {{"verdict", verdict.sequence},
            {"time_ms", verdict.time_ms},
            {"level", level_name(verdict.level)},
            {"detector", detector_name(verdict.detector)},
            {"p", verdict.p},
            {"score", verdict.score},
            {"held_back", verdict.reason},
            {"cluster_accounts", verdict.cluster_size},
            {"customers", verdict.customers},
            {"requests", verdict.requests},
            {"dispersed_texts", verdict.dispersed},
            {"unshared_texts", verdict.unshared},
            {"requests_a_day", verdict.requests_a_day},
            {"evidence", evidence},
            {"scaffold", scaffold}};
}

std::string reason_of(const Verdict& verdict) {
    const bool of_many = verdict.detector == Detector::cluster || verdict.detector == Detector::customer;
    std::string out =
        of_many ? fmt::format("{} of {} accounts", detector_name(verdict.detector), verdict.cluster_size)
                : fmt::format("detector {}", detector_name(verdict.detector));
    out += fmt::format(", p {:.1e}", verdict.p);
    for (std::size_t k = 0; k < evidence_kinds; ++k)
        if (verdict.z[k] > 3) out += fmt::format(", {} {:.0f}", evidence_name(k), verdict.z[k]);
    return out;
}

store::ShortHash Enforcer::hash_of(const std::string& account) const {
    const store::IdentityHash whole = secret_->hash("account", account);
    store::ShortHash out{};
    std::copy_n(whole.begin(), out.size(), out.begin());
    return out;
}

Status Enforcer::learn_accounts() {
    RETORT_TRY(const auto all, accounts_->accounts());
    for (const store::Account& account : all) names_[hash_of(account.id)] = account;
    return {};
}

Status Enforcer::open() {
    RETORT_TRY(last_, marks_.last_verdict());
    return learn_accounts();
}

Result<bool> Enforcer::carry_out(const Verdict& verdict) {
    const auto number = static_cast<std::int64_t>(verdict.sequence);
    if (number <= last_) return false;
    const bool known = std::all_of(verdict.accounts.begin(), verdict.accounts.end(),
                                   [this](const store::ShortHash& id) { return names_.contains(id); });
    if (!known) RETORT_CHECK(learn_accounts());
    const std::int64_t when = verdict.time_ms / 1000;
    const std::string reason = reason_of(verdict);
    const Countermeasures& taken = policy_.at[static_cast<std::size_t>(verdict.level)];
    std::vector<store::AccountMark> marks;
    Json accounts = Json::array();
    std::size_t exempt = 0;
    std::vector<std::string> suspended;
    for (const store::ShortHash& id : verdict.accounts) {
        const auto found = names_.find(id);
        // All of them: another policy is put on whom the trail names.
        accounts.push_back(found != names_.end() ? found->second.id : base::to_hex(id));
        if (found == names_.end()) continue;
        const auto& plans = policy_.exempt_plans;
        if (std::find(plans.begin(), plans.end(), found->second.plan) != plans.end()) {
            ++exempt;
            continue;
        }
        if (policy_.dry_run) continue;
        RETORT_TRY(const store::Mark before, marks_.mark(found->second.id));
        marks.push_back({found->second.id, mark_after(policy_, verdict.level, number, when, reason, before)});
        if (taken.suspend && before.allowed.empty()) suspended.push_back(found->second.id);
    }
    Json body = to_json(verdict);
    body["accounts"] = std::move(accounts);
    body["accounts_raised"] = verdict.accounts.size();
    body["exempt"] = exempt;
    body["dry_run"] = policy_.dry_run;
    // The trail first: what it does not name is not done.
    RETORT_CHECK(marks_.change({0, when, "verdict", number, body_text(body), ""}, marks));
    last_ = number;
    for (const std::string& account : suspended)
        RETORT_CHECK(accounts_->suspend(account, "guard: " + reason));
    return true;
}

Result<std::size_t> Enforcer::apply_again(std::int64_t now) {
    struct Standing {
        Level level = Level::none;
        std::int64_t verdict = -1;
        std::int64_t when = 0;
        std::string reason;
    };
    std::map<std::string, Standing> standing;
    RETORT_CHECK(learn_accounts());
    constexpr std::int64_t page = 1000;
    for (std::int64_t from = 0;; from += page) {
        RETORT_TRY(const auto entries, marks_.trail(from, page));
        for (const store::TrailEntry& entry : entries) {
            if (entry.kind == "allow" || entry.kind == "disallow") {
                RETORT_TRY(const std::string account, written_account(entry));
                standing.erase(account);
            }
            if (entry.kind != "verdict") continue;
            RETORT_TRY(const WrittenVerdict verdict, written_verdict(entry));
            for (const std::string& id : verdict.accounts) {
                Standing& mine = standing[id];
                if (verdict.level > mine.level)
                    mine = {verdict.level, entry.verdict, entry.time,
                            fmt::format("verdict {}", entry.verdict)};
            }
        }
        if (entries.size() < static_cast<std::size_t>(page)) break;
    }
    std::vector<store::AccountMark> marks;
    std::map<std::string, std::string> plans;
    for (const auto& [hash, account] : names_) plans[account.id] = account.plan;
    RETORT_TRY(const auto before, marks_.marks());
    std::map<std::string, store::Mark> old;
    for (const auto& each : before) old[each.account] = each.mark;
    for (const auto& [account, plan] : plans) {
        const auto found = standing.find(account);
        store::Mark base;  // what verdicts do not touch stays
        base.allowed = old[account].allowed;
        base.allowed_by = old[account].allowed_by;
        base.appeal = old[account].appeal;
        store::Mark mark = base;
        const bool exempt = std::find(policy_.exempt_plans.begin(), policy_.exempt_plans.end(), plan) !=
                            policy_.exempt_plans.end();
        if (found != standing.end() && !policy_.dry_run && !exempt)
            mark = mark_after(policy_, found->second.level, found->second.verdict, found->second.when,
                              found->second.reason, base);
        if (mark != old[account]) marks.push_back({account, mark});
    }
    if (marks.empty()) return std::size_t{0};
    const Json body = {{"dry_run", policy_.dry_run}, {"accounts_changed", marks.size()}};
    RETORT_CHECK(marks_.change({0, now, "policy", -1, body_text(body), ""}, marks));
    return marks.size();
}

Status Enforcer::allow(const std::string& account, const std::string& reason, const std::string& by,
                       std::int64_t now) {
    if (reason.empty() || by.empty())
        return fail(ErrorCode::invalid_argument, "an allowance needs a reason and who gives it");
    RETORT_CHECK(learn_accounts());
    const auto found = names_.find(hash_of(account));
    if (found == names_.end()) return fail(ErrorCode::invalid_argument, "there is no account '{}'", account);
    store::Mark mark;
    mark.allowed = reason;
    mark.allowed_by = by;
    const Json body = {{"account", account}, {"reason", reason}, {"by", by}};
    RETORT_CHECK(marks_.change({0, now, "allow", -1, body_text(body), ""}, {{account, mark}}));
    // Only what the guard suspended is lifted.
    if (found->second.status == "suspended" && found->second.reason.starts_with("guard: "))
        return accounts_->resume(account);
    return {};
}

Status Enforcer::disallow(const std::string& account, const std::string& by, std::int64_t now) {
    RETORT_TRY(store::Mark mark, marks_.mark(account));
    if (mark.allowed.empty())
        return fail(ErrorCode::invalid_argument, "account '{}' is not allowed", account);
    mark.allowed.clear();
    mark.allowed_by.clear();
    const Json body = {{"account", account}, {"by", by}};
    return marks_.change({0, now, "disallow", -1, body_text(body), ""}, {{account, mark}});
}

Status Enforcer::appeal(const std::string& account, const std::string& text, std::int64_t now) {
    constexpr std::size_t longest = 4000;
    if (text.empty() || text.size() > longest)
        return fail(ErrorCode::invalid_argument, "an appeal has 1 to {} bytes", longest);
    RETORT_CHECK(learn_accounts());
    if (!names_.contains(hash_of(account)))
        return fail(ErrorCode::invalid_argument, "there is no account '{}'", account);
    RETORT_TRY(store::Mark mark, marks_.mark(account));
    mark.appeal = text;
    const Json body = {{"account", account}, {"text", text}};
    return marks_.change({0, now, "appeal", -1, body_text(body), ""}, {{account, mark}});
}

Result<std::set<store::ShortHash>> Enforcer::allowed() {
    RETORT_TRY(const auto all, marks_.marks());
    std::set<store::ShortHash> out;
    for (const store::AccountMark& each : all)
        if (!each.mark.allowed.empty()) out.insert(hash_of(each.account));
    return out;
}

}  // namespace retort::guard
