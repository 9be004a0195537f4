#include "cli/compare_models.h"

#include <sys/resource.h>

#include <algorithm>
#include <future>
#include <latch>
#include <map>
#include <mutex>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/conversation.h"
#include "cli/loaded_model.h"
#include "data/record.h"
#include "evaluate/compare.h"
#include "evaluate/findings.h"
#include "stats/proportion.h"
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
            cluster_of_prompt.emplace(record.prompt_id, static_cast<std::int32_t>(cluster_of_prompt.size()));
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

std::int64_t bytes_on_disk(const fs::path& path) {
    std::error_code code;
    if (!fs::is_directory(path, code)) return static_cast<std::int64_t>(fs::file_size(path, code));
    std::int64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(path, code)) {
        if (entry.path().extension() == ".safetensors")
            bytes += static_cast<std::int64_t>(entry.file_size(code));
    }
    return bytes;
}

struct Answers {
    std::vector<std::string> texts;
    std::vector<bool> passed;  // empty without a verifier
};

// Greedy answers to the first prompts, several at once.
Result<Answers> answer_prompts(LoadedModel& local, const HeldOut& held_out, const CompareOptions& options) {
    const auto count = std::min(held_out.prompts.size(), static_cast<std::size_t>(options.task_prompts));
    Answers answers;
    answers.texts.resize(count);
    std::mutex mutex;
    std::string problem;
    std::latch all_done(static_cast<std::ptrdiff_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
        const data::Record& record = held_out.records[held_out.prompts[i]];
        RETORT_TRY(generate::TextRequest request, conversation_request(local, record.request.messages));
        request.tokens.sampling.temperature = 0;
        request.tokens.max_tokens = options.max_answer_tokens;
        const auto submitted = generate::submit_text(
            *local.engine, local.text.tokenizer, std::move(request),
            [&answers, i](const generate::TextDelta& delta) {
                answers.texts[i] += delta.content;
                return !base::interrupted();
            },
            [&](Result<generate::TextCompletion> completion) {
                if (!completion) {
                    const std::lock_guard lock(mutex);
                    problem = completion.error().message;
                }
                all_done.count_down();
            });
        if (!submitted) {
            all_done.count_down(static_cast<std::ptrdiff_t>(count - i));
            all_done.wait();
            return fail_from(submitted.error());
        }
    }
    all_done.wait();
    if (base::interrupted())
        return fail(ErrorCode::cancelled, "interrupted while models answered; run the same command again");
    if (!problem.empty()) return fail(ErrorCode::internal, "generation: {}", problem);
    if (!options.verifier) return answers;
    for (std::size_t i = 0; i < count; ++i) {
        const data::Record& record = held_out.records[held_out.prompts[i]];
        RETORT_TRY(const data::Verdict verdict, options.verifier->check(answers.texts[i], record.metadata));
        answers.passed.push_back(verdict.passed);
    }
    return answers;
}

struct Speed {
    double tokens_per_second = 0;
    double cpu_seconds_per_1000 = 0;
};

double cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// One sequence, decoded without a stop: the median of three stretches, prompt not counted.
Result<Speed> measure_speed(LoadedModel& local, const CompareOptions& options) {
    std::vector<Speed> runs;
    for (int i = 0; i < 3; ++i) {
        generate::Request request;
        request.prompt = local.text.tokenizer.encode("Once upon a time", {});
        request.sampling.temperature = 0;
        request.max_tokens = options.speed_tokens;
        double first = 0;
        double first_cpu = 0;
        std::int64_t tokens = 0;
        RETORT_CHECK(local.engine->generate(std::move(request), [&](const generate::TokenEvent&) {
            if (tokens++ == 0) {
                first = base::monotonic_seconds();
                first_cpu = cpu_seconds();
            }
            return true;
        }));
        if (tokens < 2) continue;
        const auto counted = static_cast<double>(tokens - 1);
        runs.push_back(
            {counted / (base::monotonic_seconds() - first), (cpu_seconds() - first_cpu) / counted * 1000});
    }
    if (runs.empty()) return Speed{};
    std::sort(runs.begin(), runs.end(),
              [](const Speed& a, const Speed& b) { return a.tokens_per_second < b.tokens_per_second; });
    return runs[runs.size() / 2];
}

evaluate::TrainingCurve read_curve(const ComparedModel& model) {
    evaluate::TrainingCurve curve;
    curve.model = model.key;
    curve.objective = model.objective;
    const auto text = base::read_file(model.metrics);
    if (!text) return curve;
    std::size_t begin = 0;
    while (begin < text->size()) {
        const std::size_t end = std::min(text->find('\n', begin), text->size());
        const auto json = formats::parse_json(text->substr(begin, end - begin), model.metrics.string());
        begin = end + 1;
        if (!json || !json->is_object()) continue;
        evaluate::CurvePoint point;
        point.step = json->value("step", std::int64_t{0});
        point.loss = json->value("loss", 0.0);
        point.learning_rate = json->value("learning_rate", 0.0);
        const double seconds = json->value("seconds", 0.0);
        if (seconds > 0) point.tokens_per_second = json->value("tokens", 0.0) / seconds;
        curve.points.push_back(point);
    }
    return curve;
}

// A model that answers: its task score and answers, then size and speed of what is shipped.
Status add_generation(evaluate::ModelEntry& entry, const ComparedModel& model, const HeldOut& held_out,
                      const CompareOptions& options, Answers& answers) {
    {
        RETORT_TRY(LoadedModel local, load_model(model.path.string(), {}));
        RETORT_TRY(answers, answer_prompts(local, held_out, options));
        if (!answers.passed.empty()) {
            const auto passed = std::count(answers.passed.begin(), answers.passed.end(), true);
            entry.values["task"] = stats::wilson(passed, static_cast<std::int64_t>(answers.passed.size()));
        }
    }
    const fs::path shipped = model.shipped.empty() ? model.path : model.shipped;
    RETORT_TRY(LoadedModel local, load_model(shipped.string(), {}));
    RETORT_TRY(const Speed speed, measure_speed(local, options));
    entry.values["tokens_per_second"] = speed.tokens_per_second;
    entry.values["cpu_seconds_per_1000_tokens"] = speed.cpu_seconds_per_1000;
    entry.values["bytes"] = static_cast<double>(bytes_on_disk(shipped));
    entry.values["parameters"] = static_cast<double>(local.engine->config().parameter_count());
    return {};
}

const ComparedModel* find_role(const CompareOptions& options, evaluate::Role role) {
    const auto found = std::find_if(options.models.begin(), options.models.end(),
                                    [role](const ComparedModel& model) { return model.role == role; });
    return found == options.models.end() ? nullptr : &*found;
}

// Does the distilled student beat the student before, and the one trained on text alone?
Status add_findings(evaluate::ComparisonReport& report, const CompareOptions& options,
                    const std::map<std::string, evaluate::PairScores>& scores) {
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
    }
    return {};
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

    std::vector<ComparedModel> all = options.models;
    all.insert(all.begin(), {"teacher", "Teacher", evaluate::Role::teacher, options.teacher, {}, {}, {}, {}});
    std::vector<Answers> answers(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
        const ComparedModel& model = all[i];
        evaluate::ModelEntry entry;
        entry.key = model.key;
        entry.name = model.name;
        entry.role = model.role;
        entry.note = model.note;
        if (model.role == evaluate::Role::teacher) {
            if (!scores.empty()) evaluate::add_teacher_values(entry, scores.begin()->second);
        } else {
            evaluate::add_student_values(entry, scores.at(model.key));
            report.reliability.push_back(
                evaluate::reliability_of(model.key, scores.at(model.key), evaluate::Side::student));
            if (!model.metrics.empty()) report.curves.push_back(read_curve(model));
        }
        RETORT_CHECK(add_generation(entry, model, *held_out, options, answers[i]));
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
    RETORT_CHECK(add_findings(report, options, scores));

    constexpr std::size_t shown_samples = 8;
    for (std::size_t i = 0; i < std::min(shown_samples, answers[0].texts.size()); ++i) {
        evaluate::Sample sample;
        sample.prompt = held_out->records[held_out->prompts[i]].request.messages.back().content;
        for (std::size_t m = 0; m < all.size(); ++m) {
            evaluate::SampleAnswer answer{all[m].key, answers[m].texts[i], std::nullopt};
            if (!answers[m].passed.empty()) answer.passed = answers[m].passed[i];
            sample.answers.push_back(std::move(answer));
        }
        report.samples.push_back(std::move(sample));
    }
    report.facts.push_back({"held-out answers", std::to_string(held_out->records.size())});
    report.facts.push_back({"held-out prompts", std::to_string(held_out->prompts.size())});
    report.facts.push_back({"scored tokens", std::to_string(positions.targets.size())});
    report.facts.push_back({"intervals", "95 %, bootstrap over prompts; Wilson for the task's score"});
    report.facts.push_back({"answers for the task's score", "greedy"});
    return report;
}

}  // namespace retort::cli
