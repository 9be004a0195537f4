#include "serve/quota.h"

#include <algorithm>
#include <unordered_set>

#include "base/clock.h"
#include "base/log.h"
#include "serve/quota_account.h"
#include "store/identity.h"

namespace retort::serve {

namespace {

constexpr std::size_t accounts_together = 64;  // in one transaction
constexpr double exhausted_seconds = 0.1;      // how long a refusal stands without asking again
constexpr double heartbeat_seconds = 1;
constexpr double housekeeping_seconds = 600;
constexpr std::int64_t day_retention_seconds = std::int64_t{400} * 86'400;

QuotaAnswer refused(QuotaRefusal why) {
    QuotaAnswer answer;
    answer.refused = why;
    return answer;
}

QuotaRefusal unavailable() {
    QuotaRefusal why;
    why.unavailable = true;
    return why;
}

}  // namespace

Quota::Quota(std::unique_ptr<store::Database> database, Options options)
    : options_(std::move(options)),
      database_(std::move(database)),
      ledger_(*database_, store::random_name("server_")) {}

Result<std::unique_ptr<Quota>> Quota::open(const std::string& location, Options options) {
    RETORT_TRY(auto database, store::open_database(location));
    std::unique_ptr<Quota> quota(new Quota(std::move(database), std::move(options)));
    RETORT_CHECK(
        quota->ledger_.heartbeat(quota->now(), static_cast<std::int64_t>(quota->options_.lease_seconds)));
    quota->last_heartbeat_ = base::monotonic_seconds();
    quota->thread_ = std::thread([raw = quota.get()] { raw->run(); });
    return quota;
}

Quota::~Quota() {
    stop();
}

std::int64_t Quota::now() const {
    return options_.clock ? options_.clock() : base::unix_milliseconds() / 1000;
}

std::shared_ptr<QuotaAccount> Quota::account_of(const std::string& id, const store::Limits& limits) {
    std::shared_ptr<QuotaAccount> account;
    {
        const std::lock_guard lock(mutex_);
        std::shared_ptr<QuotaAccount>& slot = accounts_[id];
        if (!slot) slot = std::make_shared<QuotaAccount>(id);
        account = slot;
    }
    const std::lock_guard lock(account->mutex);
    account->limits = limits;
    return account;
}

void Quota::list(const std::shared_ptr<QuotaAccount>& account) {
    const std::lock_guard lock(mutex_);
    active_.push_back(account);
}

void Quota::reserve(const std::string& id, const store::Limits& limits, const Amounts& wanted,
                    std::function<void(QuotaAnswer)> decided) {
    const std::shared_ptr<QuotaAccount> account = account_of(id, limits);
    const std::int64_t time = now();
    std::optional<QuotaAnswer> answer;
    bool newly_listed = false;
    {
        const std::lock_guard lock(account->mutex);
        account->roll(time);
        if (auto taken = account->take(account, wanted)) {
            answer.emplace();
            answer->reservation = std::move(*taken);
            newly_listed = !std::exchange(account->listed, true);
        } else if (auto why =
                       account->refusal(wanted, time, account->exhausted_until > base::monotonic_seconds())) {
            answer = refused(*why);
        }
        if (answer) answer->states = account->states(time);
    }
    if (newly_listed) list(account);
    if (answer) return decided(std::move(*answer));
    {
        const std::lock_guard lock(mutex_);
        if (!stopping_) {
            waiting_.push_back({account, wanted, std::move(decided)});
            wake_.notify_one();
            return;
        }
    }
    decided(refused(unavailable()));
}

void Quota::settle(const Reservation& reservation, const Amounts& used) {
    if (!reservation.account) return;
    bool newly_listed = false;
    {
        const std::lock_guard lock(reservation.account->mutex);
        reservation.account->roll(now());
        reservation.account->settle(reservation, used);
        newly_listed = !std::exchange(reservation.account->listed, true);
    }
    if (newly_listed) list(reservation.account);
}

void Quota::run() {
    std::vector<Waiting> waiting;
    bool last = false;
    while (!last) {
        {
            std::unique_lock lock(mutex_);
            if (waiting.empty()) {
                wake_.wait_for(lock, std::chrono::duration<double>(options_.flush_seconds),
                               [this] { return stopping_ || !waiting_.empty(); });
            }
            last = stopping_;
            std::move(waiting_.begin(), waiting_.end(), std::back_inserter(waiting));
            waiting_.clear();
        }
        housekeeping();
        const Status done = round(waiting, last);
        if (done.has_value() != healthy_) {
            healthy_ = done.has_value();
            if (done) {
                spdlog::info("the store answers again");
            } else {
                spdlog::error("the store does not answer: {}", done.error().message);
            }
        }
        if (!done || last) {
            for (Waiting& each : waiting) each.decided(refused(unavailable()));
            waiting.clear();
            if (!last) std::this_thread::sleep_for(std::chrono::duration<double>(options_.flush_seconds));
        }
    }
    if (const Status left = ledger_.leave(); !left)
        spdlog::warn("leaving the store: {}", left.error().message);
}

Status Quota::exchange(const std::vector<std::shared_ptr<QuotaAccount>>& accounts,
                       const std::vector<Waiting>& waiting, bool last) {
    std::unordered_map<QuotaAccount*, std::vector<Amounts>> wanted;
    for (const Waiting& each : waiting) {
        if (!last) wanted[each.account.get()].push_back(each.wanted);
    }
    Status result;
    for (std::size_t begin = 0; begin < accounts.size() && result; begin += accounts_together) {
        const std::size_t end = std::min(accounts.size(), begin + accounts_together);
        std::vector<store::AccountExchange> exchanges;
        std::unordered_map<std::string, QuotaAccount*> by_id;
        for (std::size_t i = begin; i < end; ++i) {
            QuotaAccount& account = *accounts[i];
            const std::lock_guard lock(account.mutex);
            account.roll(now());
            exchanges.push_back({account.id, account.lines(wanted[&account], last)});
            by_id[account.id] = &account;
        }
        result = ledger_.exchange(exchanges);
        for (const store::AccountExchange& each : exchanges) {
            QuotaAccount& account = *by_id[each.account];
            const std::lock_guard lock(account.mutex);
            if (result) {
                account.accept(each.lines);
            } else {
                account.reject(each.lines);
            }
        }
    }
    return result;
}

void Quota::answer(std::vector<Waiting>& waiting) {
    std::vector<std::pair<std::function<void(QuotaAnswer)>, QuotaAnswer>> answers;
    std::vector<Waiting> still;
    const std::int64_t time = now();
    for (Waiting& each : waiting) {
        QuotaAccount& account = *each.account;
        const std::lock_guard lock(account.mutex);
        account.roll(time);
        QuotaAnswer answer;
        if (auto taken = account.take(each.account, each.wanted)) {
            answer.reservation = std::move(*taken);
        } else if (auto why = account.refusal(each.wanted, time, true)) {
            answer.refused = *why;
            account.exhausted_until = base::monotonic_seconds() + exhausted_seconds;
        } else {
            still.push_back(std::move(each));
            continue;
        }
        answer.states = account.states(time);
        answers.emplace_back(std::move(each.decided), std::move(answer));
    }
    waiting = std::move(still);
    for (auto& [decided, answer] : answers) decided(std::move(answer));
}

Status Quota::round(std::vector<Waiting>& waiting, bool last) {
    std::vector<std::shared_ptr<QuotaAccount>> accounts;
    {
        const std::lock_guard lock(mutex_);
        accounts.swap(active_);
    }
    std::unordered_set<QuotaAccount*> seen;
    std::erase_if(accounts, [&](const auto& account) { return !seen.insert(account.get()).second; });
    for (const Waiting& each : waiting) {
        if (seen.insert(each.account.get()).second) accounts.push_back(each.account);
    }
    const Status result = exchange(accounts, waiting, last);
    if (result && !last) answer(waiting);
    // An account that was not listed, only waited for, may be listed twice by now: the next round sees to it.
    std::vector<std::shared_ptr<QuotaAccount>> again;
    for (const auto& account : accounts) {
        const std::lock_guard lock(account->mutex);
        account->listed = !account->is_idle();
        if (account->listed) again.push_back(account);
    }
    const std::lock_guard lock(mutex_);
    active_.insert(active_.end(), again.begin(), again.end());
    return result;
}

void Quota::housekeeping() {
    const double time = base::monotonic_seconds();
    if (time - last_heartbeat_ >= heartbeat_seconds) {
        last_heartbeat_ = time;
        const auto known = ledger_.heartbeat(now(), static_cast<std::int64_t>(options_.lease_seconds));
        if (known && !*known) drop_leases();
        if (const auto dead = ledger_.reap(now()); dead && *dead > 0) {
            spdlog::warn("{} server(s) of this store fell silent; what they had reserved counts as used",
                         *dead);
        }
    }
    if (time - last_housekeeping_ >= housekeeping_seconds) {
        last_housekeeping_ = time;
        (void)ledger_.forget(0, now() - options_.minute_retention_seconds);
        (void)ledger_.forget(1, now() - day_retention_seconds);
    }
}

void Quota::drop_leases() {
    std::vector<std::shared_ptr<QuotaAccount>> all;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, account] : accounts_) all.push_back(account);
    }
    for (const auto& account : all) {
        const std::lock_guard lock(account->mutex);
        account->drop_leases();
    }
    spdlog::warn("this server was silent for {} s, and its reservations were given up",
                 options_.lease_seconds);
}

void Quota::stop() {
    const std::lock_guard once(stop_mutex_);
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
}

}  // namespace retort::serve
