#include <gtest/gtest.h>

#include <filesystem>

#include "curate/curate.h"
#include "data/record.h"
#include "screen/index.h"

namespace retort::curate {
namespace {

namespace fs = std::filesystem;

data::Record record_of(std::string prompt, std::string answer, std::string reasoning = {}) {
    data::Record record;
    record.request.messages = {{.role = "user", .content = std::move(prompt)}};
    record.request.model = "t";
    record.content = std::move(answer);
    record.reasoning = std::move(reasoning);
    record.finish_reason = "stop";
    record.terms_id = "x";
    data::seal(record);
    return record;
}

TEST(Curate, AnswersThatRepeatAProtectedWorkGo) {
    const fs::path folder = fs::path(::testing::TempDir()) / "retort_curate_protected";
    fs::remove_all(folder);
    std::string work;
    for (int i = 0; i < 200; ++i) work += "word" + std::to_string(i * 7919 % 1000) + " ";
    auto builder = screen::IndexBuilder::create({.output = folder / "index"});
    ASSERT_TRUE(builder);
    ASSERT_TRUE(builder->add({"the work", "text", "0", work}));
    ASSERT_TRUE(builder->commit());
    const std::string passage = work.substr(work.size() / 2);
    auto writer = data::RecordWriter::create(folder / "records.jsonl");
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->add(record_of("a", "An answer of its own.")));
    ASSERT_TRUE(writer->add(record_of("b", "He writes: " + passage)));
    ASSERT_TRUE(writer->add(record_of("c", "Another answer.", "I recall: " + passage)));
    ASSERT_TRUE(writer->commit());
    auto works = screen::Screen::open(folder / "index", {}, {});
    ASSERT_TRUE(works);
    CurateOptions options;
    options.inputs = {folder / "records.jsonl"};
    options.output = folder / "out";
    options.quiet = true;
    options.foreign_script_share = 1;
    options.near_duplicate_similarity = 2;  // reasoning and answer of two share the passage
    options.protected_works = &*works;
    const auto report = curate(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->kept, 1);
    EXPECT_EQ(report->dropped.at("protected"), 2);
    options.protected_works = nullptr;
    options.output = folder / "all";
    EXPECT_EQ(curate(options)->kept, 3);
}

}  // namespace
}  // namespace retort::curate
