#include "evaluate/findings.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

namespace retort::evaluate {

namespace {

const std::array<MetricInfo, 14>& standard_metrics() {
    static const std::array<MetricInfo, 14> metrics = {{
        {"nll", "Held-out NLL", "nats per token",
         "How surprising the teacher's held-out answers are to the model, per token.", NumberFormat::plain, 3,
         Better::lower},
        {"kl", "KL to the teacher", "nats per token",
         "Distance of the model's next-token distribution from the teacher's, on the same positions.",
         NumberFormat::plain, 3, Better::lower},
        {"agreement", "Top-1 agreement", "", "How often the model's likeliest next token is the teacher's.",
         NumberFormat::percent, 1, Better::higher},
        {"ece", "Calibration error", "",
         "Expected calibration error: how far confidence and correctness are apart, over 15 bins.",
         NumberFormat::percent, 1, Better::lower},
        {"task", "Task score", "", "Share of the task's prompts whose answer passes its check.",
         NumberFormat::percent, 1, Better::higher},
        {"parameters", "Parameters", "", "Numbers that make up the model; a tied head counts once.",
         NumberFormat::count, 1, Better::neither},
        {"bytes", "Size on disk", "", "The file that is run.", NumberFormat::bytes, 1, Better::lower},
        {"tokens_per_second", "Decoding", "tokens/s",
         "Tokens generated a second, one answer at a time: median and range of the runs.",
         NumberFormat::plain, 1, Better::higher},
        {"cpu_seconds_per_1000_tokens", "CPU time", "s per 1,000 tokens",
         "Processor time of all cores per 1,000 generated tokens.", NumberFormat::plain, 2, Better::lower},
        {"joules_per_1000_tokens", "Energy", "J per 1,000 tokens",
         "Energy of the processor package per 1,000 generated tokens, idle included.", NumberFormat::plain, 1,
         Better::lower},
        {"training_gflop", "Training arithmetic", "GFLOP",
         "Operations of all trainings that the weights went through: forward, backward, the teacher's beside "
         "them, and sampling. Not the teacher's answers, which were collected before.",
         NumberFormat::plain, 0, Better::neither},
        {"training_cpu_seconds", "Training CPU time", "s", "Processor time of all cores for the same.",
         NumberFormat::plain, 0, Better::neither},
        {"training_tokens", "Tokens trained on", "", "Each as often as it was read.", NumberFormat::count, 2,
         Better::neither},
        {"sampled_tokens", "Tokens sampled", "", "Of the student's own answers, in training.",
         NumberFormat::count, 2, Better::neither},
    }};
    return metrics;
}

// A difference in the metric's own unit: "5.1 points", "0.280 nats per token".
std::string amount(const MetricInfo& metric, double value) {
    if (metric.format == NumberFormat::percent) {
        return fmt::format("{:.{}f} points", 100 * value, metric.digits);
    }
    std::string text = format_value(metric, value);
    if (!metric.unit.empty()) text += " " + metric.unit;
    return text;
}

std::string difference_interval(const MetricInfo& metric, double low, double high) {
    const double factor = metric.format == NumberFormat::percent ? 100 : 1;
    return fmt::format("[{:.{}f}, {:.{}f}]", factor * low, metric.digits, factor * high, metric.digits);
}

}  // namespace

const MetricInfo& standard_metric(std::string_view key) {
    for (const MetricInfo& metric : standard_metrics()) {
        if (metric.key == key) return metric;
    }
    assert(false && "no such standard metric");
    return standard_metrics()[0];
}

std::vector<MetricInfo> metrics_in_use(const std::vector<ModelEntry>& models) {
    std::vector<MetricInfo> result;
    for (const MetricInfo& metric : standard_metrics()) {
        for (const ModelEntry& model : models) {
            if (!model.values.contains(metric.key)) continue;
            result.push_back(metric);
            break;
        }
    }
    return result;
}

void add_student_values(ModelEntry& entry, const PairScores& scores, const stats::BootstrapOptions& options) {
    entry.values["nll"] = metric_estimate(scores, Metric::nll, options);
    entry.values["ece"] = metric_estimate(scores, Metric::calibration, options);
    if (!scores.has_teacher) return;
    entry.values["kl"] = metric_estimate(scores, Metric::kl, options);
    entry.values["agreement"] = metric_estimate(scores, Metric::agreement, options);
}

void add_teacher_values(ModelEntry& entry, const PairScores& scores, const stats::BootstrapOptions& options) {
    entry.values["nll"] = metric_estimate(scores, Metric::teacher_nll, options);
    entry.values["ece"] = metric_estimate(scores, Metric::teacher_calibration, options);
    entry.values["kl"] = 0.0;
    entry.values["agreement"] = 1.0;
}

Reliability reliability_of(std::string model_key, const PairScores& scores, Side side) {
    Reliability result{std::move(model_key), {}};
    for (const CalibrationBin& bin : calibration(scores, side)) {
        result.bins.push_back({bin.tokens, bin.confidence, bin.correct});
    }
    return result;
}

Finding separation(const MetricInfo& metric, const ModelEntry& a, const ModelEntry& b,
                   const stats::Estimate& difference) {
    const auto value_of = [&](const ModelEntry& model) {
        const auto found = model.values.find(metric.key);
        return found == model.values.end() ? Measured(std::nan("")) : found->second;
    };
    const Measured of_a = value_of(a);
    const Measured of_b = value_of(b);
    Finding finding;
    if (!std::isfinite(of_a.value) || !std::isfinite(of_b.value) || !of_a.low || !of_b.low) {
        finding.verdict = Verdict::not_supported;
        finding.text = fmt::format("{}: {} and {} cannot be compared", metric.name, a.name, b.name);
        finding.detail = "one of them has no value with an interval";
        return finding;
    }
    const double sign = metric.better == Better::lower ? -1 : 1;
    const double gain = sign * difference.value;
    const double gain_low = std::min(sign * difference.low, sign * difference.high);
    const double gain_high = std::max(sign * difference.low, sign * difference.high);
    const bool apart =
        !stats::overlap({of_a.value, *of_a.low, *of_a.high}, {of_b.value, *of_b.low, *of_b.high});
    finding.verdict = gain > 0 && apart ? Verdict::supported : Verdict::not_supported;
    const std::string_view verb = gain > 0 ? "beats" : gain < 0 ? "is behind" : "equals";
    finding.text = fmt::format("{}: {} {} {}", metric.name, a.name, verb, b.name);
    if (gain != 0) finding.text += " by " + amount(metric, std::abs(gain));
    const auto shown = [&](const Measured& m) {
        return fmt::format("{} {}", format_value(metric, m.value), format_interval(metric, m));
    };
    const bool away_from_zero = gain_low > 0 || gain_high < 0;
    finding.detail = fmt::format("{} against {}; {}; paired difference {}{}", shown(of_a), shown(of_b),
                                 apart ? "the intervals do not overlap" : "the intervals overlap",
                                 gain < 0 ? difference_interval(metric, -gain_high, -gain_low)
                                          : difference_interval(metric, gain_low, gain_high),
                                 away_from_zero ? "" : ", which holds 0");
    return finding;
}

std::optional<Finding> training_cost_finding(const ModelEntry& rival, const ModelEntry& ours) {
    const auto ratio = [&](const char* key) -> std::optional<double> {
        const auto theirs = rival.values.find(key);
        const auto own = ours.values.find(key);
        if (theirs == rival.values.end() || own == ours.values.end() || own->second.value <= 0)
            return std::nullopt;
        return theirs->second.value / own->second.value;
    };
    const auto operations = ratio("training_gflop");
    const auto seconds = ratio("training_cpu_seconds");
    if (!operations || !seconds) return std::nullopt;
    Finding finding;
    finding.text =
        fmt::format("Compute: {} had {:.2f} times the arithmetic and {:.2f} times the CPU time of {}",
                    rival.name, *operations, *seconds, ours.name);
    const auto shown = [](const ModelEntry& model) {
        return fmt::format("{:.0f} GFLOP, {:.0f} CPU-seconds", model.values.at("training_gflop").value,
                           model.values.at("training_cpu_seconds").value);
    };
    finding.detail =
        fmt::format("{} against {}, all trainings that each went through", shown(rival), shown(ours));
    return finding;
}

namespace {

const ModelEntry* of_role(const ComparisonReport& report, Role role) {
    const auto found = std::find_if(report.models.begin(), report.models.end(),
                                    [role](const ModelEntry& model) { return model.role == role; });
    return found == report.models.end() ? nullptr : &*found;
}

// "59.9 % [58.4, 61.3]"; empty where the model has no such value.
std::string value_with_interval(const ModelEntry* model, std::string_view key) {
    if (model == nullptr) return "";
    const auto found = model->values.find(std::string(key));
    if (found == model->values.end() || !std::isfinite(found->second.value)) return "";
    const MetricInfo& metric = standard_metric(key);
    const std::string interval = format_interval(metric, found->second);
    return format_value(metric, found->second.value) + (interval.empty() ? "" : " " + interval);
}

}  // namespace

std::string summary_of(const ComparisonReport& report) {
    const ModelEntry* distilled = of_role(report, Role::distilled);
    const std::string agreement = value_with_interval(distilled, "agreement");
    if (agreement.empty()) return "";
    std::string summary = fmt::format("{} chooses the teacher's next token at {} of held-out positions",
                                      distilled->name, agreement);
    const std::string text_only = value_with_interval(of_role(report, Role::text_only), "agreement");
    const std::string before = value_with_interval(of_role(report, Role::before), "agreement");
    if (!text_only.empty())
        summary += fmt::format("; the same student trained on text alone at {}", text_only);
    if (!before.empty()) summary += fmt::format("; before training at {}", before);
    summary += ".";
    const std::string task = value_with_interval(distilled, "task");
    const std::string of_teacher = value_with_interval(of_role(report, Role::teacher), "task");
    if (!task.empty()) {
        summary += fmt::format(" It passes the task's check for {} of the prompts{}.", task,
                               of_teacher.empty() ? "" : ", the teacher for " + of_teacher);
    }
    const std::string speed = value_with_interval(distilled, "tokens_per_second");
    const std::string speed_of_teacher =
        value_with_interval(of_role(report, Role::teacher), "tokens_per_second");
    if (!speed.empty() && !speed_of_teacher.empty()) {
        summary += fmt::format(" It writes {} tokens/s, the teacher {}.", speed, speed_of_teacher);
    }
    return summary;
}

}  // namespace retort::evaluate
