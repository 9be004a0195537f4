#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace retort::text {
namespace {

using Json = nlohmann::ordered_json;

// Every conversation of a golden file through every template of a folder, byte for byte; where transformers
// refuses a conversation, so must we.
void compare_with_golden(const std::filesystem::path& golden_path, const std::filesystem::path& folder) {
    const auto golden_text = base::read_file(golden_path);
    ASSERT_TRUE(golden_text) << golden_text.error().message;
    const Json golden = Json::parse(*golden_text);
    SpecialTokenText special;
    special.bos = golden["special"]["bos_token"];
    special.eos = golden["special"]["eos_token"];
    std::size_t compared = 0;
    for (const auto& [name, expected] : golden["templates"].items()) {
        const auto source = base::read_file(folder / name);
        ASSERT_TRUE(source) << source.error().message;
        const auto chat_template = ChatTemplate::parse(*source, special);
        if (!chat_template) {
            ADD_FAILURE() << name << ": " << chat_template.error().message;
            continue;
        }
        ASSERT_EQ(expected.size(), golden["conversations"].size());
        int shown = 0;
        for (std::size_t i = 0; i < expected.size() && shown < 3; ++i) {
            const Json& chat = golden["conversations"][i];
            ChatTemplateOptions options;
            options.add_generation_prompt = chat["add_generation_prompt"];
            if (chat.contains("tools")) options.tools = chat["tools"];
            if (chat.contains("variables")) options.variables = chat["variables"];
            const auto rendered = chat_template->render(chat["messages"], options);
            ++compared;
            if (expected[i].is_null()) {
                if (rendered && ++shown > 0)
                    ADD_FAILURE() << name << ", conversation " << i << ": not refused: " << *rendered;
                continue;
            }
            const auto& wanted = expected[i].get_ref<const std::string&>();
            if (rendered && *rendered == wanted) continue;
            ++shown;
            ADD_FAILURE() << name << ", conversation " << i << "\nexpected: " << Json(wanted)
                          << "\n     got: " << (rendered ? Json(*rendered).dump() : rendered.error().message);
        }
    }
    EXPECT_GE(compared, 40U);
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
    const std::filesystem::path data = RETORT_TEST_DATA "/text";
    compare_with_golden(data / "chat_golden.json", data / "templates");
}

// The same over templates that are not kept here, such as all of llama.cpp's: RETORT_CHAT_GOLDEN names what
// tests/golden/text_templates.py wrote, RETORT_CHAT_TEMPLATES the folder.
TEST(ChatTemplate, RendersOtherTemplatesAsTransformersDoes) {
    const char* const golden = std::getenv("RETORT_CHAT_GOLDEN");
    const char* const folder = std::getenv("RETORT_CHAT_TEMPLATES");
    if (golden == nullptr || folder == nullptr) GTEST_SKIP() << "RETORT_CHAT_GOLDEN is not set";
    compare_with_golden(golden, folder);
}

TEST(ChatTemplate, AbsentTemplateIsAnError) {
    const ChatTemplate none;
    EXPECT_TRUE(none.empty());
    const auto rendered = none.render(std::vector<Message>{{"user", "hi"}});
    ASSERT_FALSE(rendered);
    EXPECT_EQ(rendered.error().code, ErrorCode::unsupported);
}

TEST(ChatTemplate, MessageStructsGiveTheirJson) {
    const auto chat_template = ChatTemplate::parse(
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% if m.reasoning_content %}({{ "
        "m.reasoning_content }})"
        "{% endif %};{% endfor %}{{ bos_token }}{{ eos_token is defined }}",
        {.bos = "<s>"});
    ASSERT_TRUE(chat_template);
    const auto rendered =
        chat_template->render(std::vector<Message>{{"user", "q"}, {"assistant", "a", "why"}});
    ASSERT_TRUE(rendered) << rendered.error().message;
    EXPECT_EQ(*rendered, "user:q;assistant:a(why);<s>False");
}

TEST(ChatTemplate, WhatTheTemplateRefusesIsNamed) {
    const auto chat_template = ChatTemplate::parse(
        "\n{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}", {});
    ASSERT_TRUE(chat_template);
    const auto rendered = chat_template->render(std::vector<Message>{{"user", "q"}, {"user", "r"}});
    ASSERT_FALSE(rendered);
    EXPECT_EQ(rendered.error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(rendered.error().message, "chat template: line 2: the chat template says: one message only");
}

}  // namespace
}  // namespace retort::text
