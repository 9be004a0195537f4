// retort keys: accounts, the terms they accept, their plans and keys, in the store that `retort serve` reads.
#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/file.h"
#include "cli/commands.h"
#include "serve/accounts_admission.h"
#include "store/event_log.h"
#include "store/ledger.h"

namespace retort::cli {

namespace {

using OrderedJson = nlohmann::ordered_json;

struct KeysOptions {
    std::string store = "retort.db";
    std::string secret_file;
    std::string name;
    std::string account;
    std::string plan;
    std::string id;
    std::string by;
    std::string reason;
    std::string file;
    std::string role = "user";
    std::string span = "day";
    std::int64_t days = 0;
    double grace_hours = 24;
    bool forget = false;
    bool csv = false;
    std::int64_t since = 0;
    std::int64_t until = 0;
};

// An open store, for as long as a command runs.
struct OpenStore {
    store::Secret secret;
    std::unique_ptr<store::Database> database;
};

Result<OpenStore> open_store(const KeysOptions& options) {
    RETORT_TRY(store::Secret secret, serve::store_secret(options.store, options.secret_file));
    OpenStore out{std::move(secret), nullptr};
    RETORT_TRY(out.database, store::open_database(options.store));
    return out;
}

void print(const CommonOptions& common, const OrderedJson& json, const std::string& text) {
    if (common.json) {
        fmt::print("{}\n", json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
    } else if (!common.quiet) {
        fmt::print("{}", text);
    }
}

std::string time_text(std::int64_t seconds) {
    return seconds == 0 ? "-" : base::utc_text(seconds);
}

// Opens the store, calls the work with its accounts.
template <typename Work>
auto with_store(const std::shared_ptr<KeysOptions>& options, Work work) {
    return [options, work](const CommonOptions& common) -> Status {
        RETORT_TRY(OpenStore store, open_store(*options));
        RETORT_TRY(store::Accounts accounts, store::Accounts::open(*store.database, store.secret));
        return work(*options, common, accounts, *store.database);
    };
}

Status list_accounts(const KeysOptions&, const CommonOptions& common, store::Accounts& accounts,
                     store::Database&) {
    RETORT_TRY(const auto all, accounts.accounts());
    OrderedJson json = OrderedJson::array();
    std::string text;
    for (const store::Account& account : all) {
        json.push_back(store::to_json(account));
        std::string accepted;
        for (const auto& each : account.acceptances) accepted += (accepted.empty() ? "" : ",") + each.terms;
        text += fmt::format("{}  {:<10} {:<16} terms {:<12} {}\n", account.id, account.status, account.plan,
                            accepted.empty() ? "-" : accepted, account.name);
    }
    print(common, json, text);
    return {};
}

Status list_keys(const KeysOptions& options, const CommonOptions& common, store::Accounts& accounts,
                 store::Database&) {
    RETORT_TRY(const auto all, accounts.keys(options.account));
    OrderedJson json = OrderedJson::array();
    std::string text;
    for (const store::Key& key : all) {
        json.push_back(store::to_json(key));
        text +=
            fmt::format("{}  {}  {:<6} made {}  expires {}  revoked {}  {}\n", key.id, key.account, key.role,
                        time_text(key.created), time_text(key.expires), time_text(key.revoked), key.name);
    }
    print(common, json, text);
    return {};
}

Status list_plans(const KeysOptions&, const CommonOptions& common, store::Accounts& accounts,
                  store::Database&) {
    RETORT_TRY(const auto all, accounts.plans());
    OrderedJson json = OrderedJson::array();
    std::string text;
    for (const store::Plan& plan : all) {
        json.push_back(store::to_json(plan));
        text += store::to_json(plan).dump() + "\n";
    }
    print(common, json, text);
    return {};
}

Status set_plan(const KeysOptions& options, const CommonOptions& common, store::Accounts& accounts,
                store::Database&) {
    RETORT_TRY(const std::string text, base::read_file(options.file, std::size_t{1} << 20U));
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (json.is_discarded()) return fail(ErrorCode::invalid_argument, "{}: not JSON", options.file);
    auto plan = store::plan_from_json(json, store::Plan{});
    if (!plan) return fail_from(plan.error(), options.file);
    if (!options.name.empty()) plan->name = options.name;
    RETORT_CHECK(accounts.set_plan(*plan));
    print(common, store::to_json(*plan), fmt::format("plan {} is set\n", plan->name));
    return {};
}

Status list_terms(const KeysOptions&, const CommonOptions& common, store::Accounts& accounts,
                  store::Database&) {
    RETORT_TRY(const auto all, accounts.terms());
    OrderedJson json = OrderedJson::array();
    std::string text;
    for (const store::Terms& terms : all) {
        json.push_back(store::to_json(terms));
        text +=
            fmt::format("{:<16} {}  sha256 {}\n", terms.version, time_text(terms.created), terms.text_sha256);
    }
    print(common, json, text);
    return {};
}

void print_new_key(const CommonOptions& common, const store::NewKey& key) {
    print(common, {{"id", key.id}, {"key", key.text}},
          fmt::format("{}\nThis is the only time it is shown; its id is {}.\n", key.text, key.id));
}

Status show_usage(const KeysOptions& options, const CommonOptions& common, store::Accounts&,
                  store::Database& database) {
    std::size_t span = 0;
    while (span < store::spans && store::span_name(span) != options.span) ++span;
    store::Ledger ledger(database, "reader");
    const std::int64_t now = base::unix_milliseconds() / 1000;
    RETORT_TRY(const auto rows,
               ledger.usage(options.account, span, now - std::max<std::int64_t>(options.days, 1) * 86'400));
    OrderedJson json = OrderedJson::array();
    std::string text;
    for (const store::UsageRow& row : rows) {
        json.push_back({{"account", row.account},
                        {"unit", store::unit_name(row.unit)},
                        {"span", store::span_name(row.span)},
                        {"start", row.start},
                        {"used", row.used},
                        {"reserved", row.leased}});
        text += fmt::format("{}  {}  {:<9} {:>14}  reserved {}\n", base::utc_text(row.start), row.account,
                            store::unit_name(row.unit), row.used, row.leased);
    }
    print(common, json, text);
    return {};
}

Status export_events(const KeysOptions& options) {
    const auto write = [](const std::string& line) -> Status {
        if (std::fwrite(line.data(), 1, line.size(), stdout) == line.size()) return {};
        return fail(ErrorCode::io, "cannot write to standard output");
    };
    if (options.csv) RETORT_CHECK(write(store::event_csv_header()));
    return store::read_events(options.file, [&](const store::Event& event) -> Status {
        if (event.time_ms < options.since * 1000 ||
            (options.until > 0 && event.time_ms >= options.until * 1000))
            return {};
        return write(options.csv ? store::event_csv(event) : store::event_json(event));
    });
}

class Declarer {
  public:
    Declarer(Commands& commands, CLI::App& keys, std::shared_ptr<KeysOptions> options)
        : commands_(commands), keys_(keys), options_(std::move(options)) {}

    template <typename Work>
    CLI::App& add(std::string_view name, std::string_view summary,
                  std::initializer_list<std::string_view> examples, Work work) {
        CLI::App& app = commands_.add_nested(keys_, name, summary, examples, with_store(options_, work));
        app.add_option("--store", options_->store, "a SQLite file, made if absent, or postgres://…")
            ->envname("RETORT_STORE")
            ->type_name("STORE");
        app.add_option(
               "--store-secret", options_->secret_file,
               "file of the secret that keys are hashed with; the store's name with .secret behind it if not "
               "given (PostgreSQL: must be given)")
            ->envname("RETORT_STORE_SECRET")
            ->type_name("FILE");
        commands_.add_json_option(app);
        return app;
    }

  private:
    Commands& commands_;
    CLI::App& keys_;
    std::shared_ptr<KeysOptions> options_;
};

void add_account_commands(Declarer& declare, const std::shared_ptr<KeysOptions>& options) {
    declare.add("accounts", "list the accounts", {"retort keys accounts --json"}, list_accounts);
    CLI::App& create = declare.add("account-create", "make an account on a plan",
                                   {"retort keys account-create 'Example Ltd' --plan basic"},
                                   [](const KeysOptions& given, const CommonOptions& common,
                                      store::Accounts& accounts, store::Database&) -> Status {
                                       RETORT_TRY(const store::Account account,
                                                  accounts.create_account(given.name, given.plan));
                                       print(common, store::to_json(account), account.id + "\n");
                                       return {};
                                   });
    create.add_option("name", options->name, "what you call it")->required()->type_name("NAME");
    create.add_option("--plan", options->plan, "a plan's name")->required()->type_name("PLAN");
    const auto with_account = [&](CLI::App& app) {
        app.add_option("account", options->account, "an account's id")->required()->type_name("ACCOUNT");
    };
    CLI::App& move =
        declare.add("account-plan", "put an account on another plan",
                    {"retort keys account-plan acct_0123 --plan research"},
                    [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
                       store::Database&) -> Status {
                        RETORT_CHECK(accounts.set_account_plan(given.account, given.plan));
                        print(common, {{"account", given.account}, {"plan", given.plan}}, "done\n");
                        return {};
                    });
    with_account(move);
    move.add_option("--plan", options->plan, "a plan's name")->required()->type_name("PLAN");
    CLI::App& pay = declare.add(
        "account-payment", "say what pays for an account; its keyed hash is kept, for the guard to compare",
        {"echo cus_4711 | retort keys account-payment acct_0123",
         "retort keys account-payment acct_0123 --forget"},
        [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
           store::Database&) -> Status {
            std::string reference;
            if (!given.forget) {
                std::getline(std::cin, reference);
                if (reference.empty() || reference.size() > 1024) {
                    return fail(ErrorCode::invalid_argument,
                                "standard input: give one line of 1 to 1024 bytes, a customer's or card's "
                                "reference of the payment service");
                }
            }
            RETORT_CHECK(accounts.set_payment(given.account, reference));
            print(common, {{"account", given.account}, {"payment", !given.forget}}, "done\n");
            return {};
        });
    with_account(pay);
    pay.add_flag("--forget", options->forget, "drop the hash");
    CLI::App& suspend =
        declare.add("suspend", "refuse every key of an account from now on",
                    {"retort keys suspend acct_0123 --reason 'unpaid'"},
                    [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
                       store::Database&) -> Status {
                        RETORT_CHECK(accounts.suspend(given.account, given.reason));
                        print(common, {{"account", given.account}, {"status", "suspended"}}, "suspended\n");
                        return {};
                    });
    with_account(suspend);
    suspend.add_option("--reason", options->reason, "told to whoever uses its keys")->type_name("TEXT");
    with_account(
        declare.add("resume", "end a suspension", {"retort keys resume acct_0123"},
                    [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
                       store::Database&) -> Status {
                        RETORT_CHECK(accounts.resume(given.account));
                        print(common, {{"account", given.account}, {"status", "active"}}, "active\n");
                        return {};
                    }));
    CLI::App& accept =
        declare.add("accept", "record that an account accepts terms",
                    {"retort keys accept acct_0123 2026-11 --by 'A. Person'"},
                    [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
                       store::Database&) -> Status {
                        RETORT_CHECK(accounts.accept_terms(given.account, given.name, given.by));
                        print(common, {{"account", given.account}, {"terms", given.name}, {"by", given.by}},
                              "accepted\n");
                        return {};
                    });
    with_account(accept);
    accept.add_option("version", options->name, "of the terms")->required()->type_name("VERSION");
    accept.add_option("--by", options->by, "who accepted")->required()->type_name("WHO");
    CLI::App& usage =
        declare.add("usage", "what accounts have used", {"retort keys usage --days 30 --json"}, show_usage);
    usage.add_option("account", options->account, "an account's id; all if not given")->type_name("ACCOUNT");
    usage.add_option("--per", options->span, "minute, day or month")
        ->check(CLI::IsMember({"minute", "day", "month"}))
        ->type_name("SPAN");
    usage.add_option("--days", options->days, "how far back")->check(CLI::Range(1, 4000))->type_name("N");
}

void add_key_commands(Declarer& declare, const std::shared_ptr<KeysOptions>& options) {
    CLI::App& list = declare.add("list", "list keys (never their text)", {"retort keys list"}, list_keys);
    list.add_option("account", options->account, "an account's id; all if not given")->type_name("ACCOUNT");
    CLI::App& create = declare.add(
        "create", "make a key, and show it this once", {"retort keys create acct_0123 --name laptop"},
        [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
           store::Database&) -> Status {
            RETORT_TRY(const store::NewKey key,
                       accounts.create_key(given.account, given.name, given.role, given.days));
            print_new_key(common, key);
            return {};
        });
    create.add_option("account", options->account, "an account's id")->required()->type_name("ACCOUNT");
    create.add_option("--name", options->name, "what you call it")->required()->type_name("NAME");
    create.add_option("--role", options->role, "admin: may also call /admin/")
        ->check(CLI::IsMember({"user", "admin"}))
        ->type_name("ROLE");
    create.add_option("--days", options->days, "until it expires; 0: never")
        ->check(CLI::Range(0, 36500))
        ->type_name("N");
    CLI::App& rotate = declare.add(
        "rotate", "make a key like another, which then stops",
        {"retort keys rotate 0123456789abcdef --grace 1"},
        [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
           store::Database&) -> Status {
            RETORT_TRY(const store::NewKey key,
                       accounts.rotate_key(given.id, static_cast<std::int64_t>(given.grace_hours * 3600)));
            print_new_key(common, key);
            return {};
        });
    rotate.add_option("id", options->id, "of the key")->required()->type_name("KEY");
    rotate.add_option("--grace", options->grace_hours, "hours that the old one still works")
        ->check(CLI::Range(0.0, 8760.0))
        ->type_name("H");
    CLI::App& revoke =
        declare.add("revoke", "stop a key at once, on every server", {"retort keys revoke 0123456789abcdef"},
                    [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
                       store::Database&) -> Status {
                        RETORT_CHECK(accounts.revoke_key(given.id));
                        print(common, {{"id", given.id}, {"revoked", true}}, "revoked\n");
                        return {};
                    });
    revoke.add_option("id", options->id, "of the key")->required()->type_name("KEY");
}

void add_plan_commands(Declarer& declare, const std::shared_ptr<KeysOptions>& options) {
    declare.add("plans", "list the plans", {"retort keys plans --json"}, list_plans);
    CLI::App& plan = declare.add("plan-set", "make or change a plan from a JSON file (docs/accounts.md)",
                                 {"retort keys plan-set plan.json --name basic"}, set_plan);
    plan.add_option("file", options->file, "fields of the plan")->required()->type_name("FILE");
    plan.add_option("--name", options->name, "instead of the file's \"name\"")->type_name("NAME");
    declare.add("terms", "list the published terms", {"retort keys terms"}, list_terms);
    CLI::App& publish = declare.add(
        "publish", "publish a version of the terms", {"retort keys publish 2026-11 terms.md"},
        [](const KeysOptions& given, const CommonOptions& common, store::Accounts& accounts,
           store::Database&) -> Status {
            RETORT_TRY(const std::string text, base::read_file(given.file, std::size_t{16} << 20U));
            RETORT_CHECK(accounts.publish_terms(given.name, text));
            print(common, {{"version", given.name}}, fmt::format("terms {} are published\n", given.name));
            return {};
        });
    publish.add_option("version", options->name, "its name")->required()->type_name("VERSION");
    publish.add_option("file", options->file, "its text; the hash is kept")->required()->type_name("FILE");
}

}  // namespace

void add_keys(Commands& commands) {
    auto options = std::make_shared<KeysOptions>();
    CLI::App& keys = commands.add(Group::models, "keys", "accounts, keys, plans, terms, usage",
                                  {"retort keys plan-set plan.json --name basic",
                                   "retort keys account-create 'Example Ltd' --plan basic",
                                   "retort keys create acct_0123456789abcdef --name laptop"},
                                  [](const CommonOptions&) { return Status(); });
    Declarer declare(commands, keys, options);
    add_key_commands(declare, options);
    add_account_commands(declare, options);
    add_plan_commands(declare, options);
    CLI::App& backup =
        declare.add("backup", "copy a SQLite store while servers use it", {"retort keys backup copy.db"},
                    [](const KeysOptions& given, const CommonOptions& common, store::Accounts&,
                       store::Database& database) -> Status {
                        RETORT_CHECK(database.backup(given.file));
                        print(common, {{"file", given.file}},
                              fmt::format("{} is a whole copy; keep the secret apart\n", given.file));
                        return {};
                    });
    backup.add_option("file", options->file, "the copy")->required()->type_name("FILE");
    CLI::App& events =
        commands.add_nested(keys, "events", "export an event log as JSON lines or as comma-separated values",
                            {"retort keys events retort.db.events > events.jsonl",
                             "retort keys events retort.db.events --csv --since $(date -d yesterday +%s) > "
                             "events.csv"},
                            [options](const CommonOptions&) { return export_events(*options); });
    events.add_option("folder", options->file, "the log")->required()->type_name("FOLDER");
    events.add_flag("--csv", options->csv, "comma-separated values with a line of names, a type a column");
    events.add_option("--since", options->since, "only events from this time on, in Unix seconds")
        ->type_name("TIME");
    events.add_option("--until", options->until, "only events before this time, in Unix seconds; 0: all")
        ->type_name("TIME");
}

}  // namespace retort::cli
