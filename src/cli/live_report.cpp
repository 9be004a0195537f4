#include "cli/live_report.h"

#include <algorithm>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "evaluate/training_curve.h"

namespace retort::cli {

namespace {
constexpr int reload_seconds = 5;
constexpr double least_seconds_between = 2;  // writes of the page while steps are quick
}  // namespace

LiveReport::LiveReport(std::filesystem::path file, std::string title, std::string command, std::string recipe)
    : file_(std::move(file)) {
    page_.title = std::move(title);
    page_.command = std::move(command);
    page_.recipe = std::move(recipe);
    page_.machine = base::cpu_description();
    page_.program = "retort " RETORT_VERSION;
}

void LiveReport::now(const std::string& what) {
    page_.summary = what;
    write(true);
}

evaluate::TrainingCurve& LiveReport::curve(const std::string& key, const std::string& name,
                                           evaluate::Role role, const std::string& objective) {
    if (evaluate::find_model(page_, key) == nullptr) {
        page_.models.push_back({key, name, role, {}, {}});
        page_.curves.push_back({key, objective, {}});
    }
    return *std::find_if(page_.curves.begin(), page_.curves.end(),
                         [&](const evaluate::TrainingCurve& one) { return one.model == key; });
}

void LiveReport::add(evaluate::TrainingCurve& curve, const train::StepRecord& record) {
    evaluate::CurvePoint point;
    point.step = record.step;
    point.loss = record.loss;
    point.learning_rate = record.learning_rate;
    point.tokens_per_second = record.seconds > 0 ? static_cast<double>(record.tokens) / record.seconds : 0;
    point.peak_share = record.peak_share;
    point.held_out = record.held_out;
    curve.points.push_back(point);
}

void LiveReport::watch(train::TrainOptions& options, const std::string& key, const std::string& name,
                       evaluate::Role role, const std::string& objective) {
    if (file_.empty()) return;
    curve(key, name, role, objective).points.clear();
    const auto total = std::make_shared<std::int64_t>(0);
    options.on_start = [this, key, name, role, objective, total](std::int64_t steps,
                                                                 std::span<const train::StepRecord> so_far) {
        *total = steps;
        for (const train::StepRecord& record : so_far) add(curve(key, name, role, objective), record);
        now(fmt::format("{} trains: step {} of {}.", name, so_far.size(), steps));
    };
    options.on_step = [this, key, name, role, objective, total](const train::StepRecord& record) {
        add(curve(key, name, role, objective), record);
        page_.summary =
            fmt::format("{} trains: step {} of {}, loss {:.3f}.", name, record.step, *total, record.loss);
        if (record.held_out || base::monotonic_seconds() - written_ >= least_seconds_between) write(true);
    };
}

void LiveReport::show(const std::string& key, const std::string& name, evaluate::Role role,
                      const std::string& objective, const std::filesystem::path& metrics) {
    if (file_.empty()) return;
    if (auto read = evaluate::read_training_curve(metrics))
        curve(key, name, role, objective).points = std::move(read->points);
}

void LiveReport::fact(std::string label, std::string value) {
    page_.facts.push_back({std::move(label), std::move(value)});
}

void LiveReport::done(const std::string& what) {
    page_.summary = what;
    write(false);
}

void LiveReport::done(const evaluate::ComparisonReport& report) {
    write_text(evaluate::report_to_html(report));
}

void LiveReport::failed(const base::Error& error) {
    if (written_ < 0) return;  // nothing had begun
    page_.summary = error.code == ErrorCode::cancelled ? "Interrupted. The same command goes on."
                                                       : "Stopped by an error. The same command goes on.";
    page_.findings.push_back({evaluate::Verdict::not_supported, error.message, {}});
    write(false);
}

void LiveReport::write(bool going_on) {
    page_.date = base::utc_now();
    write_text(evaluate::report_to_html(page_, going_on ? reload_seconds : 0));
}

// A page that cannot be written ends no run.
void LiveReport::write_text(std::string_view html) {
    if (file_.empty()) return;
    written_ = base::monotonic_seconds();
    const Status wrote = base::write_file_atomic(file_, html);
    if (wrote || warned_) return;
    warned_ = true;
    spdlog::warn("{}", wrote.error().message);
}

}  // namespace retort::cli
