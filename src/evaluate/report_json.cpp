#include <array>
#include <cmath>
#include <limits>

#include "evaluate/report.h"
#include "formats/json.h"

namespace retort::evaluate {

namespace {

using formats::Json;
// Keys in the order they are written, so that the file reads from the verdict down.
using Ordered = nlohmann::ordered_json;

constexpr std::int64_t format_version = 1;

constexpr std::array<std::string_view, 4> number_formats = {"plain", "percent", "bytes", "count"};
constexpr std::array<std::string_view, 3> directions = {"neither", "lower", "higher"};
constexpr std::array<std::string_view, 5> roles = {"teacher", "before", "text_only", "distilled", "other"};
constexpr std::array<std::string_view, 3> verdicts = {"supported", "not_supported", "information"};

// JSON has no NaN or infinity: null.
Ordered number(double value) {
    return std::isfinite(value) ? Ordered(value) : Ordered(nullptr);
}

Ordered measured_json(const Measured& measured) {
    Ordered object = {{"value", number(measured.value)}};
    if (measured.low && measured.high) {
        object["low"] = number(*measured.low);
        object["high"] = number(*measured.high);
    }
    return object;
}

template <typename Item, typename Convert>
Ordered list(const std::vector<Item>& items, const Convert& convert) {
    Ordered array = Ordered::array();
    for (const Item& item : items) array.push_back(convert(item));
    return array;
}

Ordered metric_json(const MetricInfo& metric) {
    return {{"key", metric.key},
            {"name", metric.name},
            {"unit", metric.unit},
            {"note", metric.note},
            {"format", number_formats.at(static_cast<std::size_t>(metric.format))},
            {"digits", metric.digits},
            {"better", directions.at(static_cast<std::size_t>(metric.better))}};
}

Ordered model_json(const ModelEntry& model) {
    Ordered values = Ordered::object();
    for (const auto& [key, measured] : model.values) values[key] = measured_json(measured);
    return {{"key", model.key},
            {"name", model.name},
            {"role", role_name(model.role)},
            {"note", model.note},
            {"values", values}};
}

Ordered curve_json(const TrainingCurve& curve) {
    return {{"model", curve.model},
            {"objective", curve.objective},
            {"points", list(curve.points, [](const CurvePoint& p) -> Ordered {
                 Ordered point = {{"step", p.step},
                                  {"loss", number(p.loss)},
                                  {"learning_rate", number(p.learning_rate)},
                                  {"tokens_per_second", number(p.tokens_per_second)},
                                  {"peak_share", number(p.peak_share)}};
                 if (p.held_out && std::isfinite(*p.held_out)) point["held_out"] = *p.held_out;
                 return point;
             })}};
}

Ordered sample_json(const Sample& sample) {
    return {{"prompt", sample.prompt},
            {"answers", list(sample.answers, [](const SampleAnswer& answer) -> Ordered {
                 Ordered object = {{"model", answer.model}, {"text", answer.text}};
                 if (answer.passed) object["passed"] = *answer.passed;
                 return object;
             })}};
}

// Reading. Each list element is read by a function that names what is wrong within it; the list adds where.

template <typename Item, typename Read>
Status read_list(const Json& object, std::string_view key, std::vector<Item>& items, const Read& read) {
    const Json* array = formats::json_find(object, key);
    if (array == nullptr) return {};
    if (!array->is_array()) return fail(ErrorCode::format, "{} is not an array", key);
    items.reserve(array->size());
    for (std::size_t i = 0; i < array->size(); ++i) {
        const Json& element = (*array)[i];
        if (!element.is_object()) return fail(ErrorCode::format, "{}[{}] is not an object", key, i);
        Result<Item> item = read(element);
        if (!item) return fail_from(std::move(item.error()), fmt::format("{}[{}]", key, i));
        items.push_back(std::move(*item));
    }
    return {};
}

template <std::size_t Count>
Result<std::size_t> read_word(const Json& object, std::string_view key,
                              const std::array<std::string_view, Count>& words) {
    RETORT_TRY(const std::string word, formats::json_string(object, key));
    for (std::size_t i = 0; i < Count; ++i) {
        if (words.at(i) == word) return i;
    }
    return fail(ErrorCode::format, "{} is \"{}\", which is none of {}", key, word, fmt::join(words, ", "));
}

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

Result<Measured> read_measured(const Json& object) {
    Measured measured;
    RETORT_TRY(measured.value, formats::json_number(object, "value", not_a_number));
    if (formats::json_find(object, "low") == nullptr || formats::json_find(object, "high") == nullptr) {
        return measured;
    }
    RETORT_TRY(measured.low, formats::json_number(object, "low"));
    RETORT_TRY(measured.high, formats::json_number(object, "high"));
    return measured;
}

Result<MetricInfo> read_metric(const Json& object) {
    MetricInfo metric;
    RETORT_TRY(metric.key, formats::json_string(object, "key"));
    RETORT_TRY(metric.name, formats::json_string(object, "name", metric.key));
    RETORT_TRY(metric.unit, formats::json_string(object, "unit", ""));
    RETORT_TRY(metric.note, formats::json_string(object, "note", ""));
    RETORT_TRY(const std::size_t format, read_word(object, "format", number_formats));
    RETORT_TRY(const std::int64_t digits, formats::json_integer(object, "digits", 3));
    RETORT_TRY(const std::size_t better, read_word(object, "better", directions));
    if (digits < 0 || digits > 15) return fail(ErrorCode::format, "digits is {}; 0 to 15 are shown", digits);
    metric.format = static_cast<NumberFormat>(format);
    metric.digits = static_cast<int>(digits);
    metric.better = static_cast<Better>(better);
    return metric;
}

Result<ModelEntry> read_model(const Json& object) {
    ModelEntry model;
    RETORT_TRY(model.key, formats::json_string(object, "key"));
    RETORT_TRY(model.name, formats::json_string(object, "name", model.key));
    RETORT_TRY(const std::size_t role, read_word(object, "role", roles));
    RETORT_TRY(model.note, formats::json_string(object, "note", ""));
    model.role = static_cast<Role>(role);
    const Json* values = formats::json_find(object, "values");
    if (values == nullptr) return model;
    if (!values->is_object()) return fail(ErrorCode::format, "values is not an object");
    for (const auto& [key, value] : values->items()) {
        Result<Measured> measured = read_measured(value);
        if (!measured) return fail_from(std::move(measured.error()), "values." + key);
        model.values[key] = *measured;
    }
    return model;
}

Result<CurvePoint> read_point(const Json& object) {
    CurvePoint point;
    RETORT_TRY(point.step, formats::json_integer(object, "step"));
    RETORT_TRY(point.loss, formats::json_number(object, "loss", not_a_number));
    RETORT_TRY(point.learning_rate, formats::json_number(object, "learning_rate", not_a_number));
    RETORT_TRY(point.tokens_per_second, formats::json_number(object, "tokens_per_second", not_a_number));
    RETORT_TRY(point.peak_share, formats::json_number(object, "peak_share", not_a_number));
    if (formats::json_find(object, "held_out") != nullptr) {
        RETORT_TRY(point.held_out, formats::json_number(object, "held_out"));
    }
    return point;
}

Result<TrainingCurve> read_curve(const Json& object) {
    TrainingCurve curve;
    RETORT_TRY(curve.model, formats::json_string(object, "model"));
    RETORT_TRY(curve.objective, formats::json_string(object, "objective", ""));
    RETORT_CHECK(read_list(object, "points", curve.points, read_point));
    return curve;
}

Result<ReliabilityBin> read_bin(const Json& object) {
    ReliabilityBin bin;
    RETORT_TRY(bin.tokens, formats::json_number(object, "tokens", not_a_number));
    RETORT_TRY(bin.confidence, formats::json_number(object, "confidence", not_a_number));
    RETORT_TRY(bin.correct, formats::json_number(object, "correct", not_a_number));
    return bin;
}

Result<Reliability> read_reliability(const Json& object) {
    Reliability result;
    RETORT_TRY(result.model, formats::json_string(object, "model"));
    RETORT_CHECK(read_list(object, "bins", result.bins, read_bin));
    return result;
}

Result<SampleAnswer> read_answer(const Json& object) {
    SampleAnswer answer;
    RETORT_TRY(answer.model, formats::json_string(object, "model"));
    RETORT_TRY(answer.text, formats::json_string(object, "text"));
    if (formats::json_find(object, "passed") != nullptr) {
        RETORT_TRY(answer.passed, formats::json_boolean(object, "passed", false));
    }
    return answer;
}

Result<Sample> read_sample(const Json& object) {
    Sample sample;
    RETORT_TRY(sample.prompt, formats::json_string(object, "prompt"));
    RETORT_CHECK(read_list(object, "answers", sample.answers, read_answer));
    return sample;
}

Result<FileEntry> read_file_entry(const Json& object) {
    FileEntry file;
    RETORT_TRY(file.role, formats::json_string(object, "role", ""));
    RETORT_TRY(file.path, formats::json_string(object, "path"));
    RETORT_TRY(file.bytes, formats::json_integer(object, "bytes", 0));
    RETORT_TRY(file.sha256, formats::json_string(object, "sha256", ""));
    return file;
}

Result<Finding> read_finding(const Json& object) {
    Finding finding;
    RETORT_TRY(const std::size_t verdict, read_word(object, "verdict", verdicts));
    RETORT_TRY(finding.text, formats::json_string(object, "text"));
    RETORT_TRY(finding.detail, formats::json_string(object, "detail", ""));
    finding.verdict = static_cast<Verdict>(verdict);
    return finding;
}

Result<Fact> read_fact(const Json& object) {
    Fact fact;
    RETORT_TRY(fact.label, formats::json_string(object, "label"));
    RETORT_TRY(fact.value, formats::json_string(object, "value"));
    return fact;
}

Status read_notes(const Json& object, std::vector<std::string>& notes) {
    const Json* array = formats::json_find(object, "notes");
    if (array == nullptr) return {};
    if (!array->is_array()) return fail(ErrorCode::format, "notes is not an array");
    for (const Json& note : *array) {
        if (!note.is_string()) return fail(ErrorCode::format, "notes holds something that is no text");
        notes.push_back(note.get<std::string>());
    }
    return {};
}

Result<ComparisonReport> read_object(const Json& object) {
    if (!object.is_object()) return fail(ErrorCode::format, "not a JSON object");
    RETORT_TRY(const std::int64_t version, formats::json_integer(object, "retort_report"));
    if (version != format_version) {
        return fail(ErrorCode::unsupported, "retort_report is {}; this program reads version {}", version,
                    format_version);
    }
    ComparisonReport report;
    RETORT_TRY(report.title, formats::json_string(object, "title", ""));
    RETORT_TRY(report.summary, formats::json_string(object, "summary", ""));
    RETORT_TRY(report.date, formats::json_string(object, "date", ""));
    RETORT_TRY(report.machine, formats::json_string(object, "machine", ""));
    RETORT_TRY(report.program, formats::json_string(object, "program", ""));
    RETORT_TRY(report.command, formats::json_string(object, "command", ""));
    RETORT_TRY(report.recipe, formats::json_string(object, "recipe", ""));
    RETORT_CHECK(read_list(object, "findings", report.findings, read_finding));
    RETORT_CHECK(read_list(object, "metrics", report.metrics, read_metric));
    RETORT_CHECK(read_list(object, "models", report.models, read_model));
    RETORT_CHECK(read_list(object, "reliability", report.reliability, read_reliability));
    RETORT_CHECK(read_list(object, "curves", report.curves, read_curve));
    RETORT_CHECK(read_list(object, "samples", report.samples, read_sample));
    RETORT_CHECK(read_list(object, "facts", report.facts, read_fact));
    RETORT_CHECK(read_notes(object, report.notes));
    RETORT_CHECK(read_list(object, "files", report.files, read_file_entry));
    return report;
}

}  // namespace

std::string report_to_json(const ComparisonReport& report) {
    Ordered object;
    object["retort_report"] = format_version;
    object["title"] = report.title;
    object["summary"] = report.summary;
    object["date"] = report.date;
    object["machine"] = report.machine;
    object["program"] = report.program;
    object["command"] = report.command;
    object["findings"] = list(report.findings, [](const Finding& finding) -> Ordered {
        return {
            {"verdict", verdict_name(finding.verdict)}, {"text", finding.text}, {"detail", finding.detail}};
    });
    object["metrics"] = list(report.metrics, metric_json);
    object["models"] = list(report.models, model_json);
    object["reliability"] = list(report.reliability, [](const Reliability& reliability) -> Ordered {
        return {{"model", reliability.model},
                {"bins", list(reliability.bins, [](const ReliabilityBin& bin) -> Ordered {
                     return {{"tokens", number(bin.tokens)},
                             {"confidence", number(bin.confidence)},
                             {"correct", number(bin.correct)}};
                 })}};
    });
    object["curves"] = list(report.curves, curve_json);
    object["samples"] = list(report.samples, sample_json);
    object["facts"] = list(report.facts, [](const Fact& fact) -> Ordered {
        return {{"label", fact.label}, {"value", fact.value}};
    });
    object["notes"] = report.notes;
    object["files"] = list(report.files, [](const FileEntry& file) -> Ordered {
        return {{"role", file.role}, {"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}};
    });
    object["recipe"] = report.recipe;
    return object.dump(1, ' ', false, Ordered::error_handler_t::replace) + "\n";
}

Result<ComparisonReport> report_from_json(std::string_view text, std::string_view name) {
    RETORT_TRY(const Json object, formats::parse_json(text, name));
    Result<ComparisonReport> report = read_object(object);
    if (!report) return fail_from(std::move(report.error()), name);
    return report;
}

Result<ComparisonReport> read_report(const std::filesystem::path& path) {
    RETORT_TRY(const Json object, formats::read_json_file(path));
    Result<ComparisonReport> report = read_object(object);
    if (!report) return fail_from(std::move(report.error()), path.string());
    return report;
}

}  // namespace retort::evaluate
