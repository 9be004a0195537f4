// The guard judged on laboratory traffic: a past to calibrate by, weeks of honest traffic after it to count
// false alarms in, and campaigns laid over those weeks. The null is taken from one half of the accounts,
// false alarms are counted in the other (split by user), in later weeks (split by time). Knows no file.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "guard/guard.h"
#include "laboratory/baselines.h"
#include "laboratory/traffic.h"
#include "stats/estimate.h"

namespace retort::laboratory {

struct EvaluationOptions {
    TrafficOptions traffic;
    std::int32_t past_weeks = 8;
    std::size_t small_campaigns = 12;  // a family, of 1 key and of 50
    std::size_t large_campaigns = 4;   // a family, of 5,000 keys
    std::uint32_t large_keys = 5000;
    std::vector<Attack> families;  // empty: all
    double most_volume = 0.05;     // share of a campaign's plan after which it is given up
    guard::GuardOptions guard;
};

// Of one detector (the guard, or a baseline) and one campaign.
struct Outcome {
    double share = -1;  // of the planned volume, when half of the active keys were raised; −1: not found
    double first_share = -1;  // when the first key was
    double requests = -1;     // of the campaign until then
};
struct CampaignResult {
    Attack family;
    std::uint32_t keys = 0;
    std::uint64_t number = 0;
    std::array<Outcome, guard::levels> guard;  // by level: raised to it, or above it
    std::string detector;                      // of the guard, that throttled it first
    double p_at_one_percent = 1;               // the median key's, times the detectors
    std::array<Outcome, baselines> baseline;   // at the throttle point

    [[nodiscard]] const Outcome& at(guard::Level level) const {
        return guard[static_cast<std::size_t>(level)];
    }
};

struct FalseAlarms {
    std::size_t accounts = 0;
    double months = 0;                    // account-months, of 30 days
    std::array<std::size_t, 4> raised{};  // accounts that reached a level, by level
};

// One honest account of the tested half, raised by one verdict: what the rates of false alarms count.
struct FalseAlarm {
    std::int32_t week = 0;
    std::uint64_t verdict = 0;  // accounts of one verdict are one event, not many
    guard::Level level = guard::Level::none;
    guard::Detector detector = guard::Detector::cluster;
    std::size_t kind = 0;  // of Honest
};

// Honest accounts of the tested half while campaigns run beside them: those raised that the same weeks
// without campaigns did not raise as high.
struct DrawnIn {
    std::size_t overlays = 0;  // sets of campaigns over the same honest days
    double months = 0;         // account-months
    std::array<std::size_t, guard::levels> raised{};
};

struct EvaluationResult {
    std::size_t honest_accounts = 0;
    std::size_t honest_events = 0;
    double seconds = 0;
    std::vector<CampaignResult> campaigns;
    std::map<std::string, FalseAlarms> by_kind;   // of the tested half; "all" is the sum
    std::array<FalseAlarms, baselines> baseline;  // likewise, in all
    std::map<std::string, std::array<std::size_t, guard::detectors>> detectors_of_alarms;
    std::vector<FalseAlarm> alarms;
    DrawnIn drawn_in;
    // Of all honest accounts seen in the first tested week: p-values by detector, and KS against uniform.
    guard::DetectorValues ks_distance{};
    guard::DetectorValues ks_p{};
    std::size_t ks_accounts = 0;
    // p (the smallest of the detectors', each divided by its share of the false positives) of honest
    // account-weeks of the tested half, ascending.
    std::vector<double> honest_p;
    std::vector<std::string> log;  // the worst honest clusters, for a person
};

Result<EvaluationResult> evaluate(const PromptLibrary& library, const EvaluationOptions& options,
                                  const std::function<void(const std::string&)>& say);
std::string report(const EvaluationResult& result, const EvaluationOptions& options);

}  // namespace retort::laboratory
