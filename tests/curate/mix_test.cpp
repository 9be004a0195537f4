// The mix of answers with reasoning and of plain ones.
#include "curate/mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "curate/curate.h"
#include "data/manifest.h"
#include "records_file.h"

namespace retort::curate {
namespace {

namespace fs = std::filesystem;
using data::Record;

Record record_of(int number, bool reasoned) {
    Record record;
    record.request.messages = {{.role = "user", .content = fmt::format("question {}", number)}};
    record.request.model = "t";
    record.content = fmt::format("answer {}", number);
    if (reasoned) record.reasoning = fmt::format("Because of {}.", number);
    record.finish_reason = "stop";
    record.terms_id = "x";
    data::seal(record);
    return record;
}

std::vector<Record> records_of(int reasoned, int plain) {
    std::vector<Record> records;
    for (int i = 0; i < reasoned + plain; ++i) records.push_back(record_of(i, i < reasoned));
    return records;
}

CurateOptions options_for(const std::string& name, const std::vector<Record>& records) {
    const fs::path folder = empty_folder("retort_mix_" + name);
    CurateOptions options;
    options.inputs = {write_records(folder, records)};
    options.output = folder / "out";
    options.near_duplicate_similarity = 2;
    options.reasoning_mix = 3;
    options.quiet = true;
    return options;
}

std::set<std::string> ids_of(const fs::path& file) {
    std::set<std::string> ids;
    const auto records = data::read_records(file);
    EXPECT_TRUE(records);
    for (const Record& record : *records) ids.insert(record.id);
    return ids;
}

TEST(Mix, what_counts_as_reasoning) {
    EXPECT_TRUE(has_reasoning(record_of(1, true)));
    EXPECT_FALSE(has_reasoning(record_of(1, false)));
    Record record = record_of(1, false);
    record.content = "<think>2 + 2 is 4</think>4";
    EXPECT_TRUE(has_reasoning(record));
    for (const char* content :
         {"<think>\n\n</think>4", "<think>never closed", "</think><think>", "4</think>"}) {
        record.content = content;
        EXPECT_FALSE(has_reasoning(record)) << content;
    }
    record.reasoning = " \n";
    EXPECT_FALSE(has_reasoning(record));
}

TEST(Mix, all_of_the_one_kind_and_a_share_of_the_other) {
    EXPECT_EQ(mix_share(300, 300, 3), (MixShare{300, 100}));
    EXPECT_EQ(mix_share(300, 50, 3), (MixShare{150, 50}));
    EXPECT_EQ(mix_share(300, 100, 3), (MixShare{300, 100}));
    EXPECT_EQ(mix_share(10, 10, 0.5), (MixShare{5, 10}));
    EXPECT_EQ(mix_share(1, 500, 3), (MixShare{1, 1}));
    EXPECT_EQ(mix_share(500, 1, 0.001), (MixShare{1, 1}));
}

TEST(Mix, training_is_mixed_and_what_is_held_out_stays_whole) {
    const std::vector<Record> records = records_of(600, 600);
    CurateOptions options = options_for("train", records);
    const auto report = curate(options);
    ASSERT_TRUE(report) << report.error().message;
    const std::int64_t train = report->splits.at("train").records;
    const std::int64_t reasoned = report->reasoning.at("train");
    EXPECT_EQ(train - reasoned, (reasoned + 1) / 3);
    EXPECT_EQ(report->dropped.size(), 1U);
    EXPECT_EQ(report->kept + report->dropped.at("mix"), 1200);
    const auto dropped = data::read_records(options.output / "dropped.jsonl");
    ASSERT_TRUE(dropped);
    for (const Record& record : *dropped) {
        EXPECT_FALSE(has_reasoning(record));
        EXPECT_EQ(record.verdicts["dropped"]["reason"], "mix");
    }
    // Without a mix: the same training records and those that went, and the same that are held out.
    CurateOptions whole = options_for("whole", records);
    whole.reasoning_mix = 0;
    const auto all = curate(whole);
    ASSERT_TRUE(all) << all.error().message;
    EXPECT_EQ(all->splits.at("train").records, train + report->dropped.at("mix"));
    for (const char* split : {"validation", "test"}) {
        EXPECT_EQ(all->splits.at(split).merkle_root, report->splits.at(split).merkle_root) << split;
        EXPECT_GT(all->splits.at(split).records, report->reasoning.at(split)) << split;
    }
    // In another order the same ones are drawn.
    std::vector<Record> turned = records;
    std::reverse(turned.begin(), turned.end());
    CurateOptions other = options_for("turned", turned);
    ASSERT_TRUE(curate(other));
    EXPECT_EQ(ids_of(other.output / "train.jsonl"), ids_of(options.output / "train.jsonl"));
}

TEST(Mix, records_keep_their_order) {
    CurateOptions options = options_for("order", records_of(40, 40));
    ASSERT_TRUE(curate(options));
    const auto train = data::read_records(options.output / "train.jsonl");
    int last = -1;
    for (const Record& record : *train) {
        const int number = std::stoi(record.content.substr(7));
        EXPECT_GT(number, last);
        last = number;
    }
}

TEST(Mix, a_kind_that_is_missing_is_an_error_that_writes_nothing) {
    CurateOptions options = options_for("plain", records_of(0, 20));
    auto report = curate(options);
    ASSERT_FALSE(report);
    for (const char* what : {"train.jsonl", "mix of 3", "none of the", "has reasoning", "have it"})
        EXPECT_NE(report.error().message.find(what), std::string::npos) << report.error().message;
    EXPECT_FALSE(fs::exists(options.output / "train.jsonl"));
    options = options_for("reasoned", records_of(20, 0));
    report = curate(options);
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message.find("all of the"), std::string::npos) << report.error().message;
    options.reasoning_mix = -1;
    EXPECT_EQ(curate(options).error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace retort::curate
