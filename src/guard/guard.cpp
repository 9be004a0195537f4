#include "guard/guard.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"

namespace retort::guard {

namespace {

constexpr double month_ms = 30.0 * 86'400'000;
// A null of n account-windows is trusted this far below 1 / n, by its fitted tail, and no further.
constexpr double tail_reach = 30;
// Suspension asks for two kinds of evidence that no prompt carries, each beyond one in ten thousand (normal).
constexpr float independent_z = 3.72F;
constexpr std::size_t independent_kinds = 2;
constexpr std::size_t smallest_suspended_cluster = 3;

// By detector.
DetectorValues best_scores(const AccountState& account) {
    return {account.best_cluster, account.best_customer, account.best_account, account.best_logits};
}

bool has_independent_evidence(const Cluster& cluster) {
    std::size_t kinds = 0;
    for (const Evidence kind : {Evidence::parameters, Evidence::timing, Evidence::onset, Evidence::volume,
                                Evidence::payment, Evidence::address}) {
        if (cluster.z[static_cast<std::size_t>(kind)] >= independent_z) ++kinds;
    }
    return kinds >= independent_kinds && cluster.members.size() >= smallest_suspended_cluster;
}

}  // namespace

std::string_view level_name(Level level) {
    constexpr std::string_view names[] = {"none", "review", "throttle", "suspend"};
    return names[static_cast<std::size_t>(level)];
}

std::string_view detector_name(Detector detector) {
    constexpr std::string_view names[] = {"cluster", "customer", "account", "logits"};
    return names[static_cast<std::size_t>(detector)];
}

std::vector<bool> benjamini_hochberg(std::span<const double> p_values, double rate) {
    std::vector<std::size_t> order(p_values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return p_values[a] < p_values[b]; });
    std::size_t rejected = 0;
    const auto count = static_cast<double>(p_values.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (p_values[order[i]] <= rate * static_cast<double>(i + 1) / count) rejected = i + 1;
    }
    std::vector<bool> out(p_values.size(), false);
    for (std::size_t i = 0; i < rejected; ++i) out[order[i]] = true;
    return out;
}

double Guard::threshold(Level level, Detector detector) const {
    return options_.rates[static_cast<std::size_t>(level)] *
           options_.shares[static_cast<std::size_t>(detector)] * static_cast<double>(options_.window_ms) /
           month_ms;
}

bool Guard::is_calibrated(Level level, Detector detector) const {
    return static_cast<double>(null(detector).size()) * tail_reach * threshold(level, detector) >= 1;
}

Level Guard::level_of(double p, Detector detector, std::string& reason) const {
    for (const Level level : {Level::suspend, Level::throttle, Level::review}) {
        if (p > threshold(level, detector)) continue;
        if (is_calibrated(level, detector)) return level;
        reason = "not calibrated";
    }
    return Level::none;
}

std::uint32_t Guard::number_of(const store::ShortHash& id) {
    const auto [found, is_new] = numbers_.try_emplace(id, static_cast<std::uint32_t>(accounts_.size()));
    if (is_new) {
        accounts_.emplace_back();
        accounts_.back().id = id;
    }
    return found->second;
}

void Guard::set_first_seen(const store::ShortHash& account, std::int64_t time_ms) {
    std::int64_t& first = accounts_[number_of(account)].first_ms;
    if (first == 0 || time_ms < first) first = time_ms;
}

std::uint32_t Guard::account_of(const store::Event& event) {
    const std::uint32_t number = number_of(event.account);
    const auto [plan, new_plan] =
        plan_numbers_.try_emplace(event.plan, static_cast<std::uint16_t>(plans_.size()));
    if (new_plan) plans_.push_back(event.plan);
    accounts_[number].plan = plan->second;
    return number;
}

void Guard::add(const store::Event& event, const std::function<void(Verdict)>& on_verdict) {
    ++events_;
    if (event.account == store::ShortHash{} || event.method != "POST" || event.time_ms < 0) return;
    const std::int64_t tick = event.time_ms / options_.tick_ms;
    const std::int64_t window = event.time_ms / options_.window_ms;
    // An event that comes late counts for the time that has been reached.
    if (tick > tick_) {
        if (tick_ >= 0) end_tick(on_verdict);
        tick_ = tick;
    }
    if (window > window_) {
        if (window_ >= 0) end_window();
        window_ = window;
    }
    time_ms_ = std::max(time_ms_, event.time_ms);
    const std::uint32_t number = account_of(event);
    AccountState& account = accounts_[number];
    const auto sketch = read_sketch(event.sketch);
    const std::int64_t since = std::max<std::int64_t>(event.time_ms - window_ * options_.window_ms, 0);
    add_event(account, event, sketch ? &*sketch : nullptr, static_cast<std::size_t>(since / 3'600'000));
    if (account.in_window == 0) return;
    note_change(number);
    if (!sketch || event.end == "refused") return;
    counts_.add(*sketch, account, number);
    if (counts_.is_crowded()) counts_.rebuild(accounts_);
}

void Guard::note_change(std::uint32_t number) {
    if (is_changed_.size() < accounts_.size()) is_changed_.resize(accounts_.capacity(), false);
    if (is_changed_[number]) return;
    is_changed_[number] = true;
    changed_.push_back(number);
}

void Guard::end_tick(const std::function<void(Verdict)>& on_verdict) {
    ClusterOptions options = options_.clusters;
    options.links.traits = options.links.traits && windows_ > 0;
    clusters_ = find_clusters(accounts_, past_, counts_, options);
    for (const Cluster& cluster : clusters_) {
        for (const std::uint32_t i : cluster.members) {
            float& best = is_campaign(cluster) ? accounts_[i].best_cluster : accounts_[i].best_customer;
            best = std::max(best, static_cast<float>(cluster.score));
        }
    }
    std::sort(changed_.begin(), changed_.end());
    for (const std::uint32_t i : changed_) {
        AccountState& account = accounts_[i];
        account.best_account =
            std::max(account.best_account, static_cast<float>(account_score(facts_of(account.window))));
        account.best_logits = std::max(account.best_logits, static_cast<float>(logits_score(account.window)));
    }
    judge_clusters(Detector::cluster, on_verdict);
    judge_clusters(Detector::customer, on_verdict);
    judge_accounts(on_verdict);
    for (const std::uint32_t i : changed_) is_changed_[i] = false;
    changed_.clear();
}

void Guard::judge_clusters(Detector detector, const std::function<void(Verdict)>& on_verdict) {
    const NullDistribution& past = null(detector);
    if (past.size() == 0) return;
    std::vector<const Cluster*> judged;
    std::vector<double> p_values;
    for (const Cluster& cluster : clusters_) {
        if (detector_of(cluster) != detector) continue;
        judged.push_back(&cluster);
        p_values.push_back(past.p_value(cluster.score, 1));
    }
    const std::vector<bool> rejected = benjamini_hochberg(p_values, options_.false_discovery_rate);
    for (std::size_t i = 0; i < judged.size(); ++i) {
        if (!rejected[i]) continue;
        const Cluster& cluster = *judged[i];
        Verdict verdict;
        verdict.detector = detector;
        verdict.level = level_of(p_values[i], detector, verdict.reason);
        if (verdict.level == Level::suspend && !has_independent_evidence(cluster)) {
            verdict.level = Level::throttle;
            verdict.reason = "no independent evidence";
        }
        if (verdict.level == Level::none) continue;
        for (const std::uint32_t member :
             members_that_belong(accounts_, past_, cluster, options_.clusters.links)) {
            AccountState& account = accounts_[member];
            if (account.level >= static_cast<std::uint8_t>(verdict.level) || allowed_.contains(account.id))
                continue;
            account.level = static_cast<std::uint8_t>(verdict.level);
            verdict.accounts.push_back(account.id);
        }
        if (verdict.accounts.empty()) continue;
        verdict.sequence = sequence_++;
        verdict.time_ms = time_ms_;
        verdict.p = p_values[i];
        verdict.score = cluster.score;
        verdict.cluster_size = cluster.members.size();
        verdict.customers = cluster.customers;
        verdict.requests = cluster.requests;
        verdict.dispersed = cluster.dispersed;
        verdict.unshared = cluster.unshared;
        verdict.requests_a_day = cluster.requests_a_day;
        verdict.z = cluster.z;
        verdict.scaffold = cluster.scaffold;
        on_verdict(std::move(verdict));
    }
}

void Guard::judge_accounts(const std::function<void(Verdict)>& on_verdict) {
    for (const Detector detector : {Detector::account, Detector::logits}) {
        const NullDistribution& past = null(detector);
        if (past.size() == 0) continue;
        for (const std::uint32_t i : changed_) {
            AccountState& account = accounts_[i];
            const double score = detector == Detector::account ? account.best_account : account.best_logits;
            Verdict verdict;
            verdict.p = past.p_value(score, 1);
            if (verdict.p > threshold(Level::review, detector)) continue;
            verdict.level = level_of(verdict.p, detector, verdict.reason);
            // One account alone is never suspended: there is nothing across accounts.
            if (verdict.level == Level::suspend) {
                verdict.level = Level::throttle;
                verdict.reason = "no independent evidence";
            }
            if (verdict.level == Level::none || account.level >= static_cast<std::uint8_t>(verdict.level) ||
                allowed_.contains(account.id)) {
                continue;
            }
            account.level = static_cast<std::uint8_t>(verdict.level);
            verdict.sequence = sequence_++;
            verdict.time_ms = time_ms_;
            verdict.detector = detector;
            verdict.score = score;
            verdict.accounts.push_back(account.id);
            verdict.requests = account.window.requests;
            on_verdict(std::move(verdict));
        }
    }
}

DetectorValues Guard::p_values(const AccountState& account) const {
    const DetectorValues scores = best_scores(account);
    DetectorValues out;
    out.fill(1);
    for (std::size_t d = 0; d < detectors; ++d) {
        if (nulls_[d].size() == 0) continue;
        base::RandomStream random(first_bytes(account.id),
                                  static_cast<std::uint64_t>(window_) * detectors + d);
        out[d] = nulls_[d].p_value(scores[d], random.uniform());
    }
    return out;
}

void Guard::end_window() {
    if (options_.on_window) {
        for (const AccountState& account : accounts_)
            if (account.in_window != 0) options_.on_window(account, p_values(account));
    }
    std::vector<float> scores[detectors];
    past_.halve();
    for (AccountState& account : accounts_) {
        if (account.in_window != 0) {
            const bool flagged =
                account.level >= static_cast<std::uint8_t>(Level::throttle) && !allowed_.contains(account.id);
            const bool enters = !options_.null_filter || options_.null_filter(account.id);
            if (enters && !flagged) {
                const DetectorValues best = best_scores(account);
                for (std::size_t d = 0; d < detectors; ++d) scores[d].push_back(static_cast<float>(best[d]));
            }
            // What flagged accounts ask does not become common by it.
            if (!flagged) {
                for (const std::uint32_t token : link_tokens(account)) past_.add(token);
            }
        }
        account.window = {};
        account.in_window = 0;
        account.best_cluster = account.best_customer = account.best_account = account.best_logits = 0;
    }
    for (std::size_t d = 0; d < detectors; ++d) {
        // As long as few know which words are common, everybody's template is new: no past to compare with.
        const bool of_clusters =
            static_cast<Detector>(d) == Detector::cluster || static_cast<Detector>(d) == Detector::customer;
        if (of_clusters && windows_ < options_.learning_windows) continue;
        nulls_[d].add_window(std::move(scores[d]));
    }
    ++windows_;
    clusters_.clear();
    counts_.clear();
    for (const std::uint32_t i : changed_) is_changed_[i] = false;
    changed_.clear();
}

void Guard::set_allowed(const store::ShortHash& account, bool allowed) {
    const auto found = numbers_.find(account);
    if (!allowed) {
        allowed_.erase(account);
        // Its scores are looked at again.
        if (found != numbers_.end() && accounts_[found->second].in_window != 0) note_change(found->second);
        return;
    }
    allowed_.insert(account);
    if (found != numbers_.end()) accounts_[found->second].level = 0;
}

}  // namespace retort::guard
