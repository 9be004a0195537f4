#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "formats/json.h"
#include "formats/jsonl.h"
#include "formats/recipe.h"

namespace retort::formats {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Json, LimitsAreChecked) {
    const std::string deep = std::string(1000, '[') + std::string(1000, ']');
    EXPECT_THAT(parse_json(deep, "x").error().message, HasSubstr("nested deeper"));
    EXPECT_TRUE(parse_json(R"({"text":"[[[[[["})", "x", {.depth = 1}));
    EXPECT_TRUE(parse_json(R"({"te\"xt":"[\\"})", "x", {.depth = 1}));
    EXPECT_THAT(parse_json("[1,2,3]", "x", {.bytes = 3}).error().message, HasSubstr("more than the 3"));
    EXPECT_THAT(parse_json("{\"a\":}", "file.json").error().message,
                HasSubstr("file.json: parse error at line 1"));
    EXPECT_FALSE(parse_json("\"\xff\"", "x"));
    EXPECT_FALSE(parse_json("", "x"));
}

TEST(Json, TypedAccess) {
    const Json json =
        *parse_json(R"({"i":3,"f":2.0,"g":2.5,"s":"t","b":true,"n":null,"u":18446744073709551615})", "x");
    EXPECT_EQ(*json_integer(json, "i"), 3);
    EXPECT_EQ(*json_integer(json, "f"), 2);
    EXPECT_FALSE(json_integer(json, "g"));
    EXPECT_FALSE(json_integer(json, "u"));
    EXPECT_EQ(*json_number(json, "g"), 2.5);
    EXPECT_EQ(*json_string(json, "s"), "t");
    EXPECT_EQ(*json_boolean(json, "b", false), true);
    EXPECT_EQ(*json_integer(json, "n", 9), 9);
    EXPECT_EQ(*json_integer(json, "absent", 9), 9);
    EXPECT_THAT(json_integer(json, "s", 9).error().message, HasSubstr("s is a string, not an integer"));
    EXPECT_THAT(json_string(json, "absent").error().message, HasSubstr("absent is missing"));
    EXPECT_EQ(json_find(Json(7), "x"), nullptr);
}

TEST(Json, WritingNeverThrows) {
    EXPECT_EQ(write_json(Json("a\xff")), "\"a\xEF\xBF\xBD\"");
}

TEST(Jsonl, ReadsLinesWithNumbers) {
    std::vector<std::uint64_t> lines;
    const auto status =
        parse_jsonl("{\"a\":1}\n\n  \r\n{\"a\":2}\r\n{\"a\":3}", "x", [&](std::uint64_t line, Json&) {
            lines.push_back(line);
            return Status{};
        });
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_THAT(lines, ElementsAre(1, 4, 5));
}

TEST(Jsonl, ErrorsNameFileAndLine) {
    const auto ignore = [](std::uint64_t, Json&) { return Status{}; };
    EXPECT_THAT(parse_jsonl("{}\n{\n", "data.jsonl", ignore).error().message, HasSubstr("data.jsonl:2: "));
    const auto refuse = [](std::uint64_t line, Json&) -> Status {
        if (line < 2) return {};
        return fail(ErrorCode::format, "no prompt");
    };
    EXPECT_EQ(parse_jsonl("{}\n{}\n", "data.jsonl", refuse).error().message, "data.jsonl:2: no prompt");
}

TEST(Jsonl, WrittenFileReadsBack) {
    const fs::path path = fs::temp_directory_path() / fmt::format("retort_jsonl_{}", ::getpid());
    auto writer = JsonlWriter::create(path);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->write({{"text", "two\nlines"}}));
    ASSERT_TRUE(writer->write({{"text", "é"}}));
    EXPECT_FALSE(fs::exists(path));
    ASSERT_TRUE(writer->commit());
    std::vector<std::string> texts;
    ASSERT_TRUE(read_jsonl(path, [&](std::uint64_t, Json& record) {
        texts.push_back(record["text"].get<std::string>());
        return Status{};
    }));
    EXPECT_THAT(texts, ElementsAre("two\nlines", "é"));
    fs::remove(path);
}

constexpr std::string_view recipe_text = R"(name = "demo"
[train]
steps = 300
rate = 3e-4
whole = 1
packed = true
objectives = ["ce", "fkl"]
[train.schedule]
kind = "wsd"
[[teacher]]
url = "a"
[[teacher]]
url = "b"
)";

TEST(Recipe, GettersAndTables) {
    const auto recipe = TomlTable::parse(recipe_text, "demo.toml");
    ASSERT_TRUE(recipe) << recipe.error().message;
    EXPECT_EQ(*recipe->string("name"), "demo");
    const auto train = recipe->table("train");
    ASSERT_TRUE(train);
    EXPECT_EQ(*train->integer("steps"), 300);
    EXPECT_EQ(*train->number("rate"), 3e-4);
    EXPECT_EQ(*train->number("whole"), 1.0);
    EXPECT_EQ(*train->boolean("packed"), true);
    EXPECT_THAT(*train->strings("objectives"), ElementsAre("ce", "fkl"));
    EXPECT_EQ(*train->integer_or("warmup", 20), 20);
    EXPECT_EQ(*train->table("schedule")->choice_or("kind", "cosine", {"cosine", "wsd"}), "wsd");
    const auto teachers = recipe->tables("teacher");
    ASSERT_TRUE(teachers);
    ASSERT_EQ(teachers->size(), 2U);
    EXPECT_EQ(*(*teachers)[1].string("url"), "b");
    EXPECT_TRUE(recipe->tables_or_empty("student")->empty());
    EXPECT_FALSE(recipe->table_or_empty("eval")->has("tasks"));
    EXPECT_EQ((*teachers)[0].string("url").value(), "a");
    const auto status = recipe->check_unknown_keys();
    EXPECT_TRUE(status) << status.error().message;
    EXPECT_EQ(recipe->to_json()["train"]["schedule"]["kind"], "wsd");
}

TEST(Recipe, ErrorsNameFileLineAndKey) {
    const auto recipe = *TomlTable::parse(recipe_text, "demo.toml");
    const auto train = *recipe.table("train");
    EXPECT_EQ(train.string("steps").error().message, "demo.toml:3: train.steps is an integer, not a string");
    EXPECT_EQ(train.integer("rate").error().message, "demo.toml:4: train.rate is a number, not an integer");
    EXPECT_EQ(train.integer("epochs").error().message, "demo.toml:2: epochs is missing from [train]");
    EXPECT_EQ(recipe.integer("seed").error().message, "demo.toml: seed is missing");
    EXPECT_EQ(train.integer_or("steps", 1, 1, 100).error().message,
              "demo.toml:3: train.steps is 300; at most 100 is possible");
    EXPECT_THAT(train.table("schedule")->choice_or("kind", "", {"cosine", "linear"}).error().message,
                HasSubstr("train.schedule.kind is \"wsd\"; possible are cosine, linear"));
    EXPECT_THAT((*recipe.tables("teacher"))[1].integer("url").error().message,
                HasSubstr("demo.toml:13: teacher[1].url is a string"));
    EXPECT_THAT(TomlTable::parse("a = 1\nb = = 2\n", "bad.toml").error().message, HasSubstr("bad.toml:2: "));
    EXPECT_THAT(TomlTable::parse("a = 1\na = 2\n", "bad.toml").error().message, HasSubstr("bad.toml:2: "));
    EXPECT_EQ(TomlTable::read("/no/such.toml").error().code, ErrorCode::not_found);
}

TEST(Recipe, MisspeltKeysAreRefusedWithTheNearest) {
    const auto recipe = *TomlTable::parse("[train]\nsteps = 3\nlearning_rte = 0.1\n", "demo.toml");
    const auto train = *recipe.table("train");
    EXPECT_EQ(*train.integer("steps"), 3);
    EXPECT_EQ(*train.number_or("learning_rate", 0.5), 0.5);
    EXPECT_EQ(recipe.check_unknown_keys().error().message,
              "demo.toml:3: unknown key train.learning_rte; is train.learning_rate meant?");
    const auto other = *TomlTable::parse("zzzzzz = 1\n", "demo.toml");
    EXPECT_EQ(*other.integer_or("steps", 1), 1);
    EXPECT_EQ(other.check_unknown_keys().error().message,
              "demo.toml:1: unknown key zzzzzz; known here: steps");
}

}  // namespace
}  // namespace retort::formats
