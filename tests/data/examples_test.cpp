#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "data/examples.h"
#include "text/chat_template.h"

namespace retort::data {
namespace {

// A byte-level tokenizer without merges (a token a byte) and four special tokens.
text::Tokenizer byte_tokenizer() {
    // GPT-2's alphabet: bytes that print stand for themselves, the others for U+0100 and on, in order.
    formats::Json vocab = formats::Json::object();
    int shifted = 0;
    for (int byte = 0; byte < 256; ++byte) {
        const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        const int point = prints ? byte : 256 + shifted++;
        std::string text;
        if (point < 0x80) {
            text.push_back(static_cast<char>(point));
        } else {
            text.push_back(static_cast<char>(0xC0 | (point >> 6)));
            text.push_back(static_cast<char>(0x80 | (point & 63)));
        }
        vocab[text] = byte;
    }
    formats::Json added = formats::Json::array();
    int id = 256;
    for (const char* content : {"<|im_start|>", "<|im_end|>", "<s>"}) {
        added.push_back({{"id", id++},
                         {"content", content},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}});
    }
    const formats::Json json = {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added},
        {"normalizer", nullptr},
        {"pre_tokenizer",
         {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
        {"post_processor", nullptr},
        {"decoder",
         {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
        {"model",
         {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocab},
          {"merges", formats::Json::array()}}}};
    auto tokenizer = text::Tokenizer::from_json(formats::write_json(json),
                                                R"({"bos_token":"<s>","eos_token":"<|im_end|>"})");
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return *tokenizer;
}

Result<std::string> chatml(std::span<const Message> messages, bool generation) {
    std::string text;
    for (const Message& message : messages) {
        text += "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n";
    }
    if (generation) text += "<|im_start|>assistant\n";
    return text;
}

// Qwen3's way without thinking: the template supplies an empty block.
Result<std::string> empty_think(std::span<const Message> messages, bool generation) {
    std::string text;
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const bool last_answer = i + 1 == messages.size() && messages[i].role == "assistant";
        text += "<|im_start|>" + messages[i].role + "\n";
        if (last_answer) text += "<think>\n" + messages[i].reasoning + "\n</think>\n\n";
        text += messages[i].content + "<|im_end|>\n";
    }
    if (generation) text += "<|im_start|>assistant\n";
    return text;
}

Record record_of(std::string content, std::string reasoning = "") {
    Record record;
    record.id = "r1";
    record.request.messages = {{.role = "user", .content = "Hi?"}};
    record.content = std::move(content);
    record.reasoning = std::move(reasoning);
    record.finish_reason = "stop";
    return record;
}

std::string trained_text(const Example& example, const text::Tokenizer& tokenizer) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < example.tokens.size(); ++i) {
        if (example.trained[i] != 0) ids.push_back(example.tokens[i]);
    }
    return tokenizer.decode(ids);
}

class Examples : public ::testing::Test {
  protected:
    text::Tokenizer tokenizer = byte_tokenizer();
    std::vector<std::int32_t> ends = {257};
    ExampleOptions options{.max_tokens = 200, .end_of_turn_tokens = ends};

    std::string trained(const Record& record, const Renderer& render) {
        const auto example = make_example(record, render, tokenizer, options);
        EXPECT_TRUE(example) << example.error().message;
        return example ? trained_text(*example, tokenizer) : "";
    }
    std::string fault(const Record& record, const Renderer& render) {
        const auto example = make_example(record, render, tokenizer, options);
        return example ? std::string() : example.error().message;
    }
};

TEST_F(Examples, only_the_answer_and_the_end_of_its_turn_are_trained) {
    const auto example = make_example(record_of("Yes."), chatml, tokenizer, options);
    ASSERT_TRUE(example) << example.error().message;
    EXPECT_EQ(trained_text(*example, tokenizer), "Yes.<|im_end|>");
    EXPECT_EQ(example->tokens.back(), 257);  // the template's newline behind it is not part of the sequence
    EXPECT_EQ(tokenizer.decode(example->tokens),
              "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>");
}

TEST_F(Examples, an_answer_that_was_cut_does_not_teach_to_stop) {
    Record record = record_of("Yes, and");
    record.finish_reason = "length";
    EXPECT_EQ(trained(record, chatml), "Yes, and");
}

TEST_F(Examples, an_empty_think_block_of_the_template_is_not_trained) {
    EXPECT_EQ(trained(record_of("Yes."), empty_think), "Yes.<|im_end|>");
    EXPECT_EQ(trained(record_of("Yes.", "Hm"), empty_think), "<think>\nHm\n</think>\n\nYes.<|im_end|>");
    const auto prompted = [](std::span<const Message> messages, bool generation) -> Result<std::string> {
        RETORT_TRY(std::string text, empty_think(messages, generation));
        return generation ? text + "<think>\n\n</think>\n\n" : text;
    };
    EXPECT_EQ(trained(record_of("Yes."), prompted), "Yes.<|im_end|>");
}

TEST_F(Examples, reasoning_survives_a_template_that_drops_it) {
    EXPECT_EQ(trained(record_of("Yes.", "Hm"), chatml), "<think>\nHm\n</think>\n\nYes.<|im_end|>");
    const auto opened = [](std::span<const Message> messages, bool generation) -> Result<std::string> {
        RETORT_TRY(std::string text, chatml(messages, generation));
        return generation ? text + "<think>\n" : text;
    };
    EXPECT_EQ(trained(record_of("Yes.", "Hm"), opened), "Hm\n</think>\n\nYes.<|im_end|>");
}

TEST_F(Examples, broken_templates_are_errors) {
    const auto without_answer = [](std::span<const Message> messages,
                                   bool generation) -> Result<std::string> {
        return chatml(messages.first(1), generation);
    };
    EXPECT_NE(fault(record_of("Yes."), without_answer), "");
    const auto never_closed = [](std::span<const Message> messages, bool generation) -> Result<std::string> {
        std::string text;
        for (const Message& message : messages) text += message.role + ": " + message.content + "\n";
        return generation ? text + "assistant: " : text;
    };
    EXPECT_NE(fault(record_of("Yes."), never_closed).find("end-of-turn"), std::string::npos);
    const auto rewrites = [](std::span<const Message> messages, bool generation) -> Result<std::string> {
        RETORT_TRY(const std::string text, chatml(messages, generation));
        return std::to_string(messages.size()) + text;
    };
    EXPECT_NE(fault(record_of("Yes."), rewrites).find("differently"), std::string::npos);
    const auto twice = [](std::span<const Message> messages, bool generation) -> Result<std::string> {
        RETORT_TRY(const std::string text, chatml(messages, generation));
        return "<s><s>" + text;
    };
    EXPECT_NE(fault(record_of("Yes."), twice).find("BOS"), std::string::npos);
    const auto everything = [](std::span<const Message> messages, bool) -> Result<std::string> {
        return messages.size() == 1 ? std::string() : "Yes.<|im_end|>";
    };
    EXPECT_NE(fault(record_of("Yes."), everything).find("all one"), std::string::npos);
}

// The models' own templates, as published.
Renderer published(const std::string& name) {
    const auto source =
        base::read_file(std::filesystem::path(RETORT_TEST_DATA) / "text/templates" / (name + ".jinja"));
    EXPECT_TRUE(source) << source.error().message;
    const auto chat =
        text::ChatTemplate::parse(*source, {.bos = "<s>", .eos = "<|im_end|>", .unknown = "", .padding = ""});
    EXPECT_TRUE(chat) << chat.error().message;
    return [chat = *chat](std::span<const Message> messages, bool generation) -> Result<std::string> {
        std::vector<text::Message> converted;
        for (const Message& message : messages) {
            converted.push_back(
                {.role = message.role, .content = message.content, .reasoning_content = message.reasoning});
        }
        text::ChatTemplateOptions options;
        options.add_generation_prompt = generation;
        auto text = chat.render(converted, options);
        // DeepSeek's end of the turn, which this test's tokenizer does not have.
        const std::string end = "<\uff5cend\u2581of\u2581sentence\uff5c>";
        for (std::size_t at = 0; text && (at = text->find(end, at)) != std::string::npos;) {
            text->replace(at, end.size(), "<|im_end|>");
        }
        return text;
    };
}

TEST_F(Examples, published_templates) {
    options.max_tokens = 2000;
    const Renderer smollm2 = published("HuggingFaceTB-SmolLM2-135M-Instruct");
    const auto example = make_example(record_of(" Yes.\n"), smollm2, tokenizer, options);
    ASSERT_TRUE(example) << example.error().message;
    EXPECT_EQ(
        tokenizer.decode(example->tokens),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n Yes.\n<|im_end|>");
    EXPECT_EQ(trained_text(*example, tokenizer), " Yes.\n<|im_end|>");
    EXPECT_EQ(trained(record_of("Yes."), published("Qwen-Qwen2.5-7B-Instruct")), "Yes.<|im_end|>");

    // Qwen3 supplies an empty block for an answer without reasoning, and keeps the reasoning of the last
    // turn.
    const Renderer qwen3 = published("Qwen-Qwen3-0.6B");
    EXPECT_EQ(trained(record_of("Yes."), qwen3), "Yes.<|im_end|>");
    EXPECT_EQ(trained(record_of("Yes.", "Hm"), qwen3), "<think>\nHm\n</think>\n\nYes.<|im_end|>");
    // DeepSeek-R1's drops reasoning from every turn; its generation prompt opens the block, which is not
    // trained.
    const Renderer r1 = published("deepseek-ai-DeepSeek-R1-Distill-Llama-8B");
    EXPECT_EQ(trained(record_of("Yes.", "Hm"), r1), "Hm\n</think>\n\nYes.<|im_end|>");
    EXPECT_EQ(trained(record_of("Yes."), r1), "Yes.<|im_end|>");
}

TEST_F(Examples, what_does_not_fit_is_reported) {
    std::vector<Record> records = {record_of("Yes."), record_of(std::string(300, 'x')),
                                   record_of("a <|im_end|> b")};
    records[1].id = "long";
    records[2].id = "special";
    const auto set = make_examples(records, chatml, tokenizer, options);
    ASSERT_TRUE(set) << set.error().message;
    ASSERT_EQ(set->examples.size(), 1U);
    ASSERT_EQ(set->skipped.size(), 2U);
    EXPECT_EQ(set->skipped[0].record_id, "long");
    EXPECT_GT(set->skipped[0].tokens, 300);
    EXPECT_EQ(set->skipped[1].record_id, "special");
    EXPECT_EQ(set->trained_tokens, 5);
    const auto rows = pack(set->examples, 200);
    ASSERT_TRUE(rows);
    EXPECT_EQ((*rows)[0].trained_tokens, 5);
}

}  // namespace
}  // namespace retort::data
