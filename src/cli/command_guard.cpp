// retort guard: what an event log tells of accounts that belong together.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/command_guard_lab.h"
#include "cli/command_guard_watch.h"
#include "cli/commands.h"
#include "guard/guard.h"

namespace retort::cli {

namespace {

using OrderedJson = nlohmann::ordered_json;

struct GuardOptions {
    std::string log;
    std::int64_t shown = 20;
};

OrderedJson evidence_json(std::span<const float> z) {
    OrderedJson out = OrderedJson::object();
    for (std::size_t k = 0; k < guard::evidence_kinds; ++k) out[std::string(guard::evidence_name(k))] = z[k];
    return out;
}

OrderedJson accounts_json(const std::vector<store::ShortHash>& accounts) {
    OrderedJson out = OrderedJson::array();
    for (const store::ShortHash& account : accounts) out.push_back(base::to_hex(account));
    return out;
}

OrderedJson verdict_json(const guard::Verdict& verdict) {
    return {{"verdict", verdict.sequence},
            {"time_ms", verdict.time_ms},
            {"level", guard::level_name(verdict.level)},
            {"detector", guard::detector_name(verdict.detector)},
            {"p", verdict.p},
            {"score", verdict.score},
            {"held_back", verdict.reason},
            {"accounts", accounts_json(verdict.accounts)},
            {"cluster_accounts", verdict.cluster_size},
            {"customers", verdict.customers},
            {"requests", verdict.requests},
            {"dispersed_texts", verdict.dispersed},
            {"unshared_texts", verdict.unshared},
            {"requests_a_day", verdict.requests_a_day},
            {"evidence", evidence_json(verdict.z)}};
}

std::string verdict_text(const guard::Verdict& verdict) {
    std::string out = fmt::format("{}  {:<8} {:<7} p {:.1e}  {} accounts of {}, {:.0f} requests",
                                  base::utc_text(verdict.time_ms / 1000), guard::level_name(verdict.level),
                                  guard::detector_name(verdict.detector), verdict.p, verdict.accounts.size(),
                                  verdict.cluster_size, verdict.requests);
    for (std::size_t k = 0; k < guard::evidence_kinds; ++k) {
        if (verdict.z[k] > 2) out += fmt::format("  {} {:.0f}", guard::evidence_name(k), verdict.z[k]);
    }
    return out + (verdict.reason.empty() ? "" : "  (" + verdict.reason + ")");
}

// Every event of the log, in its order.
Status read_log(const std::string& folder, guard::Guard& guard, const CommonOptions& common,
                const std::function<void(guard::Verdict)>& on_verdict) {
    base::Progress progress("events", 0, "events", common.quiet || common.json);
    RETORT_CHECK(store::read_events(folder, [&](const store::Event& event) -> Status {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped");
        guard.add(event, on_verdict);
        if (guard.events() % 4096 == 0) progress.update(guard.events());
        return {};
    }));
    guard.end_tick(on_verdict);
    progress.finish();
    return {};
}

Status replay(const GuardOptions& options, const CommonOptions& common) {
    guard::Guard guard{guard::GuardOptions{}};
    const double start = base::monotonic_seconds();
    std::size_t verdicts = 0;
    RETORT_CHECK(read_log(options.log, guard, common, [&](const guard::Verdict& verdict) {
        ++verdicts;
        if (common.json) {
            fmt::print("{}\n", verdict_json(verdict).dump());
        } else {
            fmt::print("{}\n", verdict_text(verdict));
        }
    }));
    if (common.json || common.quiet) return {};
    const double seconds = base::monotonic_seconds() - start;
    fmt::print("{} events of {} accounts, {} verdicts, {:.0f} events/s\n", guard.events(),
               guard.accounts().size(), verdicts,
               static_cast<double>(guard.events()) / std::max(seconds, 1e-9));
    for (std::size_t d = 0; d < guard::detectors; ++d) {
        const auto detector = static_cast<guard::Detector>(d);
        std::string missing;
        for (const guard::Level level :
             {guard::Level::review, guard::Level::throttle, guard::Level::suspend}) {
            if (!guard.is_calibrated(level, detector))
                (missing += missing.empty() ? "" : ", ") += guard::level_name(level);
        }
        fmt::print("{:<8} {} account-weeks of past; {}\n", guard::detector_name(detector),
                   guard.null(detector).size(),
                   missing.empty() ? "calibrated" : "not calibrated for " + missing);
    }
    return {};
}

Status show_clusters(const GuardOptions& options, const CommonOptions& common) {
    guard::Guard guard{guard::GuardOptions{}};
    RETORT_CHECK(read_log(options.log, guard, common, [](const guard::Verdict&) {}));
    std::int64_t count = 0;
    for (const guard::Cluster& cluster : guard.clusters()) {
        if (count++ == options.shown) break;
        std::vector<store::ShortHash> accounts;
        for (const std::uint32_t member : cluster.members) accounts.push_back(guard.accounts()[member].id);
        const double p = guard.null(guard::detector_of(cluster)).p_value(cluster.score, 1);
        if (common.json) {
            fmt::print("{}\n", OrderedJson{{"accounts", accounts_json(accounts)},
                                           {"customers", cluster.customers},
                                           {"requests", cluster.requests},
                                           {"dispersed_texts", cluster.dispersed},
                                           {"unshared_texts", cluster.unshared},
                                           {"requests_a_day", cluster.requests_a_day},
                                           {"detector", guard::detector_name(guard::detector_of(cluster))},
                                           {"score", cluster.score},
                                           {"p", p},
                                           {"evidence", evidence_json(cluster.z)}}
                                   .dump());
            continue;
        }
        fmt::print(
            "{} accounts of {} customers, {:.0f} requests, {:.1f} a day and account, {:.0f} texts beyond the "
            "largest customer's, {:.0f} % asked by one customer only, score {:.1f} of {}, p {:.1e}\n",
            accounts.size(), cluster.customers, cluster.requests, cluster.requests_a_day, cluster.dispersed,
            100 * cluster.unshared, cluster.score, guard::detector_name(guard::detector_of(cluster)), p);
        for (std::size_t k = 0; k < guard::evidence_kinds; ++k) {
            if (cluster.z[k] > 2)
                fmt::print("    {:<15} {:.1f} deviations\n", guard::evidence_name(k), cluster.z[k]);
        }
    }
    return {};
}

}  // namespace

void add_guard(Commands& commands) {
    auto options = std::make_shared<GuardOptions>();
    CLI::App& guard =
        commands.add(Group::models, "guard", "extraction across accounts, from an event log",
                     {"retort guard replay retort.db.events"}, [](const CommonOptions&) { return Status(); });
    CLI::App& run =
        commands.add_nested(guard, "replay", "read a log from its beginning and print the verdicts",
                            {"retort guard replay retort.db.events --json"},
                            [options](const CommonOptions& common) { return replay(*options, common); });
    run.add_option("log", options->log, "an event log of `retort serve --store`")
        ->required()
        ->type_name("FOLDER");
    commands.add_json_option(run);
    CLI::App& list = commands.add_nested(
        guard, "clusters", "accounts that belong together in the log's last week, and why",
        {"retort guard clusters retort.db.events"},
        [options](const CommonOptions& common) { return show_clusters(*options, common); });
    list.add_option("log", options->log, "an event log of `retort serve --store`")
        ->required()
        ->type_name("FOLDER");
    list.add_option("--top", options->shown, "how many")->check(CLI::Range(1, 1'000'000))->type_name("N");
    commands.add_json_option(list);
    add_guard_watch(commands, guard);
    add_guard_explain(commands, guard);
    add_guard_lab(commands, guard);
}

}  // namespace retort::cli
