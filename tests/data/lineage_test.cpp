#include "data/lineage.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace retort::data {
namespace {

namespace fs = std::filesystem;

TEST(Lineage, IsReadAsItWasWritten) {
    const fs::path folder = fs::path(::testing::TempDir()) / "retort_lineage";
    fs::remove_all(folder);
    fs::create_directories(folder / "student" / "model");
    ASSERT_TRUE(base::write_file_atomic(folder / "records.jsonl", std::string_view("{}\n")));
    ASSERT_TRUE(
        base::write_file_atomic(folder / "student" / "model" / "config.json", std::string_view("{}")));
    const auto before = hash_of_path(folder / "student" / "model");
    Lineage lineage;
    lineage.made_by = "a test";
    lineage.pruned = "18 of 30 layers";
    lineage.objective = "fkl";
    ASSERT_TRUE(save_lineage(folder / "student" / "lineage.json", lineage,
                             {{"records", folder / "records.jsonl"}, {"teacher", fs::path()}}));
    // The model's folder finds the one beside it, and so does the student's own.
    for (const fs::path& model :
         {folder / "student" / "model", folder / "student" / "model/", folder / "student"}) {
        const auto found = find_lineage(model);
        ASSERT_TRUE(found) << model;
        EXPECT_EQ(*found, folder / "student" / "lineage.json");
    }
    const auto read = parse_lineage(*base::read_file(folder / "student" / "lineage.json"), "it");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->made_by, "a test");
    EXPECT_EQ(read->pruned, "18 of 30 layers");
    EXPECT_EQ(read->objective, "fkl");
    ASSERT_EQ(read->inputs.size(), 1U);
    EXPECT_EQ(read->inputs[0].role, "records");
    EXPECT_EQ(read->inputs[0].sha256, *hash_of_path(folder / "records.jsonl"));
    // A folder's hash is of names and bytes, but not of its lineage.
    ASSERT_TRUE(
        base::write_file_atomic(folder / "student" / "model" / "lineage.json", std::string_view("{}")));
    EXPECT_EQ(*hash_of_path(folder / "student" / "model"), *before);
    ASSERT_TRUE(
        base::write_file_atomic(folder / "student" / "model" / "config.json", std::string_view("{ }")));
    EXPECT_NE(*hash_of_path(folder / "student" / "model"), *before);
    EXPECT_FALSE(save_lineage(folder / "x.json", "a test", {{"records", folder / "none"}}));
}

}  // namespace
}  // namespace retort::data
