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

// What a recipe with these lines in [distill] says, or why it is refused.
Result<Recipe> distilling(const std::string& lines) {
    const fs::path path = scratch("cache") / "r.toml";
    EXPECT_TRUE(base::write_file_atomic(
        path, "[teacher]\nsource = \"x.gguf\"\n[collect]\nprompts = [\"p.txt\"]\n[distill]\n" + lines));
    return read_recipe(path);
}

TEST(Recipe, a_variant_trains_from_the_cache_that_its_objective_can_have) {
    const auto recipe = distilling(
        "cache = \"samples\"\ncache_count = 20\n"
        "[[distill.variant]]\nname = \"text\"\nobjective = \"ce\"\n"
        "[[distill.variant]]\nname = \"a\"\n"
        "[[distill.variant]]\nname = \"b\"\nlearning_rate = 1e-3\n"
        "[[distill.variant]]\nname = \"c\"\nobjective = \"rkl\"\ntemperature = 2\ncache = \"top-k\"\n"
        "[[distill.variant]]\nname = \"d\"\ntemperature = 2\nanswers_only = true\n"
        "[[distill.variant]]\nname = \"live\"\nobjective = \"rkl\"\ncache = \"none\"\n"
        "[[distill.variant]]\nname = \"own\"\nobjective = \"opd\"\n");
    ASSERT_TRUE(recipe) << recipe.error().message;
    std::vector<std::string> names;
    for (const RecipeVariant& one : recipe->variants) {
        names.push_back(one.cache.used ? cache_name(one.cache, one.settings, one.answers_only) : "");
    }
    EXPECT_EQ(names, (std::vector<std::string>{"", "cache-samples-20", "cache-samples-20", "cache-top-k-64",
                                               "cache-samples-20-t2-answers", "", ""}));
    const auto alone = distilling("cache = \"samples\"\n");
    ASSERT_TRUE(alone) << alone.error().message;
    EXPECT_EQ(alone->variants.at(0).cache.count, 85);
    EXPECT_FALSE(distilling("")->variants.at(0).cache.used);
}

TEST(Recipe, a_cache_that_cannot_be_is_refused_with_its_mend) {
    const struct {
        std::string lines;
        std::vector<std::string> said;
    } cases[] = {
        {"cache = \"topk\"\n", {"cache", "topk", "samples", "top-k", "none"}},
        {"cache = \"samples\"\ncache_count = 0\n", {"cache_count", "0", "1"}},
        {"cache = \"samples\"\ncache_count = 4097\n", {"cache_count", "4097", "4096"}},
        {"cache = \"top-k\"\ncache_count = 256\n", {"cache_count", "256", "255"}},
        {"cache_count = 20\n", {"cache_count", "cache = \"samples\""}},
        {"cache = \"samples\"\nobjective = \"rkl\"\n", {"cache", "rkl", "write \"top-k\""}},
        {"cache = \"samples\"\nobjective = \"ce\"\n", {"cache", "ce", "take fkl"}},
        {"cache = \"top-k\"\n[[distill.variant]]\nname = \"own\"\nobjective = \"gkd\"\ncache = \"top-k\"\n",
         {"cache", "gkd", "write \"none\""}},
        {"cache = \"samples\"\n[[distill.variant]]\nname = \"a\"\nobjective = \"tvd\"\n",
         {"cache", "tvd", "write \"top-k\""}},
    };
    for (const auto& [lines, said] : cases) {
        const auto recipe = distilling(lines);
        ASSERT_FALSE(recipe) << lines;
        EXPECT_NE(recipe.error().message.find("r.toml:"), std::string::npos) << recipe.error().message;
        for (const std::string& what : said) {
            EXPECT_NE(recipe.error().message.find(what), std::string::npos)
                << what << ": " << recipe.error().message;
        }
    }
}

}  // namespace
}  // namespace retort::cli
