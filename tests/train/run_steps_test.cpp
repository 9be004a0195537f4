// What surrounds the steps: the best weights by held-out loss, stopping early, and the file that TensorBoard
// reads.
#include "train/run_steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/interrupt.h"
#include "golden.h"
#include "train/compute_cost.h"
#include "train/event_file.h"

namespace retort::train {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_steps_" + name);
    fs::remove_all(path);
    return path;
}

// Random tokens: whatever is learnt of some rows is wrong for others, so held-out loss has its least early.
std::vector<data::PackedBatch> golden_rows() {
    const auto file = formats::SafetensorsFile::open(golden::path("train/adamw.safetensors")).value();
    std::vector<data::PackedBatch> rows = golden::batches(file);
    rows.resize(3);
    return rows;
}

TrainOptions watched(const fs::path& folder, std::span<const data::PackedBatch> held_out) {
    TrainOptions options;
    options.learning_rate = 1e-2;
    options.schedule = ScheduleKind::constant;
    options.warmup_share = 0;
    options.max_steps = 60;
    options.rows_per_step = 1;
    options.rows_per_micro_batch = 1;
    options.held_out = held_out;
    options.eval_every = 2;
    options.patience = 3;
    options.folder = folder;
    options.quiet = true;
    return options;
}

std::vector<float> values_of(const model::Parameters& parameters) {
    return {parameters.values.span().begin(), parameters.values.span().end()};
}

TEST(RunSteps, keeps_the_best_weights_and_stops_when_nothing_gets_better) {
    const auto rows = golden_rows();
    const auto held_out = std::span(rows).subspan(2, 1);
    const TrainOptions options = watched(scratch("best"), held_out);
    model::Parameters student = golden::load("smollm2");
    const auto report = train(student, nullptr, std::span(rows).first(2), options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_LT(report->steps, 60);
    ASSERT_GT(report->best_step, 0);
    EXPECT_EQ(report->steps, report->best_step + options.patience * options.eval_every);
    std::vector<double> measured;
    for (const StepRecord& record : report->curve) {
        EXPECT_EQ(record.held_out.has_value(), record.step % 2 == 0) << record.step;
        if (record.held_out) measured.push_back(*record.held_out);
    }
    const auto least = std::min_element(measured.begin(), measured.end());
    EXPECT_EQ(report->best_step, 2 * (1 + (least - measured.begin())));
    // The student is as it was then: a run of just so many steps ends with the same weights.
    TrainOptions until = options;
    until.folder = scratch("until");
    until.eval_every = 0;
    until.patience = 0;
    until.max_steps = report->best_step;
    model::Parameters then = golden::load("smollm2");
    ASSERT_TRUE(train(then, nullptr, std::span(rows).first(2), until));
    EXPECT_EQ(values_of(student), values_of(then));
    // And done again with everything there, it is the same.
    model::Parameters again = golden::load("smollm2");
    ASSERT_TRUE(train(again, nullptr, std::span(rows).first(2), options));
    EXPECT_EQ(values_of(again), values_of(student));
}

TEST(RunSteps, stopped_anywhere_it_keeps_the_same_best) {
    const auto rows = golden_rows();
    const auto held_out = std::span(rows).subspan(2, 1);
    model::Parameters whole = golden::load("smollm2");
    const auto report = train(whole, nullptr, std::span(rows).first(2), watched(scratch("one"), held_out));
    ASSERT_TRUE(report) << report.error().message;
    TrainOptions options = watched(scratch("many"), held_out);
    options.on_step = [](const StepRecord& record) { base::set_interrupted(record.step % 3 == 0); };
    for (int starts = 0; starts < 40; ++starts) {
        model::Parameters student = golden::load("smollm2");
        const auto outcome = train(student, nullptr, std::span(rows).first(2), options);
        base::set_interrupted(false);
        if (!outcome) {
            ASSERT_EQ(outcome.error().code, ErrorCode::cancelled) << outcome.error().message;
            continue;
        }
        EXPECT_EQ(outcome->best_step, report->best_step);
        EXPECT_EQ(outcome->steps, report->steps);
        EXPECT_EQ(values_of(student), values_of(whole));
        return;
    }
    FAIL() << "it never came to an end";
}

TEST(RunSteps, held_out_rows_and_a_folder_are_asked_for) {
    const auto rows = golden_rows();
    model::Parameters student = golden::load("smollm2");
    EXPECT_FALSE(train(student, nullptr, rows, watched(scratch("none"), {})));
    EXPECT_FALSE(train(student, nullptr, rows, watched("", rows)));
}

TEST(RunSteps, steps_say_what_they_cost) {
    const auto rows = golden_rows();
    model::Parameters student = golden::load("smollm2");
    TrainOptions options;
    options.max_steps = 2;
    options.rows_per_step = 3;
    options.quiet = true;
    const auto report = train(student, nullptr, rows, options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_NEAR(report->flop, 2 * 3 * forward_flop(student.layout.config, count_tokens(rows)),
                1e-6 * report->flop);
    EXPECT_GT(report->cpu_seconds, 0);
}

struct Event {
    std::int64_t step = -1;
    std::string body;
};

// The frames of an event file; the body is not taken apart but for the step.
std::vector<Event> read_events(const fs::path& path) {
    const std::string text = base::read_file(path).value();
    const auto unmask = [](std::uint32_t value) {
        value -= 0xa282ead8U;
        return (value >> 17U) | (value << 15U);
    };
    std::vector<Event> events;
    for (std::size_t at = 0; at < text.size();) {
        std::uint64_t length = 0;
        std::uint32_t of_length = 0;
        std::uint32_t of_body = 0;
        std::memcpy(&length, text.data() + at, 8);
        std::memcpy(&of_length, text.data() + at + 8, 4);
        EXPECT_EQ(unmask(of_length), crc32c(std::string_view(text).substr(at, 8)));
        Event event;
        event.body = text.substr(at + 12, length);
        std::memcpy(&of_body, text.data() + at + 12 + length, 4);
        EXPECT_EQ(unmask(of_body), crc32c(event.body));
        if (event.body[9] == 0x10) event.step = event.body[10];  // a small number's varint is itself
        events.push_back(std::move(event));
        at += 16 + length;
    }
    return events;
}

TEST(EventFile, has_the_checksum_of_rfc_3720) {
    EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
    EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
}

TEST(EventFile, follows_a_run_and_begins_anew_after_a_cut) {
    const fs::path path = scratch("events");
    StepRecord record;
    record.step = 1;
    record.loss = 2.5;
    record.seconds = 1;
    {
        auto file = EventFile::create(path, {});
        ASSERT_TRUE(file) << file.error().message;
        ASSERT_TRUE(file->add(record));
        record.step = 2;
        ASSERT_TRUE(file->add(record));
    }
    auto events = read_events(path);
    ASSERT_EQ(events.size(), 3U);
    EXPECT_NE(events[0].body.find("brain.Event:2"), std::string::npos);
    EXPECT_EQ(events[1].step, 1);
    EXPECT_EQ(events[2].step, 2);
    EXPECT_NE(events[2].body.find("train/loss"), std::string::npos);
    fs::resize_file(path, fs::file_size(path) - 5);
    record.step = 1;
    ASSERT_TRUE(EventFile::create(path, std::vector<StepRecord>{record}));
    events = read_events(path);
    ASSERT_EQ(events.size(), 2U);
    EXPECT_EQ(events[1].step, 1);
}

}  // namespace
}  // namespace retort::train
