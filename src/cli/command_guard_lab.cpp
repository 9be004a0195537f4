// retort guard lab and evaluate: labelled traffic of real texts, and the guard judged on it.
#include "cli/command_guard_lab.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "laboratory/evaluation.h"
#include "laboratory/traffic.h"
#include "serve/accounts_admission.h"

namespace retort::cli {

namespace {

using OrderedJson = nlohmann::ordered_json;

struct GuardLabOptions {
    std::string prompts;
    std::string out;
    std::uint64_t seed = 1;
    std::int64_t people = 1000;
    std::int64_t weeks = 6;
    std::vector<std::string> campaigns;
    std::int64_t attack_day = -1;
    std::int64_t past_weeks = 8;
    std::int64_t small = 12;
    std::int64_t large = 4;
    std::int64_t large_keys = 5000;
    std::vector<std::string> families;
    std::string report;
    bool show_log = false;
    std::string store;
    bool bodies = false;
};

std::string family_names() {
    std::string out;
    for (std::size_t f = 0; f < laboratory::attacks; ++f)
        (out += f == 0 ? "" : ", ") += laboratory::attack_name(static_cast<laboratory::Attack>(f));
    return out;
}

Result<laboratory::Attack> family_named(const std::string& name) {
    for (std::size_t f = 0; f < laboratory::attacks; ++f) {
        if (name == laboratory::attack_name(static_cast<laboratory::Attack>(f)))
            return static_cast<laboratory::Attack>(f);
    }
    return fail(ErrorCode::invalid_argument, "'{}' is no family of attackers: {}", name, family_names());
}

// FAMILY:KEYS
Result<laboratory::CampaignOptions> campaign_named(const std::string& text, std::uint64_t number,
                                                   std::int32_t first_day) {
    const std::size_t colon = text.find(':');
    laboratory::CampaignOptions out;
    RETORT_TRY(out.family, family_named(text.substr(0, colon)));
    const std::string keys = colon == std::string::npos ? "50" : text.substr(colon + 1);
    const long count = std::strtol(keys.c_str(), nullptr, 10);
    if (count < 1 || count > 10'000) {
        return fail(ErrorCode::invalid_argument, "--campaign {}: keys are 1 to 10000", text);
    }
    out.keys = static_cast<std::uint32_t>(count);
    out.number = number;
    out.first_day = first_day;
    if (out.keys == 1) out.planned = 20'000;
    out.per_day = out.family == laboratory::Attack::slow ? 6 : out.keys == 1 ? 800 : 20;
    return out;
}

void add_label(std::string& out, const laboratory::Person& person, std::string_view kind, bool attacker,
               std::uint64_t group) {
    out += OrderedJson{{"account", base::to_hex(laboratory::account_hash(person.number))},
                       {"attacker", attacker},
                       {"kind", kind},
                       {"group", group},
                       {"plan", person.plan}}
               .dump() +
           "\n";
}

Status make_traffic(const GuardLabOptions& options, const CommonOptions& common) {
    RETORT_TRY(const laboratory::PromptLibrary library, laboratory::load_prompts(options.prompts));
    laboratory::TrafficOptions wanted;
    wanted.seed = options.seed;
    wanted.people = static_cast<std::size_t>(options.people);
    wanted.days = static_cast<std::int32_t>(options.weeks * 7);
    wanted.bodies = options.bodies;
    if (!options.store.empty()) {
        RETORT_TRY(const store::Secret secret, serve::store_secret(options.store, ""));
        wanted.key = guard::sketch_key(secret);
    }
    const laboratory::Traffic traffic(library, wanted);
    const auto first =
        static_cast<std::int32_t>(options.attack_day >= 0 ? options.attack_day : (options.weeks - 1) * 7);
    std::vector<laboratory::Campaign> campaigns;
    for (std::size_t i = 0; i < options.campaigns.size(); ++i) {
        RETORT_TRY(const auto campaign, campaign_named(options.campaigns[i], i, first));
        campaigns.emplace_back(traffic, campaign);
    }
    const std::filesystem::path folder = options.out;
    if (std::filesystem::exists(folder / "events")) {
        return fail(ErrorCode::invalid_argument, "{}: holds traffic already; name a new folder", options.out);
    }
    RETORT_CHECK(base::make_folders(folder));
    std::string labels;
    for (const laboratory::Person& person : traffic.people())
        add_label(labels, person, laboratory::honest_name(static_cast<std::size_t>(person.kind)), false,
                  person.group);
    for (const laboratory::Campaign& campaign : campaigns) {
        for (const laboratory::Person& person : campaign.people())
            add_label(labels, person, laboratory::attack_name(campaign.options().family), true,
                      campaign.options().number);
    }
    RETORT_CHECK(base::write_file_atomic(folder / "labels.jsonl", labels));
    OrderedJson sets = OrderedJson::array();
    for (const laboratory::PromptSet& set : library.sets)
        sets.push_back({{"set", set.name},
                        {"source", set.source},
                        {"package", set.package},
                        {"version", set.version},
                        {"licence", set.licence},
                        {"texts", set.texts.size()}});
    store::EventLogOptions log_options;
    log_options.folder = folder / "events";
    log_options.retention_seconds = 0;
    log_options.max_waiting = std::size_t{1} << 22U;
    std::uint64_t count = 0;
    {
        RETORT_TRY(const auto log, store::EventLog::open(log_options));
        base::Progress progress("days", static_cast<std::uint64_t>(wanted.days), "days",
                                common.quiet || common.json);
        for (std::int32_t day = 0; day < wanted.days; ++day) {
            if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped");
            auto events = traffic.day(day);
            for (const laboratory::Campaign& campaign : campaigns) {
                auto more = campaign.day(day);
                events.insert(events.end(), more.begin(), more.end());
            }
            laboratory::sort_by_time(events);
            count += events.size();
            for (store::Event& event : events) log->add(std::move(event));
            RETORT_CHECK(log->flush());
            progress.update(static_cast<std::uint64_t>(day) + 1);
        }
        progress.finish();
    }
    const OrderedJson manifest = {{"seed", options.seed},   {"people", traffic.people().size()},
                                  {"weeks", options.weeks}, {"campaigns", options.campaigns},
                                  {"attack_day", first},    {"events", count},
                                  {"prompt_sets", sets}};
    RETORT_CHECK(base::write_file_atomic(folder / "manifest.json", manifest.dump(1) + "\n"));
    if (common.json) {
        fmt::print("{}\n", manifest.dump());
    } else if (!common.quiet) {
        fmt::print("{} events of {} honest accounts and {} campaigns: {}/events, {}/labels.jsonl\n", count,
                   traffic.people().size(), campaigns.size(), options.out, options.out);
    }
    return {};
}

OrderedJson outcome_json(const laboratory::Outcome& outcome) {
    return {{"share", outcome.share}, {"first_share", outcome.first_share}, {"requests", outcome.requests}};
}

OrderedJson evaluation_json(const laboratory::EvaluationResult& result, const std::string& text) {
    constexpr guard::Level given[] = {guard::Level::review, guard::Level::throttle, guard::Level::suspend};
    OrderedJson campaigns = OrderedJson::array();
    for (const auto& each : result.campaigns) {
        OrderedJson one = {{"family", laboratory::attack_name(each.family)},
                           {"keys", each.keys},
                           {"number", each.number},
                           {"detector", each.detector},
                           {"p_at_one_percent", each.p_at_one_percent}};
        for (const guard::Level level : given)
            one[std::string(guard::level_name(level))] = outcome_json(each.at(level));
        for (std::size_t b = 0; b < laboratory::baselines; ++b)
            one[std::string(laboratory::baseline_name(b))] = outcome_json(each.baseline[b]);
        campaigns.push_back(std::move(one));
    }
    const auto alarms_json = [&](const laboratory::FalseAlarms& alarms) {
        OrderedJson one = {{"accounts", alarms.accounts}, {"months", alarms.months}};
        for (const guard::Level level : given)
            one[std::string(guard::level_name(level))] = alarms.raised[static_cast<std::size_t>(level)];
        return one;
    };
    OrderedJson kinds = OrderedJson::object();
    for (const auto& [kind, alarms] : result.by_kind) kinds[kind] = alarms_json(alarms);
    OrderedJson others = OrderedJson::object();
    for (std::size_t b = 0; b < laboratory::baselines; ++b)
        others[std::string(laboratory::baseline_name(b))] = alarms_json(result.baseline[b]);
    OrderedJson each_alarm = OrderedJson::array();
    for (const laboratory::FalseAlarm& alarm : result.alarms)
        each_alarm.push_back({{"week", alarm.week},
                              {"verdict", alarm.verdict},
                              {"level", guard::level_name(alarm.level)},
                              {"detector", guard::detector_name(alarm.detector)},
                              {"kind", laboratory::honest_name(alarm.kind)}});
    OrderedJson uniformity = {{"accounts", result.ks_accounts}};
    for (std::size_t d = 0; d < guard::detectors; ++d)
        uniformity[std::string(guard::detector_name(static_cast<guard::Detector>(d)))] = {
            {"distance", result.ks_distance[d]}, {"p", result.ks_p[d]}};
    OrderedJson drawn = {{"overlays", result.drawn_in.overlays}, {"months", result.drawn_in.months}};
    for (const guard::Level level : given)
        drawn[std::string(guard::level_name(level))] =
            result.drawn_in.raised[static_cast<std::size_t>(level)];
    return {{"honest_accounts", result.honest_accounts},
            {"honest_events", result.honest_events},
            {"campaigns", campaigns},
            {"by_kind", kinds},
            {"baselines", others},
            {"false_alarms", each_alarm},
            {"beside_campaigns", drawn},
            {"uniformity", uniformity},
            {"report", text}};
}

Status judge(const GuardLabOptions& options, const CommonOptions& common) {
    RETORT_TRY(const laboratory::PromptLibrary library, laboratory::load_prompts(options.prompts));
    laboratory::EvaluationOptions wanted;
    wanted.traffic.seed = options.seed;
    wanted.traffic.people = static_cast<std::size_t>(options.people);
    wanted.traffic.days = static_cast<std::int32_t>(options.weeks * 7);
    wanted.past_weeks = static_cast<std::int32_t>(options.past_weeks);
    wanted.small_campaigns = static_cast<std::size_t>(options.small);
    wanted.large_campaigns = static_cast<std::size_t>(options.large);
    wanted.large_keys = static_cast<std::uint32_t>(options.large_keys);
    for (const std::string& name : options.families) {
        RETORT_TRY(const auto family, family_named(name));
        wanted.families.push_back(family);
    }
    const bool quiet = common.quiet || common.json;
    RETORT_TRY(const auto result, laboratory::evaluate(library, wanted, [&](const std::string& line) {
                   if (!quiet) fmt::print(stderr, "{}\n", line);
               }));
    const std::string text = laboratory::report(result, wanted);
    if (options.show_log)
        for (const std::string& line : result.log) fmt::print("{}\n", line);
    if (common.json) {
        fmt::print("{}\n", evaluation_json(result, text).dump());
    } else {
        fmt::print("{}", text);
    }
    if (!options.report.empty()) RETORT_CHECK(base::write_file_atomic(options.report, text));
    return {};
}

}  // namespace

void add_guard_lab(Commands& commands, CLI::App& guard) {
    auto options = std::make_shared<GuardLabOptions>();
    const auto common_options = [&](CLI::App& app) {
        app.add_option("--prompts", options->prompts,
                       "sets of real texts, as scripts/guard-prompts.py writes them")
            ->required()
            ->type_name("FOLDER");
        app.add_option("--seed", options->seed, "equal seeds, equal traffic")->type_name("N");
        app.add_option("--people", options->people, "honest accounts")
            ->check(CLI::Range(20, 2'000'000))
            ->type_name("N");
        app.add_option("--weeks", options->weeks, "of traffic")->check(CLI::Range(1, 60))->type_name("N");
        commands.add_json_option(app);
    };
    CLI::App& lab = commands.add_nested(
        guard, "lab", "make labelled traffic: an event log of honest users and attackers",
        {"retort guard lab --prompts prompts --out traffic --people 1000 --campaign scaffold:50"},
        [options](const CommonOptions& common) { return make_traffic(*options, common); });
    common_options(lab);
    lab.add_option("--out", options->out, "a new folder: events, labels.jsonl, manifest.json")
        ->required()
        ->type_name("FOLDER");
    lab.add_option("--campaign", options->campaigns,
                   "an attacker, FAMILY:KEYS: " + family_names() + "; may be repeated")
        ->type_name("FAMILY:KEYS");
    lab.add_option("--attack-day", options->attack_day,
                   "when campaigns begin; the last week's first if not given")
        ->check(CLI::Range(0, 10'000))
        ->type_name("DAY");
    lab.add_flag("--bodies", options->bodies,
                 "events carry their requests' bodies, for `retort guard explain`");
    lab.add_option("--store", options->store,
                   "sketches are made with this SQLite store's secret, as its server's are")
        ->type_name("STORE");
    CLI::App& evaluate = commands.add_nested(
        guard, "evaluate", "detection, false alarms and other detectors beside ours, on laboratory traffic",
        {"retort guard evaluate --prompts prompts --people 10500 --weeks 14"},
        [options](const CommonOptions& common) { return judge(*options, common); });
    common_options(evaluate);
    evaluate.add_option("--past", options->past_weeks, "weeks before anything is counted")
        ->check(CLI::Range(1, 50))
        ->type_name("WEEKS");
    evaluate.add_option("--small", options->small, "campaigns of 1 and of 50 keys, a family")
        ->check(CLI::Range(0, 10'000))
        ->type_name("N");
    evaluate.add_option("--large", options->large, "campaigns of --large-keys keys, a family")
        ->check(CLI::Range(0, 10'000))
        ->type_name("N");
    evaluate.add_option("--large-keys", options->large_keys, "their keys")
        ->check(CLI::Range(2, 10'000))
        ->type_name("N");
    evaluate.add_option("--family", options->families, "only these families of attackers; may be repeated")
        ->type_name("FAMILY");
    evaluate.add_option("--report", options->report, "write the tables to a file too")->type_name("FILE");
    evaluate.add_flag("--log", options->show_log,
                      "print each week's highest honest clusters, and every false verdict");
}

}  // namespace retort::cli
