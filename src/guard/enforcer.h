// Verdicts carried out by a policy: into the trail, once each, and onto the accounts as marks, in one
// transaction; appeals and allowances likewise. Knows no event and no detector's insides.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>

#include "guard/guard.h"
#include "guard/policy.h"
#include "store/accounts.h"
#include "store/marks.h"

namespace retort::guard {

nlohmann::ordered_json to_json(const Verdict& verdict);
// What a person reads in the account's mark: "cluster of 40 accounts: novel_scaffold 12, timing 9".
std::string reason_of(const Verdict& verdict);

class Enforcer {
  public:
    // All must outlive it.
    Enforcer(store::Database& database, const store::Secret& secret, store::Accounts& accounts, Policy policy)
        : accounts_(&accounts), secret_(&secret), marks_(database, secret), policy_(std::move(policy)) {}

    Status open();  // reads how far the trail goes, and the accounts
    // Does nothing when the trail has this verdict already. Returns whether it was new.
    Result<bool> carry_out(const Verdict& verdict);
    // Policies change: marks of all verdicts in the trail that stand, by this policy; none in a dry run. The
    // whole trail is read before anything is changed: a verdict, an allowance or its end that cannot be read
    // is an error that names the entry, as nobody can say then what stands.
    Result<std::size_t> apply_again(std::int64_t now);
    Status allow(const std::string& account, const std::string& reason, const std::string& by,
                 std::int64_t now);
    Status disallow(const std::string& account, const std::string& by, std::int64_t now);
    Status appeal(const std::string& account, const std::string& text, std::int64_t now);
    // The hashed names of allowed accounts, for the guard.
    Result<std::set<store::ShortHash>> allowed();
    [[nodiscard]] store::Marks& marks() { return marks_; }

  private:
    Status learn_accounts();
    [[nodiscard]] store::ShortHash hash_of(const std::string& account) const;

    store::Accounts* accounts_;
    const store::Secret* secret_;
    store::Marks marks_;
    Policy policy_;
    std::int64_t last_ = -1;
    std::map<store::ShortHash, store::Account> names_;
};

}  // namespace retort::guard
