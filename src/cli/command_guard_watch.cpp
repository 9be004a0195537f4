// retort guard watch, and what a person does about verdicts: apply, allow, disallow, appeal, trail, verify.
#include "cli/command_guard_watch.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/strings.h"
#include "guard/enforcer.h"
#include "guard/follower.h"
#include "guard/trail.h"
#include "serve/accounts_admission.h"

namespace retort::cli {

namespace {

using OrderedJson = nlohmann::ordered_json;

struct GuardWatchOptions {
    std::string store = "retort.db";
    std::string secret_file;
    std::string events;
    std::string state;
    std::string policy;
    std::string account;
    std::string reason;
    std::string by;
    std::string text;
    std::string head;
    std::int64_t from = 0;
    std::int64_t count = 1000;
    double poll_seconds = 0.5;
    double checkpoint_seconds = 60;
    bool once = false;
};

// The store, open, with what carries verdicts out in it.
struct OpenedGuard {
    store::Secret secret;
    std::unique_ptr<store::Database> database;
    std::unique_ptr<store::Accounts> accounts;
    std::unique_ptr<guard::Enforcer> enforcer;
};

Result<std::unique_ptr<OpenedGuard>> open_guard_store(const GuardWatchOptions& options) {
    guard::Policy policy;
    if (!options.policy.empty()) {
        RETORT_TRY(policy, guard::read_policy(options.policy));
    }
    RETORT_TRY(store::Secret secret, serve::store_secret(options.store, options.secret_file));
    auto out = std::make_unique<OpenedGuard>(OpenedGuard{std::move(secret), nullptr, nullptr, nullptr});
    RETORT_TRY(out->database, store::open_database(options.store));
    RETORT_TRY(store::Accounts accounts, store::Accounts::open(*out->database, out->secret));
    out->accounts = std::make_unique<store::Accounts>(std::move(accounts));
    out->enforcer = std::make_unique<guard::Enforcer>(*out->database, out->secret, *out->accounts, policy);
    RETORT_CHECK(out->enforcer->open());
    return out;
}

std::int64_t guard_time() {
    return base::unix_milliseconds() / 1000;
}

Status watch_log(GuardWatchOptions options, const CommonOptions& common) {
    base::install_interrupt_handler();
    RETORT_TRY(const auto store, open_guard_store(options));
    if (options.events.empty()) {
        if (store::is_postgres(options.store))
            return fail(ErrorCode::invalid_argument, "--events: a PostgreSQL store needs the folder named");
        options.events = options.store + ".events";
    }
    if (options.state.empty()) options.state = options.events + ".guard";
    guard::FollowerOptions follow;
    follow.events = options.events;
    follow.state = options.state;
    follow.checkpoint_seconds = options.checkpoint_seconds;
    const auto on_verdict = [&](const guard::Verdict& verdict) -> Status {
        RETORT_TRY(const bool is_new, store->enforcer->carry_out(verdict));
        if (!is_new) return {};
        if (common.json) {
            fmt::print("{}\n", guard::to_json(verdict).dump());
        } else if (!common.quiet) {
            fmt::print("{}  {:<8} {} accounts: {}\n", base::utc_text(verdict.time_ms / 1000),
                       guard::level_name(verdict.level), verdict.accounts.size(), guard::reason_of(verdict));
        }
        std::fflush(stdout);
        return {};
    };
    RETORT_TRY(const auto follower, guard::Follower::open(follow, guard::GuardOptions{}, on_verdict));
    if (!common.quiet && !common.json) {
        fmt::print("watching {} (state in {}); Ctrl-C stops\n", options.events, options.state);
        std::fflush(stdout);
    }
    double last_allowed = -1e9;
    do {
        if (base::monotonic_seconds() - last_allowed > 1) {
            RETORT_TRY(const auto allowed, store->enforcer->allowed());
            RETORT_CHECK(follower->set_allowed(allowed));
            last_allowed = base::monotonic_seconds();
        }
        RETORT_TRY(const std::uint64_t events, follower->poll(on_verdict));
        if (events == 0 && !options.once)
            std::this_thread::sleep_for(std::chrono::duration<double>(options.poll_seconds));
    } while (!options.once && !base::interrupted());
    RETORT_CHECK(follower->checkpoint());
    if (common.json && options.once) {
        fmt::print("{}\n", OrderedJson{{"events", follower->guard().events()},
                                       {"accounts", follower->guard().accounts().size()},
                                       {"verdicts", follower->guard().verdicts()}}
                               .dump());
    }
    return {};
}

Status apply_policy(const GuardWatchOptions& options, const CommonOptions& common) {
    RETORT_TRY(const auto store, open_guard_store(options));
    RETORT_TRY(const std::size_t changed, store->enforcer->apply_again(guard_time()));
    if (common.json) {
        fmt::print("{}\n", OrderedJson{{"accounts_changed", changed}}.dump());
    } else if (!common.quiet) {
        fmt::print("{} accounts' marks are changed\n", changed);
    }
    return {};
}

Status show_trail(const GuardWatchOptions& options, const CommonOptions& common) {
    RETORT_TRY(const auto store, open_guard_store(options));
    RETORT_TRY(const auto entries, store->enforcer->marks().trail(options.from, options.count));
    for (const store::TrailEntry& entry : entries) {
        const auto body = guard::readable_body(entry);
        if (common.json) {
            OrderedJson line = {{"number", entry.number}, {"time", entry.time}, {"kind", entry.kind}};
            line["entry"] = body ? OrderedJson::parse(entry.body, nullptr, false) : OrderedJson();
            if (!body) line["unreadable"] = body.error().message;
            line["hash"] = entry.hash;
            fmt::print("{}\n", line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
        } else {
            fmt::print("{:>6}  {}  {:<8} {}\n", entry.number, base::utc_text(entry.time),
                       base::one_line(entry.kind, 40),
                       body ? base::one_line(entry.body, 160)
                            : "unreadable: " + base::one_line(body.error().message, 400));
        }
    }
    return {};
}

Status verify_trail(const GuardWatchOptions& options, const CommonOptions& common) {
    RETORT_TRY(const auto store, open_guard_store(options));
    store::TrailHead expected;
    if (!options.head.empty()) {
        const std::size_t colon = options.head.find(':');
        expected.entries = std::strtoll(options.head.c_str(), nullptr, 10);
        if (colon == std::string::npos || expected.entries < 1)
            return fail(ErrorCode::invalid_argument, "--head: '{}' is not ENTRIES:HASH", options.head);
        expected.hash = options.head.substr(colon + 1);
    }
    RETORT_TRY(const store::TrailHead head, store->enforcer->marks().verify(expected));
    if (common.json) {
        fmt::print("{}\n", OrderedJson{{"entries", head.entries}, {"head", head.hash}}.dump());
    } else if (!common.quiet) {
        fmt::print("{} entries, none touched; note this to see later that none was cut off:\n{}:{}\n",
                   head.entries, head.entries, head.hash);
    }
    return {};
}

// Does one thing to one account.
template <typename Work>
auto on_account(const std::shared_ptr<GuardWatchOptions>& options, Work work) {
    return [options, work](const CommonOptions& common) -> Status {
        RETORT_TRY(const auto store, open_guard_store(*options));
        RETORT_CHECK(work(*options, *store->enforcer));
        if (common.json) {
            fmt::print("{}\n", OrderedJson{{"account", options->account}}.dump());
        } else if (!common.quiet) {
            fmt::print("done\n");
        }
        return {};
    };
}

}  // namespace

void add_guard_watch(Commands& commands, CLI::App& guard) {
    auto options = std::make_shared<GuardWatchOptions>();
    const auto with_store = [&](CLI::App& app) {
        app.add_option("--store", options->store, "the store that `retort serve` uses")
            ->envname("RETORT_STORE")
            ->type_name("STORE");
        app.add_option("--store-secret", options->secret_file,
                       "file of its secret; the store's name with .secret behind it if not given")
            ->envname("RETORT_STORE_SECRET")
            ->type_name("FILE");
        commands.add_json_option(app);
    };
    const auto with_policy = [&](CLI::App& app) {
        return app.add_option("--policy", options->policy, "what follows from verdicts (docs/guard.md)")
            ->type_name("FILE");
    };
    const auto with_account = [&](CLI::App& app) {
        app.add_option("account", options->account, "an account's id")->required()->type_name("ACCOUNT");
    };
    CLI::App& live = commands.add_nested(
        guard, "watch", "follow a server's event log; give verdicts, and carry them out by a policy",
        {"retort guard watch --store retort.db --policy policy.toml"},
        [options](const CommonOptions& common) { return watch_log(*options, common); });
    with_store(live);
    with_policy(live);
    live.add_option("--events", options->events,
                    "the event log; the store's name with .events behind it if not given")
        ->type_name("FOLDER");
    live.add_option("--state", options->state,
                    "where it keeps how far it is; the log's name with .guard behind it if not given")
        ->type_name("FOLDER");
    live.add_option("--poll", options->poll_seconds, "between two looks at the log")
        ->check(CLI::Range(0.01, 3600.0))
        ->type_name("SECONDS");
    live.add_option("--checkpoint", options->checkpoint_seconds, "between two checkpoints")
        ->check(CLI::Range(0.0, 86'400.0))
        ->type_name("SECONDS");
    live.add_flag("--once", options->once, "read what is there, and end");
    CLI::App& again = commands.add_nested(
        guard, "apply", "put a changed policy on the verdicts that stand",
        {"retort guard apply --policy policy.toml"},
        [options](const CommonOptions& common) { return apply_policy(*options, common); });
    with_store(again);
    with_policy(again)->required();
    CLI::App& allow = commands.add_nested(
        guard, "allow", "grant an appeal: no verdict counts for an account, and what was taken is given back",
        {"retort guard allow acct_0123 --reason 'a class of Example University' --by 'A. Person'"},
        on_account(options, [](const GuardWatchOptions& given, guard::Enforcer& enforcer) {
            return enforcer.allow(given.account, given.reason, given.by, guard_time());
        }));
    with_account(allow);
    allow.add_option("--reason", options->reason, "why")->required()->type_name("TEXT");
    allow.add_option("--by", options->by, "who decided")->required()->type_name("WHO");
    with_store(allow);
    CLI::App& disallow = commands.add_nested(
        guard, "disallow", "end an allowance", {"retort guard disallow acct_0123 --by 'A. Person'"},
        on_account(options, [](const GuardWatchOptions& given, guard::Enforcer& enforcer) {
            return enforcer.disallow(given.account, given.by, guard_time());
        }));
    with_account(disallow);
    disallow.add_option("--by", options->by, "who decided")->required()->type_name("WHO");
    with_store(disallow);
    CLI::App& appeal = commands.add_nested(
        guard, "appeal", "note what an account says against a verdict, until somebody has decided",
        {"retort guard appeal acct_0123 --text 'we are a class of students'"},
        on_account(options, [](const GuardWatchOptions& given, guard::Enforcer& enforcer) {
            return enforcer.appeal(given.account, given.text, guard_time());
        }));
    with_account(appeal);
    appeal.add_option("--text", options->text, "what it says")->required()->type_name("TEXT");
    with_store(appeal);
    CLI::App& trail =
        commands.add_nested(guard, "trail", "list verdicts, allowances and appeals, oldest first",
                            {"retort guard trail --store retort.db --json"},
                            [options](const CommonOptions& common) { return show_trail(*options, common); });
    trail.add_option("--from", options->from, "the first entry's number")
        ->check(CLI::Range(0, 1 << 30))
        ->type_name("N");
    trail.add_option("--count", options->count, "how many")->check(CLI::Range(1, 1 << 30))->type_name("N");
    with_store(trail);
    CLI::App& check = commands.add_nested(
        guard, "verify", "recompute the trail's chain: whether an entry was altered or taken out",
        {"retort guard verify --store retort.db --head 12:0f3c…"},
        [options](const CommonOptions& common) { return verify_trail(*options, common); });
    check.add_option("--head", options->head, "as noted before: shows that the end was not cut off")
        ->type_name("ENTRIES:HASH");
    with_store(check);
}

}  // namespace retort::cli
