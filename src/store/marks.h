// What the guard has decided about an account, and what follows from it: one row an account, changed with the
// same revisions as accounts, so that every server learns of it at once; and the trail of all such changes, a
// chain of keyed hashes in which no entry can be altered or taken out unnoticed. Knows no detector and no
// policy.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/database.h"
#include "store/identity.h"

namespace retort::store {

// Countermeasures only take away: a plan's own limits stay. A default Mark takes nothing.
struct Mark {
    std::string level;          // of the verdict that stands: "review", "throttle", "suspend"; empty: none
    std::int64_t verdict = -1;  // its number in the trail
    std::int64_t since = 0;     // Unix seconds
    std::string reason;
    bool review = false;                    // a person should look
    std::int64_t requests_per_minute = -1;  // at most; -1: as the plan says
    std::int64_t tokens_per_day = -1;       // likewise
    bool no_logprobs = false;               // and no logit_bias
    std::string reasoning;                  // at most this much: "summarised", "withheld"; empty: the plan's
    bool watermark = false;                 // answers carry the account's watermark subkey
    std::int64_t twins = 1;                 // how many times the usual share of answers carries a twin
    std::string allowed;                    // why no verdict counts (an appeal granted); empty: they do
    std::string allowed_by;
    std::string appeal;  // what the account says, until somebody has decided

    friend bool operator==(const Mark&, const Mark&) = default;
};
struct AccountMark {
    std::string account;
    Mark mark;
};
nlohmann::ordered_json to_json(const Mark& mark);
Result<Mark> mark_from_json(std::string_view text);

struct TrailEntry {
    std::int64_t number = 0;  // from 0, without gaps
    std::int64_t time = 0;    // Unix seconds
    std::string kind;         // "verdict", "policy", "allow", "disallow", "appeal", "clear"
    std::int64_t verdict = -1;
    std::string body;  // JSON
    std::string hash;  // of this entry and the hash before it
};

struct TrailHead {
    std::int64_t entries = 0;
    std::string hash;  // of the last; empty: no entry
};

// Marks and trail of a store; the database and the secret must outlive it.
class Marks {
  public:
    Marks(Database& database, const Secret& secret) : database_(&database), secret_(&secret) {}

    Result<std::vector<AccountMark>> marks(std::int64_t since_revision = -1);
    Result<Mark> mark(const std::string& account);  // the default where none is set
    // In one transaction: the entry, and the marks that it changes (a default mark removes the row's effect).
    Status change(TrailEntry entry, const std::vector<AccountMark>& marks);
    Result<std::vector<TrailEntry>> trail(std::int64_t from, std::int64_t count);
    Result<TrailHead> head();
    // The largest verdict number in the trail; -1: none.
    Result<std::int64_t> last_verdict();
    // Recomputes the chain. An error names the first entry that does not fit; `expected`, where given, is a
    // head noted before, which the chain must pass through: what was cut off since is seen by it alone.
    Result<TrailHead> verify(const TrailHead& expected);

  private:
    [[nodiscard]] std::string hash_of(const TrailEntry& entry, const std::string& before) const;
    Database* database_;
    const Secret* secret_;
};

}  // namespace retort::store
