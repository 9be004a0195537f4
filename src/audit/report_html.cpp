// The page: what was asked, what was found, how sure, what it does not say. No script, nothing from
// elsewhere.
#include <algorithm>
#include <cmath>

#include "audit/report.h"
#include "evaluate/html_text.h"

namespace retort::audit {

namespace {

using evaluate::escape_html;

constexpr std::string_view style = R"(
:root{color-scheme:light dark;--ink:#1d2430;--soft:#5b6472;--line:#d5dae1;--paper:#fff;--mark:#1f5fae;--bad:#a8321f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#a3acb9;--line:#3a4351;--paper:#14181f;--mark:#7db2f0;--bad:#f0907d}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin-bottom:.2rem}
.claim{font-size:1.15rem;border-left:4px solid var(--mark);padding:.5rem 1rem;margin:1rem 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
code{font-size:.85em;overflow-wrap:anywhere}.soft{color:var(--soft)}
svg{max-width:100%;height:auto}svg text{fill:var(--soft);font:11px system-ui,sans-serif}
figure{margin:1rem 0;display:inline-block}figcaption{color:var(--soft);font-size:.85rem;max-width:19rem}
@media print{body{margin:0}}
)";

std::string text_of(const Json& json, std::string_view key) {
    const Json* found = formats::json_find(json, key);
    if (found == nullptr) return "–";
    return escape_html(found->is_string() ? found->get<std::string>() : formats::write_json(*found));
}

std::string number(const Json& value) {
    return value.is_number() ? fmt::format("{:.5g}", value.get<double>()) : "–";
}

std::string wealth_text(double log_e) {
    return log_e < 4 * std::log(10.0) ? fmt::format("{:.3g}", std::exp(log_e)) : power_text(log_e);
}

// p-values under wrong keys, sorted, against what uniform ones would be.
std::string calibration_plot(const TestCalibration& test) {
    constexpr double size = 240;
    constexpr double left = 34;
    std::vector<double> p = test.p_values;
    std::sort(p.begin(), p.end());
    std::string points;
    const std::size_t step = std::max<std::size_t>(1, p.size() / 200);
    for (std::size_t i = 0; i < p.size(); i += step) {
        const double x = left + size * (static_cast<double>(i) + 0.5) / static_cast<double>(p.size());
        points += fmt::format("{:.1f},{:.1f} ", x, 8 + size * (1 - p[i]));
    }
    return fmt::format(
        "<figure><svg viewBox='0 0 {0:.0f} {1:.0f}' width='{0:.0f}' role='img' aria-label='Calibration of "
        "{2}'>"
        "<rect x='{3:.0f}' y='8' width='{4:.0f}' height='{4:.0f}' fill='none' stroke='var(--line)'/>"
        "<line x1='{3:.0f}' y1='{5:.0f}' x2='{6:.0f}' y2='8' stroke='var(--soft)' stroke-dasharray='4 3'/>"
        "<polyline points='{7}' fill='none' stroke='var(--mark)' stroke-width='2'/>"
        "<text x='{3:.0f}' y='{8:.0f}'>0</text><text x='{9:.0f}' y='{8:.0f}' text-anchor='end'>1, "
        "expected</text>"
        "<text x='{10:.0f}' y='16' text-anchor='end'>1</text><text x='{10:.0f}' y='{5:.0f}' "
        "text-anchor='end'>0</text></svg>"
        "<figcaption>{2}: {11} p-values under wrong keys, coins or decoys, in order, against the uniform "
        "distribution. "
        "Kolmogorov–Smirnov distance {12:.3f}, p {13:.3f}.</figcaption></figure>",
        left + size + 8, size + 30, escape_html(test.test), left, size, 8 + size, left + size, points,
        size + 24, left + size, left - 4, test.trials, test.ks_distance, test.ks_p);
}

std::string tests_table(const Json& tests, bool primary) {
    std::string out =
        "<table><tr><th>Test</th><th>n</th><th>Statistic (expected)</th><th>p</th><th>Effect, 95 % "
        "interval</th></tr>";
    for (const Json& test : tests) {
        if (test["primary"].get<bool>() != primary) continue;
        const Json& estimate = test["estimate"];
        out += fmt::format(
            "<tr><td>{}<br><span class='soft'>{}</span></td><td>{}</td><td>{} ({})</td><td><b>{}</b></td>"
            "<td>{}: {} [{}, {}]; under the null {}</td></tr>",
            text_of(test, "title"), text_of(test, "test"), text_of(test, "n"), number(test["statistic"]),
            number(test["expected"]), text_of(test, "p"), text_of(test, "effect"), number(estimate[0]),
            number(estimate[1]), number(estimate[2]), number(test["null_value"]));
    }
    return out + "</table>";
}

std::string nulls_of(const Json& tests) {
    std::string out;
    for (const Json& test : tests) {
        out += fmt::format("<h3>{}</h3><p>Null hypothesis: {}.<br>p-value: {}.</p>", text_of(test, "title"),
                           text_of(test, "hypothesis"), text_of(test, "null"));
    }
    return out;
}

// Averages of e-values need no correction for what the tests have in common.
std::string average_of(const Json& average) {
    return fmt::format(
        "<p>Against each test's null hypothesis a bettor starts with 1 and bets, at fair odds, on each thing "
        "that the owner's randomness decided. The average of what they end with is {}; over suspects that "
        "were "
        "not trained on the text its mean is 1 at most, so that for all tests together p = {} at most.</p>",
        wealth_text(average["log_e"].get<double>()), text_of(average, "p"));
}

// The same tests on models that cannot have seen the answers.
std::string controls_of(const Json& controls) {
    if (controls.empty()) return {};
    std::string out =
        "<h2>The same tests on control models</h2><p>Models that cannot have seen the answers, according to "
        "who made the plan, before anything was asked.</p><table><tr><th>Model</th><th>Test</th><th>n</th>"
        "<th>p</th></tr>";
    for (const Json& control : controls) {
        for (const Json& test : control["tests"]) {
            out += fmt::format("<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                               text_of(control, "model"), text_of(test, "test"), text_of(test, "n"),
                               text_of(test, "p"));
        }
    }
    return out + "</table>";
}

std::string corroboration_of(const Json& corroboration) {
    if (!corroboration.is_object() || corroboration.empty()) return "<p class='soft'>None was gathered.</p>";
    std::string out = "<table>";
    for (const auto& [name, value] : corroboration.items()) {
        out += fmt::format(
            "<tr><td>{}</td><td>{}</td></tr>", escape_html(name),
            escape_html(value.is_string() ? value.get<std::string>() : formats::write_json(value)));
    }
    return out + "</table>";
}

}  // namespace

std::string report_html(const Json& report, const Calibration& calibration) {
    const Json& plan = report["plan"];
    const bool positive = report["decision"] == "positive";
    const bool together = report["average"]["primary"].get<bool>();
    const std::string primary_p = text_of(report, "p");
    const std::string in_words = text_of(report, "p_in_words");
    std::string html =
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        "content='width=device-width,initial-scale=1'><title>Audit of a model</title><style>";
    html += style;
    html += "</style></head><body><h1>Was this model trained on another's answers?</h1>";
    html += fmt::format("<p class='soft'>Suspect: <code>{}</code> {} · access: {} · issued {}</p>",
                        text_of(plan, "suspect"), text_of(plan, "suspect_model"), text_of(plan, "access"),
                        text_of(report, "issued"));
    html += fmt::format("<p class='claim'>{}", text_of(report, "claim"));
    html += positive ? fmt::format(
                           " If it had not been, a result as strong as this would come about by chance with "
                           "probability "
                           "p = {}, that is {}; the plan asked for {} at most.</p>",
                           primary_p, in_words, number(plan["alpha"]))
                     : fmt::format(" What decides gave p = {} ({}), where the plan asked for {} at most.</p>",
                                   primary_p, in_words, number(plan["alpha"]));
    html += together ? "<h2>All tests decide together</h2>" + average_of(report["average"])
                     : "<h2>The test that decides</h2>" + tests_table(report["tests"], true);
    html += fmt::format(
        "<p class='soft'>It was named, with everything that would be asked, in a plan made on {} whose "
        "SHA-256 is "
        "<code>{}</code>.</p>",
        text_of(plan, "created"), text_of(report, "plan_sha256"));
    if (together || report["tests"].size() > 1) {
        html += fmt::format("<h2>{} with a valid null</h2>", together ? "Each test" : "Other tests") +
                tests_table(report["tests"], false);
        if (!together) html += average_of(report["average"]);
    }
    html += controls_of(report["controls"]);
    html += "<h2>What this does not say</h2><ul>";
    for (const Json& caveat : report["caveats"])
        html += "<li>" + escape_html(caveat.get<std::string>()) + "</li>";
    html +=
        "</ul><h2>Why the p-values can be believed</h2><p>Chance enters through numbers that the owner drew "
        "and "
        "committed to before the first answer was served. Under wrong keys, wrong coins or decoys instead of "
        "the "
        "planted strings, the same computation on the same evidence must give p-values that are spread "
        "evenly.</p>";
    for (const TestCalibration& test : calibration.tests) html += calibration_plot(test);
    html += "<table><tr><th>Check</th><th>p</th></tr>";
    for (const CheckLine& check : calibration.checks) {
        html += fmt::format("<tr><td>{}</td><td>{:.3g}</td></tr>", escape_html(check.what), check.p);
    }
    html += "</table>" + nulls_of(report["tests"]);
    html += "<h2>Corroboration, which decides nothing</h2>" + corroboration_of(report["corroboration"]);
    html += fmt::format(
        "<h2>Check it yourself</h2><p>The bundle beside this page holds the plan, {} opened records with the "
        "Merkle "
        "roots that were published for them, the evidence, and a signature. <code>retort audit verify "
        "AUDIT</code> "
        "needs no network and no model: it checks the chain of hashes and the coins, and computes every "
        "p-value "
        "anew. What the files hold is described in the program's manual (docs/formats/audit.md), so that "
        "another program "
        "can do the same.</p>",
        text_of(report["escrow"], "records"));
    return html + "</body></html>\n";
}

}  // namespace retort::audit
