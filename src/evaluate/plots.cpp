#include "evaluate/plots.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "evaluate/html_text.h"

namespace retort::evaluate {

namespace {

constexpr double narrow_width = 320;  // three to a page
constexpr double plot_width = 380;    // two to a page

std::string open_svg(double width, double height, const std::string& title) {
    return fmt::format(
        "<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\" preserveAspectRatio=\"xMidYMid "
        "meet\">",
        width, height, escape_html(title));
}

std::string line(double x1, double y1, double x2, double y2, std::string_view classes) {
    return fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>)", x1, y1, x2,
                       y2, classes);
}

std::string text(double x, double y, std::string_view anchor, std::string_view classes,
                 std::string_view content) {
    return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>)", x, y, anchor,
                       classes, escape_html(content));
}

std::string role_class(Role role) {
    return fmt::format("role-{}", role_name(role));
}

// Maps [low, high] onto [from, to], by logarithm when told so.
struct Scale {
    double low = 0;
    double high = 1;
    double from = 0;
    double to = 1;
    bool log = false;

    [[nodiscard]] double operator()(double value) const {
        const double share =
            log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
        return from + share * (to - from);
    }
};

std::string tick_text(const MetricInfo& metric, double value, int digits) {
    if (metric.format == NumberFormat::percent) {
        return fmt::format("{:.{}f} %", 100 * value, std::max(0, digits - 2));
    }
    return fmt::format("{:.{}f}", value, digits);
}

std::string shortened(std::string_view name, std::size_t most) {
    std::size_t characters = 0;
    for (std::size_t i = 0; i < name.size(); ++i) {
        const bool starts = (static_cast<unsigned char>(name[i]) & 0xC0U) != 0x80U;
        if (starts && ++characters > most) return std::string(name.substr(0, i)) + "…";
    }
    return std::string(name);
}

struct Range {
    double low = std::numeric_limits<double>::infinity();
    double high = -std::numeric_limits<double>::infinity();

    void include(double value) {
        if (!std::isfinite(value)) return;
        low = std::min(low, value);
        high = std::max(high, value);
    }
    [[nodiscard]] bool empty() const { return low > high; }
};

// Of the models that were trained, or are the teacher; an untrained one widens it only if it lies near.
Range interval_range(const MetricInfo& metric, const std::vector<ModelEntry>& models) {
    Range range;
    const auto include = [&](const ModelEntry& model, bool only_near) {
        const auto found = model.values.find(metric.key);
        if (found == model.values.end()) return;
        const Measured& m = found->second;
        const double low = m.low.value_or(m.value);
        const double high = m.high.value_or(m.value);
        if (only_near && !range.empty()) {
            const double span = std::max(range.high - range.low, 1e-9);
            if (low < range.low - 0.6 * span || high > range.high + 0.6 * span) return;
        }
        range.include(m.value);
        range.include(low);
        range.include(high);
    };
    for (const ModelEntry& model : models) {
        if (model.role != Role::before) include(model, false);
    }
    for (const ModelEntry& model : models) {
        if (model.role == Role::before) include(model, true);
    }
    if (range.empty()) return {0, 1};
    double margin = 0.06 * (range.high - range.low);
    if (margin == 0) margin = std::max(0.05 * std::abs(range.high), 1e-6);
    Range padded{range.low - margin, range.high + margin};
    if (range.low >= 0) padded.low = std::max(0.0, padded.low);
    if (metric.format == NumberFormat::percent && range.high <= 1) padded.high = std::min(1.0, padded.high);
    return padded;
}

}  // namespace

Ticks linear_ticks(double low, double high, int wanted) {
    Ticks ticks;
    const double span = high - low;
    if (!(span > 0) || !std::isfinite(span) || wanted < 1) return ticks;
    const double rough = span / wanted;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    double step = 10 * power;
    for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
        if (factor * power < rough * 0.999) continue;
        step = factor * power;
        break;
    }
    const double digits = std::ceil(-std::log10(step) - 1e-9);
    ticks.digits = static_cast<int>(std::clamp(digits, 0.0, 12.0));
    // 0.25 needs a digit more than its power of ten says.
    const double shown = std::round(step * std::pow(10, ticks.digits)) / std::pow(10, ticks.digits);
    if (std::abs(shown - step) > 1e-6 * step) ++ticks.digits;
    const double first = std::ceil(low / step - 1e-9);
    for (int i = 0; i <= 2 * wanted + 2; ++i) {
        const double value = (first + i) * step;
        if (value > high + 1e-9 * span) break;
        ticks.at.push_back(std::abs(value) < 1e-9 * span ? 0 : value);
    }
    return ticks;
}

Ticks log_ticks(double low, double high) {
    Ticks ticks;
    if (!(low > 0) || !(high > low) || !std::isfinite(high)) return ticks;
    const double decades = std::log10(high / low);
    const int first = static_cast<int>(std::floor(std::log10(low)));
    const int last = static_cast<int>(std::ceil(std::log10(high)));
    for (int power = first; power <= last; ++power) {
        for (const double factor : {1.0, 2.0, 5.0}) {
            if (decades > 2.5 && factor != 1.0) continue;
            const double value = factor * std::pow(10, power);
            if (value >= low * 0.9999 && value <= high * 1.0001) ticks.at.push_back(value);
        }
    }
    ticks.digits =
        ticks.at.empty() ? 0 : std::clamp(-static_cast<int>(std::floor(std::log10(ticks.at[0]))), 0, 12);
    return ticks;
}

std::string role_mark(Role role, double x, double y) {
    const std::string mark = fmt::format("mark {}", role_class(role));
    switch (role) {
        case Role::teacher:
            return fmt::format(R"(<path d="M{:.1f} {:.1f}l6 6l-6 6l-6 -6z" class="{}"/>)", x, y - 6, mark);
        case Role::before:
            return fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="4.6" class="{} hollow"/>)", x, y, mark);
        case Role::text_only:
            return fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="9.6" height="9.6" class="{}"/>)",
                               x - 4.8, y - 4.8, mark);
        case Role::distilled:
            return fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="5.6" class="{}"/>)", x, y, mark);
        case Role::other:
            break;
    }
    return fmt::format(R"(<path d="M{:.1f} {:.1f}l5.5 10h-11z" class="{}"/>)", x, y - 6, mark);
}

std::string interval_plot(const MetricInfo& metric, const std::vector<ModelEntry>& models) {
    constexpr double row = 40;
    constexpr double left = 8;
    std::vector<const ModelEntry*> shown;
    for (const ModelEntry& model : models) {
        const auto found = model.values.find(metric.key);
        if (found != model.values.end() && std::isfinite(found->second.value)) shown.push_back(&model);
    }
    const double bottom = 6 + row * static_cast<double>(shown.size());
    const Range range = interval_range(metric, models);
    const Scale x{range.low, range.high, left, narrow_width - 14};
    std::string svg = open_svg(narrow_width, bottom + 24, metric.name + " of each model, with intervals");
    const Ticks ticks = linear_ticks(range.low, range.high, 4);
    for (const double tick : ticks.at) {
        svg += line(x(tick), 4, x(tick), bottom + 4, "grid");
        svg += text(x(tick), bottom + 18,
                    x(tick) < 24                  ? "start"
                    : x(tick) > narrow_width - 30 ? "end"
                                                  : "middle",
                    "tick", tick_text(metric, tick, ticks.digits));
    }
    svg += line(left, bottom + 4, narrow_width - 14, bottom + 4, "axis");
    for (std::size_t i = 0; i < shown.size(); ++i) {
        const ModelEntry& model = *shown[i];
        const Measured& m = model.values.at(metric.key);
        const double top = 4 + row * static_cast<double>(i);
        const double y = top + 26;
        const std::string role = role_class(model.role);
        svg += text(left, top + 13, "start", "label", shortened(model.name, 28));
        svg += text(narrow_width - 14, top + 13, "end", "value", format_value(metric, m.value));
        const double low = m.low.value_or(m.value);
        const double high = m.high.value_or(m.value);
        if (m.value > range.high || m.value < range.low) {
            const bool right = m.value > range.high;
            const double edge = right ? x.to + 8 : x.from - 4;
            const double inward = right ? -9 : 9;
            svg += line(edge + 3 * inward, y, edge, y, "interval dashed " + role);
            svg += fmt::format(R"(<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}" class="arrow {}"/>)",
                               edge + inward, y - 5, edge, y, edge + inward, y + 5, role);
            svg += text(edge + 4 * inward, y + 4, right ? "end" : "start", "tick", "off this scale");
            continue;
        }
        if (high > low) {
            const double from = x(std::max(low, range.low));
            const double to = x(std::min(high, range.high));
            svg += line(from, y, to, y, "interval " + role);
            svg += line(from, y - 4, from, y + 4, "cap " + role);
            svg += line(to, y - 4, to, y + 4, "cap " + role);
        }
        svg += role_mark(model.role, x(m.value), y);
    }
    return svg + "</svg>";
}

std::string bar_plot(const MetricInfo& metric, const std::vector<ModelEntry>& models) {
    constexpr double row = 36;
    double most = 0;
    std::vector<const ModelEntry*> shown;
    for (const ModelEntry& model : models) {
        const auto found = model.values.find(metric.key);
        if (found == model.values.end() || !std::isfinite(found->second.value)) continue;
        shown.push_back(&model);
        most = std::max({most, found->second.value, found->second.high.value_or(0)});
    }
    std::string svg =
        open_svg(narrow_width, 4 + row * static_cast<double>(shown.size()), metric.name + " of each model");
    const Scale x{0, most > 0 ? most : 1, 8, narrow_width - 14};
    for (std::size_t i = 0; i < shown.size(); ++i) {
        const ModelEntry& model = *shown[i];
        const Measured& m = model.values.at(metric.key);
        const double top = 2 + row * static_cast<double>(i);
        svg += text(8, top + 13, "start", "label", shortened(model.name, 28));
        svg += text(narrow_width - 14, top + 13, "end", "value", format_value(metric, m.value));
        svg += fmt::format(R"(<rect x="8" y="{:.1f}" width="{:.1f}" height="7" class="bar-ground"/>)",
                           top + 20, narrow_width - 22);
        svg += fmt::format(R"(<rect x="8" y="{:.1f}" width="{:.1f}" height="7" class="bar {}"/>)", top + 20,
                           std::max(0.0, x(std::max(0.0, m.value)) - 8), role_class(model.role));
        if (m.low && m.high) {
            svg += line(x(std::max(0.0, *m.low)), top + 23.5, x(*m.high), top + 23.5, "bar-interval");
        }
    }
    return svg + "</svg>";
}

std::string reliability_plot(const Reliability& reliability, const ModelEntry& model) {
    constexpr double width = 240;
    constexpr double left = 34;
    constexpr double side = 196;
    constexpr double top = 6;
    constexpr double strip = 34;
    const Scale x{0, 1, left, left + side};
    const Scale y{0, 1, top + side, top};
    std::string svg =
        open_svg(width, top + side + strip + 40, model.name + ": share correct against confidence");
    for (const double tick : {0.0, 0.25, 0.5, 0.75, 1.0}) {
        svg += line(left, y(tick), left + side, y(tick), "grid");
        svg += line(x(tick), top, x(tick), top + side, "grid");
        if (tick == 0.25 || tick == 0.75) continue;
        svg += text(left - 6, y(tick) + 4, "end", "tick", fmt::format("{:.1f}", tick));
        svg += text(x(tick), top + side + strip + 20, tick == 1 ? "end" : "middle", "tick",
                    fmt::format("{:.1f}", tick));
    }
    svg += line(x(0), y(0), x(1), y(1), "diagonal");
    double most = 1;
    for (const ReliabilityBin& bin : reliability.bins) most = std::max(most, bin.tokens);
    const auto count = static_cast<double>(std::max<std::size_t>(1, reliability.bins.size()));
    const double base_line = top + side + strip + 4;
    std::string path;
    std::string marks;
    const std::string role = role_class(model.role);
    for (std::size_t i = 0; i < reliability.bins.size(); ++i) {
        const ReliabilityBin& bin = reliability.bins[i];
        if (!(bin.tokens > 0)) continue;
        const double height = strip * bin.tokens / most;
        svg += fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="strip {}"/>)",
                           x(static_cast<double>(i) / count) + 0.8, base_line - height, side / count - 1.6,
                           height, role);
        const double px = x(std::clamp(bin.confidence, 0.0, 1.0));
        const double py = y(std::clamp(bin.correct, 0.0, 1.0));
        path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", px, py);
        marks += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="mark {}"/>)", px, py,
                             1.8 + 3.4 * std::sqrt(bin.tokens / most), role);
    }
    svg += line(left, base_line, left + side, base_line, "axis");
    if (!path.empty()) svg += fmt::format(R"(<path d="{}" class="curve thin {}"/>)", path, role);
    svg += marks;
    svg += text(left + side / 2, top + side + strip + 33, "middle", "tick", "confidence");
    return svg + "</svg>";
}

namespace {

// Means over at most `most` shares, so that a long run makes no larger page than a short one.
void thin_out(std::vector<double>& x, std::vector<double>& y, std::size_t most) {
    if (x.size() <= most) return;
    std::vector<double> xs;
    std::vector<double> ys;
    for (std::size_t share = 0; share < most; ++share) {
        const std::size_t begin = x.size() * share / most;
        const std::size_t end = x.size() * (share + 1) / most;
        double sum_x = 0;
        double sum_y = 0;
        for (std::size_t i = begin; i < end; ++i) {
            sum_x += x[i];
            sum_y += y[i];
        }
        xs.push_back(sum_x / static_cast<double>(end - begin));
        ys.push_back(sum_y / static_cast<double>(end - begin));
    }
    x = std::move(xs);
    y = std::move(ys);
}

// Centred running mean over about a twentieth of the line; narrower where it begins, where losses fall
// steeply, and one-sided where it ends.
std::vector<double> smoothed(const std::vector<double>& y) {
    const auto count = static_cast<std::ptrdiff_t>(y.size());
    const std::ptrdiff_t reach = std::max<std::ptrdiff_t>(1, count / 40);
    std::vector<double> result(y.size());
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const std::ptrdiff_t first = i - std::min(reach, i);
        const std::ptrdiff_t last = std::min(i + std::min(reach, i), count - 1);
        double sum = 0;
        for (std::ptrdiff_t k = first; k <= last; ++k) sum += y[static_cast<std::size_t>(k)];
        result[static_cast<std::size_t>(i)] = sum / static_cast<double>(last - first + 1);
    }
    return result;
}

std::string path_of(const std::vector<double>& xs, const std::vector<double>& ys, const Scale& x,
                    const Scale& y, const std::string& classes) {
    std::string d;
    for (std::size_t i = 0; i < xs.size(); ++i) {
        d += fmt::format("{}{:.1f} {:.1f}", i == 0 ? "M" : "L", x(xs[i]), y(ys[i]));
    }
    return fmt::format(R"(<path d="{}" class="{}"/>)", d, classes);
}

std::string axis_number(double value, int digits) {
    const double size = std::abs(value);
    if (size == 0) return "0";
    if (size < 1e-3) {  // 1e-4, not 1.0e-04
        const int power = static_cast<int>(std::floor(std::log10(size) + 1e-9));
        return fmt::format("{:.3g}e{}", value / std::pow(10, power), power);
    }
    if (size >= 10000) return fmt::format("{:.3g}k", value / 1000);
    return fmt::format("{:.{}f}", value, digits);
}

}  // namespace

std::string line_plot(const std::vector<PlotLine>& lines, const LinePlotOptions& options) {
    constexpr double left = 48;
    constexpr double right = plot_width - 12;
    constexpr double top = 24;
    constexpr double bottom = 206;
    std::vector<PlotLine> drawn;
    Range xs;
    Range ys;
    for (const PlotLine& source : lines) {
        PlotLine kept{source.model, {}, {}};
        for (std::size_t i = 0; i < std::min(source.x.size(), source.y.size()); ++i) {
            if (!std::isfinite(source.x[i]) || !std::isfinite(source.y[i])) continue;
            kept.x.push_back(source.x[i]);
            kept.y.push_back(source.y[i]);
        }
        thin_out(kept.x, kept.y, 300);
        for (const double value : kept.x) xs.include(value);
        for (const double value : kept.y) ys.include(value);
        if (!kept.x.empty()) drawn.push_back(std::move(kept));
    }
    if (drawn.empty()) return "";
    if (options.from_zero) ys.include(0);
    if (xs.low == xs.high) xs.high = xs.low + 1;
    const bool log = options.log_y && ys.low > 0 && ys.high / ys.low > 5;
    if (ys.high - ys.low <= 1e-12 * std::abs(ys.high)) {
        ys = {ys.low - std::max(1e-9, 0.1 * std::abs(ys.low)),
              ys.high + std::max(1e-9, 0.1 * std::abs(ys.high))};
    } else if (log) {
        ys = {ys.low / 1.08, ys.high * 1.08};
    } else {
        const double margin = 0.05 * (ys.high - ys.low);
        ys = {options.from_zero ? ys.low : ys.low - margin, ys.high + margin};
    }
    const Scale x{xs.low, xs.high, left, right};
    const Scale y{ys.low, ys.high, bottom, top, log};
    std::string svg = open_svg(plot_width, bottom + 36, options.title);
    const Ticks y_ticks = log ? log_ticks(ys.low, ys.high) : linear_ticks(ys.low, ys.high, 4);
    for (const double tick : y_ticks.at) {
        svg += line(left, y(tick), right, y(tick), "grid");
        svg += text(left - 7, y(tick) + 4, "end", "tick",
                    log ? fmt::format("{:g}", tick) : axis_number(tick, y_ticks.digits));
    }
    for (const double tick : linear_ticks(xs.low, xs.high, 4).at) {
        svg += line(x(tick), bottom, x(tick), bottom + 4, "axis");
        svg += text(x(tick), bottom + 17, "middle", "tick", axis_number(tick, 0));
    }
    svg += line(left, bottom, right, bottom, "axis");
    svg += text(left - 7, 12, "start", "tick", options.y_label + (log ? ", log scale" : ""));
    svg += text((left + right) / 2, bottom + 33, "middle", "tick", "step");
    if (options.smooth) {
        for (const PlotLine& one : drawn) {
            svg += path_of(one.x, one.y, x, y, "curve raw " + role_class(one.model->role));
        }
    }
    for (const PlotLine& one : drawn) {
        svg += path_of(one.x, options.smooth ? smoothed(one.y) : one.y, x, y,
                       "curve " + role_class(one.model->role));
    }
    return svg + "</svg>";
}

}  // namespace retort::evaluate
