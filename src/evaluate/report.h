// What a comparison of models found, as plain data, and its forms: report.json (docs/formats/report.md), a
// self-contained page, and a table for the terminal. Knows nothing of how the numbers came about.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "stats/estimate.h"

namespace retort::evaluate {

// A number, with its 95 % interval where it has one. A value that is not finite is shown as a dash.
struct Measured {
    double value = 0;
    std::optional<double> low;
    std::optional<double> high;

    Measured() = default;
    Measured(double plain) : value(plain) {}  // NOLINT(google-explicit-constructor)
    Measured(double v, double l, double h) : value(v), low(l), high(h) {}
    // Ends that are not finite mean no interval.
    Measured(const stats::Estimate& estimate);  // NOLINT(google-explicit-constructor)
};

enum class NumberFormat : std::uint8_t { plain, percent, bytes, count };
enum class Better : std::uint8_t { neither, lower, higher };

// A column of the comparison.
struct MetricInfo {
    std::string key;   // "agreement"; models' values are found by it
    std::string name;  // "Top-1 agreement"
    std::string unit;  // "nats per token"; empty where there is none
    std::string note;  // one sentence on what it means
    NumberFormat format = NumberFormat::plain;
    int digits = 3;  // after the point; of a percentage, after the point of the percentage
    Better better = Better::neither;
};

// What a model is in the comparison; decides its colour and mark, and the order is up to the writer.
enum class Role : std::uint8_t { teacher, before, text_only, distilled, other };

struct ModelEntry {
    std::string key;
    std::string name;
    Role role = Role::other;
    std::string note;  // "23 of 30 layers, no training"
    std::map<std::string, Measured> values;
};

struct CurvePoint {
    std::int64_t step = 0;
    double loss = 0;
    double learning_rate = 0;
    double tokens_per_second = 0;
    double peak_share = 0;           // of the machine's measured GEMM rate; 0 where not measured
    std::optional<double> held_out;  // loss per token of held-out text, where it was measured
};

struct TrainingCurve {
    std::string model;      // key
    std::string objective;  // "ce", "fkl": curves of one objective share a plot
    std::vector<CurvePoint> points;
};

struct ReliabilityBin {
    double tokens = 0;
    double confidence = 0;  // mean of the bin
    double correct = 0;     // share
};

struct Reliability {
    std::string model;  // key
    std::vector<ReliabilityBin> bins;
};

struct SampleAnswer {
    std::string model;  // key
    std::string text;
    std::optional<bool> passed;  // the task's verdict
};

struct Sample {
    std::string prompt;
    std::vector<SampleAnswer> answers;
};

struct FileEntry {
    std::string role;  // "student", "held-out records"
    std::string path;
    std::int64_t bytes = 0;
    std::string sha256;  // hex
};

enum class Verdict : std::uint8_t { supported, not_supported, information };

struct Finding {
    Verdict verdict = Verdict::information;
    std::string text;    // "Agreement: distilled beats text-only by 5.1 points"
    std::string detail;  // "difference [4.0, 6.3], intervals do not overlap"
};

struct Fact {
    std::string label;
    std::string value;
};

struct ComparisonReport {
    std::string title;
    std::string summary;  // the outcome in a sentence or two
    std::string date;     // UTC, ISO 8601
    std::string machine;
    std::string program;  // name and version
    std::string command;  // that made it
    std::vector<Finding> findings;
    std::vector<MetricInfo> metrics;
    std::vector<ModelEntry> models;
    std::vector<Reliability> reliability;
    std::vector<TrainingCurve> curves;
    std::vector<Sample> samples;
    std::vector<Fact> facts;         // how it was measured: counts, seeds, settings
    std::vector<std::string> notes;  // caveats
    std::vector<FileEntry> files;
    std::string recipe;  // text, whole
};

// report.json. What is read back and written again is the same bytes.
std::string report_to_json(const ComparisonReport& report);
Result<ComparisonReport> report_from_json(std::string_view text, std::string_view name = "report.json");
Result<ComparisonReport> read_report(const std::filesystem::path& path);

// One page that needs nothing else: no scripts, no fonts, no network.
// reload_seconds: a browser loads it again so often, for a report of what goes on; 0: never.
std::string report_to_html(const ComparisonReport& report, int reload_seconds = 0);

// Aligned text, at most `width` columns where the names allow; metrics that do not fit beside each other
// follow below. Findings come last.
std::string render_table(const ComparisonReport& report, int width = 100);

// report.json and report.html in `folder`.
Status write_report(const ComparisonReport& report, const std::filesystem::path& folder);

// The size and hash of a file, for `files`.
Result<FileEntry> file_entry(std::string role, const std::filesystem::path& path);

// Looked up by key; null where there is none.
const ModelEntry* find_model(const ComparisonReport& report, std::string_view key);
const MetricInfo* find_metric(const ComparisonReport& report, std::string_view key);

std::string_view role_name(Role role);
std::string_view verdict_name(Verdict verdict);

// A value as a reader sees it: "51.2 %", "1.19", "264 MB", "134.5 M"; "–" where it is not finite.
std::string format_value(const MetricInfo& metric, double value);
// "[1.16, 1.22]", without unit; empty where there is no interval.
std::string format_interval(const MetricInfo& metric, const Measured& measured);

}  // namespace retort::evaluate
