#include "serve/accounts_directory.h"

#include <sodium.h>

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/hash.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/strings.h"
#include "guard/trail.h"

namespace retort::serve {

namespace {

constexpr std::int64_t again_seconds = 3600;  // before the same identity is written again
constexpr std::size_t max_seen = 1U << 20U;   // remembered, to write them once only
constexpr std::size_t max_unwritten = 1U << 16U;

std::int64_t now() {
    return base::unix_milliseconds() / 1000;
}

}  // namespace

store::ShortHash short_hash(const store::Secret& secret, std::string_view purpose, std::string_view text) {
    const store::IdentityHash whole = secret.hash(purpose, text);
    store::ShortHash out{};
    std::copy_n(whole.begin(), out.size(), out.begin());
    return out;
}

Result<std::unique_ptr<AccountDirectory>> AccountDirectory::open(const std::string& location,
                                                                 const store::Secret& secret,
                                                                 Options options) {
    RETORT_TRY(auto database, store::open_database(location));
    std::unique_ptr<AccountDirectory> directory(new AccountDirectory(std::move(database), secret, options));
    RETORT_TRY(const store::Accounts accounts,
               store::Accounts::open(*directory->database_, directory->secret_));
    directory->accounts_ = std::make_unique<store::Accounts>(accounts);
    directory->revision_ = -1;
    RETORT_CHECK(directory->refresh());
    directory->thread_ = std::thread([raw = directory.get()] { raw->run(); });
    return directory;
}

AccountDirectory::~AccountDirectory() {
    stop();
}

void AccountDirectory::stop() {
    const std::lock_guard once(stop_mutex_);
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
}

bool AccountDirectory::is_stale() const {
    return base::monotonic_seconds() - last_answer_ > options_.stale_seconds;
}

std::uint64_t AccountDirectory::next_number() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

// Clients send one key again and again, and BLAKE2b of it is the dearer of the two hashes. What is kept is
// neither the key nor anything that tells it: 128 bits of SipHash under a key that this process made up,
// which nobody outside can aim at.
store::IdentityHash AccountDirectory::hash_of(std::string_view key) const {
    using Tag = std::array<unsigned char, crypto_shorthash_siphashx24_BYTES>;
    using SipKey = std::array<unsigned char, crypto_shorthash_siphashx24_KEYBYTES>;
    struct Known {
        std::uint64_t directory = 0;
        Tag tag{};
        store::IdentityHash hash{};
    };
    static const SipKey sip_key = [] {
        SipKey made{};
        randombytes_buf(made.data(), made.size());
        return made;
    }();
    thread_local std::array<Known, 256> all;
    Tag tag{};
    crypto_shorthash_siphashx24(tag.data(), reinterpret_cast<const unsigned char*>(key.data()), key.size(),
                                sip_key.data());
    Known& known = all[tag[0]];
    if (known.directory == number_ && sodium_memcmp(known.tag.data(), tag.data(), tag.size()) == 0)
        return known.hash;
    known = {number_, tag, secret_.hash("key", key)};
    return known.hash;
}

std::shared_ptr<const Caller> AccountDirectory::find(std::string_view key) const {
    const store::IdentityHash hash = hash_of(key);
    const std::string_view id = store::key_id(key);
    const std::shared_lock lock(mutex_);
    const auto found = keys_.find(id);
    // An unknown key is compared too: the answer takes as long.
    static const store::IdentityHash nothing{};
    const bool same = store::is_same_hash(hash, found != keys_.end() ? found->second.key.hash : nothing);
    if (found == keys_.end() || !same) return nullptr;
    const store::Key& row = found->second.key;
    const std::int64_t time = now();
    if ((row.revoked != 0 && row.revoked <= time) || (row.expires != 0 && row.expires <= time))
        return nullptr;
    return found->second.caller;
}

std::map<store::ShortHash, std::string> AccountDirectory::names_of(
    const std::set<store::ShortHash>& hashes) const {
    std::map<store::ShortHash, std::string> names;
    const std::shared_lock lock(mutex_);
    for (const auto& [id, view] : views_) {
        if (view && hashes.contains(view->hash)) names.emplace(view->hash, id);
    }
    for (const auto& [id, entry] : keys_) {
        if (hashes.contains(entry.caller->key_hash)) names.emplace(entry.caller->key_hash, id);
    }
    return names;
}

Status AccountDirectory::refresh() {
    const std::lock_guard lock(store_mutex_);
    return poll();
}

Status AccountDirectory::poll() {
    RETORT_TRY(const std::int64_t revision, accounts_->revision());
    if (revision != revision_) {
        RETORT_TRY(store::Changes changes, accounts_->changes_since(revision_));
        revision_ = changes.revision;
        apply(std::move(changes));
        RETORT_CHECK(count_verdicts());
    }
    last_answer_ = base::monotonic_seconds();
    return {};
}

// Only what the trail has gained since.
Status AccountDirectory::count_verdicts() {
    store::Marks marks(*database_, secret_);
    constexpr std::int64_t page = 500;
    for (;;) {
        RETORT_TRY(const auto entries, marks.trail(trail_read_, page));
        const std::unique_lock lock(mutex_);
        for (const store::TrailEntry& entry : entries) {
            trail_read_ = entry.number + 1;
            if (entry.kind != "verdict") continue;
            const auto verdict = guard::written_verdict(entry);
            if (!verdict) spdlog::warn("{}", base::one_line(verdict.error().message, 400));
            ++verdicts_[verdict ? std::string(guard::level_name(verdict->level)) : "unreadable"];
        }
        if (entries.size() < static_cast<std::size_t>(page)) return {};
    }
}

GuardCounts AccountDirectory::guard_counts() const {
    const std::shared_lock lock(mutex_);
    GuardCounts out;
    out.verdicts = verdicts_;
    for (const auto& [account, mark] : marks_) out.marked += mark.level.empty() ? 0 : 1;
    return out;
}

void AccountDirectory::apply(store::Changes changes) {
    const std::unique_lock lock(mutex_);
    for (store::Plan& plan : changes.plans) {
        const std::string name = plan.name;
        plans_[name] = std::make_shared<const store::Plan>(std::move(plan));
    }
    if (!changes.terms.empty()) newest_terms_ = changes.terms.back().version;
    std::vector<std::string> stale;
    for (store::Account& account : changes.accounts) {
        stale.push_back(account.id);
        known_[account.id] = std::move(account);
    }
    for (store::AccountMark& each : changes.marks) {
        if (known_.contains(each.account)) stale.push_back(each.account);
        marks_[each.account] = std::move(each.mark);
    }
    // A plan or new terms touch whoever is on them.
    if (!changes.plans.empty() || !changes.terms.empty()) {
        stale.clear();
        for (const auto& [id, account] : known_) stale.push_back(id);
    }
    for (const std::string& id : stale) {
        const store::Account& account = known_[id];
        auto view = std::make_shared<AccountView>();
        view->id = id;
        view->plan = plans_[account.plan];
        view->suspended = account.status != "active" || !view->plan;
        view->reason = account.reason;
        view->hash = short_hash(secret_, "account", id);
        if (!account.payment.empty() && !base::read_hex(account.payment, view->payment, "a payment's hash"))
            view->payment = {};
        if (const auto mark = marks_.find(id); mark != marks_.end()) view->mark = mark->second;
        const std::string& wanted =
            view->plan && !view->plan->terms.empty() ? view->plan->terms : newest_terms_;
        const bool accepted =
            std::any_of(account.acceptances.begin(), account.acceptances.end(),
                        [&](const store::Acceptance& each) { return each.terms == wanted; });
        if (!accepted) view->missing_terms = wanted;
        views_[id] = std::move(view);
    }
    for (store::Key& key : changes.keys) keys_[key.id].key = std::move(key);
    for (auto& [id, entry] : keys_) {
        const auto& view = views_[entry.key.account];
        if (entry.caller && entry.caller->account == view) continue;
        entry.caller = std::make_shared<const Caller>(
            Caller{view, entry.key.id, entry.key.role, short_hash(secret_, "key id", entry.key.id)});
    }
    // A key can be committed between our reads before its account is seen: it waits for the next round.
    std::erase_if(keys_, [](const auto& each) { return each.second.caller->account == nullptr; });
}

void AccountDirectory::saw(const std::string& account, std::string_view kind, const store::ShortHash& hash) {
    const std::int64_t time = now();
    // Mostly the one that this thread has seen a moment ago; those who share a place only take turns in it.
    struct Known {
        std::uint64_t directory = 0;
        std::int64_t when = 0;
        store::ShortHash hash{};
        std::string who;
    };
    thread_local std::array<Known, 256> all;
    Known& known = all[hash[0]];
    if (known.directory == number_ && time - known.when < again_seconds && known.hash == hash &&
        known.who.size() == account.size() + kind.size() && known.who.starts_with(account) &&
        known.who.ends_with(kind)) {
        return;
    }
    std::string name = account;
    name += kind;
    const std::string who = name;
    name.append(reinterpret_cast<const char*>(hash.data()), hash.size());
    const std::lock_guard lock(seen_mutex_);
    if (seen_.size() >= max_seen) seen_.clear();
    std::int64_t& last = seen_[name];
    if (time - last < again_seconds) {
        known = {number_, last, hash, who};
        return;
    }
    if (unwritten_.size() >= max_unwritten) return;
    last = time;
    known = {number_, time, hash, who};
    unwritten_.push_back({account, std::string(kind), base::to_hex(hash), time});
}

Status AccountDirectory::write_identities() {
    std::vector<Seen> seen;
    {
        const std::lock_guard lock(seen_mutex_);
        seen.swap(unwritten_);
    }
    const std::int64_t time = now();
    const bool forget = time - last_forget_ >= again_seconds;
    if (seen.empty() && !forget) return {};
    if (!seen.empty()) {
        RETORT_CHECK(database_->transaction([&]() -> Status {
            for (const Seen& each : seen) {
                RETORT_CHECK(accounts_->saw_identity(each.account, each.kind, each.hash, each.when));
            }
            return {};
        }));
    }
    if (!forget) return {};
    last_forget_ = time;
    return accounts_->forget_identities(time - options_.identity_retention_seconds);
}

void AccountDirectory::run() {
    bool answered = true;
    while (!stopping_) {
        std::this_thread::sleep_for(std::chrono::duration<double>(options_.poll_seconds));
        const std::lock_guard lock(store_mutex_);
        Status done = poll();
        if (done) done = write_identities();
        if (done.has_value() != answered) {
            answered = done.has_value();
            if (!answered) spdlog::error("the account store does not answer: {}", done.error().message);
        }
    }
    const std::lock_guard lock(store_mutex_);
    (void)write_identities();
}

}  // namespace retort::serve
