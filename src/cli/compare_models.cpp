#include "cli/compare_models.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/conversation.h"
#include "cli/loaded_model.h"
#include "data/record.h"
#include "evaluate/compare.h"
#include "evaluate/cost.h"
#include "evaluate/findings.h"
#include "evaluate/task.h"
#include "evaluate/training_curve.h"
#include "formats/json.h"
#include "train/text_examples.h"

namespace retort::cli {

namespace {

namespace fs = std::filesystem;

// Held-out records as rows, with a cluster a prompt: answers to one prompt are not independent of each other.
struct HeldOut {
    std::vector<data::Record> records;
    std::vector<data::PackedBatch> packed;
    std::vector<std::vector<std::int32_t>> clusters;
    std::vector<evaluate::EvaluationRow> rows;
    std::vector<std::size_t> prompts;  // index of the first record of each prompt
};

// What tells prompts apart: the prompt file's name for it, or else what was said.
std::string prompt_of(const data::Record& record) {
    if (!record.prompt_id.empty()) return record.prompt_id;
    std::string said;
    for (const data::Message& message : record.request.messages)
        said += (said.empty() ? "" : "\n") + message.role + ": " + message.content;
    return said;
}

Result<std::unique_ptr<HeldOut>> load_held_out(const CompareOptions& options) {
    auto held_out = std::make_unique<HeldOut>();
    RETORT_TRY(held_out->records, data::read_records(options.records));
    if (held_out->records.empty())
        return fail(ErrorCode::invalid_argument, "{}: no records", options.records.string());
    RETORT_TRY(const text::TextModel text, text::load_text_model(options.teacher));
    RETORT_TRY(const std::vector<data::Example> examples,
               train::text_examples(held_out->records, text, options.row_length));
    RETORT_TRY(held_out->packed, data::pack(examples, options.row_length));
    std::map<std::string, std::int32_t> cluster_of_prompt;
    std::map<std::string, std::int32_t> cluster_of_record;
    for (std::size_t i = 0; i < held_out->records.size(); ++i) {
        const data::Record& record = held_out->records[i];
        const auto [found, is_new] =
            cluster_of_prompt.emplace(prompt_of(record), static_cast<std::int32_t>(cluster_of_prompt.size()));
        if (is_new) held_out->prompts.push_back(i);
        cluster_of_record[record.id] = found->second;
    }
    for (const data::PackedBatch& row : held_out->packed) {
        std::vector<std::int32_t> clusters;
        for (const std::int32_t example : row.example_indices) {
            clusters.push_back(cluster_of_record.at(examples[static_cast<std::size_t>(example)].record_id));
        }
        held_out->clusters.push_back(std::move(clusters));
    }
    for (std::size_t i = 0; i < held_out->packed.size(); ++i) {
        const data::PackedBatch& row = held_out->packed[i];
        held_out->rows.push_back(
            {row.tokens, row.targets, row.positions, row.sequence_starts, held_out->clusters[i]});
    }
    return held_out;
}

Result<model::Parameters> load_parameters(const fs::path& path) {
    RETORT_TRY(const model::Weights weights, model::load_weights(path));
    return model::parameters_from(weights);
}

// What a model said to the first prompts, and how the task's check judged it.
struct Answers {
    std::vector<std::string> texts;
    std::optional<evaluate::TaskScore> score;  // none without a verifier
};

std::size_t answered_prompts(const HeldOut& held_out, const CompareOptions& options) {
    return std::min(held_out.prompts.size(), static_cast<std::size_t>(options.task_prompts));
}

struct RenderedPrompts {
    std::vector<std::vector<std::int32_t>> tokens;
    bool starts_in_reasoning = false;  // the template has opened <think> already
};

// The first `count` prompts as the model's own template renders them.
Result<RenderedPrompts> render_prompts(const LoadedModel& local, const HeldOut& held_out, std::size_t count) {
    RenderedPrompts prompts;
    for (std::size_t i = 0; i < count; ++i) {
        const data::Record& record = held_out.records[held_out.prompts[i]];
        auto request = conversation_request(local, record.request.messages);
        if (!request) {
            return fail_from(request.error(),
                             fmt::format("{}: prompt \"{}\"", local.path.string(), prompt_of(record)));
        }
        prompts.starts_in_reasoning = request->starts_in_reasoning;
        prompts.tokens.push_back(std::move(request->tokens.prompt));
    }
    return prompts;
}

// What is said after the reasoning; nothing where it was never closed.
std::string without_reasoning(std::string_view text, bool starts_in_reasoning) {
    generate::ReasoningSplitter splitter(starts_in_reasoning);
    return splitter.push(text).content + splitter.finish().content;
}

Result<evaluate::TaskScore> score_task(std::span<const std::string> texts, bool starts_in_reasoning,
                                       const HeldOut& held_out, const data::Verifier& verifier) {
    std::optional<base::Error> problem;
    evaluate::TaskScore score = evaluate::score_answers(texts, [&](std::string_view text, std::size_t i) {
        const auto verdict = verifier.check(without_reasoning(text, starts_in_reasoning),
                                            held_out.records[held_out.prompts[i]].metadata);
        if (!verdict && !problem) problem = verdict.error();
        return verdict && verdict->passed;
    });
    if (problem) return tl::unexpected(*problem);
    return score;
}

// Greedy answers to the first prompts, several at once.
Result<Answers> answer_task(LoadedModel& local, const HeldOut& held_out, const CompareOptions& options) {
    RETORT_TRY(const auto prompts, render_prompts(local, held_out, answered_prompts(held_out, options)));
    evaluate::AnswerOptions how;
    how.sampling.temperature = 0;
    how.max_tokens = options.max_answer_tokens;
    how.stop_tokens = local.text.end_of_turn_tokens;
    const auto decode = [&](std::span<const std::int32_t> ids) {
        return local.text.tokenizer.decode(ids, true);
    };
    RETORT_TRY(evaluate::GeneratedAnswers generated,
               evaluate::answer_prompts(*local.engine, prompts.tokens, how, decode));
    Answers answers{std::move(generated.texts), std::nullopt};
    if (options.verifier) {
        RETORT_TRY(answers.score,
                   score_task(answers.texts, prompts.starts_in_reasoning, held_out, *options.verifier));
    }
    return answers;
}

// Measured once a file: students of one shape often share what ships.
using SpeedOfFile = std::map<fs::path, evaluate::DecodeSpeed>;

Status add_cost(evaluate::ModelEntry& entry, const fs::path& shipped, const HeldOut& held_out,
                const CompareOptions& options, SpeedOfFile& speeds) {
    RETORT_TRY(LoadedModel local, load_model(shipped.string(), {}));
    if (!speeds.contains(shipped)) {
        RETORT_TRY(const auto prompts, render_prompts(local, held_out, 1));
        RETORT_TRY(speeds[shipped], evaluate::measure_decoding(*local.engine, prompts.tokens,
                                                               {.tokens = options.speed_tokens}));
    }
    const evaluate::DecodeSpeed& speed = speeds.at(shipped);
    entry.values["tokens_per_second"] = speed.tokens_per_second;
    entry.values["cpu_seconds_per_1000_tokens"] = speed.cpu_seconds_per_1000_tokens;
    if (speed.joules_per_1000_tokens) entry.values["joules_per_1000_tokens"] = *speed.joules_per_1000_tokens;
    RETORT_TRY(const std::int64_t bytes, evaluate::size_on_disk(shipped));
    entry.values["bytes"] = static_cast<double>(bytes);
    entry.values["parameters"] = static_cast<double>(local.engine->config().parameter_count());
    return {};
}

// A model that answers: its task score and answers, then size and speed of what is shipped.
Status add_generation(evaluate::ModelEntry& entry, const ComparedModel& model, const HeldOut& held_out,
                      const CompareOptions& options, Answers& answers, SpeedOfFile& speeds) {
    {
        RETORT_TRY(LoadedModel local, load_model(model.path.string(), {}));
        RETORT_TRY(answers, answer_task(local, held_out, options));
        if (answers.score) entry.values["task"] = answers.score->wilson;
    }
    return add_cost(entry, model.shipped.empty() ? model.path : model.shipped, held_out, options, speeds);
}

const ComparedModel* find_role(const CompareOptions& options, evaluate::Role role) {
    const auto found = std::find_if(options.models.begin(), options.models.end(),
                                    [role](const ComparedModel& model) { return model.role == role; });
    return found == options.models.end() ? nullptr : &*found;
}

// What it cost to train, all trainings it went through together.
Status add_training_cost(evaluate::ModelEntry& entry, const ComparedModel& model) {
    evaluate::TrainingCost cost;
    for (const fs::path& file : model.history) {
        RETORT_TRY(const evaluate::TrainingCost one, evaluate::read_training_cost(file));
        cost += one;
    }
    if (cost.tokens + cost.sampled_tokens == 0) return {};
    entry.values["training_gflop"] = cost.flop * 1e-9;
    entry.values["training_cpu_seconds"] = cost.cpu_seconds;
    entry.values["training_tokens"] = cost.tokens;
    if (cost.sampled_tokens > 0) entry.values["sampled_tokens"] = cost.sampled_tokens;
    return {};
}

// Other ways to train the same student: does the distilled one do the task better, and what did each cost?
Status add_rival_findings(evaluate::ComparisonReport& report, const CompareOptions& options,
                          const ComparedModel& distilled,
                          const std::map<std::string, evaluate::TaskScore>& tasks) {
    const evaluate::ModelEntry& ours = *evaluate::find_model(report, distilled.key);
    for (const ComparedModel& rival : options.models) {
        if (!rival.is_rival || rival.key == distilled.key) continue;
        const evaluate::ModelEntry& theirs = *evaluate::find_model(report, rival.key);
        const bool asked_before = find_role(options, evaluate::Role::text_only) == &rival;
        if (!asked_before && tasks.contains(distilled.key) && tasks.contains(rival.key)) {
            RETORT_TRY(const stats::Estimate difference,
                       evaluate::task_difference(tasks.at(distilled.key), tasks.at(rival.key)));
            report.findings.push_back(
                evaluate::separation(evaluate::standard_metric("task"), ours, theirs, difference));
        }
        const auto ratio = evaluate::training_cost_finding(theirs, ours);
        if (ratio) report.findings.push_back(*ratio);
    }
    return {};
}

// Does the distilled student beat the student before, and the one trained on text alone?
Status add_findings(evaluate::ComparisonReport& report, const CompareOptions& options,
                    const std::map<std::string, evaluate::PairScores>& scores,
                    const std::map<std::string, evaluate::TaskScore>& tasks) {
    const ComparedModel* distilled = find_role(options, evaluate::Role::distilled);
    if (distilled == nullptr) return {};
    for (const evaluate::Role role : {evaluate::Role::text_only, evaluate::Role::before}) {
        const ComparedModel* other = find_role(options, role);
        if (other == nullptr) continue;
        const struct {
            const char* key;
            evaluate::Metric metric;
        } metrics[] = {{"agreement", evaluate::Metric::agreement},
                       {"kl", evaluate::Metric::kl},
                       {"nll", evaluate::Metric::nll}};
        for (const auto& [key, metric] : metrics) {
            RETORT_TRY(const stats::Estimate difference,
                       evaluate::metric_difference(scores.at(distilled->key), scores.at(other->key), metric));
            report.findings.push_back(evaluate::separation(
                evaluate::standard_metric(key), *evaluate::find_model(report, distilled->key),
                *evaluate::find_model(report, other->key), difference));
        }
        if (!tasks.contains(distilled->key) || !tasks.contains(other->key)) continue;
        RETORT_TRY(const stats::Estimate difference,
                   evaluate::task_difference(tasks.at(distilled->key), tasks.at(other->key)));
        report.findings.push_back(evaluate::separation(
            evaluate::standard_metric("task"), *evaluate::find_model(report, distilled->key),
            *evaluate::find_model(report, other->key), difference));
    }
    return add_rival_findings(report, options, *distilled, tasks);
}

// What every model scored on every held-out prompt: for intervals and pairings of the reader's own.
Status write_by_prompt(const fs::path& path, const HeldOut& held_out,
                       const std::map<std::string, evaluate::PairScores>& scores) {
    std::string lines;
    for (const auto& [model, score] : scores) {
        for (std::int64_t c = 0; c < score.sums.clusters(); ++c) {
            const auto row = score.sums.row(c);
            const auto sum = [&](evaluate::Column column) { return row[evaluate::column_index(column)]; };
            const double tokens = sum(evaluate::Column::tokens);
            if (tokens == 0) continue;
            const data::Record& first = held_out.records[held_out.prompts[static_cast<std::size_t>(c)]];
            lines += formats::Json({{"model", model},
                                    {"prompt", prompt_of(first)},
                                    {"tokens", tokens},
                                    {"nll", sum(evaluate::Column::student_nll) / tokens},
                                    {"kl", sum(evaluate::Column::kl) / tokens},
                                    {"agreement", sum(evaluate::Column::agreements) / tokens}})
                         .dump() +
                     "\n";
        }
    }
    return base::write_file_atomic(path, lines);
}

}  // namespace

Result<evaluate::ComparisonReport> compare_models(const CompareOptions& options) {
    RETORT_TRY(const std::unique_ptr<HeldOut> held_out, load_held_out(options));
    evaluate::ComparisonReport report;
    report.title = options.title;
    report.date = base::utc_now();
    report.machine = base::cpu_description();
    report.program = "retort " RETORT_VERSION;
    report.command = options.command;
    report.recipe = options.recipe;

    RETORT_TRY(const model::Parameters teacher, load_parameters(options.teacher));
    const evaluate::ModelInput teacher_input{&teacher.layout, {teacher.values.data(), nullptr}};
    RETORT_TRY(const evaluate::ScoredPositions positions,
               evaluate::scored_positions(held_out->rows, teacher.layout.config.vocab_size));
    base::Progress progress("evaluate", options.models.size() + 1, "models", options.quiet);
    RETORT_TRY(const evaluate::HiddenStates teacher_hidden,
               evaluate::hidden_states(teacher_input, held_out->rows));
    std::map<std::string, evaluate::PairScores> scores;
    for (const ComparedModel& model : options.models) {
        RETORT_TRY(const model::Parameters student, load_parameters(model.path));
        if (student.layout.config.vocab_size != teacher.layout.config.vocab_size) {
            return fail(
                ErrorCode::invalid_argument,
                "{}: a vocabulary of {}, the teacher's has {}: they cannot be compared token by token",
                model.path.string(), student.layout.config.vocab_size, teacher.layout.config.vocab_size);
        }
        const evaluate::ModelInput input{&student.layout, {student.values.data(), nullptr}};
        RETORT_TRY(const evaluate::HiddenStates hidden, evaluate::hidden_states(input, held_out->rows));
        RETORT_TRY(scores[model.key],
                   evaluate::compare_hidden(input, hidden, &teacher_input, &teacher_hidden, positions));
        if (base::interrupted()) return fail(ErrorCode::cancelled, "interrupted; run the same command again");
    }

    if (!options.by_prompt.empty()) RETORT_CHECK(write_by_prompt(options.by_prompt, *held_out, scores));

    std::vector<ComparedModel> all = options.models;
    all.insert(all.begin(),
               {"teacher", "Teacher", evaluate::Role::teacher, options.teacher, {}, {}, {}, {}, {}, false});
    std::vector<Answers> answers(all.size());
    std::map<std::string, evaluate::TaskScore> tasks;
    SpeedOfFile speeds;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const ComparedModel& model = all[i];
        evaluate::ModelEntry entry;
        entry.key = model.key;
        entry.name = model.name;
        entry.role = model.role;
        entry.note = model.note;
        if (model.role == evaluate::Role::teacher) {
            if (!scores.empty()) {
                const evaluate::PairScores& any = scores.begin()->second;
                evaluate::add_teacher_values(entry, any);
                report.reliability.push_back(
                    evaluate::reliability_of(model.key, any, evaluate::Side::teacher));
            }
        } else {
            evaluate::add_student_values(entry, scores.at(model.key));
            report.reliability.push_back(
                evaluate::reliability_of(model.key, scores.at(model.key), evaluate::Side::student));
            if (!model.metrics.empty()) {
                RETORT_TRY(evaluate::TrainingCurve curve, evaluate::read_training_curve(model.metrics));
                curve.model = model.key;
                curve.objective = model.objective;
                report.curves.push_back(std::move(curve));
            }
            RETORT_CHECK(add_training_cost(entry, model));
        }
        RETORT_CHECK(add_generation(entry, model, *held_out, options, answers[i], speeds));
        if (answers[i].score) tasks.emplace(model.key, *answers[i].score);
        report.models.push_back(std::move(entry));
        const fs::path shipped = model.shipped.empty() ? model.path : model.shipped;
        const fs::path file = fs::is_directory(shipped) ? shipped / "model.safetensors" : shipped;
        if (fs::exists(file)) {
            RETORT_TRY(evaluate::FileEntry file_entry, evaluate::file_entry(model.name, file));
            report.files.push_back(std::move(file_entry));
        }
        progress.update(i + 1, model.name);
    }
    progress.finish();
    RETORT_TRY(evaluate::FileEntry records_entry, evaluate::file_entry("held-out records", options.records));
    report.files.push_back(std::move(records_entry));
    report.metrics = evaluate::metrics_in_use(report.models);
    RETORT_CHECK(add_findings(report, options, scores, tasks));
    report.summary = evaluate::summary_of(report);

    constexpr std::size_t shown_samples = 8;
    for (std::size_t i = 0; i < std::min(shown_samples, answers[0].texts.size()); ++i) {
        evaluate::Sample sample;
        sample.prompt = held_out->records[held_out->prompts[i]].request.messages.back().content;
        for (std::size_t m = 0; m < all.size(); ++m) {
            evaluate::SampleAnswer answer{all[m].key, answers[m].texts[i], std::nullopt};
            if (answers[m].score) answer.passed = answers[m].score->passed[i] != 0;
            sample.answers.push_back(std::move(answer));
        }
        report.samples.push_back(std::move(sample));
    }
    report.facts.push_back({"held-out answers", std::to_string(held_out->records.size())});
    report.facts.push_back({"held-out prompts", std::to_string(held_out->prompts.size())});
    report.facts.push_back({"scored tokens", std::to_string(positions.targets.size())});
    report.facts.push_back({"intervals", "95 %, bootstrap over prompts; Wilson for the task's score"});
    report.facts.push_back({"answers for the task's score", "greedy"});
    report.facts.insert(report.facts.end(), options.facts.begin(), options.facts.end());
    return report;
}

}  // namespace retort::cli
