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
    if (seconds > 0) point.tokens_per_second = tokens / seconds;
    return point;
}

}  // namespace

Result<TrainingCurve> parse_training_curve(std::string_view text, std::string_view name) {
    TrainingCurve curve;
    for (std::int64_t line = 1; !text.empty(); ++line) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view one = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (one.empty()) continue;
        const std::string where = fmt::format("{}:{}", name, line);
        RETORT_TRY(const formats::Json json, formats::parse_json(one, where));
        if (!json.is_object()) return fail(ErrorCode::format, "{}: not an object", where);
        auto point = parse_point(json);
        if (!point) return fail_from(point.error(), where);
        curve.points.push_back(*point);
    }
    return curve;
}

Result<TrainingCurve> read_training_curve(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path));
    return parse_training_curve(text, path.string());
}

}  // namespace retort::evaluate
