// Several processes as one, each a thread (tests/e2e/several_machines_test.py runs real ones).
#include "train/communicator.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <thread>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "golden.h"
#include "thread_ranks.h"
#include "train/trainer.h"

namespace retort::train {
namespace {

namespace fs = std::filesystem;

std::vector<data::PackedBatch> golden_rows() {
    return golden::batches(formats::SafetensorsFile::open(golden::path("train/adamw.safetensors")).value());
}

TrainOptions base_options(bool bf16, std::int64_t lora_rank) {
    TrainOptions options;
    options.learning_rate = 3e-3;
    options.max_steps = 6;
    options.rows_per_step = 4;
    options.rows_per_micro_batch = 1;
    options.bf16 = bf16;
    options.lora.rank = lora_rank;
    options.quiet = true;
    return options;
}

struct Outcome {
    std::vector<float> values;  // of every rank the same, or the test fails
    TrainReport report;
};

Outcome run(int ranks, const TrainOptions& options) {
    const auto rows = golden_rows();
    Meeting meeting(ranks);
    std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; ++r) {
        threads.emplace_back([&, r] {
            base::set_thread_count(1);
            ThreadRank world(meeting, r);
            TrainOptions mine = options;
            mine.world = &world;
            model::Parameters student = golden::load("smollm2");
            auto report = train(student, nullptr, rows, mine);
            ASSERT_TRUE(report) << report.error().message;
            outcomes[static_cast<std::size_t>(r)] = {
                {student.values.span().begin(), student.values.span().end()}, std::move(*report)};
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.values, outcomes[0].values);
    return outcomes[0];
}

double relative_gap(const std::vector<float>& a, const std::vector<float>& b) {
    double gap = 0;
    double size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        gap += std::pow(static_cast<double>(a[i]) - b[i], 2);
        size += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(gap / size);
}

TEST(Communicator, shares_cover_everything_once) {
    for (const std::int64_t elements : {0, 1, 16, 100, 4096, 99999}) {
        for (const int ranks : {1, 2, 3, 7}) {
            const auto ranges = share_out(elements, ranks);
            ASSERT_EQ(ranges.size(), static_cast<std::size_t>(ranks));
            std::int64_t next = 0;
            for (const Range& range : ranges) {
                EXPECT_EQ(range.begin, next);
                EXPECT_GE(range.size(), 0);
                next = range.end;
            }
            EXPECT_EQ(next, elements);
        }
    }
}

TEST(SeveralProcesses, equal_one_within_the_order_of_sums) {
    for (const bool bf16 : {false, true}) {
        for (const std::int64_t lora : {0, 4}) {
            const Outcome one = run(1, base_options(bf16, lora));
            for (const int ranks : {2, 3}) {
                const Outcome several = run(ranks, base_options(bf16, lora));
                ASSERT_EQ(several.report.curve.size(), one.report.curve.size());
                // The first step starts from the same bits: its loss differs by nothing but the order of a
                // sum in double, its gradient by the order of four sums in f32. After it AdamW divides each
                // element by its own size, so one near zero may turn by its whole step (lr) where it rounds
                // to the other side; the loss moves by far less, by more in bf16 where such a step can be a
                // rounding.
                const auto& first = several.report.curve[0];
                EXPECT_NEAR(first.loss, one.report.curve[0].loss, 1e-12 * first.loss);
                EXPECT_NEAR(first.gradient_norm / one.report.curve[0].gradient_norm, 1, 1e-6);
                EXPECT_EQ(first.tokens, one.report.curve[0].tokens);
                for (std::size_t s = 0; s < one.report.curve.size(); ++s)
                    EXPECT_NEAR(several.report.curve[s].loss / one.report.curve[s].loss, 1,
                                bf16 ? 1e-2 : 1e-4)
                        << ranks << " step " << s;
                EXPECT_LE(relative_gap(several.values, one.values), bf16 ? 1e-2 : 1e-4) << ranks;
                EXPECT_EQ(run(ranks, base_options(bf16, lora)).values, several.values);
            }
        }
    }
}

// Each rank rounds its own range by the draws that one process would take for it.
TEST(SeveralProcesses, round_moments_as_one_does) {
    for (const std::int64_t lora : {0, 4}) {
        TrainOptions options = base_options(true, lora);
        options.optimiser.moments = tensor::DType::bf16;
        options.max_steps = 1;
        options.rows_per_step = 1;  // one rank has all of the gradient: no sum in another order
        options.folder = fs::path(::testing::TempDir()) / "retort_rank_moments";
        const auto moments = [&](int ranks) {
            fs::remove_all(options.folder);
            (void)run(ranks, options);
            const auto bytes = base::read_file(options.folder / "checkpoint.bin").value();
            return bytes.substr(bytes.find("]}") + 2);  // behind the header, which says how many they were
        };
        const auto one = moments(1);
        for (const int ranks : {2, 3}) EXPECT_EQ(moments(ranks), one) << ranks;
        fs::remove_all(options.folder);
    }
}

class SeveralProcessesWith : public ::testing::TestWithParam<tensor::DType> {};

TEST_P(SeveralProcessesWith, go_on_from_a_checkpoint_of_another_number) {
    TrainOptions options = base_options(true, 0);
    options.optimiser.moments = GetParam();
    const Outcome whole = run(1, options);
    options.folder = fs::path(::testing::TempDir()) / "retort_ranks";
    fs::remove_all(options.folder);
    options.checkpoint_steps = 1;
    const auto rows = golden_rows();
    // Two steps each on one, three and two processes: what is on disk knows nothing of them.
    for (const int ranks : {1, 3, 2}) {
        TrainOptions part = options;
        std::atomic<std::int64_t> taken = 0;
        if (ranks != 2) {
            part.on_step = [&](const StepRecord&) {
                if (++taken >= 2 * ranks) base::set_interrupted(true);
            };
        }
        Meeting meeting(ranks);
        std::vector<std::thread> threads;
        std::vector<std::vector<float>> values(static_cast<std::size_t>(ranks));
        for (int r = 0; r < ranks; ++r) {
            threads.emplace_back([&, r] {
                base::set_thread_count(1);
                ThreadRank world(meeting, r);
                TrainOptions mine = part;
                mine.world = &world;
                model::Parameters student = golden::load("smollm2");
                const auto report = train(student, nullptr, rows, mine);
                EXPECT_EQ(report.has_value(), ranks == 2);
                values[static_cast<std::size_t>(r)].assign(student.values.span().begin(),
                                                           student.values.span().end());
            });
        }
        for (std::thread& thread : threads) thread.join();
        base::set_interrupted(false);
        if (ranks == 2) {
            EXPECT_LE(relative_gap(values[0], whole.values), 1e-2);
        }
    }
    fs::remove_all(options.folder);
}

INSTANTIATE_TEST_SUITE_P(Moments, SeveralProcessesWith,
                         ::testing::Values(tensor::DType::f32, tensor::DType::bf16),
                         [](const auto& one) { return std::string(tensor::dtype_info(one.param).name); });

}  // namespace
}  // namespace retort::train
