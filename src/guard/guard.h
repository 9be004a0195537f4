// The detectors over a stream of events: windows, scoring at ticks, p-values from the server's own past, and
// verdicts. What it does depends on the events and their order alone, never on the clock, so that a restart
// from a checkpoint comes to the same verdicts. Knows no file and no policy; files are guard/follower.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "guard/account.h"
#include "guard/clusters.h"
#include "guard/null.h"
#include "store/event_log.h"

namespace retort::guard {

enum class Level : std::uint8_t { none, review, throttle, suspend };
inline constexpr std::size_t levels = 4;
std::string_view level_name(Level level);

enum class Detector : std::uint8_t {
    cluster,   // accounts of several customers that move together (guard/clusters.h)
    customer,  // accounts of one customer, or of a few
    account,   // one account's harvesting, by itself
    logits,    // bias maps and logprobs
    count
};
inline constexpr std::size_t detectors = static_cast<std::size_t>(Detector::count);
std::string_view detector_name(Detector detector);
using DetectorValues = std::array<double, detectors>;
inline Detector detector_of(const Cluster& cluster) {
    return is_campaign(cluster) ? Detector::cluster : Detector::customer;
}

struct HashOfId {
    std::size_t operator()(const store::ShortHash& hash) const { return first_bytes(hash); }
};

// One decision about one cluster, or one account: whom it raises to which level, and why.
struct Verdict {
    std::uint64_t sequence = 0;
    std::int64_t time_ms = 0;  // of the events it was made at
    Level level = Level::none;
    Detector detector = Detector::cluster;
    double p = 1;
    double score = 0;
    std::string reason;  // why no higher: "not calibrated", "no independent evidence"; or ""
    std::vector<store::ShortHash> accounts;  // raised by this
    std::uint64_t cluster_size = 1;
    std::uint64_t customers = 1;
    double requests = 0;
    double dispersed = 0;
    double unshared = 1;
    double requests_a_day = 0;
    Evidences z{};
    std::vector<std::uint32_t> scaffold;
};

struct GuardOptions {
    std::int64_t window_ms = std::int64_t{7} * 86'400'000;
    std::int64_t tick_ms = 3'600'000;
    // False positives an account-month that each level may cost, by level.
    double rates[levels] = {1, 1e-3, 1e-4, 1e-5};
    // What of them each detector may spend. One account's evidence is weak and has the least.
    DetectorValues shares = {0.7, 0.1, 0.1, 0.1};
    double false_discovery_rate = 0.05;  // over the clusters of a tick
    std::uint64_t learning_windows = 2;  // of which only the words are kept, no cluster's score
    ClusterOptions clusters;
    // Which accounts may enter the null, of those without a standing verdict above review; for evaluation.
    // Empty: all.
    std::function<bool(const store::ShortHash&)> null_filter;
    // Called for each account that was seen in a window, at its end, with the p-values of its largest scores
    // by the null before it (ties broken by the account's hash, so that they are uniform); for evaluation.
    std::function<void(const AccountState&, const DetectorValues&)> on_window;
};

class Guard {
  public:
    explicit Guard(GuardOptions options)
        : options_(std::move(options)), counts_(options_.clusters.links.several) {}

    // A verdict is handed over when the tick it belongs to has ended, that is with the first event after it.
    void add(const store::Event& event, const std::function<void(Verdict)>& on_verdict);
    // Ends the tick, and with `window` the window, as the next event would.
    void end_tick(const std::function<void(Verdict)>& on_verdict);
    void end_window();
    // Known since then, whether or not it has been seen: accounts have a date of their own in a store.
    void set_first_seen(const store::ShortHash& account, std::int64_t time_ms);
    // An appeal granted: no verdict on this account until it is lifted.
    void set_allowed(const store::ShortHash& account, bool allowed);

    [[nodiscard]] const std::vector<AccountState>& accounts() const { return accounts_; }
    [[nodiscard]] const std::vector<std::string>& plans() const { return plans_; }
    [[nodiscard]] const std::vector<Cluster>& clusters() const { return clusters_; }  // of the last tick
    [[nodiscard]] const NullDistribution& null(Detector detector) const {
        return nulls_[static_cast<std::size_t>(detector)];
    }
    [[nodiscard]] const PastUse& past() const { return past_; }
    [[nodiscard]] std::uint64_t events() const { return events_; }
    [[nodiscard]] std::uint64_t verdicts() const { return sequence_; }
    [[nodiscard]] std::int64_t time_ms() const { return time_ms_; }
    [[nodiscard]] bool is_allowed(const store::ShortHash& account) const {
        return allowed_.contains(account);
    }
    // The p-value at and below which a level is given, for one detector and window.
    [[nodiscard]] double threshold(Level level, Detector detector) const;
    // Of an account's largest scores so far in this window; 1 without a past.
    [[nodiscard]] DetectorValues p_values(const AccountState& account) const;
    [[nodiscard]] bool is_calibrated(Level level, Detector detector) const;
    [[nodiscard]] const GuardOptions& options() const { return options_; }

    // Everything but the options, as bytes (docs/formats/guard_state.md), and back.
    [[nodiscard]] std::string save() const;
    Status restore(std::string_view bytes);

  private:
    std::uint32_t account_of(const store::Event& event);
    std::uint32_t number_of(const store::ShortHash& id);
    void note_change(std::uint32_t number);
    void judge_clusters(Detector detector, const std::function<void(Verdict)>& on_verdict);
    void judge_accounts(const std::function<void(Verdict)>& on_verdict);
    Level level_of(double p, Detector detector, std::string& reason) const;

    GuardOptions options_;
    std::vector<AccountState> accounts_;
    std::unordered_map<store::ShortHash, std::uint32_t, HashOfId> numbers_;
    std::vector<std::string> plans_;
    std::unordered_map<std::string, std::uint16_t> plan_numbers_;
    std::unordered_set<store::ShortHash, HashOfId> allowed_;
    PastUse past_;
    TokenCounts counts_;                  // of this window
    std::vector<std::uint32_t> changed_;  // accounts seen since the last tick: only their own scores move
    std::vector<bool> is_changed_;
    NullDistribution nulls_[detectors];
    std::vector<Cluster> clusters_;
    std::int64_t window_ = -1;
    std::int64_t tick_ = -1;
    std::int64_t time_ms_ = 0;
    std::uint64_t events_ = 0;
    std::uint64_t sequence_ = 0;
    std::uint64_t windows_ = 0;  // that have ended
};

// Which of the p-values the Benjamini–Hochberg procedure rejects at the given false discovery rate.
std::vector<bool> benjamini_hochberg(std::span<const double> p_values, double rate);

}  // namespace retort::guard
