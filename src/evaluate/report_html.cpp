#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "evaluate/html_text.h"
#include "evaluate/plots.h"
#include "evaluate/report.h"
#include "evaluate/report_style.h"

namespace retort::evaluate {

namespace {

// A model's mark as it stands in legends and tables.
std::string key_of(Role role) {
    return fmt::format(R"(<svg class="key role-{}" viewBox="0 0 14 14" aria-hidden="true">{}</svg>)",
                       role_name(role), role_mark(role, 7, 7));
}

std::string heading(std::string_view title, std::string_view lead) {
    std::string html = fmt::format("<h2>{}</h2>", escape_html(title));
    if (!lead.empty()) html += fmt::format("<p class=\"lead\">{}</p>", escape_html(lead));
    return html;
}

std::string interval_text(const MetricInfo& metric, const Measured& measured) {
    if (!measured.low || !measured.high) return "";
    const std::string plain = format_interval(metric, measured);
    // "[0.498, 0.527]" reads as "0.498 – 0.527" in running type.
    std::string text = plain.substr(1, plain.size() - 2);
    const std::size_t comma = text.find(", ");
    return text.replace(comma, 2, " – ");
}

std::string header(const ComparisonReport& report) {
    std::string html = fmt::format("<header class=\"top\"><p class=\"over\">Retort · {}</p>",
                                   report.metrics.empty() ? "training" : "comparison of models");
    html += fmt::format("<h1>{}</h1><p class=\"meta\">", escape_html(report.title));
    for (const std::string& part : {report.date, report.machine, report.program}) {
        if (!part.empty()) html += fmt::format("<span>{}</span>", escape_html(part));
    }
    return html + "</p></header>";
}

std::string verdict_section(const ComparisonReport& report) {
    if (report.summary.empty() && report.findings.empty()) return "";
    std::string html = "<section class=\"verdict\" aria-label=\"Verdict\">";
    if (!report.summary.empty()) {
        html += fmt::format("<p class=\"summary\">{}</p>", escape_html(report.summary));
    }
    html += "<ul class=\"findings\">";
    for (const Finding& finding : report.findings) {
        const auto [sign, spoken] = finding.verdict == Verdict::supported ? std::pair{"✓", "Supported"}
                                    : finding.verdict == Verdict::not_supported
                                        ? std::pair{"✗", "Not supported"}
                                        : std::pair{"·", "Note"};
        html += fmt::format(
            "<li class=\"{}\"><span class=\"sign\" role=\"img\" "
            "aria-label=\"{}\">{}</span><div><strong>{}</strong>",
            verdict_name(finding.verdict), spoken, sign, escape_html(finding.text));
        if (!finding.detail.empty()) {
            html += fmt::format("<span class=\"detail\">{}</span>", escape_html(finding.detail));
        }
        html += "</div></li>";
    }
    return html + "</ul></section>";
}

std::string cell(const MetricInfo& metric, const ModelEntry& model) {
    const std::string label = escape_html(metric.name);
    const auto found = model.values.find(metric.key);
    if (found == model.values.end()) {
        return fmt::format("<td role=\"cell\" class=\"none\" data-label=\"{}\"><div>–</div></td>", label);
    }
    const Measured& measured = found->second;
    const std::string interval = interval_text(metric, measured);
    std::string html =
        fmt::format("<td role=\"cell\" data-label=\"{}\"><div><span class=\"number\">{}</span>", label,
                    escape_html(format_value(metric, measured.value)));
    if (!interval.empty()) html += fmt::format("<span class=\"interval\">{}</span>", escape_html(interval));
    return html + "</div></td>";
}

std::string comparison_table(const ComparisonReport& report, const std::vector<const MetricInfo*>& metrics,
                             std::string_view caption) {
    // Roles are spelled out because the phone layout changes display, which would drop them.
    std::string html = fmt::format(
        "<table class=\"comparison\" role=\"table\"><caption>{}</caption><thead role=\"rowgroup\"><tr "
        "role=\"row\"><th role=\"columnheader\" scope=\"col\">Model</th>",
        escape_html(caption));
    for (const MetricInfo* metric : metrics) {
        html += fmt::format("<th role=\"columnheader\" scope=\"col\">{}<small>{}</small></th>",
                            escape_html(metric->name), escape_html(metric->unit));
    }
    html += "</tr></thead><tbody role=\"rowgroup\">";
    for (const ModelEntry& model : report.models) {
        html += fmt::format("<tr role=\"row\" class=\"role-{}\"><th role=\"rowheader\" scope=\"row\">{}{}",
                            role_name(model.role), key_of(model.role), escape_html(model.name));
        if (!model.note.empty()) html += fmt::format("<small>{}</small>", escape_html(model.note));
        html += "</th>";
        for (const MetricInfo* metric : metrics) html += cell(*metric, model);
        html += "</tr>";
    }
    return html + "</tbody></table>";
}

// Whether any model has an interval of it: what is estimated, as against what is counted.
bool is_estimated(const MetricInfo& metric, const std::vector<ModelEntry>& models) {
    return metric.format != NumberFormat::bytes && metric.format != NumberFormat::count &&
           metric.better != Better::neither &&
           std::any_of(models.begin(), models.end(), [&](const ModelEntry& model) {
               const auto found = model.values.find(metric.key);
               return found != model.values.end() && found->second.low.has_value();
           });
}

bool is_cost(const MetricInfo& metric, const std::vector<ModelEntry>& models) {
    return !is_estimated(metric, models) || metric.unit.find("token") == 0 ||
           metric.unit.find("1,000 tokens") != std::string::npos;
}

std::string figure(const std::string& title, const std::string& note, const std::string& drawing) {
    if (drawing.empty()) return "";
    std::string html = fmt::format("<figure><figcaption><h3>{}</h3>", escape_html(title));
    if (!note.empty()) html += fmt::format("<small>{}</small>", escape_html(note));
    return html + "</figcaption>" + drawing + "</figure>";
}

std::string_view direction(const MetricInfo& metric) {
    if (metric.better == Better::lower) return " Lower is better.";
    return metric.better == Better::higher ? " Higher is better." : "";
}

std::string comparison_sections(const ComparisonReport& report) {
    if (report.models.empty() || report.metrics.empty()) return "";
    std::vector<const MetricInfo*> quality;
    std::vector<const MetricInfo*> cost;
    for (const MetricInfo& metric : report.metrics) {
        (is_cost(metric, report.models) ? cost : quality).push_back(&metric);
    }
    std::string html;
    if (!quality.empty()) {
        html += "<section>" + heading("How alike, how good", "");
        html += comparison_table(report, quality, "Held-out answers only. Ranges are 95 % intervals.");
        html += "</section><section><div class=\"plots three\">";
        for (const MetricInfo* metric : quality) {
            html += figure(metric->name, metric->note + std::string(direction(*metric)),
                           interval_plot(*metric, report.models));
        }
        html += "</div></section>";
    }
    if (!cost.empty()) {
        html += "<section>" + heading("What it costs to run", "") + "<div class=\"plots three\">";
        for (const MetricInfo* metric : cost) {
            const std::string unit = metric->unit.empty() ? "" : ", " + metric->unit;
            html += figure(metric->name + unit, metric->note + std::string(direction(*metric)),
                           bar_plot(*metric, report.models));
        }
        html += "</div></section>";
    }
    return html;
}

std::string reliability_section(const ComparisonReport& report) {
    std::string figures;
    for (const Reliability& reliability : report.reliability) {
        const ModelEntry* model = find_model(report, reliability.model);
        if (model == nullptr) continue;
        std::string note;
        const auto error = model->values.find("ece");
        if (const MetricInfo* metric = find_metric(report, "ece");
            metric != nullptr && error != model->values.end()) {
            note = "Error " + format_value(*metric, error->second.value);
        }
        figures += figure(model->name, note, reliability_plot(reliability, *model));
    }
    if (figures.empty()) return "";
    return "<section>" +
           heading(
               "Does it know what it does not know",
               "Share of tokens that were right, against how sure the model was of them. On the dashed line "
               "it is exactly as right as it is sure; below it, it is too sure. The strip shows where its "
               "tokens lie.") +
           "<div class=\"plots small\">" + figures + "</div></section>";
}

std::vector<PlotLine> lines_of(const ComparisonReport& report, std::string_view objective,
                               double CurvePoint::*member) {
    std::vector<PlotLine> lines;
    for (const TrainingCurve& curve : report.curves) {
        const ModelEntry* model = find_model(report, curve.model);
        if (model == nullptr || (!objective.empty() && curve.objective != objective)) continue;
        PlotLine one{model, {}, {}};
        for (const CurvePoint& point : curve.points) {
            one.x.push_back(static_cast<double>(point.step));
            one.y.push_back(point.*member);
        }
        lines.push_back(std::move(one));
    }
    return lines;
}

std::vector<PlotLine> held_out_lines(const ComparisonReport& report) {
    std::vector<PlotLine> lines;
    for (const TrainingCurve& curve : report.curves) {
        PlotLine one{find_model(report, curve.model), {}, {}};
        for (const CurvePoint& point : curve.points) {
            if (!point.held_out) continue;
            one.x.push_back(static_cast<double>(point.step));
            one.y.push_back(*point.held_out);
        }
        if (one.model != nullptr && !one.x.empty()) lines.push_back(std::move(one));
    }
    return lines;
}

// Mean share of the machine's rate, where it was measured: "41 % of the machine's matrix-product rate".
std::string peak_note(const ComparisonReport& report) {
    double sum = 0;
    double count = 0;
    for (const TrainingCurve& curve : report.curves) {
        for (const CurvePoint& point : curve.points) {
            if (!(point.peak_share > 0) || !std::isfinite(point.peak_share)) continue;
            sum += point.peak_share;
            count += 1;
        }
    }
    if (count == 0) return "";
    return fmt::format("On average {:.0f} % of the machine's own matrix-product rate.", 100 * sum / count);
}

std::string training_section(const ComparisonReport& report) {
    std::vector<std::string> objectives;
    std::string legend;
    for (const TrainingCurve& curve : report.curves) {
        const ModelEntry* model = find_model(report, curve.model);
        if (model == nullptr) continue;
        if (std::find(objectives.begin(), objectives.end(), curve.objective) == objectives.end()) {
            objectives.push_back(curve.objective);
        }
        legend += fmt::format("<li>{}{}</li>", key_of(model->role), escape_html(model->name));
    }
    if (legend.empty()) return "";
    std::string html = "<section>" + heading("Training", "") + "<ul class=\"legend\">" + legend +
                       "</ul><div class=\"plots\">";
    for (const std::string& objective : objectives) {
        const std::string name = objective.empty() ? "loss" : objective;
        html += figure("Loss, " + name, "Each step, and its running mean.",
                       line_plot(lines_of(report, objective, &CurvePoint::loss),
                                 {"Training loss by step, " + name, "nats per token", true, true, false}));
    }
    html += figure(
        "Held-out loss", "The objective's, on records that are never trained on.",
        line_plot(held_out_lines(report), {"Held-out loss by step", "nats per token", false, true, false}));
    html += figure("Learning rate", "",
                   line_plot(lines_of(report, "", &CurvePoint::learning_rate),
                             {"Learning rate by step", "rate", false, false, true}));
    html += figure("Speed", peak_note(report),
                   line_plot(lines_of(report, "", &CurvePoint::tokens_per_second),
                             {"Training speed by step", "tokens/s", true, false, true}));
    return html + "</div></section>";
}

std::string samples_section(const ComparisonReport& report) {
    if (report.samples.empty()) return "";
    std::string html = "<section>" + heading("Side by side", "The same held-out prompts to every model.");
    for (const Sample& sample : report.samples) {
        html += fmt::format(
            "<div class=\"sample\"><p class=\"prompt\" dir=\"auto\">{}</p><div class=\"answers\">",
            escape_html(sample.prompt));
        for (const SampleAnswer& answer : sample.answers) {
            const ModelEntry* model = find_model(report, answer.model);
            const Role role = model == nullptr ? Role::other : model->role;
            html += fmt::format("<div class=\"answer role-{}\"><h3>{}{}", role_name(role), key_of(role),
                                escape_html(model == nullptr ? answer.model : model->name));
            if (answer.passed) {
                html += *answer.passed ? "<b class=\"pass\">✓ passes</b>" : "<b class=\"fail\">✗ fails</b>";
            }
            html += answer.text.empty()
                        ? "</h3><p class=\"empty\">(no answer)</p></div>"
                        : fmt::format("</h3><p dir=\"auto\">{}</p></div>", escape_html(answer.text));
        }
        html += "</div></div>";
    }
    return html + "</section>";
}

std::string method_section(const ComparisonReport& report) {
    std::string html;
    if (!report.facts.empty()) {
        html += "<dl class=\"facts\">";
        for (const Fact& fact : report.facts) {
            html += fmt::format("<dt>{}</dt><dd>{}</dd>", escape_html(fact.label), escape_html(fact.value));
        }
        html += "</dl>";
    }
    if (!report.notes.empty()) {
        html += "<ul class=\"notes\">";
        for (const std::string& note : report.notes) html += fmt::format("<li>{}</li>", escape_html(note));
        html += "</ul>";
    }
    if (!report.files.empty()) {
        html +=
            fmt::format("<details open><summary>Files and their hashes ({})</summary><ul class=\"files\">",
                        report.files.size());
        for (const FileEntry& file : report.files) {
            html += fmt::format(
                "<li><span class=\"path\">{}</span> <span>{}, {}</span><code>sha256 {}</code></li>",
                escape_html(file.path), escape_html(file.role),
                escape_html(base::bytes_text(static_cast<double>(file.bytes))), escape_html(file.sha256));
        }
        html += "</ul></details>";
    }
    if (!report.recipe.empty()) {
        html += fmt::format("<details><summary>Recipe</summary><pre tabindex=\"0\">{}</pre></details>",
                            escape_html(report.recipe));
    }
    if (html.empty()) return "";
    return "<section>" + heading("How this was measured", "") + html + "</section>";
}

}  // namespace

std::string report_to_html(const ComparisonReport& report, int reload_seconds) {
    std::string html = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">";
    // Nothing may be loaded or run, whatever an answer holds.
    html +=
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'\">";
    if (reload_seconds > 0)
        html += fmt::format("<meta http-equiv=\"refresh\" content=\"{}\">", reload_seconds);
    html += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";
    html += fmt::format("<title>{}</title><style>{}</style></head><body>", escape_html(report.title),
                        report_style);
    html += header(report) + "<main>";
    html += verdict_section(report);
    html += comparison_sections(report);
    html += samples_section(report);
    html += training_section(report);
    html += reliability_section(report);
    html += method_section(report);
    html += "</main><footer>";
    if (!report.command.empty()) html += fmt::format("Made by <code>{}</code>", escape_html(report.command));
    return html + "</footer></body></html>\n";
}

}  // namespace retort::evaluate
