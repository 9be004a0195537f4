// Training from a logit cache: with everything kept it is the live teacher's run; with less, what cannot be
// right is refused.
#include "train/cached_targets.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "data/logit_draw.h"
#include "golden.h"
#include "train/batches.h"
#include "train/trainer.h"

namespace retort::train {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t vocab = 107;

struct Job {
    std::vector<data::Example> examples;
    std::vector<data::PackedBatch> rows;
};

Job make_job() {
    Job job;
    base::RandomStream random(5);
    for (int e = 0; e < 7; ++e) {
        data::Example example;
        example.record_id = "r" + std::to_string(e);
        const std::size_t length = 6 + random.below(20);
        for (std::size_t i = 0; i < length; ++i) {
            example.tokens.push_back(static_cast<std::int32_t>(random.below(vocab)));
            example.trained.push_back(i > 3 ? 1 : 0);
        }
        job.examples.push_back(std::move(example));
    }
    job.rows = data::pack(job.examples, 40).value();
    return job;
}

fs::path write_cache(const std::string& name, const Job& job, const model::Parameters& teacher,
                     data::CacheEncoding encoding, std::int64_t count, double temperature) {
    const fs::path folder = fs::path(::testing::TempDir()) / ("retort_cached_" + name);
    fs::remove_all(folder);
    data::CacheHeader header;
    header.encoding = encoding;
    header.count = count;
    header.temperature = temperature;
    header.vocab_size = vocab;
    header.teacher_sha256 = "teacher";
    header.tokenizer_sha256 = "tokenizer";
    auto writer = data::LogitCacheWriter::open(folder, header).value();
    model::Transformer transformer(teacher.layout, 64, {false, false});
    FusedHead head(vocab, teacher.layout.config.hidden_size, 0, 64);
    const model::ParameterView view{teacher.values.data(), nullptr};
    for (const data::Example& example : job.examples) {
        const auto packed = data::pack({&example, 1}, 40).value();
        const std::vector<std::int64_t> first = {0};
        const Batch batch = join_rows(packed, first);
        data::TokenEntries entries;
        head.for_each_tile({&teacher.layout, view, transformer.forward(view, batch.token_batch())},
                           batch.targets, [&](std::int64_t at, std::int64_t tile, float* logits) {
                               for (std::int64_t i = 0; i < tile; ++i) {
                                   base::RandomStream random =
                                       data::draw_stream(1, example.record_id, at + i);
                                   float* row = logits + i * vocab;
                                   if (encoding == data::CacheEncoding::top_k) {
                                       data::keep_largest(row, vocab, temperature, count, entries);
                                   } else {
                                       data::draw_samples(row, vocab, temperature, count, random, entries);
                                   }
                               }
                           });
        EXPECT_TRUE(writer.append(example, entries));
    }
    EXPECT_TRUE(writer.finish());
    return folder;
}

TrainOptions options_for(ObjectiveKind kind) {
    TrainOptions options;
    options.objective.kind = kind;
    options.learning_rate = 3e-3;
    options.max_steps = 6;
    options.rows_per_step = 2;
    options.rows_per_micro_batch = 1;
    options.quiet = true;
    return options;
}

std::vector<double> curve(const Job& job, const model::Parameters* teacher, const TrainOptions& options) {
    model::Parameters student = golden::load("smollm2");
    const auto report = train(student, teacher, job.rows, options);
    EXPECT_TRUE(report) << report.error().message;
    std::vector<double> losses;
    for (const StepRecord& record : report->curve) losses.push_back(record.divergence);
    return losses;
}

TEST(CachedTargets, with_every_id_kept_is_the_live_teacher) {
    const Job job = make_job();
    const model::Parameters teacher = golden::load("llama3");
    const fs::path folder = write_cache("all", job, teacher, data::CacheEncoding::top_k, vocab, 1.0);
    const auto cache = CachedTargets::open(folder, job.examples, "tokenizer", "teacher");
    ASSERT_TRUE(cache) << cache.error().message;
    for (const ObjectiveKind kind : {ObjectiveKind::fkl, ObjectiveKind::rkl, ObjectiveKind::jsd,
                                     ObjectiveKind::skew_fkl, ObjectiveKind::skew_rkl, ObjectiveKind::tvd}) {
        TrainOptions options = options_for(kind);
        const auto live = curve(job, &teacher, options);
        options.cache = &*cache;
        const auto cached = curve(job, nullptr, options);
        ASSERT_EQ(live.size(), cached.size());
        for (std::size_t s = 0; s < live.size(); ++s) {
            EXPECT_NEAR(cached[s] / live[s], 1.0, 2e-3) << objective_name(kind);  // codes are 1.7e-4 off
        }
    }
}

TEST(CachedTargets, many_draws_come_near_the_live_teacher) {
    const Job job = make_job();
    const model::Parameters teacher = golden::load("llama3");
    const fs::path folder = write_cache("draws", job, teacher, data::CacheEncoding::samples, 255, 2.0);
    const auto cache = CachedTargets::open(folder, job.examples, "tokenizer", "");
    ASSERT_TRUE(cache) << cache.error().message;
    TrainOptions options = options_for(ObjectiveKind::fkl);
    options.objective.temperature = 2.0;
    const auto live = curve(job, &teacher, options);
    options.cache = &*cache;
    const auto drawn = curve(job, nullptr, options);
    // T² times the deviation of log q over 255 draws of each of about 40 tokens a step.
    for (std::size_t s = 0; s < live.size(); ++s)
        EXPECT_NEAR(drawn[s], live[s], 4 * 4 * 2 / std::sqrt(255.0 * 40));
}

TEST(CachedTargets, what_cannot_be_right_is_refused) {
    Job job = make_job();
    const model::Parameters teacher = golden::load("llama3");
    const fs::path folder = write_cache("refused", job, teacher, data::CacheEncoding::samples, 50, 1.0);
    const fs::path tempered = write_cache("tempered", job, teacher, data::CacheEncoding::top_k, 8, 2.0);
    EXPECT_FALSE(CachedTargets::open(folder, job.examples, "another tokenizer", ""));
    EXPECT_FALSE(CachedTargets::open(folder, job.examples, "tokenizer", "another teacher"));
    EXPECT_FALSE(CachedTargets::open(folder / "nothing", job.examples, "tokenizer", ""));
    const auto cache = CachedTargets::open(folder, job.examples, "tokenizer", "teacher").value();
    EXPECT_TRUE(cache.check({ObjectiveKind::ce}));
    EXPECT_TRUE(cache.check({ObjectiveKind::fkl}));
    EXPECT_TRUE(cache.check({ObjectiveKind::jsd, 1.0, 0.0, 0.0}));
    EXPECT_FALSE(cache.check({ObjectiveKind::fkl, 2.0}));
    EXPECT_FALSE(cache.check({ObjectiveKind::rkl}));
    const auto other = CachedTargets::open(tempered, job.examples, "tokenizer", "teacher").value();
    EXPECT_TRUE(other.check({ObjectiveKind::rkl, 2.0}));
    EXPECT_FALSE(other.check({ObjectiveKind::rkl, 1.0}));
    job.examples[3].tokens[5] += 1;
    EXPECT_FALSE(CachedTargets::open(folder, job.examples, "tokenizer", "teacher"));
}

// Rows of a head beyond the tokenizer's ids take no part in any softmax, and get no gradient.
TEST(PaddedVocabulary, is_cut) {
    const Job job = make_job();
    const model::Parameters teacher = golden::load("llama3");
    TrainOptions options = options_for(ObjectiveKind::fkl);
    options.max_steps = 1;
    options.optimiser.weight_decay = 0;
    const auto plain = curve(job, &teacher, options);
    model::ModelConfig config = teacher.layout.config;
    config.vocab_size += 21;
    model::Parameters padded = model::make_parameters(config);
    for (const model::ParameterTensor& tensor : padded.layout.tensors) {
        for (const model::ParameterTensor& from : teacher.layout.tensors) {
            if (from.name != tensor.name) continue;
            std::fill_n(padded.values.data() + tensor.offset, tensor.count,
                        3.0F);  // padding that would be seen
            std::copy_n(teacher.values.data() + from.offset, from.count,
                        padded.values.data() + tensor.offset);
        }
    }
    model::Parameters refused = golden::load("smollm2");
    EXPECT_FALSE(train(refused, &padded, job.rows, options));
    options.vocab_size = vocab;
    EXPECT_NEAR(curve(job, &padded, options)[0] / plain[0], 1.0, 1e-6);
}

}  // namespace
}  // namespace retort::train
