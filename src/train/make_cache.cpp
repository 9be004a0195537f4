#include "train/make_cache.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/parallel.h"
#include "data/lineage.h"
#include "data/logit_draw.h"
#include "data/record.h"
#include "model/weights.h"
#include "tensor/adamw.h"
#include "tensor/gemm.h"
#include "text/text_model.h"
#include "train/batches.h"
#include "train/fused_head.h"
#include "train/text_examples.h"

namespace retort::train {

namespace {

namespace fs = std::filesystem;

// The teacher over packed rows.
struct Teacher {
    model::Parameters parameters;
    tensor::Buffer<std::uint16_t> bf16;
    model::Transformer transformer;
    FusedHead head;

    Teacher(model::Parameters values, std::int64_t vocab, std::int64_t max_tokens, bool use_bf16)
        : parameters(std::move(values)),
          transformer(parameters.layout, max_tokens, {false, false}),
          head(vocab, parameters.layout.config.hidden_size, 0, max_tokens) {
        if (!use_bf16) return;
        bf16 = tensor::Buffer<std::uint16_t>(parameters.layout.total);
        tensor::convert_to_bf16(parameters.values.data(), bf16.data(), parameters.layout.total);
    }

    [[nodiscard]] model::ParameterView view() const {
        return {parameters.values.data(), bf16.empty() ? nullptr : bf16.data()};
    }
};

// Which token of which example each trained position of a batch is.
struct Position {
    const data::Example* example;
    std::int64_t token;
};

std::vector<Position> positions_of(std::span<const data::PackedBatch> rows,
                                   std::span<const data::Example> examples) {
    std::vector<Position> positions;
    for (const data::PackedBatch& row : rows) {
        for (const std::int32_t index : row.example_indices) {
            const data::Example& example = examples[static_cast<std::size_t>(index)];
            for (std::int64_t t = 0; t < data::trained_targets(example); ++t)
                positions.push_back({&example, t});
        }
    }
    return positions;
}

// Whether a run that was stopped has written everything of these rows.
bool all_written(std::span<const data::PackedBatch> rows, std::span<const data::Example> examples,
                 const data::LogitCacheWriter& writer) {
    return std::all_of(rows.begin(), rows.end(), [&](const data::PackedBatch& row) {
        return std::all_of(row.example_indices.begin(), row.example_indices.end(), [&](std::int32_t index) {
            const data::Example& example = examples[static_cast<std::size_t>(index)];
            return data::trained_targets(example) == 0 || writer.has(example);
        });
    });
}

Status write_batch(Teacher& teacher, std::span<const data::PackedBatch> rows,
                   std::span<const data::Example> examples, const data::CacheHeader& header,
                   data::LogitCacheWriter& writer) {
    std::vector<std::int64_t> all;
    for (std::size_t i = 0; i < rows.size(); ++i) all.push_back(static_cast<std::int64_t>(i));
    const Batch batch = join_rows(rows, all);
    const std::vector<Position> positions = positions_of(rows, examples);
    std::vector<data::TokenEntries> entries(positions.size());
    const HeadInput input{&teacher.parameters.layout, teacher.view(),
                          teacher.transformer.forward(teacher.view(), batch.token_batch())};
    teacher.head.for_each_tile(
        input, batch.targets, [&](std::int64_t first, std::int64_t count, float* logits) {
            base::parallel_ranges(count, 1, [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = begin; i < end; ++i) {
                    const auto at = static_cast<std::size_t>(first + i);
                    float* row = logits + i * header.vocab_size;
                    if (header.encoding == data::CacheEncoding::top_k) {
                        data::keep_largest(row, header.vocab_size, header.temperature, header.count,
                                           entries[at]);
                        continue;
                    }
                    base::RandomStream random =
                        data::draw_stream(header.seed, positions[at].example->record_id, positions[at].token);
                    data::draw_samples(row, header.vocab_size, header.temperature, header.count, random,
                                       entries[at]);
                }
            });
        });
    for (std::size_t at = 0; at < positions.size();) {
        const data::Example& example = *positions[at].example;
        data::TokenEntries joined;
        for (std::int64_t t = data::trained_targets(example); t > 0; --t, ++at) {
            if (!std::isfinite(entries[at].entropies.back()) || !std::isfinite(entries[at].tails.back())) {
                return fail(ErrorCode::format, "record {}: the teacher's logits are no numbers",
                            example.record_id);
            }
            joined.append(entries[at]);
        }
        if (!writer.has(example)) RETORT_CHECK(writer.append(example, joined));
    }
    return {};
}

}  // namespace

Result<std::string> model_hash(const fs::path& path) {
    if (!fs::is_directory(path)) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(path));
        return base::to_hex(hash);
    }
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path)) {
        const fs::path& file = entry.path();
        if (file.extension() == ".safetensors" || file.extension() == ".gguf" ||
            file.filename() == "config.json") {
            files.push_back(file);
        }
    }
    std::sort(files.begin(), files.end());
    std::string text;
    for (const fs::path& file : files) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(file));
        text += file.filename().string() + ":" + base::to_hex(hash) + "\n";
    }
    if (text.empty()) return fail(ErrorCode::not_found, "{}: no model files", path.string());
    return base::sha256_hex(text);
}

Result<data::CacheSummary> make_logit_cache(const CacheOptions& options) {
    RETORT_TRY(const text::TextModel text, text::load_text_model(options.teacher));
    data::CacheHeader header;
    header.encoding = options.encoding;
    header.count = options.count;
    header.temperature = options.temperature;
    header.vocab_size = text.tokenizer.vocab_size();
    header.seed = options.seed;
    header.teacher = options.teacher.filename().string();
    header.tokenizer_sha256 = text.tokenizer.hash();
    RETORT_TRY(header.teacher_sha256, model_hash(options.teacher));
    RETORT_TRY(data::LogitCacheWriter writer, data::LogitCacheWriter::open(options.output, header));
    if (writer.complete()) {
        spdlog::info("cache: {} is complete", options.output.string());
        return writer.finish();
    }
    RETORT_TRY(const std::vector<data::Record> records, data::read_records(options.records));
    if (records.empty()) return fail(ErrorCode::invalid_argument, "{}: no records", options.records.string());
    RETORT_TRY(const std::vector<data::Example> examples, text_examples(records, text, options.row_length));
    const auto total = static_cast<std::uint64_t>(examples.size());
    const auto there = static_cast<std::uint64_t>(std::count_if(
        examples.begin(), examples.end(), [&](const data::Example& example) { return writer.has(example); }));
    if (there > 0) spdlog::info("cache: going on behind {} of {} records", there, total);

    RETORT_TRY(const model::Weights weights, model::load_weights(options.teacher));
    if (weights.config.vocab_size < header.vocab_size) {
        return fail(ErrorCode::format, "{}: a head of {} rows for a tokenizer of {} ids",
                    options.teacher.string(), weights.config.vocab_size, header.vocab_size);
    }
    // All of them, also where some are written: what is left would be packed into other rows, and come in
    // another order and from sums of other shapes than without the interruption.
    RETORT_TRY(const std::vector<data::PackedBatch> rows, data::pack(examples, options.row_length));
    const bool bf16 = options.auto_dtype ? tensor::has_fast_bf16() : options.bf16;
    Teacher teacher(model::parameters_from(weights), header.vocab_size,
                    options.row_length * options.rows_at_once, bf16);
    base::Progress progress("cache", total, "records", options.quiet);
    progress.set_resumed(there);
    const auto step = static_cast<std::size_t>(options.rows_at_once);
    for (std::size_t at = 0; at < rows.size(); at += step) {
        if (base::interrupted()) {
            return fail(ErrorCode::cancelled, "cache: stopped at {} of {} records; run it again to go on",
                        writer.records(), total);
        }
        const auto batch = std::span(rows).subspan(at, std::min(step, rows.size() - at));
        if (all_written(batch, examples, writer)) continue;
        RETORT_CHECK(write_batch(teacher, batch, examples, header, writer));
        progress.update(static_cast<std::uint64_t>(writer.records()));
    }
    progress.finish();
    RETORT_CHECK(data::save_lineage(options.output / "lineage.json", "retort cache make",
                                    {{"teacher", options.teacher}, {"records", options.records}}));
    return writer.finish();
}

Result<LogprobCache> make_logprob_cache(const CacheOptions& options, const fs::path& tokenizer) {
    RETORT_TRY(const text::TextModel text, text::load_text_model(tokenizer));
    RETORT_TRY(const std::vector<data::Record> records, data::read_records(options.records));
    if (records.empty()) return fail(ErrorCode::invalid_argument, "{}: no records", options.records.string());
    RETORT_TRY(const std::vector<data::Example> examples, text_examples(records, text, options.row_length));
    std::unordered_map<std::string, const data::Record*> by_id;
    std::set<std::string> teachers;
    for (const data::Record& record : records) {
        by_id[record.id] = &record;
        teachers.insert(record.request.model);
    }
    data::CacheHeader header;
    header.encoding = data::CacheEncoding::top_k;
    header.count = options.count;
    header.vocab_size = text.tokenizer.vocab_size();
    header.source = "logprobs";
    header.teacher = fmt::format("{}", fmt::join(teachers, ", "));
    header.teacher_sha256 = base::sha256_hex(header.teacher);
    header.tokenizer_sha256 = text.tokenizer.hash();
    RETORT_TRY(data::LogitCacheWriter writer, data::LogitCacheWriter::open(options.output, header));
    LogprobCache made;
    const data::TokenBytes ids(text.tokenizer);
    for (const data::Example& example : examples) {
        if (writer.complete()) break;
        if (writer.has(example)) continue;
        auto entries =
            data::align_logprobs(*by_id.at(example.record_id), example, ids, options.count, made.alignment);
        if (!entries) {
            if (made.unaligned_records++ == 0) spdlog::warn("cache: {}", entries.error().message);
            entries = data::unknown_entries(data::trained_targets(example));
        }
        RETORT_CHECK(writer.append(example, *entries));
    }
    if (made.unaligned_records == static_cast<std::int64_t>(examples.size())) {
        return fail(ErrorCode::invalid_argument,
                    "{}: no record's logprobs could be aligned; were they collected with --logprobs 20?",
                    options.records.string());
    }
    RETORT_TRY(made.summary, writer.finish());
    return made;
}

}  // namespace retort::train
