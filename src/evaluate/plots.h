// The report's plots as SVG text. Colours and fonts come from the page's style sheet (classes role-…, axis,
// grid, label), so that one drawing serves light and dark. Widths are those of a phone: a wide page sets
// several plots side by side.
#pragma once

#include <string>
#include <vector>

#include "evaluate/report.h"

namespace retort::evaluate {

struct Ticks {
    std::vector<double> at;
    int digits = 0;
};
// About `wanted` round values within [low, high].
Ticks linear_ticks(double low, double high, int wanted);
// 1, 2 and 5 times powers of ten within [low, high], or the powers alone when there are many.
Ticks log_ticks(double low, double high);

// A metric of all models: a mark and its interval each. A model that is far off the others' range (one that
// was cut and not trained yet) is drawn as an arrow at the edge, its value beside its name.
std::string interval_plot(const MetricInfo& metric, const std::vector<ModelEntry>& models);

// Lengths from zero: size, speed.
std::string bar_plot(const MetricInfo& metric, const std::vector<ModelEntry>& models);

// Confidence against share correct, the diagonal being perfect, and how many tokens each bin holds.
std::string reliability_plot(const Reliability& reliability, const ModelEntry& model);

struct PlotLine {
    const ModelEntry* model = nullptr;
    std::vector<double> x;
    std::vector<double> y;
};
struct LinePlotOptions {
    std::string title;    // for readers that cannot see it
    std::string y_label;  // above the axis
    bool smooth = false;  // a running mean in front of the raw line
    bool log_y = false;   // when the values are positive and span more than a factor of 5
    bool from_zero = false;
};
std::string line_plot(const std::vector<PlotLine>& lines, const LinePlotOptions& options);

// The mark of a role (a shape as well as a colour), centred at (x, y).
std::string role_mark(Role role, double x, double y);

}  // namespace retort::evaluate
