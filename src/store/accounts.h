// Accounts, the terms they have accepted, the plans they are on, and their keys: what they are, and how they
// are changed. Every change raises the store's revision in its own transaction, so that a server learns of it
// by asking for what is newer. Knows no request.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/database.h"
#include "store/identity.h"
#include "store/marks.h"

namespace retort::store {

// What limits count, and over how long: minutes, days and months of the calendar, UTC.
enum class Unit { requests, tokens, money };  // money in millionths of a dollar
enum class Span { minute, day, month };
inline constexpr std::size_t units = 3;
inline constexpr std::size_t spans = 3;
inline constexpr std::int64_t no_limit = -1;
std::string_view unit_name(std::size_t unit);
std::string_view span_name(std::size_t span);
// When the span that `seconds` (Unix) lies in began, and when the next begins.
std::int64_t span_start(std::size_t span, std::int64_t seconds);
std::int64_t span_end(std::size_t span, std::int64_t seconds);

using Limits = std::array<std::array<std::int64_t, spans>, units>;

struct Plan {
    std::string name;
    bool training_on_outputs = false;  // what its uses may be
    std::vector<std::string> models;   // empty: every one
    bool logprobs = false;
    bool prompt_logprobs = false;          // of an echoed prompt: of any token its sender likes
    std::string reasoning = "summarised";  // "full", "summarised", "withheld"
    Limits limits = {
        {{no_limit, no_limit, no_limit}, {no_limit, no_limit, no_limit}, {no_limit, no_limit, no_limit}}};
    std::int64_t prompt_price = 0;      // millionths of a dollar for a million tokens
    std::int64_t completion_price = 0;  // likewise
    // What is reserved for an answer whose request sets no limit.
    std::int64_t reserved_completion_tokens = 1024;
    std::string terms;  // the version its accounts must have accepted; empty: the newest published, if any
};

struct Terms {
    std::string version;
    std::string text_sha256;
    std::int64_t created = 0;  // Unix seconds, as all times here
};

struct Acceptance {
    std::string terms;
    std::string accepted_by;
    std::int64_t accepted = 0;
};

struct Account {
    std::string id;
    std::string name;
    std::string plan;
    std::string status = "active";  // or "suspended"
    std::string reason;             // of a suspension
    std::int64_t created = 0;
    std::string payment;  // keyed hash of whatever pays for it, as hexadecimal text; empty: nobody has said
    std::vector<Acceptance> acceptances;
};

struct Key {
    std::string id;
    std::string account;
    std::string name;
    IdentityHash hash{};
    std::string role = "user";  // or "admin"
    std::int64_t created = 0;
    std::int64_t expires = 0;  // 0: never
    std::int64_t revoked = 0;  // 0: not; may lie ahead, as the grace of a rotation
};

// Everything changed since a revision; since 0: everything.
struct Changes {
    std::int64_t revision = 0;
    std::vector<Plan> plans;
    std::vector<Terms> terms;
    std::vector<Account> accounts;
    std::vector<Key> keys;
    std::vector<AccountMark> marks;
};

class Accounts {
  public:
    // Both must outlive this. Fails when the store was made with another secret.
    static Result<Accounts> open(Database& database, const Secret& secret);

    Result<std::int64_t> revision();
    Result<Changes> changes_since(std::int64_t revision);

    Status set_plan(const Plan& plan);
    Status publish_terms(const std::string& version, const std::string& text);
    Result<Account> create_account(const std::string& name, const std::string& plan);
    Status set_account_plan(const std::string& account, const std::string& plan);
    // `reference`: a card's or customer's number of the payment service; only its keyed hash is kept. Empty:
    // forgotten.
    Status set_payment(const std::string& account, const std::string& reference);
    Status suspend(const std::string& account, const std::string& reason);
    Status resume(const std::string& account);
    Status accept_terms(const std::string& account, const std::string& version, const std::string& by);
    // `days` 0: until revoked.
    Result<NewKey> create_key(const std::string& account, const std::string& name, const std::string& role,
                              std::int64_t days);
    // A new key like the old one, which stops working `grace_seconds` later.
    Result<NewKey> rotate_key(const std::string& id, std::int64_t grace_seconds);
    Status revoke_key(const std::string& id);

    Result<std::vector<Account>> accounts();
    Result<std::vector<Key>> keys(const std::string& account);  // empty: of all
    Result<std::vector<Plan>> plans();
    Result<std::vector<Terms>> terms();
    // A keyed hash of an address, user agent or payment, seen now; forget_identities drops what was last seen
    // before, a payment from its account too. Not within a transaction.
    Status saw_identity(const std::string& account, const std::string& kind, const std::string& hash,
                        std::int64_t now);
    Status forget_identities(std::int64_t before);

  private:
    Accounts(Database& database, const Secret& secret) : database_(&database), secret_(&secret) {}
    Status change(const std::function<Status(std::int64_t revision)>& work);
    Status set_revoked(const std::string& id, std::int64_t when);
    Result<NewKey> insert_key(const Key& like, std::int64_t revision);

    Database* database_;
    const Secret* secret_;
};

// JSON of these, for the command line, the admin API and the plans table.
nlohmann::ordered_json to_json(const Plan& plan);
nlohmann::ordered_json to_json(const Terms& terms);
nlohmann::ordered_json to_json(const Account& account);
nlohmann::ordered_json to_json(const Key& key);  // without its hash
// Changes of a plan on top of `plan`: unknown fields and wrong types are errors that name the field.
Result<Plan> plan_from_json(const nlohmann::json& json, Plan plan);

}  // namespace retort::store
