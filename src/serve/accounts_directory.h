// Whose key is this? All accounts, plans, terms and keys in memory, as the store last had them: a thread of
// its own asks for what is newer several times a second, so that a revocation by any server or command counts
// everywhere within that time. Knows no limits and no route.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "store/accounts.h"
#include "store/event_log.h"

namespace retort::serve {

// An account as requests see it.
struct AccountView {
    std::string id;
    std::shared_ptr<const store::Plan> plan;
    bool suspended = false;
    std::string reason;
    std::string missing_terms;  // the version it has still to accept; empty: none
    store::ShortHash hash{};
    store::ShortHash payment{};
    store::Mark mark;  // of the guard; a default one where there is none
};

// Of the guard, as the store last had it.
struct GuardCounts {
    std::map<std::string, std::int64_t> verdicts;  // by level
    std::size_t marked = 0;                        // accounts with a verdict that stands
};

struct Caller {
    std::shared_ptr<const AccountView> account;
    std::string key_id;
    std::string role;
    store::ShortHash key_hash{};
};

// Texts looked up without making a string of them.
struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

store::ShortHash short_hash(const store::Secret& secret, std::string_view purpose, std::string_view text);

class AccountDirectory {
  public:
    struct Options {
        double poll_seconds = 0.1;
        double stale_seconds = 10;  // without an answer from the store, after which nobody is let in
        std::int64_t identity_retention_seconds = std::int64_t{30} * 86'400;
    };
    static Result<std::unique_ptr<AccountDirectory>> open(const std::string& location,
                                                          const store::Secret& secret, Options options);
    ~AccountDirectory();
    AccountDirectory(const AccountDirectory&) = delete;
    AccountDirectory& operator=(const AccountDirectory&) = delete;

    // Null when the key is none of ours, revoked or expired.
    [[nodiscard]] std::shared_ptr<const Caller> find(std::string_view key) const;
    [[nodiscard]] bool is_stale() const;
    // The ids behind hashes of accounts and of key ids; what is not among ours is left out.
    [[nodiscard]] std::map<store::ShortHash, std::string> names_of(
        const std::set<store::ShortHash>& hashes) const;
    // Remembers, once an hour each, from where an account came; hashes only.
    void saw(const std::string& account, std::string_view kind, const store::ShortHash& hash);
    [[nodiscard]] GuardCounts guard_counts() const;
    // Reads what has changed now; for those who changed it.
    Status refresh();
    [[nodiscard]] const store::Secret& secret() const { return secret_; }
    void stop();

  private:
    struct KeyEntry {
        store::Key key;
        std::shared_ptr<const Caller> caller;
    };
    AccountDirectory(std::unique_ptr<store::Database> database, store::Secret secret, Options options)
        : options_(options),
          number_(next_number()),
          secret_(std::move(secret)),
          database_(std::move(database)) {}
    static std::uint64_t next_number();
    [[nodiscard]] store::IdentityHash hash_of(std::string_view key) const;
    Status poll();
    Status count_verdicts();
    void apply(store::Changes changes);
    Status write_identities();
    void run();

    Options options_;
    std::uint64_t number_;  // of this directory among all of the program, for what threads remember
    store::Secret secret_;
    std::unique_ptr<store::Database> database_;
    std::unique_ptr<store::Accounts> accounts_;
    std::mutex store_mutex_;  // of the connection
    std::int64_t revision_ = 0;

    mutable std::shared_mutex mutex_;
    std::unordered_map<std::string, std::shared_ptr<const store::Plan>> plans_;
    std::unordered_map<std::string, store::Account> known_;
    std::unordered_map<std::string, store::Mark> marks_;
    std::map<std::string, std::int64_t> verdicts_;
    std::int64_t trail_read_ = 0;  // entries
    std::unordered_map<std::string, std::shared_ptr<const AccountView>> views_;
    std::unordered_map<std::string, KeyEntry, TextHash, std::equal_to<>> keys_;
    std::string newest_terms_;

    struct Seen {
        std::string account;
        std::string kind;
        std::string hash;
        std::int64_t when;
    };
    std::mutex seen_mutex_;
    std::unordered_map<std::string, std::int64_t> seen_;
    std::vector<Seen> unwritten_;
    std::int64_t last_forget_ = 0;

    std::atomic<double> last_answer_{0};
    std::atomic<bool> stopping_{false};
    std::mutex stop_mutex_;
    std::thread thread_;
};

}  // namespace retort::serve
