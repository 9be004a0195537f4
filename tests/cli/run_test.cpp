// The bookkeeping of `retort run`: what is done once, what is done again, what a bad recipe is told.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "cli/recipe.h"
#include "cli/run_folder.h"

namespace retort::cli {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_run_" + name);
    fs::remove_all(path);
    return path;
}

TEST(RunFolder, does_a_stage_once_and_again_when_its_inputs_change) {
    auto folder = RunFolder::open(scratch("once"));
    ASSERT_TRUE(folder) << folder.error().message;
    int done = 0;
    const auto work = [&](const fs::path& path) -> Status {
        ++done;
        return base::write_file_atomic(path / "result", std::to_string(done));
    };
    const auto first = folder->stage("a", {{"x", 1}}, work);
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_FALSE(first->was_there);
    const auto again = folder->stage("a", {{"x", 1}}, work);
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->was_there);
    EXPECT_EQ(again->files, first->files);
    EXPECT_EQ(done, 1);
    ASSERT_TRUE(base::write_file_atomic(folder->path() / "a" / "stale", "of the old inputs"));
    const auto changed = folder->stage("a", {{"x", 2}}, work);
    ASSERT_TRUE(changed);
    EXPECT_EQ(done, 2);
    EXPECT_FALSE(fs::exists(folder->path() / "a" / "stale"));
    EXPECT_NE(changed->files.at("result"), first->files.at("result"));
    fs::remove(folder->path() / "a" / "result");
    ASSERT_TRUE(folder->stage("a", {{"x", 2}}, work));
    EXPECT_EQ(done, 3);
}

TEST(RunFolder, an_interrupted_stage_finds_what_it_left) {
    auto folder = RunFolder::open(scratch("interrupted"));
    const auto fails = [](const fs::path& path) -> Status {
        RETORT_CHECK(base::write_file_atomic(path / "half", "so far"));
        return fail(ErrorCode::cancelled, "stopped");
    };
    EXPECT_FALSE(folder->stage("a", {{"x", 1}}, fails));
    bool found = false;
    const auto goes_on = [&](const fs::path& path) -> Status {
        found = fs::exists(path / "half");
        return {};
    };
    ASSERT_TRUE(folder->stage("a", {{"x", 1}}, goes_on, {.scratch_files = {"half"}}));
    EXPECT_TRUE(found);
    EXPECT_FALSE(fs::exists(folder->path() / "a" / "half"));
    EXPECT_FALSE(folder->stage("b", {{"x", 1}}, fails));
    ASSERT_TRUE(folder->stage("b", {{"x", 2}}, goes_on));
    EXPECT_FALSE(found);
    EXPECT_FALSE(folder->stage("c", {{"x", 1}}, fails));
    ASSERT_TRUE(folder->stage("c", {{"x", 2}}, goes_on, {.keep_on_change = true}));
    EXPECT_TRUE(found);
}

TEST(RunFolder, is_used_by_one_process_at_a_time) {
    const fs::path path = scratch("lock");
    const auto first = RunFolder::open(path);
    ASSERT_TRUE(first);
    const auto second = RunFolder::open(path);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find("another process"), std::string::npos);
}

TEST(Recipe, the_demonstration_is_read_whole) {
    const auto recipe = read_recipe(std::string(RETORT_SOURCE_DIR) + "/recipes/demo.toml");
    ASSERT_TRUE(recipe) << recipe.error().message;
    ASSERT_EQ(recipe->variants.size(), 2U);
    EXPECT_EQ(recipe->variants[0].settings.options.train.objective.kind, train::ObjectiveKind::ce);
    EXPECT_EQ(recipe->variants[1].settings.options.train.objective.kind, train::ObjectiveKind::fkl);
    EXPECT_TRUE(fs::exists(recipe->prompts.at(0)));
    EXPECT_TRUE(recipe->curate.verifier.has_value());
}

TEST(Recipe, a_misspelt_key_and_a_wrong_value_are_named_with_their_line) {
    const fs::path path = scratch("recipe") / "bad.toml";
    const std::string good = "[teacher]\nsource = \"x.gguf\"\n[collect]\nprompts = [\"p.txt\"]\n";
    ASSERT_TRUE(base::write_file_atomic(path, good + "[distill]\nlearning_rat = 1e-4\n"));
    auto recipe = read_recipe(path);
    ASSERT_FALSE(recipe);
    EXPECT_NE(recipe.error().message.find("learning_rat"), std::string::npos) << recipe.error().message;
    EXPECT_NE(recipe.error().message.find("learning_rate"), std::string::npos) << recipe.error().message;
    ASSERT_TRUE(base::write_file_atomic(path, good + "[distill]\nobjective = \"grpo\"\n"));
    recipe = read_recipe(path);
    ASSERT_FALSE(recipe);
    EXPECT_NE(recipe.error().message.find("grpo"), std::string::npos);
    ASSERT_TRUE(base::write_file_atomic(path, good));
    EXPECT_TRUE(read_recipe(path));
}

}  // namespace
}  // namespace retort::cli
