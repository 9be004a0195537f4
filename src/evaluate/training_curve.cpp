#include "evaluate/training_curve.h"

#include "base/file.h"
#include "formats/json.h"

namespace retort::evaluate {

namespace {

Result<CurvePoint> parse_point(const formats::Json& json) {
    CurvePoint point;
    RETORT_TRY(point.step, formats::json_integer(json, "step"));
    RETORT_TRY(point.loss, formats::json_number(json, "loss"));
    RETORT_TRY(point.learning_rate, formats::json_number(json, "learning_rate", 0));
    RETORT_TRY(point.peak_share, formats::json_number(json, "peak_share", 0));
    RETORT_TRY(const double tokens, formats::json_number(json, "tokens", 0));
    RETORT_TRY(const double seconds, formats::json_number(json, "seconds", 0));
    if (const formats::Json* held_out = formats::json_find(json, "held_out"); held_out != nullptr) {
        RETORT_TRY(point.held_out, formats::json_number(json, "held_out"));
    }
    if (seconds > 0) point.tokens_per_second = tokens / seconds;
    return point;
}

// Calls use(object, where) for each line that is not empty.
template <typename Use>
Status each_line(std::string_view text, std::string_view name, const Use& use) {
    for (std::int64_t line = 1; !text.empty(); ++line) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view one = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (one.empty()) continue;
        const std::string where = fmt::format("{}:{}", name, line);
        RETORT_TRY(const formats::Json json, formats::parse_json(one, where));
        if (!json.is_object()) return fail(ErrorCode::format, "{}: not an object", where);
        const Status used = use(json);
        if (!used) return fail_from(used.error(), where);
    }
    return {};
}

}  // namespace

Result<TrainingCurve> parse_training_curve(std::string_view text, std::string_view name) {
    TrainingCurve curve;
    RETORT_CHECK(each_line(text, name, [&](const formats::Json& json) -> Status {
        RETORT_TRY(const CurvePoint point, parse_point(json));
        curve.points.push_back(point);
        return {};
    }));
    return curve;
}

Result<TrainingCurve> read_training_curve(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path));
    return parse_training_curve(text, path.string());
}

void TrainingCost::operator+=(const TrainingCost& other) {
    flop += other.flop;
    cpu_seconds += other.cpu_seconds;
    tokens += other.tokens;
    sampled_tokens += other.sampled_tokens;
}

Result<TrainingCost> parse_training_cost(std::string_view text, std::string_view name) {
    TrainingCost cost;
    RETORT_CHECK(each_line(text, name, [&](const formats::Json& json) -> Status {
        TrainingCost step;
        RETORT_TRY(step.flop, formats::json_number(json, "flop", 0));
        RETORT_TRY(step.cpu_seconds, formats::json_number(json, "cpu_seconds", 0));
        RETORT_TRY(step.tokens, formats::json_number(json, "tokens", 0));
        RETORT_TRY(step.sampled_tokens, formats::json_number(json, "sampled_tokens", 0));
        cost += step;
        return {};
    }));
    return cost;
}

Result<TrainingCost> read_training_cost(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path));
    return parse_training_cost(text, path.string());
}

}  // namespace retort::evaluate
