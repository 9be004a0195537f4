#include "train/onpolicy_job.h"

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/lineage.h"
#include "data/record.h"
#include "tensor/gemm.h"
#include "train/model_files.h"
#include "train/text_examples.h"

namespace retort::train {

namespace {

Result<model::Parameters> load_parameters(const std::filesystem::path& path) {
    RETORT_TRY(const model::Weights weights, model::load_weights(path));
    return model::parameters_from(weights);
}

Status check_tokenizers(const OnPolicyJob& job, const text::TextModel& text) {
    RETORT_TRY(const text::TextModel teacher, text::load_text_model(job.teacher));
    if (teacher.tokenizer.hash() == text.tokenizer.hash()) return {};
    return fail(
        ErrorCode::invalid_argument,
        "{} and {} have different tokenizers: objective {} compares token by token; take a teacher of "
        "the student's tokenizer, or train on the teacher's text with ce",
        job.teacher.string(), job.student.string(), on_policy_name(job.options.kind));
}

}  // namespace

Result<std::unique_ptr<PreparedOnPolicy>> prepare_on_policy(const OnPolicyJob& job) {
    if (job.student.empty())
        return fail(ErrorCode::invalid_argument, "a student that answers needs weights: give --student");
    RETORT_TRY(text::TextModel text, text::load_text_model(job.student));
    auto prepared = std::make_unique<PreparedOnPolicy>(PreparedOnPolicy{std::move(text), {}, {}, {}, {}, {}});
    RETORT_TRY(prepared->student, load_parameters(job.student));
    const bool wants_teacher = job.options.kind != OnPolicyKind::grpo;
    if (wants_teacher && !job.teacher.empty()) {
        RETORT_CHECK(check_tokenizers(job, prepared->text));
        RETORT_TRY(prepared->teacher, load_parameters(job.teacher));
    }
    RETORT_TRY(prepared->prompts, tokenise_prompts(job.prompts, prepared->text));
    OnPolicyOptions& options = prepared->options;
    options = job.options;
    if (options.kind == OnPolicyKind::gkd && options.lambda < 1 && !job.records.empty()) {
        RETORT_TRY(const std::vector<data::Record> records, data::read_records(job.records));
        RETORT_TRY(const auto examples, text_examples(records, prepared->text, options.row_length));
        RETORT_TRY(prepared->rows, data::pack(examples, options.row_length));
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(job.records));
        options.train.data_hash = base::to_hex(hash);
    }
    options.train.folder = job.output;
    options.train.start_name = job.student.string();
    if (job.auto_dtype) options.train.bf16 = tensor::has_fast_bf16();
    return prepared;
}

OnPolicyInputs inputs_of(const PreparedOnPolicy& prepared, const OnPolicyJob& job) {
    OnPolicyInputs inputs;
    inputs.prompts = prepared.prompts;
    inputs.text = &prepared.text;
    inputs.teacher = prepared.teacher ? &*prepared.teacher : nullptr;
    inputs.verifier = job.verifier ? &*job.verifier : nullptr;
    inputs.rows = prepared.rows;
    return inputs;
}

Result<OnPolicyReport> distill_on_policy(const OnPolicyJob& job) {
    RETORT_TRY(const std::unique_ptr<PreparedOnPolicy> prepared, prepare_on_policy(job));
    const OnPolicyOptions& options = prepared->options;
    spdlog::info("{}: {} on {} prompts, {} steps of {} prompts by {} answers of at most {} tokens",
                 options.train.label, on_policy_name(options.kind), prepared->prompts.size(), options.steps,
                 options.prompts_per_step, options.samples, options.max_answer_tokens);
    OnPolicyReport report;
    report.model = job.output / "model";
    RETORT_TRY(report.train, train_on_policy(prepared->student, inputs_of(*prepared, job), options));
    for (const StepRecord& record : report.train.curve) report.sampled_tokens += record.sampled_tokens;
    if (options.train.world != nullptr && !options.train.world->is_first()) return report;
    RETORT_CHECK(save_model_folder(report.model, prepared->student, prepared->text, tensor::DType::f32));
    data::Lineage lineage;
    lineage.made_by = "retort distill";
    lineage.objective = on_policy_name(options.kind);
    RETORT_CHECK(
        data::save_lineage(job.output / "lineage.json", std::move(lineage),
                           {{"teacher", job.teacher}, {"start", job.student}, {"records", job.records}}));
    RETORT_CHECK(base::write_file_atomic(job.output / "distill.json", report_json(report, job)));
    return report;
}

std::string report_json(const OnPolicyReport& report, const OnPolicyJob& job) {
    const OnPolicyOptions& options = job.options;
    const StepRecord last = report.train.curve.empty() ? StepRecord{} : report.train.curve.back();
    const nlohmann::ordered_json json = {
        {"teacher", job.teacher.string()},
        {"start", job.student.string()},
        {"objective", on_policy_name(options.kind)},
        {"steps", report.train.steps},
        {"prompts_per_step", options.prompts_per_step},
        {"samples", options.samples},
        {"learning_rate", options.train.learning_rate},
        {"seed", options.train.seed},
        {"sampled_tokens", report.sampled_tokens},
        {"tokens", report.train.tokens},
        {"trained_tokens", report.train.trained_tokens},
        {"final_loss", last.loss},
        {"final_correct", last.correct},
        {"cpu_seconds", report.train.cpu_seconds},
        {"flop", report.train.flop},
    };
    return json.dump(2) + "\n";
}

}  // namespace retort::train
