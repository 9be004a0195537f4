#include "laboratory/evaluation.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/clock.h"
#include "base/interrupt.h"
#include "stats/exact_tests.h"

namespace retort::laboratory {

namespace {

using guard::Guard;
using guard::Level;
using guard::Verdict;

constexpr std::int32_t week_days = 7;
constexpr std::int32_t most_campaign_days = 6;

bool is_tested(const store::ShortHash& account) {
    return (account[3] & 1U) != 0;
}

// One p for all detectors together: each may spend its share (Bonferroni, weighted).
double all_detectors(const guard::DetectorValues& p, const guard::DetectorValues& shares) {
    double least = 1;
    for (std::size_t d = 0; d < p.size(); ++d) least = std::min(least, p[d] / shares[d]);
    return least;
}

struct Fork {
    std::int32_t day = 0;
    std::string state;
};

std::string describe(const guard::Cluster& cluster, const Guard& guard,
                     const std::unordered_map<store::ShortHash, const Person*, guard::HashOfId>& who) {
    std::map<std::string, std::size_t> kinds;
    for (const std::uint32_t member : cluster.members) {
        const auto found = who.find(guard.accounts()[member].id);
        ++kinds[found == who.end() ? "attacker"
                                   : std::string(honest_name(static_cast<std::size_t>(found->second->kind)))];
    }
    std::string out =
        fmt::format("score {:.1f} p {:.1e} {} accounts {:.0f} requests {:.0f} dispersed:", cluster.score,
                    guard.null(guard::detector_of(cluster)).p_value(cluster.score, 1), cluster.members.size(),
                    cluster.requests, cluster.dispersed);
    for (const auto& [kind, count] : kinds) out += fmt::format(" {} {},", count, kind);
    for (std::size_t k = 0; k < guard::evidence_kinds; ++k)
        if (cluster.z[k] > 1) out += fmt::format(" {} {:.1f}", guard::evidence_name(k), cluster.z[k]);
    return out;
}

class Evaluator {
  public:
    Evaluator(const PromptLibrary& library, const EvaluationOptions& options,
              const std::function<void(const std::string&)>& say)
        : options_(options), say_(say), traffic_(library, options.traffic) {
        for (const Person& person : traffic_.people()) who_.emplace(account_hash(person.number), &person);
    }

    Status run() {
        const double start = base::monotonic_seconds();
        result_.honest_accounts = traffic_.people().size();
        RETORT_CHECK(honest());
        result_.seconds = base::monotonic_seconds() - start;
        say_(fmt::format("{} honest events in {:.0f} s", result_.honest_events, result_.seconds));
        RETORT_CHECK(campaigns());
        return {};
    }
    EvaluationResult take() { return std::move(result_); }

  private:
    guard::GuardOptions guard_options() {
        guard::GuardOptions options = options_.guard;
        options.null_filter = [](const store::ShortHash& id) { return !is_tested(id); };
        return options;
    }

    void count_window(const guard::AccountState& account, const guard::DetectorValues& p, std::int32_t week) {
        if (week < options_.past_weeks) return;
        const Person& person = *who_.at(account.id);
        const auto kind = static_cast<std::size_t>(person.kind);
        first_week_.insert(account.id);
        if (week == options_.past_weeks) {
            for (std::size_t d = 0; d < guard::detectors; ++d) ks_[d].push_back(p[d]);
        }
        if (!is_tested(account.id)) return;
        for (const std::string& name : {std::string("all"), std::string(honest_name(kind))}) {
            FalseAlarms& alarms = result_.by_kind[name];
            alarms.months += 7.0 / 30;
        }
        result_.honest_p.push_back(all_detectors(p, options_.guard.shares));
    }

    Status honest() {
        guard::GuardOptions options = guard_options();
        std::int32_t week = 0;
        options.on_window = [&](const guard::AccountState& account, const guard::DetectorValues& p) {
            count_window(account, p,
                         static_cast<std::int32_t>((account.window.last_ms - options_.traffic.begin_ms) /
                                                   (week_days * std::int64_t{86'400'000})));
        };
        Guard guard(options);
        auto& raised = honest_levels_;
        const auto on_verdict = [&](const Verdict& verdict) {
            for (const store::ShortHash& id : verdict.accounts) {
                const Person& person = *who_.at(id);
                const auto level = static_cast<std::uint8_t>(verdict.level);
                const std::uint8_t before = raised[id];
                raised[id] = std::max(before, level);
                if (!is_tested(id) || week < options_.past_weeks) continue;
                result_.alarms.push_back({week, verdict.sequence, verdict.level, verdict.detector,
                                          static_cast<std::size_t>(person.kind)});
                for (std::uint8_t l = before + 1; l <= level; ++l) {
                    ++result_.by_kind["all"].raised[l];
                    ++result_.by_kind[std::string(honest_name(static_cast<std::size_t>(person.kind)))]
                          .raised[l];
                }
                ++result_.detectors_of_alarms[std::string(honest_name(static_cast<std::size_t>(person.kind)))]
                                             [static_cast<std::size_t>(verdict.detector)];
            }
            if (week >= options_.past_weeks && verdict.accounts.size() > 1) {
                std::string members;
                std::map<std::string, std::size_t> kinds;
                for (const store::ShortHash& id : verdict.accounts)
                    ++kinds[std::string(honest_name(static_cast<std::size_t>(who_.at(id)->kind)))];
                for (const auto& [kind, count] : kinds) members += fmt::format(" {} {}", count, kind);
                std::string why;
                for (std::size_t k = 0; k < guard::evidence_kinds; ++k)
                    if (verdict.z[k] > 1)
                        why += fmt::format(" {} {:.1f}", guard::evidence_name(k), verdict.z[k]);
                result_.log.push_back(fmt::format("verdict {} of {} p {:.1e} score {:.1f}:{}{}",
                                                  level_name(verdict.level), detector_name(verdict.detector),
                                                  verdict.p, verdict.score, members, why));
            }
        };
        BaselineTracker tracker;
        std::unordered_set<store::ShortHash, guard::HashOfId> seen;
        for (std::int32_t day = 0; day < options_.traffic.days; ++day) {
            if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped");
            week = day / week_days;
            // Campaigns begin in the middle of the first tested weeks.
            if (week >= options_.past_weeks && (day % week_days == 1 || day % week_days == 3))
                forks_.push_back({day, guard.save()});
            const auto events = traffic_.day(day);
            result_.honest_events += events.size();
            for (const store::Event& event : events) {
                guard.add(event, on_verdict);
                tracker.add(event);
            }
            if (day % week_days != week_days - 1) continue;
            guard.end_tick(on_verdict);
            for (std::size_t i = 0; i < std::min<std::size_t>(3, guard.clusters().size()); ++i)
                result_.log.push_back(
                    fmt::format("week {} {}", week, describe(guard.clusters()[i], guard, who_)));
            end_baseline_week(tracker, week);
            std::size_t seen_now = 0;
            std::size_t in_clusters = 0;
            for (const guard::AccountState& account : guard.accounts()) {
                seen_now += account.in_window;
                in_clusters += account.best_cluster > 0 ? 1 : 0;
            }
            say_(fmt::format("week {}: {} accounts, {} in clusters", week, seen_now, in_clusters));
            say_(fmt::format("week {}: {} events, {} account-weeks of past", week, guard.events(),
                             guard.null(guard::Detector::cluster).size()));
        }
        // The last window ends with the next event; there is none.
        guard.end_window();
        for (const Person& person : traffic_.people()) {
            if (!is_tested(account_hash(person.number)) || !first_week_.contains(account_hash(person.number)))
                continue;
            ++result_.by_kind["all"].accounts;
            ++result_.by_kind[std::string(honest_name(static_cast<std::size_t>(person.kind)))].accounts;
        }
        for (std::size_t d = 0; d < guard::detectors; ++d) {
            const auto test = stats::kolmogorov_uniformity(ks_[d]);
            result_.ks_distance[d] = test.distance;
            result_.ks_p[d] = test.p;
        }
        result_.ks_accounts = ks_[0].size();
        std::sort(result_.honest_p.begin(), result_.honest_p.end());
        return {};
    }

    void end_baseline_week(BaselineTracker& tracker, std::int32_t week) {
        std::array<std::vector<float>, baselines> scores;
        tracker.each([&](const store::ShortHash& id, const Scores& all) {
            for (std::size_t b = 0; b < baselines; ++b) {
                if (!is_tested(id)) {
                    scores[b].push_back(all[b]);
                } else if (week >= options_.past_weeks) {
                    FalseAlarms& alarms = result_.baseline[b];
                    alarms.months += 7.0 / 30;
                    const double p = nulls_[b].p_value(all[b], 1);
                    std::uint8_t& before = baseline_raised_[b][id];
                    for (std::uint8_t l = before + 1; l < guard::levels; ++l) {
                        if (p > baseline_threshold(static_cast<Level>(l))) break;
                        ++alarms.raised[l];
                        before = l;
                    }
                }
            }
        });
        for (std::size_t b = 0; b < baselines; ++b) nulls_[b].add_window(std::move(scores[b]));
        tracker.end_week();
        reference_ = tracker.reference();
        fork_nulls_.push_back(nulls_);
        fork_references_.push_back(reference_);
    }

    // Alone, a baseline may spend all of a level's false positives.
    [[nodiscard]] double baseline_threshold(Level level) const {
        return options_.guard.rates[static_cast<std::size_t>(level)] * 7.0 / 30;
    }

    struct Running {
        Campaign campaign;
        CampaignResult result;
        BaselineTracker tracker;
        // By what flags: the guard's levels, then the baselines.
        std::unordered_map<store::ShortHash, std::array<std::uint8_t, guard::levels + baselines>,
                           guard::HashOfId>
            flagged;
        std::array<std::size_t, guard::levels + baselines> found{};
        std::unordered_set<store::ShortHash, guard::HashOfId> active;
        std::size_t requests = 0;
        bool measured = false;
    };

    static Outcome& outcome(Running& running, std::size_t which) {
        return which < guard::levels ? running.result.guard[which]
                                     : running.result.baseline[which - guard::levels];
    }

    static void flag(Running& running, const store::ShortHash& id, std::size_t which) {
        auto& flags = running.flagged[id];
        if (flags[which] != 0) return;
        flags[which] = 1;
        ++running.found[which];
        Outcome& out = outcome(running, which);
        const double share = static_cast<double>(running.requests) / running.campaign.planned();
        if (out.first_share < 0) out.first_share = share;
        if (out.share < 0 && 2 * running.found[which] >= running.active.size()) {
            out.share = share;
            out.requests = static_cast<double>(running.requests);
        }
    }

    // Campaigns that start on one day, over the same honest traffic.
    Status overlay(const Fork& fork, std::vector<CampaignOptions> wanted) {
        Guard guard(guard_options());
        RETORT_CHECK(guard.restore(fork.state));
        const auto week = static_cast<std::size_t>(fork.day / week_days);
        const auto& nulls = fork_nulls_[week - 1];
        std::vector<std::unique_ptr<Running>> all;
        std::unordered_map<store::ShortHash, Running*, guard::HashOfId> owner;
        for (CampaignOptions& each : wanted) {
            each.first_day = fork.day;
            each.planned = each.keys == 1 ? 20'000 : 650;
            each.per_day = each.family == Attack::slow ? (each.keys == 1 ? 60 : 6)
                           : each.keys == 1            ? 800
                                                       : 20;
            Campaign campaign(traffic_, each);
            auto running =
                std::make_unique<Running>(Running{std::move(campaign), {}, {}, {}, {}, {}, 0, false});
            running->result.family = each.family;
            running->result.keys = each.keys;
            running->result.number = each.number;
            running->tracker.set_reference(fork_references_[week - 1]);
            for (const Person& person : running->campaign.people())
                owner[account_hash(person.number)] = running.get();
            all.push_back(std::move(running));
        }
        std::unordered_map<store::ShortHash, std::uint8_t, guard::HashOfId> drawn_in;
        std::unordered_set<store::ShortHash, guard::HashOfId> beside;  // honest, tested, seen
        const auto on_verdict = [&](const Verdict& verdict) {
            for (const store::ShortHash& id : verdict.accounts) {
                const auto found = owner.find(id);
                if (found == owner.end()) {
                    std::uint8_t& level = drawn_in[id];
                    if (is_tested(id)) level = std::max(level, static_cast<std::uint8_t>(verdict.level));
                    const Person& person = *who_.at(id);
                    result_.log.push_back(fmt::format(
                        "beside campaigns of day {}: {} of {}, {} accounts: a {} since day {}", fork.day,
                        level_name(verdict.level), detector_name(verdict.detector), verdict.cluster_size,
                        honest_name(static_cast<std::size_t>(person.kind)), person.first_day));
                    continue;
                }
                for (std::size_t l = 1; l <= static_cast<std::size_t>(verdict.level); ++l)
                    flag(*found->second, id, l);
                if (verdict.level >= Level::throttle && found->second->result.detector.empty())
                    found->second->result.detector = detector_name(verdict.detector);
            }
        };
        // What aged accounts did before: the guard saw it as honest traffic of the weeks before the fork.
        // Here they only are known by their first event.
        for (const auto& running : all) {
            for (std::int32_t day = fork.day - 42; day < fork.day; ++day) {
                for (const store::Event& event : running->campaign.day(day))
                    aged_[event.account] = std::min(
                        aged_.contains(event.account) ? aged_[event.account] : event.time_ms, event.time_ms);
            }
        }
        for (const auto& [id, first] : aged_) guard.set_first_seen(id, first);
        aged_.clear();
        std::int32_t day = fork.day;
        for (; day < std::min(fork.day + most_campaign_days, options_.traffic.days); ++day) {
            if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped");
            std::vector<store::Event> events = traffic_.day(day);
            bool going = false;
            for (const auto& running : all) {
                if (is_done(*running)) continue;
                going = true;
                auto more = running->campaign.day(day);
                events.insert(events.end(), std::make_move_iterator(more.begin()),
                              std::make_move_iterator(more.end()));
            }
            if (!going) break;
            sort_by_time(events);
            for (const store::Event& event : events) {
                guard.add(event, on_verdict);
                const auto found = owner.find(event.account);
                if (found == owner.end()) {
                    if (is_tested(event.account)) beside.insert(event.account);
                    continue;
                }
                Running& running = *found->second;
                ++running.requests;
                running.active.insert(event.account);
                running.tracker.add(event);
                const Scores scores = running.tracker.scores(event.account);
                for (std::size_t b = 0; b < baselines; ++b) {
                    if (running.flagged[event.account][guard::levels + b] != 0) continue;
                    if (nulls[b].p_value(scores[b], 1) <= baseline_threshold(Level::throttle))
                        flag(running, event.account, guard::levels + b);
                }
                if (!running.measured &&
                    static_cast<double>(running.requests) >= 0.01 * running.campaign.planned())
                    measure(running, guard);
            }
            guard.end_tick(on_verdict);
        }
        ++result_.drawn_in.overlays;
        result_.drawn_in.months += static_cast<double>(beside.size()) * (day - fork.day) / 30;
        for (const auto& [id, level] : drawn_in) {
            const auto known = honest_levels_.find(id);
            const std::uint8_t without = known == honest_levels_.end() ? 0 : known->second;
            for (std::uint8_t l = without + 1; l <= level; ++l) ++result_.drawn_in.raised[l];
        }
        for (const auto& running : all) result_.campaigns.push_back(std::move(running->result));
        return {};
    }

    [[nodiscard]] bool is_done(const Running& running) const {
        return static_cast<double>(running.requests) > options_.most_volume * running.campaign.planned() ||
               (running.result.at(Level::suspend).share >= 0 && running.measured &&
                static_cast<double>(running.requests) > 0.01 * running.campaign.planned());
    }

    // The median key's p at one percent of the plan, by the scores of the ticks until then.
    static void measure(Running& running, const Guard& guard) {
        running.measured = true;
        std::vector<double> p;
        for (const guard::AccountState& account : guard.accounts()) {
            if (!running.active.contains(account.id)) continue;
            const auto values = guard.p_values(account);
            p.push_back(all_detectors(values, guard.options().shares));
        }
        if (p.empty()) return;
        const auto middle = p.begin() + static_cast<std::ptrdiff_t>(p.size() / 2);
        std::nth_element(p.begin(), middle, p.end());
        running.result.p_at_one_percent = *middle;
    }

    Status campaigns() {
        if (forks_.empty()) return {};
        std::vector<Attack> families = options_.families;
        if (families.empty())
            for (std::size_t f = 0; f < attacks; ++f) families.push_back(static_cast<Attack>(f));
        // One of each family together, those of 1 key apart from those of 50: 350 accounts among all.
        for (std::size_t i = 0; i < options_.small_campaigns; ++i) {
            for (const std::uint32_t keys : {1U, 50U}) {
                std::vector<CampaignOptions> wanted;
                for (const Attack family : families)
                    wanted.push_back({family, keys, 2 * i + keys % 2, 0, 0, 0});
                RETORT_CHECK(overlay(forks_[i % forks_.size()], std::move(wanted)));
            }
            say_(fmt::format("campaigns of 1 and 50 keys: {} of {}", i + 1, options_.small_campaigns));
        }
        for (std::size_t i = 0; i < options_.large_campaigns; ++i) {
            for (const Attack family : families) {
                if (family == Attack::logits) continue;
                RETORT_CHECK(
                    overlay(forks_[i % forks_.size()], {{family, options_.large_keys, 1000 + i, 0, 0, 0}}));
                say_(fmt::format("{} with {} keys: {} of {}", attack_name(family), options_.large_keys, i + 1,
                                 options_.large_campaigns));
            }
        }
        return {};
    }

    const EvaluationOptions& options_;
    const std::function<void(const std::string&)>& say_;
    Traffic traffic_;
    EvaluationResult result_;
    std::unordered_map<store::ShortHash, const Person*, guard::HashOfId> who_;
    std::unordered_set<store::ShortHash, guard::HashOfId> first_week_;
    std::unordered_map<store::ShortHash, std::int64_t, guard::HashOfId> aged_;
    std::array<std::vector<double>, guard::detectors> ks_;
    std::unordered_map<store::ShortHash, std::uint8_t, guard::HashOfId> honest_levels_;
    std::vector<Fork> forks_;
    std::array<guard::NullDistribution, baselines> nulls_;
    std::vector<std::array<guard::NullDistribution, baselines>> fork_nulls_;
    std::vector<BaselineTracker::Embedding> fork_references_;
    BaselineTracker::Embedding reference_{};
    std::array<std::unordered_map<store::ShortHash, std::uint8_t, guard::HashOfId>, baselines>
        baseline_raised_;
};

}  // namespace

Result<EvaluationResult> evaluate(const PromptLibrary& library, const EvaluationOptions& options,
                                  const std::function<void(const std::string&)>& say) {
    if (options.traffic.days / week_days <= options.past_weeks) {
        return fail(ErrorCode::invalid_argument, "--weeks: {} weeks leave none after the {} of the past",
                    options.traffic.days / week_days, options.past_weeks);
    }
    Evaluator evaluator(library, options, say);
    RETORT_CHECK(evaluator.run());
    return evaluator.take();
}

}  // namespace retort::laboratory
