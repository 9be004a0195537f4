#include "evaluate/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <sstream>

#include "base/file.h"
#include "evaluate/findings.h"
#include "evaluate/html_text.h"
#include "evaluate/plots.h"
#include "example_report.h"

namespace retort::evaluate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ReportJson, read_back_and_written_again_is_the_same_bytes) {
    ComparisonReport report = example_report();
    report.models[1].values["kl"] = Measured(std::numeric_limits<double>::infinity());
    const std::string text = report_to_json(report);
    const auto again = report_from_json(text);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(report_to_json(*again), text);
    EXPECT_EQ(again->models.size(), 4U);
    EXPECT_EQ(again->models[3].values.at("agreement").high, 0.626);
    EXPECT_FALSE(again->models[0].values.at("bytes").low);
    EXPECT_TRUE(std::isnan(again->models[1].values.at("kl").value));
    EXPECT_EQ(again->curves[1].points[7].step, 8);
    EXPECT_EQ(again->samples[1].answers[2].passed, std::nullopt);
    EXPECT_EQ(again->findings[2].verdict, Verdict::not_supported);
    EXPECT_EQ(report_to_html(*report_from_json(text)), report_to_html(*again));
}

TEST(ReportJson, what_is_wrong_is_named) {
    const auto message = [](std::string_view text) {
        const auto report = report_from_json(text, "r.json");
        return report ? std::string("read") : report.error().message;
    };
    EXPECT_THAT(message("{"), HasSubstr("r.json"));
    EXPECT_THAT(message("[]"), HasSubstr("not a JSON object"));
    EXPECT_THAT(message("{}"), HasSubstr("retort_report is missing"));
    EXPECT_THAT(message(R"({"retort_report": 2})"), HasSubstr("version 1"));
    EXPECT_THAT(message(R"({"retort_report": 1, "models": {}})"), HasSubstr("models is not an array"));
    EXPECT_THAT(message(R"({"retort_report": 1, "models": [{"key": "a", "role": "king"}]})"),
                HasSubstr("models[0]: role is \"king\""));
    EXPECT_THAT(
        message(
            R"({"retort_report": 1, "models": [{"key": "a", "role": "other", "values": {"x": {"value": "1"}}}]})"),
        HasSubstr("values.x"));
    EXPECT_THAT(
        message(
            R"({"retort_report": 1, "metrics": [{"key": "a", "format": "plain", "better": "lower", "digits": 99}]})"),
        HasSubstr("digits is 99"));
    EXPECT_THAT(message(R"({"retort_report": 1, "notes": [3]})"), HasSubstr("notes"));
    EXPECT_EQ(message(R"({"retort_report": 1})"), "read");
}

TEST(ReportHtml, needs_nothing_else_and_runs_nothing) {
    const std::string html = report_to_html(example_report());
    EXPECT_THAT(html, Not(HasSubstr("<script")));
    EXPECT_THAT(html, Not(HasSubstr("http://")));
    EXPECT_THAT(html, Not(HasSubstr("https://")));
    EXPECT_THAT(html, Not(HasSubstr("url(")));
    EXPECT_THAT(html, Not(HasSubstr("@import")));
    EXPECT_THAT(html, HasSubstr("default-src 'none'"));
    EXPECT_THAT(html, HasSubstr("prefers-color-scheme:dark"));
}

// Every text of a report set to an attack: none may come out as markup, in text or in an attribute.
TEST(ReportHtml, loads_itself_again_only_while_it_is_told_to) {
    ComparisonReport report = example_report();
    EXPECT_EQ(report_to_html(report).find("http-equiv=\"refresh\""), std::string::npos);
    EXPECT_NE(report_to_html(report, 5).find("<meta http-equiv=\"refresh\" content=\"5\">"),
              std::string::npos);
    EXPECT_NE(report_to_html(report).find("Held-out loss"), std::string::npos);
    for (TrainingCurve& curve : report.curves) {
        for (CurvePoint& point : curve.points) point.held_out.reset();
    }
    EXPECT_EQ(report_to_html(report).find("Held-out loss"), std::string::npos);
}

TEST(ReportHtml, no_text_becomes_markup) {
    const std::string attack = "</p><script>x()</script>\"><img src=x onerror=x()>' onload='x()";
    ComparisonReport report = example_report();
    for (std::string* text : {&report.title, &report.summary, &report.date, &report.machine, &report.program,
                              &report.command, &report.recipe}) {
        *text = attack;
    }
    for (Finding& finding : report.findings) finding.text = finding.detail = attack;
    for (MetricInfo& metric : report.metrics) metric.name = metric.unit = metric.note = attack;
    for (ModelEntry& model : report.models) model.name = model.note = attack;
    for (Sample& sample : report.samples) {
        sample.prompt = attack;
        for (SampleAnswer& answer : sample.answers) answer.text = answer.model = attack;
    }
    for (TrainingCurve& curve : report.curves) curve.objective = attack;
    for (Fact& fact : report.facts) fact.label = fact.value = attack;
    for (std::string& note : report.notes) note = attack;
    for (FileEntry& file : report.files) file.role = file.path = file.sha256 = attack;
    const std::string html = report_to_html(report);
    EXPECT_THAT(html, Not(HasSubstr("<script")));
    EXPECT_THAT(html, Not(HasSubstr("<img")));
    // An apostrophe or quote of the attack that stands unescaped would end an attribute.
    EXPECT_THAT(html, Not(HasSubstr("onload='")));
    EXPECT_THAT(html, Not(HasSubstr("\"><img")));
    EXPECT_THAT(html, HasSubstr("&lt;script&gt;"));
}

// Tags open and close in order: what a browser would mend silently is a fault here.
TEST(ReportHtml, elements_nest) {
    const std::string html = report_to_html(example_report());
    std::vector<std::string> open;
    for (std::size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
        const std::size_t end = html.find('>', at);
        ASSERT_NE(end, std::string::npos);
        const std::string tag = html.substr(at + 1, end - at - 1);
        if (tag[0] == '!' || tag.ends_with('/') || tag.starts_with("meta")) continue;
        const std::string name = tag.substr(tag[0] == '/' ? 1 : 0, tag.find(' ') - (tag[0] == '/' ? 1 : 0));
        if (tag[0] != '/') {
            open.push_back(name);
            continue;
        }
        ASSERT_FALSE(open.empty()) << tag;
        ASSERT_EQ(open.back(), name) << html.substr(at > 200 ? at - 200 : 0, 240);
        open.pop_back();
    }
    EXPECT_TRUE(open.empty());
}

TEST(ReportHtml, sparse_and_odd_reports_draw_no_nonsense) {
    ComparisonReport report;
    EXPECT_THAT(report_to_html(report), HasSubstr("</html>"));
    EXPECT_EQ(render_table(report), "");
    report.metrics = {{"a", "A", "", "", NumberFormat::plain, 2, Better::lower}};
    const double infinity = std::numeric_limits<double>::infinity();
    for (const auto& [value, low, high] : {std::tuple{0.0, 0.0, 0.0},
                                           {-5.0, -6.0, -4.0},
                                           {1e300, 1e299, 1.5e300},
                                           {std::nan(""), 0.0, 1.0},
                                           {infinity, 0.0, infinity},
                                           {1.0, -1e-9, 2.0}}) {
        ModelEntry model{"m", "M", Role::other, "", {}};
        model.values["a"] = Measured(value, low, high);
        report.models = {model, {"n", "N", Role::before, "", {{"a", Measured(3)}}}};
        report.curves = {{"m", "ce", {{1, value, 0, 0, 0}}}, {"gone", "ce", {}}};
        report.reliability = {{"m", {{0, 0, 0}}}};
        const std::string html = report_to_html(report);
        EXPECT_THAT(html, Not(HasSubstr("nan"))) << value;
        EXPECT_THAT(html, Not(HasSubstr("inf\""))) << value;
        EXPECT_LT(html.size(), 60000U);
    }
}

TEST(EscapeHtml, text_that_is_no_utf8) {
    EXPECT_EQ(escape_html("a<b>&\"'\n\t"), "a&lt;b&gt;&amp;&quot;&#39;\n\t");
    EXPECT_EQ(escape_html("é 日本 🙂"), "é 日本 🙂");
    const std::string bad = "\xEF\xBF\xBD";
    EXPECT_EQ(escape_html("\xFF"), bad);
    EXPECT_EQ(escape_html(std::string_view("\0", 1)), bad);
    EXPECT_EQ(escape_html("\xC0\xAF"), bad + bad);               // overlong
    EXPECT_EQ(escape_html("\xED\xA0\x80"), bad + bad + bad);     // surrogate
    EXPECT_EQ(escape_html("x\xE2\x82"), "x" + bad + bad);        // cut
    EXPECT_EQ(escape_html("\xE2\x82<"), bad + bad + "&lt;");     // cut, then markup
    EXPECT_EQ(escape_html("\xF4\x90\x80\x80").size(), 4U * 3U);  // beyond U+10FFFF
}

TEST(RenderTable, lines_fit_and_align) {
    const ComparisonReport report = example_report();
    for (const int width : {72, 100, 160}) {
        const std::string table = render_table(report, width);
        std::istringstream lines(table);
        for (std::string line; std::getline(lines, line);) {
            const auto columns = std::count_if(line.begin(), line.end(), [](char c) {
                return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
            });
            EXPECT_LE(columns, width) << line;
        }
        EXPECT_THAT(table, HasSubstr("[60.0, 62.6]"));
        EXPECT_THAT(table, HasSubstr("✓ Top-1 agreement: Student, distilled beats"));
    }
}

TEST(RenderTable, control_characters_of_a_name_do_not_reach_the_terminal) {
    ComparisonReport report = example_report();
    report.models[0].name = "evil\x1b[2Jname\n";
    EXPECT_THAT(render_table(report), Not(HasSubstr("\x1b")));
    EXPECT_THAT(render_table(report), HasSubstr("evil[2Jname "));
}

TEST(FormatValue, reads_as_a_person_writes) {
    EXPECT_EQ(format_value(standard_metric("agreement"), 0.5123), "51.2 %");
    EXPECT_EQ(format_value(standard_metric("kl"), 1.18951), "1.190");
    EXPECT_EQ(format_value(standard_metric("kl"), -1e-9), "0.000");
    EXPECT_EQ(format_value(standard_metric("parameters"), 134515008), "134.5 M");
    EXPECT_EQ(format_value(standard_metric("bytes"), 98e6), "98.0 MB");
    EXPECT_EQ(format_value(standard_metric("kl"), std::nan("")), "–");
    EXPECT_EQ(format_interval(standard_metric("agreement"), {0.5, 0.48, 0.52}), "[48.0, 52.0]");
    EXPECT_EQ(format_interval(standard_metric("agreement"), 0.5), "");
}

TEST(Separation, says_what_the_intervals_say) {
    const MetricInfo& kl = standard_metric("kl");
    const auto model = [](const std::string& name, Measured value) {
        return ModelEntry{name, name, Role::other, "", {{"kl", value}}};
    };
    const ModelEntry good = model("good", {1.0, 0.9, 1.1});
    const ModelEntry bad = model("bad", {2.0, 1.8, 2.2});
    const ModelEntry near = model("near", {1.15, 1.05, 1.25});
    const Finding clear = separation(kl, good, bad, {-1, -1.2, -0.8});
    EXPECT_EQ(clear.verdict, Verdict::supported);
    EXPECT_EQ(clear.text, "KL to the teacher: good beats bad by 1.000 nats per token");
    EXPECT_THAT(clear.detail, HasSubstr("do not overlap"));
    EXPECT_THAT(clear.detail, HasSubstr("[0.800, 1.200]"));
    const Finding overlapping = separation(kl, good, near, {-0.15, -0.2, -0.1});
    EXPECT_EQ(overlapping.verdict, Verdict::not_supported);
    EXPECT_THAT(overlapping.detail, HasSubstr("the intervals overlap"));
    EXPECT_THAT(overlapping.detail, Not(HasSubstr("holds 0")));
    const Finding reversed = separation(kl, bad, good, {1, 0.8, 1.2});
    EXPECT_EQ(reversed.verdict, Verdict::not_supported);
    EXPECT_THAT(reversed.text, HasSubstr("bad is behind good by 1.000"));
    EXPECT_THAT(separation(kl, good, near, {-0.15, -0.4, 0.1}).detail, HasSubstr("which holds 0"));
    const ModelEntry one_answer = model("one", Measured(stats::Estimate{1, -INFINITY, INFINITY}));
    EXPECT_EQ(separation(kl, one_answer, bad, {-1, -2, 0}).verdict, Verdict::not_supported);
}

TEST(Ticks, round_values_inside_the_range) {
    for (const auto& [low, high] :
         {std::pair{0.0, 1.0}, {0.571, 0.922}, {-3.0, 47.0}, {0.0, 3e-4}, {9999.0, 10001.0}}) {
        const Ticks ticks = linear_ticks(low, high, 5);
        EXPECT_GE(ticks.at.size(), 3U) << low;
        EXPECT_LE(ticks.at.size(), 11U) << low;
        for (const double tick : ticks.at) {
            EXPECT_GE(tick, low - 1e-9 * (high - low));
            EXPECT_LE(tick, high + 1e-9 * (high - low));
            // What is printed is where it stands.
            EXPECT_NEAR(std::stod(fmt::format("{:.{}f}", tick, ticks.digits)), tick, 1e-6 * (high - low));
        }
    }
    EXPECT_TRUE(linear_ticks(1, 1, 5).at.empty());
    EXPECT_TRUE(linear_ticks(0, std::numeric_limits<double>::infinity(), 5).at.empty());
    EXPECT_EQ(log_ticks(0.4, 9).at, (std::vector<double>{0.5, 1, 2, 5}));
    EXPECT_TRUE(log_ticks(-1, 9).at.empty());
}

TEST(WriteReport, both_files_and_hashes) {
    const auto folder = std::filesystem::path(::testing::TempDir()) / "retort_report";
    std::filesystem::remove_all(folder);
    ASSERT_TRUE(write_report(example_report(), folder));
    const auto read = read_report(folder / "report.json");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*base::read_file(folder / "report.html"), report_to_html(*read));
    const auto entry = file_entry("report", folder / "report.json");
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->bytes, static_cast<std::int64_t>(std::filesystem::file_size(folder / "report.json")));
    EXPECT_EQ(entry->sha256.size(), 64U);
    EXPECT_FALSE(file_entry("gone", folder / "gone"));
}

}  // namespace
}  // namespace retort::evaluate
