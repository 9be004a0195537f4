#include "train/distill.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/parallel.h"
#include "data/lineage.h"
#include "data/record.h"
#include "model/fresh.h"
#include "model/prune.h"
#include "tensor/gemm.h"
#include "tensor/machine_rate.h"
#include "text/text_model.h"
#include "train/batches.h"
#include "train/cache_report.h"
#include "train/cached_targets.h"
#include "train/make_cache.h"
#include "train/model_files.h"
#include "train/text_examples.h"

namespace retort::train {

namespace {

namespace fs = std::filesystem;

// f32 GFLOP/s of a product shaped like training's, best of a few: enough for the share that progress shows.
Result<std::vector<data::Example>> load_examples(const fs::path& records_path, const text::TextModel& text,
                                                 std::int64_t row_length) {
    RETORT_TRY(const std::vector<data::Record> records, data::read_records(records_path));
    if (records.empty()) {
        return fail(ErrorCode::invalid_argument, "{}: no records; collect and curate some first",
                    records_path.string());
    }
    return text_examples(records, text, row_length);
}

Result<std::vector<std::int64_t>> choose_layers(const model::Parameters& from, const StudentStart& start,
                                                std::span<const data::PackedBatch> rows) {
    if (!start.layers.empty()) return start.layers;
    const std::int64_t count = from.layout.config.layer_count;
    if (start.keep_layers == 0) return std::vector<std::int64_t>{};
    if (start.keep_layers > 0 && 3 * (count - start.keep_layers) > count) {
        spdlog::warn(
            "{} of {} layers go at once: up to a third, training, and again keeps more of the teacher",
            count - start.keep_layers, count);
    }
    if (start.method == "even") return model::evenly_spread_layers(count, start.keep_layers);
    const bool contiguous = start.method == "contiguous";
    if (!contiguous && start.method != "influence") {
        return fail(ErrorCode::invalid_argument,
                    "layer choice \"{}\" is not known; use influence, contiguous or even", start.method);
    }
    std::vector<model::TokenBatch> batches;
    std::int64_t tokens = 0;
    for (const data::PackedBatch& row : rows) {
        if (tokens >= start.influence_tokens) break;
        batches.push_back({row.tokens, row.positions, row.sequence_starts});
        tokens += static_cast<std::int64_t>(row.tokens.size());
    }
    if (contiguous) {
        const std::int64_t run = std::clamp<std::int64_t>(count - start.keep_layers, 1, count);
        return model::layers_around_a_run(model::block_influence(from, batches, run), count,
                                          start.keep_layers);
    }
    const std::vector<double> influence = model::block_influence(from, batches);
    return model::most_influential_layers(influence, start.keep_layers);
}

// Minitron's advice: at most a third of any width at once.
void warn_of_much(const model::ModelConfig& config, const model::WidthTarget& target) {
    const struct {
        const char* what;
        std::int64_t now;
        std::int64_t kept;
    } widths[] = {{"MLP channels", config.intermediate_size, target.intermediate},
                  {"heads", config.head_count, target.heads},
                  {"hidden channels", config.hidden_size, target.hidden}};
    for (const auto& [what, now, kept] : widths) {
        if (kept > 0 && 3 * (now - kept) > now) {
            spdlog::warn(
                "{} of {} {} go at once: up to a third, training, and again keeps more of the teacher",
                now - kept, now, what);
        }
    }
}

Result<model::Parameters> narrower(const model::Parameters& from, const StudentStart& start,
                                   std::span<const data::PackedBatch> rows) {
    warn_of_much(from.layout.config, start.width);
    std::vector<model::TokenBatch> batches;
    std::int64_t samples = 0;
    for (const data::PackedBatch& row : rows) {
        if (samples >= start.importance_samples) break;
        batches.push_back({row.tokens, row.positions, row.sequence_starts});
        samples += static_cast<std::int64_t>(row.sequence_starts.size()) - 1;
    }
    spdlog::info("start: importance of channels and heads on {} conversations", samples);
    return model::prune_width(from, batches, start.width);
}

// "18 of 30 layers, 1024 of 1536 MLP channels"; empty where both are of one shape.
std::string what_was_cut(const model::ModelConfig& from, const model::ModelConfig& student) {
    std::string text;
    const auto add = [&](std::int64_t kept, std::int64_t of, std::string_view what) {
        if (kept != of) text += fmt::format("{}{} of {} {}", text.empty() ? "" : ", ", kept, of, what);
    };
    add(student.layer_count, from.layer_count, "layers");
    add(student.intermediate_size, from.intermediate_size, "MLP channels");
    add(student.head_count, from.head_count, "heads");
    add(student.hidden_size, from.hidden_size, "hidden channels");
    return text;
}

Result<model::Parameters> fresh_student(const StudentStart& start, const text::Tokenizer& tokenizer) {
    RETORT_TRY(const model::ModelConfig config,
               model::read_fresh_config(start.fresh,
                                        {tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id()}));
    return model::random_parameters(config, start.seed);
}

Result<model::Parameters> start_student(const model::Parameters* teacher, const DistillOptions& options,
                                        const text::Tokenizer& tokenizer,
                                        std::span<const data::PackedBatch> rows,
                                        std::vector<std::int64_t>& kept, std::string& pruned) {
    std::optional<model::Parameters> own;
    if (!options.start.fresh.empty()) {
        RETORT_TRY(own, fresh_student(options.start, tokenizer));
    } else if (!options.start.model.empty()) {
        RETORT_TRY(const model::Weights weights, model::load_weights(options.start.model));
        own = model::parameters_from(weights);
    }
    const model::Parameters* from = own ? &*own : teacher;
    if (from == nullptr) {
        return fail(ErrorCode::invalid_argument,
                    "the student has nothing to start from: give --student, --fresh or --teacher");
    }
    RETORT_TRY(kept, choose_layers(*from, options.start, rows));
    std::vector<std::int64_t> layers = kept;
    if (layers.empty()) {
        if (own && options.start.width.none()) return std::move(*own);
        for (std::int64_t l = 0; l < from->layout.config.layer_count; ++l) layers.push_back(l);
    }
    RETORT_TRY(model::Parameters student, model::keep_layers(*from, layers));
    if (!options.start.width.none()) {
        RETORT_TRY(student, narrower(student, options.start, rows));
    }
    pruned = what_was_cut(from->layout.config, student.layout.config);
    return student;
}

fs::path text_source(const DistillOptions& options) {
    if (!options.start.tokenizer.empty()) return options.start.tokenizer;
    if (!options.start.fresh.empty()) return options.teacher;
    return options.start.model.empty() ? options.teacher : options.start.model;
}

Result<std::unique_ptr<PreparedRun>> prepare(const DistillOptions& options) {
    if (text_source(options).empty()) {
        return fail(ErrorCode::invalid_argument,
                    "a fresh student needs a tokenizer: give --tokenizer or --teacher");
    }
    RETORT_TRY(text::TextModel text, text::load_text_model(text_source(options)));
    auto prepared = std::make_unique<PreparedRun>(
        PreparedRun{std::move(text), {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}});
    RETORT_TRY(prepared->examples, load_examples(options.records, prepared->text, options.row_length));
    RETORT_TRY(prepared->rows, data::pack(prepared->examples, options.row_length));
    if (!options.held_out.empty()) {
        RETORT_TRY(const auto examples, load_examples(options.held_out, prepared->text, options.row_length));
        RETORT_TRY(prepared->held_out, data::pack(examples, options.row_length));
    }
    if (!options.teacher.empty()) {
        RETORT_TRY(const text::TextModel teacher_text, text::load_text_model(options.teacher));
        if (teacher_text.tokenizer.hash() != prepared->text.tokenizer.hash() &&
            uses_teacher(options.train.objective)) {
            return fail(ErrorCode::invalid_argument,
                        "{} and {} have different tokenizers: objective {} compares token by token; use ce",
                        options.teacher.string(), options.start.model.string(),
                        objective_name(options.train.objective.kind));
        }
        // From a cache it is only asked for its hash.
        const bool cached = !options.cache.empty() || !uses_teacher(options.train.objective);
        const bool starts_apart = !options.start.model.empty() || !options.start.fresh.empty();
        if (!cached || !starts_apart) {
            RETORT_TRY(const model::Weights weights, model::load_weights(options.teacher));
            prepared->teacher = model::parameters_from(weights);
        }
    }
    RETORT_TRY(prepared->student,
               start_student(prepared->teacher ? &*prepared->teacher : nullptr, options,
                             prepared->text.tokenizer, prepared->rows, prepared->kept, prepared->pruned));
    return prepared;
}

std::string data_hash(std::span<const data::PackedBatch> rows) {
    std::uint64_t hash = 0;
    for (const data::PackedBatch& row : rows) {
        hash = base::xxh3_64(std::as_bytes(std::span(row.tokens)), hash);
        hash = base::xxh3_64(std::as_bytes(std::span(row.targets)), hash);
        hash = base::xxh3_64(std::as_bytes(std::span(row.sequence_starts)), hash);
    }
    return fmt::format("{:016x}", hash);
}

// A cache for these very examples, of this teacher when one is given beside it.
Result<std::optional<CachedTargets>> open_cache(const DistillOptions& options, const PreparedRun& prepared) {
    if (options.cache.empty() || !uses_teacher(options.train.objective)) return std::nullopt;
    std::string teacher;
    if (!options.teacher.empty()) {
        RETORT_TRY(teacher, model_hash(options.teacher));
    }
    RETORT_TRY(CachedTargets cache, CachedTargets::open(options.cache, prepared.examples,
                                                        prepared.text.tokenizer.hash(), teacher));
    spdlog::info("{}: {} {} of {} a token from {}, {:.1f} bytes a token", options.train.label,
                 cache.header().count,
                 cache.header().encoding == data::CacheEncoding::samples ? "draws" : "likeliest ids",
                 cache.header().teacher, options.cache.string(), cache.summary().bytes_per_token());
    return cache;
}

void announce(const PreparedRun& prepared, const DistillReport& report, const TrainPlan& plan,
              const TrainOptions& train) {
    spdlog::info("{}: {} examples in {} rows, {} tokens of which {} trained ({:.0f} %)", train.label,
                 report.examples, report.rows, report.tokens, report.trained_tokens,
                 100.0 * static_cast<double>(report.trained_tokens) /
                     static_cast<double>(std::max<std::int64_t>(1, report.tokens)));
    spdlog::info(
        "{}: student of {:.1f}M parameters, {} layers{}; objective {}, {} steps{}", train.label,
        static_cast<double>(report.parameters) / 1e6, prepared.student.layout.config.layer_count,
        report.kept_layers.empty() ? std::string() : fmt::format(" ({})", fmt::join(report.kept_layers, ",")),
        objective_text(train.objective), plan.steps,
        plan.seconds > 0 ? fmt::format(", about {}", base::duration_text(plan.seconds)) : std::string());
    spdlog::info("{}: memory {}", train.label, memory_text(plan));
}

std::string start_name(const StudentStart& start) {
    if (!start.fresh.empty()) return fmt::format("fresh {} seed {}", start.fresh.string(), start.seed);
    return start.model.empty() ? "teacher" : start.model.string();
}

}  // namespace

Result<StudentMade> make_student(const DistillOptions& options) {
    RETORT_TRY(std::unique_ptr<PreparedRun> prepared, prepare(options));
    return StudentMade{std::move(prepared->student), std::move(prepared->kept), std::move(prepared->pruned)};
}

Result<std::unique_ptr<PreparedRun>> prepare_run(const DistillOptions& options) {
    RETORT_TRY(std::unique_ptr<PreparedRun> prepared, prepare(options));
    DistillReport& report = prepared->report;
    report.kept_layers = prepared->kept;
    report.pruned = prepared->pruned;
    report.examples = static_cast<std::int64_t>(prepared->examples.size());
    report.rows = static_cast<std::int64_t>(prepared->rows.size());
    for (const data::PackedBatch& row : prepared->rows) {
        report.tokens += static_cast<std::int64_t>(row.tokens.size());
        report.trained_tokens += row.trained_tokens;
    }
    report.parameters = prepared->student.layout.config.parameter_count();
    report.bf16 = options.auto_dtype ? tensor::has_fast_bf16() : options.train.bf16;
    report.model = options.output / "model";

    TrainOptions& train_options = prepared->train;
    train_options = options.train;
    train_options.folder = options.output;
    train_options.bf16 = report.bf16;
    train_options.data_hash = data_hash(prepared->rows);
    train_options.start_name =
        options.start.model.empty() ? options.teacher.string() : options.start.model.string();
    train_options.held_out = prepared->held_out;
    if (options.measure_machine) {
        RETORT_TRY(const double rate, tensor::gemm_rate({1024, 1024, 1024}, report.bf16, 0.3));
        train_options.machine_gflops = rate * 1e-9;
    }
    train_options.vocab_size = prepared->text.tokenizer.vocab_size();
    RETORT_TRY(prepared->cache, open_cache(options, *prepared));
    if (prepared->cache) {
        train_options.cache = &*prepared->cache;
        report.cache = CacheUse{prepared->cache->header(), prepared->cache->summary()};
    }
    if (!uses_teacher(train_options.objective) || prepared->cache) prepared->teacher.reset();
    prepared->plan = plan_training(prepared->student.layout.config,
                                   prepared->teacher ? &prepared->teacher->layout.config : nullptr,
                                   prepared->rows, train_options);
    return prepared;
}

Result<DistillReport> distill(const DistillOptions& options) {
    RETORT_TRY(std::unique_ptr<PreparedRun> prepared, prepare_run(options));
    DistillReport report = prepared->report;
    announce(*prepared, report, prepared->plan, prepared->train);
    RETORT_TRY(report.train, train(prepared->student, prepared->teacher ? &*prepared->teacher : nullptr,
                                   prepared->rows, prepared->train));
    if (options.train.world != nullptr && !options.train.world->is_first()) return report;
    // In f32: what is evaluated and compared is what was trained. Exports round.
    RETORT_CHECK(save_model_folder(report.model, prepared->student, prepared->text, tensor::DType::f32));
    data::Lineage lineage;
    lineage.made_by = "retort distill";
    lineage.pruned = report.pruned;
    lineage.objective = objective_name(options.train.objective.kind);
    const bool taught = uses_teacher(options.train.objective) || options.start.model.empty();
    RETORT_CHECK(data::save_lineage(options.output / "lineage.json", std::move(lineage),
                                    {{"teacher", taught ? options.teacher : std::filesystem::path()},
                                     {"start", options.start.model},
                                     {"shape", options.start.fresh},
                                     {"tokenizer", options.start.tokenizer},
                                     {"cache", options.cache},
                                     {"records", options.records},
                                     {"held-out", options.held_out}}));
    RETORT_CHECK(base::write_file_atomic(options.output / "distill.json", report_json(report, options)));
    return report;
}

std::string report_json(const DistillReport& report, const DistillOptions& options) {
    const StepRecord last = report.train.curve.empty() ? StepRecord{} : report.train.curve.back();
    nlohmann::ordered_json json = {
        {"teacher", options.teacher.string()},
        {"start", start_name(options.start)},
        {"records", options.records.string()},
        {"kept_layers", report.kept_layers},
        {"pruned", report.pruned},
        {"objective", objective_name(options.train.objective.kind)},
        {"temperature", options.train.objective.temperature},
        {"ce_mix", options.train.objective.ce_mix},
        {"beta", options.train.objective.beta},
        {"alpha", options.train.objective.alpha},
        {"learning_rate", options.train.learning_rate},
        {"schedule", schedule_name(options.train.schedule)},
        {"epochs", options.train.epochs},
        {"seed", options.train.seed},
        {"dtype", report.bf16 ? "bf16" : "f32"},
        {"parameters", report.parameters},
        {"examples", report.examples},
        {"rows", report.rows},
        {"steps", report.train.steps},
        {"tokens", report.train.tokens},
        {"trained_tokens", report.train.trained_tokens},
        {"final_loss", last.loss},
        {"best_step", report.train.best_step},
        {"cpu_seconds", report.train.cpu_seconds},
        {"flop", report.train.flop},
    };
    if (report.cache) json["cache"] = cache_json(report.cache->header, report.cache->summary);
    return json.dump(2) + "\n";
}

}  // namespace retort::train
