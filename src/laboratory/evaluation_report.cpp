#include <algorithm>
#include <cmath>

#include "laboratory/evaluation.h"
#include "stats/proportion.h"

namespace retort::laboratory {

namespace {

std::string share_text(std::size_t k, std::size_t n) {
    const stats::Estimate e =
        stats::clopper_pearson(static_cast<std::int64_t>(k), static_cast<std::int64_t>(n));
    return fmt::format("{}/{} = {:.3f} [{:.3f}, {:.3f}]", k, n, n == 0 ? 0.0 : e.value, e.low, e.high);
}

// Events among so many account-months, each month a trial.
std::string rate_text(std::size_t k, double months) {
    const auto trials = static_cast<std::int64_t>(std::floor(months));
    const stats::Estimate e =
        stats::clopper_pearson(std::min<std::int64_t>(static_cast<std::int64_t>(k), trials), trials);
    return fmt::format("{} ({:.1e} [{:.1e}, {:.1e}])", k, months > 0 ? static_cast<double>(k) / months : 0.0,
                       e.low, e.high);
}

double median(std::vector<double> values) {
    if (values.empty()) return -1;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

std::string share_or_none(double value) {
    return value < 0 ? "-" : fmt::format("{:.2f} %", 100 * value);
}

using Cells = std::map<std::pair<std::size_t, std::uint32_t>, std::vector<const CampaignResult*>>;

std::string cell_text(const std::pair<std::size_t, std::uint32_t>& cell) {
    const auto family = static_cast<Attack>(cell.first);
    return fmt::format("| {} | {} | {} |", attack_name(family),
                       is_design_family(family) ? "design" : "held out", cell.second);
}

std::size_t found_within(const std::vector<const CampaignResult*>& all, guard::Level level, double share) {
    return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](const CampaignResult* each) {
        return each->at(level).share >= 0 && each->at(level).share <= share;
    }));
}

std::string found_table(const Cells& cells) {
    std::string out =
        "Campaigns found (half of the active keys throttled) within 1 % of the planned volume, at the "
        "throttle point; requests of the campaign until then, of those found\n"
        "| family | | K | found within 1 % | found within 5 % | median share | median requests [least, most] "
        "| first key | by | rate limit | PRADA | MMD | near duplicates |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for (const auto& [cell, all] : cells) {
        std::vector<double> shares;
        std::vector<double> requests;
        std::vector<double> first;
        std::array<std::size_t, baselines> others{};
        std::string by;
        for (const CampaignResult* each : all) {
            const Outcome& outcome = each->at(guard::Level::throttle);
            shares.push_back(outcome.share < 0 ? 9 : outcome.share);
            if (outcome.share >= 0) requests.push_back(outcome.requests);
            if (outcome.first_share >= 0) first.push_back(outcome.first_share);
            for (std::size_t b = 0; b < baselines; ++b)
                others[b] += each->baseline[b].share >= 0 && each->baseline[b].share <= 0.01 ? 1 : 0;
            if (!each->detector.empty() && by.find(each->detector) == std::string::npos)
                by += (by.empty() ? "" : ", ") + each->detector;
        }
        const double middle = median(shares);
        out +=
            fmt::format("{} {} | {} | {} | {} | {} | {} |", cell_text(cell),
                        share_text(found_within(all, guard::Level::throttle, 0.01), all.size()),
                        share_text(requests.size(), all.size()), share_or_none(middle > 1 ? -1 : middle),
                        requests.empty() ? "-"
                                         : fmt::format("{:.0f} [{:.0f}, {:.0f}]", median(requests),
                                                       *std::min_element(requests.begin(), requests.end()),
                                                       *std::max_element(requests.begin(), requests.end())),
                        share_or_none(median(first)), by);
        for (std::size_t b = 0; b < baselines; ++b) out += fmt::format(" {}/{} |", others[b], all.size());
        out += "\n";
    }
    return out;
}

std::string levels_table(const Cells& cells) {
    std::string out =
        "Campaigns found at each operating point, within 1 % and within 5 % of the planned volume\n"
        "| family | | K | review, 1 % | throttle, 1 % | suspend, 1 % | review, 5 % | throttle, 5 % | "
        "suspend, 5 % |\n|---|---|---|---|---|---|---|---|---|\n";
    for (const auto& [cell, all] : cells) {
        out += cell_text(cell);
        for (const double share : {0.01, 1.0}) {
            for (const guard::Level level :
                 {guard::Level::review, guard::Level::throttle, guard::Level::suspend})
                out += " " + share_text(found_within(all, level, share), all.size()) + " |";
        }
        out += "\n";
    }
    return out;
}

}  // namespace

std::string report(const EvaluationResult& result, const EvaluationOptions& options) {
    std::string out = fmt::format(
        "{} honest accounts, {} events in {} weeks; past {} weeks; null from one half of the accounts, false "
        "alarms of the other\n\n"
        "False alarms by kind of honest account (accounts raised, a account-month, 95 % Clopper-Pearson), "
        "tested half, weeks {} on\n"
        "| kind | accounts | account-months | review | throttle | suspend |\n|---|---|---|---|---|---|\n",
        result.honest_accounts, result.honest_events, options.traffic.days / 7, options.past_weeks,
        options.past_weeks);
    for (const auto& [name, alarms] : result.by_kind) {
        out += fmt::format("| {} | {} | {:.0f} | {} | {} | {} |\n", name, alarms.accounts, alarms.months,
                           rate_text(alarms.raised[1], alarms.months),
                           rate_text(alarms.raised[2], alarms.months),
                           rate_text(alarms.raised[3], alarms.months));
    }
    for (std::size_t b = 0; b < baselines; ++b) {
        const FalseAlarms& alarms = result.baseline[b];
        out += fmt::format("| baseline {} | | {:.0f} | {} | {} | {} |\n", baseline_name(b), alarms.months,
                           rate_text(alarms.raised[1], alarms.months),
                           rate_text(alarms.raised[2], alarms.months),
                           rate_text(alarms.raised[3], alarms.months));
    }
    out += "\nAlarms by detector (accounts, repeated raises counted): ";
    for (const auto& [kind, counts] : result.detectors_of_alarms) {
        out += kind + ":";
        for (std::size_t d = 0; d < guard::detectors; ++d)
            out += fmt::format(" {} {}{}", detector_name(static_cast<guard::Detector>(d)), counts[d],
                               d + 1 < guard::detectors ? "," : "; ");
    }
    out += fmt::format("\n\nUniformity of null p-values, first tested week, {} honest accounts (KS):",
                       result.ks_accounts);
    for (std::size_t d = 0; d < guard::detectors; ++d)
        out += fmt::format("{} {} D {:.4f} p {:.2g}", d == 0 ? "" : ";",
                           detector_name(static_cast<guard::Detector>(d)), result.ks_distance[d],
                           result.ks_p[d]);
    const DrawnIn& drawn = result.drawn_in;
    out += fmt::format(
        "\n\nBeside campaigns ({} sets of them, {:.0f} account-months of the tested half), accounts raised "
        "that the same weeks without campaigns did not: review {}, throttle {}, suspend {}\n\n",
        drawn.overlays, drawn.months, rate_text(drawn.raised[1], drawn.months),
        rate_text(drawn.raised[2], drawn.months), rate_text(drawn.raised[3], drawn.months));
    std::map<std::pair<std::size_t, std::uint32_t>, std::vector<const CampaignResult*>> cells;
    for (const CampaignResult& each : result.campaigns)
        cells[{static_cast<std::size_t>(each.family), each.keys}].push_back(&each);
    out += found_table(cells) + "\n" + levels_table(cells);
    out +=
        "\nROC at 1 % of the planned volume: share of campaigns whose median key has p at or below the "
        "threshold that gives so many honest account-weeks\n| false positives an account-week | threshold on "
        "p |";
    for (const auto& [cell, all] : cells)
        out += fmt::format(" {} {} |", attack_name(static_cast<Attack>(cell.first)), cell.second);
    out += "\n|---|---|";
    for (std::size_t i = 0; i < cells.size(); ++i) out += "---|";
    out += "\n";
    const std::size_t n = result.honest_p.size();
    for (const double rate : {0.0, 1e-4, 1e-3, 1e-2, 1e-1}) {
        const auto k = static_cast<std::size_t>(rate * static_cast<double>(n));
        if (n == 0) break;
        // Below the (k+1)-th smallest: at most k honest weeks.
        const double threshold = result.honest_p[std::min(k, n - 1)];
        out += fmt::format("| {:.0e} ({} of {}) | {:.1e} |", rate, k, n, threshold);
        for (const auto& [cell, all] : cells) {
            std::size_t found = 0;
            for (const CampaignResult* each : all) found += each->p_at_one_percent < threshold ? 1 : 0;
            out += fmt::format(" {:.2f} |", static_cast<double>(found) / static_cast<double>(all.size()));
        }
        out += "\n";
    }
    return out;
}

}  // namespace retort::laboratory
