#include "evaluate/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "base/interrupt.h"
#include "evaluate/cost.h"

namespace retort::evaluate {
namespace {

using ::testing::HasSubstr;

// Answers a prompt with its own tokens plus the seed, from another thread, in any order. A token of 99 is
// refused by submit(); 98 fails on the way; 97 never ends unless cancelled.
class EchoEngine : public generate::Engine {
  public:
    ~EchoEngine() override {
        for (std::thread& thread : threads_) thread.join();
    }
    Result<std::uint64_t> submit(generate::Request request, OnToken on_token, OnDone on_done) override {
        if (request.prompt.front() == 99) return fail(ErrorCode::invalid_argument, "token 99");
        const std::uint64_t id = threads_.size();
        threads_.emplace_back([this, id, request = std::move(request), on_token, on_done] {
            std::this_thread::sleep_for(std::chrono::milliseconds(7 * ((id * 5) % 3)));
            if (request.prompt.front() == 98) {
                on_done(fail(ErrorCode::internal, "broke down"));
                return;
            }
            generate::Completion completion;
            for (std::int64_t i = 0; i < request.max_tokens; ++i) {
                if (cancelled(id)) {
                    completion.finish_reason = generate::FinishReason::cancelled;
                    break;
                }
                if (request.prompt.front() == 97) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(2));
                    --i;
                    continue;
                }
                const std::size_t at = static_cast<std::size_t>(i) % request.prompt.size();
                on_token({request.prompt[at] + static_cast<std::int32_t>(request.sampling.seed.value_or(0)),
                          0,
                          {}});
                ++completion.completion_tokens;
                completion.finish_reason = generate::FinishReason::length;
                if (request.prompt[at] == 0) {
                    completion.finish_reason = generate::FinishReason::stop;
                    break;
                }
            }
            on_done(completion);
        });
        return id;
    }
    void cancel(std::uint64_t id) override {
        const std::lock_guard lock(mutex_);
        cancelled_.insert(id);
    }
    Result<generate::Completion> generate(generate::Request request, const OnToken& on_token) override {
        generate::Completion completion;
        for (std::int64_t i = 0; i < request.max_tokens; ++i) {
            std::this_thread::sleep_for(std::chrono::microseconds(i == 0 ? 3000 : 1000));
            ++completion.completion_tokens;
            if (!on_token({1, 0, {}})) break;
        }
        return completion;
    }
    [[nodiscard]] const model::ModelConfig& config() const override { return config_; }
    [[nodiscard]] std::int64_t context_length() const override { return 128; }
    [[nodiscard]] generate::EngineStatistics statistics() const override { return {}; }

  private:
    bool cancelled(std::uint64_t id) {
        const std::lock_guard lock(mutex_);
        return cancelled_.contains(id);
    }
    model::ModelConfig config_;
    std::mutex mutex_;
    std::set<std::uint64_t> cancelled_;
    std::vector<std::thread> threads_;
};

std::string digits(std::span<const std::int32_t> tokens) {
    std::string text;
    for (const std::int32_t token : tokens) text += std::to_string(token) + " ";
    return text;
}

TEST(AnswerPrompts, answers_come_in_the_order_of_the_prompts) {
    EchoEngine engine;
    const std::vector<std::vector<std::int32_t>> prompts = {{5, 6, 0}, {7}, {8, 0}, {9, 9}};
    AnswerOptions options;
    options.max_tokens = 4;
    const auto answers = answer_prompts(engine, prompts, options, digits);
    ASSERT_TRUE(answers) << answers.error().message;
    EXPECT_EQ(answers->texts, (std::vector<std::string>{"5 6 0 ", "7 7 7 7 ", "8 0 ", "9 9 9 9 "}));
    EXPECT_EQ(answers->tokens, (std::vector<std::int64_t>{3, 4, 2, 4}));
    EXPECT_EQ(answers->complete, (std::vector<std::uint8_t>{1, 0, 1, 0}));
}

TEST(AnswerPrompts, each_prompt_has_a_seed_of_its_own) {
    EchoEngine engine;
    AnswerOptions options;
    options.max_tokens = 1;
    options.sampling.seed = 10;
    const auto answers =
        answer_prompts(engine, std::vector<std::vector<std::int32_t>>{{1}, {1}, {1}}, options, digits);
    EXPECT_EQ(answers->texts, (std::vector<std::string>{"11 ", "12 ", "13 "}));
}

TEST(AnswerPrompts, a_refusal_names_the_prompt_and_the_rest_is_cancelled) {
    EchoEngine engine;
    const std::vector<std::vector<std::int32_t>> prompts = {{97}, {97}, {99}};
    const auto answers = answer_prompts(engine, prompts, {}, digits);
    ASSERT_FALSE(answers);
    EXPECT_THAT(answers.error().message, HasSubstr("prompt 3"));
}

TEST(AnswerPrompts, a_failure_on_the_way_cancels_the_rest) {
    EchoEngine engine;
    const auto answers =
        answer_prompts(engine, std::vector<std::vector<std::int32_t>>{{97}, {98}}, {}, digits);
    ASSERT_FALSE(answers);
    EXPECT_THAT(answers.error().message, HasSubstr("broke down"));
}

TEST(AnswerPrompts, ctrl_c_ends_it) {
    EchoEngine engine;
    base::set_interrupted(true);
    const auto answers = answer_prompts(engine, std::vector<std::vector<std::int32_t>>{{97}}, {}, digits);
    base::set_interrupted(false);
    ASSERT_FALSE(answers);
    EXPECT_EQ(answers.error().code, ErrorCode::cancelled);
}

TEST(ScoreAnswers, share_and_intervals) {
    const std::vector<std::string> answers = {"yes", "no", "yes", "yes"};
    std::vector<std::size_t> asked;
    const TaskScore score = score_answers(answers, [&](std::string_view answer, std::size_t index) {
        asked.push_back(index);
        return answer == "yes";
    });
    EXPECT_EQ(asked, (std::vector<std::size_t>{0, 1, 2, 3}));
    EXPECT_EQ(score.passed, (std::vector<std::uint8_t>{1, 0, 1, 1}));
    EXPECT_EQ(score.wilson.value, 0.75);
    EXPECT_NEAR(score.wilson.low, 0.3006, 5e-5);  // by hand: (3 + z²/2 ∓ z√(4·¾·¼ + z²/4)) / (4 + z²)
    EXPECT_NEAR(score.wilson.high, 0.9544, 5e-5);
    EXPECT_LT(score.exact.low, score.wilson.low);
}

TEST(TaskDifference, is_paired_by_prompt) {
    TaskScore a;
    TaskScore b;
    for (int i = 0; i < 40; ++i) {
        a.passed.push_back(i % 2 == 0 || i < 10 ? 1 : 0);
        b.passed.push_back(i % 2 == 0 ? 1 : 0);
    }
    const auto difference = task_difference(a, b);
    ASSERT_TRUE(difference);
    EXPECT_NEAR(difference->value, 5.0 / 40, 1e-12);
    EXPECT_GT(difference->low, 0);  // a passes wherever b does
    b.passed.pop_back();
    EXPECT_FALSE(task_difference(a, b));
}

TEST(MeasureDecoding, rates_stay_within_what_the_engine_can_do) {
    EchoEngine engine;
    const auto speed =
        measure_decoding(engine, std::vector<std::vector<std::int32_t>>{{1, 2, 3}, {4}}, {20, 3});
    ASSERT_TRUE(speed) << speed.error().message;
    // A token takes at least 1 ms after the first: at most 1000 a second. Were the 3 ms before the first
    // counted too, without their token, it would be at most 19 in 22 ms; that bound holds on an idle machine
    // only and is not asked for.
    EXPECT_LE(speed->tokens_per_second.value, 1000);
    EXPECT_GT(speed->tokens_per_second.value, 0);
    EXPECT_LE(speed->tokens_per_second.low, speed->tokens_per_second.value);
    EXPECT_GE(speed->tokens_per_second.high, speed->tokens_per_second.value);
    EXPECT_LE(speed->prompt_tokens_per_second, 4 / 0.006);  // two prompts, 3 ms each before the first token
    EXPECT_GE(speed->cpu_seconds_per_1000_tokens, 0);
    EXPECT_FALSE(measure_decoding(engine, {}, {20, 3}));
}

TEST(SizeOnDisk, files_and_folders) {
    const auto folder = std::filesystem::path(::testing::TempDir()) / "retort_size";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder / "deep");
    std::ofstream(folder / "a") << "12345";
    std::ofstream(folder / "deep" / "b") << "678";
    EXPECT_EQ(*size_on_disk(folder), 8);
    EXPECT_EQ(*size_on_disk(folder / "a"), 5);
    EXPECT_FALSE(size_on_disk(folder / "none"));
}

TEST(EnergyMeter, sums_packages_and_survives_a_wrap) {
    const auto folder = std::filesystem::path(::testing::TempDir()) / "retort_powercap";
    std::filesystem::remove_all(folder);
    const auto set = [&](const std::string& zone, const std::string& file, std::uint64_t value) {
        std::filesystem::create_directories(folder / zone);
        std::ofstream(folder / zone / file) << value << "\n";
    };
    EXPECT_FALSE(EnergyMeter::open(folder));
    set("intel-rapl:0", "energy_uj", 900);
    set("intel-rapl:0", "max_energy_range_uj", 1000);
    set("intel-rapl:1", "energy_uj", 50);
    set("intel-rapl:1", "max_energy_range_uj", 1000);
    set("intel-rapl:0:0", "energy_uj", 5);  // part of a package: not counted again
    set("intel-rapl-mmio:0", "energy_uj", 5);
    auto meter = EnergyMeter::open(folder);
    ASSERT_TRUE(meter);
    set("intel-rapl:0", "energy_uj", 100);
    set("intel-rapl:0:0", "energy_uj", 500);
    set("intel-rapl:1", "energy_uj", 350);
    EXPECT_NEAR(*meter->joules(), (200 + 300) * 1e-6, 1e-12);
    EXPECT_EQ(*meter->joules(), 0);
    std::filesystem::remove(folder / "intel-rapl:1" / "energy_uj");
    EXPECT_FALSE(meter->joules());
}

}  // namespace
}  // namespace retort::evaluate
