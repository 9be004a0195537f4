#include "train/preflight.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/log.h"
#include "data/record.h"
#include "train/preflight_page.h"
#include "train/pruned_start.h"
#include "train/text_examples.h"

namespace retort::train {

namespace {

void check_vocabulary(const PreparedRun& run, Page& page) {
    const std::int64_t ids = run.text.tokenizer.vocab_size();
    page.vocabulary("student", run.student.layout.config.vocab_size, ids);
    if (run.teacher) {
        page.vocabulary("teacher", run.teacher->layout.config.vocab_size, ids);
        page.good("tokenizer", "teacher and student have the same, by its hash");
    } else if (run.cache) {
        page.good("tokenizer", fmt::format("the cache's is the student's; its teacher is {}",
                                           run.cache->header().teacher));
    } else {
        page.note("tokenizer", "no teacher's distribution is used; the text alone is learnt");
    }
}

Status check_template(const PreparedRun& run, const DistillOptions& options, Page& page) {
    RETORT_TRY(const std::vector<data::Record> records, data::read_records(options.records));
    const data::Renderer render = chat_renderer(run.text);
    std::size_t tried = 0;
    std::string first_wrong;
    for (const data::Record& record : records) {
        if (tried == most_round_trips) break;
        const auto example =
            std::find_if(run.examples.begin(), run.examples.end(),
                         [&](const data::Example& one) { return one.record_id == record.id; });
        if (example == run.examples.end()) continue;
        ++tried;
        std::vector<data::Message> messages = record.request.messages;
        messages.push_back({.role = "assistant", .content = record.content, .reasoning = record.reasoning});
        RETORT_TRY(const std::string full, render(messages, false));
        const std::string back = run.text.tokenizer.decode(example->tokens);
        std::vector<std::int32_t> answer;
        for (std::size_t i = 0; i < example->tokens.size(); ++i) {
            if (example->trained[i] != 0) answer.push_back(example->tokens[i]);
        }
        const std::string trained = run.text.tokenizer.decode(answer, true);
        // Templates that drop the reasoning write another text than the one that is trained.
        const bool same = !record.reasoning.empty() || without_blanks(full).starts_with(without_blanks(back));
        const bool has_answer = trained.find(without_blanks(record.content)) != std::string::npos;
        if ((!same || !has_answer) && first_wrong.empty()) first_wrong = record.id;
    }
    if (first_wrong.empty()) {
        page.good("template",
                  fmt::format("{} conversations come back from their tokens as they were written, "
                              "the answers whole and trained",
                              tried));
    } else {
        page.problem(
            "template",
            fmt::format("record {}: its tokens do not read back as its conversation, or its answer is "
                        "not what is trained; the template or tokenizer is not understood",
                        first_wrong));
    }
    if (run.examples.size() < records.size()) {
        page.note("data",
                  fmt::format("{} of {} records are left out: longer than a row of {}, or with a "
                              "special token's text in them",
                              records.size() - run.examples.size(), records.size(), options.row_length));
    }
    return {};
}

void check_mask(const PreparedRun& run, Page& page) {
    double least = 1;
    double most = 0;
    std::int64_t with_bos = 0;
    std::int64_t doubled = 0;
    const std::int32_t bos = run.text.tokenizer.bos_id();
    for (const data::Example& example : run.examples) {
        const double share =
            static_cast<double>(data::trained_targets(example)) / static_cast<double>(example.tokens.size());
        least = std::min(least, share);
        most = std::max(most, share);
        if (bos < 0 || example.tokens[0] != bos) continue;
        ++with_bos;
        if (example.tokens.size() > 1 && example.tokens[1] == bos && bos != run.text.tokenizer.eos_id())
            ++doubled;
    }
    const DistillReport& report = run.report;
    const std::string text =
        fmt::format("{} of {} tokens are trained ({:.0f} %); of a record, {:.0f} to {:.0f} %",
                    report.trained_tokens, report.tokens,
                    100.0 * static_cast<double>(report.trained_tokens) /
                        static_cast<double>(std::max<std::int64_t>(1, report.tokens)),
                    100 * least, 100 * most);
    if (least <= 0 || most >= 1) {
        page.problem("mask", text + "; a record with nothing or everything trained is not understood");
    } else {
        page.good("mask", text);
    }
    if (doubled > 0) {
        page.problem(
            "BOS",
            fmt::format("{} records begin with it twice; template and tokenizer both write it", doubled));
    } else if (bos < 0) {
        page.good("BOS", "the tokenizer has none");
    } else {
        page.good("BOS",
                  fmt::format("{} of {} records begin with it, none twice", with_bos, run.examples.size()));
    }
}

// Cutting costs nearly everything at once, and text alone brings it back slowest.
void check_objective_of_start(const PreparedRun& run, const DistillOptions& options, Page& page) {
    if (uses_teacher(options.train.objective)) return;
    std::string cut = run.pruned;
    if (cut.empty() && !options.start.model.empty()) cut = pruned_and_untaught(options.start.model);
    if (cut.empty()) return;
    page.note("objective",
              fmt::format("ce learns text alone, and the student was cut out of another model ({} are left): "
                          "its teacher's distribution brings back more of it; use --objective fkl with "
                          "--teacher, or with a --cache of it, and ce afterwards",
                          cut));
}

// Two steps on a copy: the first touches memory for the first time, the second is what a long run sees.
Result<TrainReport> probe(const PreparedRun& run) {
    model::Parameters copy = model::make_parameters(run.student.layout.config);
    std::copy_n(run.student.values.data(), run.student.layout.total, copy.values.data());
    TrainOptions options = run.train;
    options.folder.clear();
    options.max_steps = 2;
    options.quiet = true;
    return train(copy, run.teacher ? &*run.teacher : nullptr, run.rows, options);
}

void check_loss(const PreparedRun& run, const TrainReport& report, Preflight& found, Page& page) {
    const StepRecord& first = report.curve.front();
    found.first_loss = first.loss;
    found.uniform_loss = std::log(static_cast<double>(run.train.vocab_size));
    const std::string text = fmt::format(
        "{} begins at {:.3f}, ce at {:.3f} (a uniform guess: {:.2f}), gradient norm {:.2f}{}",
        objective_text(run.train.objective), first.loss, first.ce, found.uniform_loss, first.gradient_norm,
        run.train.optimiser.clip_norm > 0 ? fmt::format(", clipped at {:g}", run.train.optimiser.clip_norm)
                                          : std::string());
    constexpr double far_above_uniform = 2.0;
    if (!std::isfinite(first.loss) || !std::isfinite(first.gradient_norm)) {
        page.problem("loss", text + "; not a number: weights or objective do not fit");
    } else if (first.ce > far_above_uniform * found.uniform_loss) {
        page.note("loss",
                  text + "; far worse than guessing: the student's weights may not fit its tokenizer");
    } else {
        page.good("loss", text);
    }
}

void check_cost(const PreparedRun& run, const TrainReport& report, std::int64_t loaded_bytes,
                Preflight& found, Page& page) {
    const std::int64_t values =
        4 * (run.student.layout.total + (run.teacher ? run.teacher->layout.total : 0));
    // The plan counts the weights, which are loaded already.
    found.memory_bytes = run.plan.memory_bytes + std::max<std::int64_t>(0, loaded_bytes - values);
    page.memory(found.memory_bytes, loaded_bytes,
                "lower --rows-per-micro-batch, or give --recompute or --moments bf16");
    const StepRecord& step = report.curve.back();
    found.steps = run.plan.steps;
    found.seconds_per_step = step.seconds * static_cast<double>(run.plan.tokens_per_step) /
                             static_cast<double>(std::max<std::int64_t>(1, step.tokens));
    found.seconds = found.seconds_per_step * static_cast<double>(found.steps);
    page.good("time", fmt::format("{} for {} steps of {} tokens, at {:.0f} tokens/s as measured just now",
                                  base::duration_text(found.seconds), found.steps, run.plan.tokens_per_step,
                                  static_cast<double>(step.tokens) / step.seconds));
}

}  // namespace

Result<Preflight> preflight(const DistillOptions& options) {
    Preflight found;
    Page page(found);
    const auto prepared = prepare_run(options);
    if (!prepared) {
        page.problem("start", prepared.error().message);
        return found;
    }
    const PreparedRun& run = **prepared;
    const std::int64_t loaded = resident_bytes();
    check_vocabulary(run, page);
    RETORT_CHECK(check_template(run, options, page));
    check_mask(run, page);
    check_objective_of_start(run, options, page);
    const auto report = probe(run);
    if (!report) {
        page.problem("step", report.error().message);
        return found;
    }
    check_loss(run, *report, found, page);
    check_cost(run, *report, loaded, found, page);
    return found;
}

}  // namespace retort::train
