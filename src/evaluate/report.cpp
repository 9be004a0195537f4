#include "evaluate/report.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"

namespace retort::evaluate {

Measured::Measured(const stats::Estimate& estimate) : value(estimate.value) {
    if (!std::isfinite(estimate.low) || !std::isfinite(estimate.high)) return;
    low = estimate.low;
    high = estimate.high;
}

const ModelEntry* find_model(const ComparisonReport& report, std::string_view key) {
    const auto found = std::find_if(report.models.begin(), report.models.end(),
                                    [&](const ModelEntry& model) { return model.key == key; });
    return found == report.models.end() ? nullptr : &*found;
}

const MetricInfo* find_metric(const ComparisonReport& report, std::string_view key) {
    const auto found = std::find_if(report.metrics.begin(), report.metrics.end(),
                                    [&](const MetricInfo& metric) { return metric.key == key; });
    return found == report.metrics.end() ? nullptr : &*found;
}

std::string_view role_name(Role role) {
    constexpr std::array<std::string_view, 5> names = {"teacher", "before", "text_only", "distilled",
                                                       "other"};
    return names.at(static_cast<std::size_t>(role));
}

std::string_view verdict_name(Verdict verdict) {
    constexpr std::array<std::string_view, 3> names = {"supported", "not_supported", "information"};
    return names.at(static_cast<std::size_t>(verdict));
}

namespace {

std::string count_text(double value, int digits) {
    constexpr std::array<std::pair<double, std::string_view>, 3> scales = {
        {{1e9, " B"}, {1e6, " M"}, {1e3, " k"}}};
    for (const auto& [scale, suffix] : scales) {
        if (std::abs(value) >= scale) return fmt::format("{:.{}f}{}", value / scale, digits, suffix);
    }
    return fmt::format("{:.0f}", value);
}

std::string plain_number(const MetricInfo& metric, double value) {
    switch (metric.format) {
        case NumberFormat::percent:
            return fmt::format("{:.{}f}", 100 * value, metric.digits);
        case NumberFormat::bytes:
            return base::bytes_text(value);
        case NumberFormat::count:
            return count_text(value, metric.digits);
        case NumberFormat::plain:
            break;
    }
    std::string text = fmt::format("{:.{}f}", value, metric.digits);
    // "-0.000" is 0
    if (text.starts_with('-') && text.find_first_of("123456789") == std::string::npos) text.erase(0, 1);
    return text;
}

}  // namespace

std::string format_value(const MetricInfo& metric, double value) {
    if (!std::isfinite(value)) return "–";
    std::string text = plain_number(metric, value);
    if (metric.format == NumberFormat::percent) text += " %";
    return text;
}

std::string format_interval(const MetricInfo& metric, const Measured& measured) {
    if (!measured.low || !measured.high) return "";
    return fmt::format("[{}, {}]", plain_number(metric, *measured.low), plain_number(metric, *measured.high));
}

Result<FileEntry> file_entry(std::string role, const std::filesystem::path& path) {
    RETORT_TRY(const base::Sha256 hash, base::sha256_file(path));
    std::error_code error;
    const auto bytes = std::filesystem::file_size(path, error);
    if (error) return fail(ErrorCode::io, "{}: {}", path.string(), error.message());
    return FileEntry{std::move(role), path.string(), static_cast<std::int64_t>(bytes), base::to_hex(hash)};
}

Status write_report(const ComparisonReport& report, const std::filesystem::path& folder) {
    RETORT_CHECK(base::make_folders(folder));
    RETORT_CHECK(base::write_file_atomic(folder / "report.json", report_to_json(report)));
    return base::write_file_atomic(folder / "report.html", report_to_html(report));
}

}  // namespace retort::evaluate
