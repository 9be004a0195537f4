#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "data/manifest.h"
#include "data/prompts.h"
#include "data/record.h"

namespace retort::data {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_data_" + name);
    fs::remove_all(path);
    fs::create_directories(path);
    return path;
}

Record sample_record(int number) {
    Record record;
    record.prompt_id = "p" + std::to_string(number);
    record.request.messages = {
        {.role = "system", .content = "Be brief."},
        {.role = "user", .content = "Number " + std::to_string(number) + " \u2014 \"why\"?\n"}};
    record.request.model = "teacher-1";
    record.request.parameters = {{"temperature", 0.7}, {"seed", 3}};
    record.request.max_tokens = 96;
    record.request.sample = 1;
    record.content = "Because.\nIt is.";
    record.reasoning = "Let me see";
    record.finish_reason = "stop";
    record.endpoint = "http://127.0.0.1:1/v1";
    record.system_fingerprint = "fp";
    record.request_id = "req-1";
    record.terms_id = "Apache-2.0@2024-11-01";
    record.terms_sha256 = "ab";
    record.usage = {.prompt_tokens = 11, .completion_tokens = 7, .reasoning_tokens = 2};
    record.started = "2026-11-24T06:03:52Z";
    record.seconds = 0.25;
    record.attempts = 2;
    record.cost = 0.001;
    record.logprobs = formats::Json::array({{{"token", "B"}, {"logprob", -0.5}}});
    record.metadata = {{"thing", "a kettle"}};
    record.verdicts = {{"sentences", {{"passed", true}}}};
    seal(record);
    return record;
}

TEST(Record, a_line_and_back_is_the_same_record) {
    const Record record = sample_record(1);
    const std::string line = write_record(record);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    const auto back = parse_record(line);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, record);
    EXPECT_EQ(write_record(*back), line);
    EXPECT_TRUE(check_seal(*back));
}

TEST(Record, key_leaves_out_max_tokens_and_nothing_else) {
    const RequestShape base = sample_record(1).request;
    RequestShape longer = base;
    longer.max_tokens = 200;
    EXPECT_EQ(request_key(base), request_key(longer));
    EXPECT_NE(request_hash(base), request_hash(longer));
    RequestShape other = base;
    other.sample = 2;
    EXPECT_NE(request_key(base), request_key(other));
    other = base;
    other.model = "teacher-2";
    EXPECT_NE(request_key(base), request_key(other));
    other = base;
    other.parameters["temperature"] = 0.8;
    EXPECT_NE(request_key(base), request_key(other));
    other = base;
    other.messages[0].content += ".";
    EXPECT_NE(request_key(base), request_key(other));
    // The text is canonical: SHA-256 of this very JSON, so that another program can check it.
    RequestShape tiny;
    tiny.messages = {{.role = "user", .content = "hi"}};
    tiny.model = "m";
    EXPECT_EQ(request_key(tiny),
              base::sha256_hex(
                  R"({"messages":[{"content":"hi","role":"user"}],"model":"m","parameters":{},"sample":0})"));
}

TEST(Record, damage_is_named) {
    EXPECT_EQ(parse_record("[]").error().code, ErrorCode::format);
    EXPECT_NE(
        parse_record(R"({"id":"a","prompt":[],"answer":{}})").error().message.find("messages are empty"),
        std::string::npos);
    const std::string wrong = R"({"id":"a","prompt":[{"role":"user","content":"x"}],"answer":{"content":3}})";
    EXPECT_NE(parse_record(wrong).error().message.find("content is a number"), std::string::npos);
    Record record = sample_record(1);
    record.content += "!";
    EXPECT_FALSE(check_seal(record));
}

TEST(Record, errors_name_file_and_line) {
    const fs::path path = scratch("lines") / "records.jsonl";
    ASSERT_TRUE(base::write_file_atomic(path, std::string_view(write_record(sample_record(1)) + "\n\n{]\n")));
    const auto records = read_records(path);
    ASSERT_FALSE(records);
    EXPECT_NE(records.error().message.find("records.jsonl:3"), std::string::npos) << records.error().message;
}

TEST(Manifest, checks_every_line_and_the_root) {
    const fs::path path = scratch("manifest") / "records.jsonl";
    auto writer = RecordWriter::create(path);
    ASSERT_TRUE(writer);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(writer->add(sample_record(i)));
    writer->add_parent("00ff");
    EXPECT_FALSE(fs::exists(path));
    const auto manifest = writer->commit();
    ASSERT_TRUE(manifest);
    EXPECT_EQ(manifest->records, 5);
    EXPECT_EQ(manifest->usage.completion_tokens, 35);
    const auto back = read_manifest(manifest_path(path));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->merkle_root, manifest->merkle_root);
    EXPECT_EQ(back->teachers.at("teacher-1"), 5);
    EXPECT_EQ(back->parents, std::vector<std::string>{"00ff"});
    EXPECT_TRUE(check_records(path));

    // A change that keeps each seal whole is still seen by the root; one that does not, by the seal.
    auto text = *base::read_file(path);
    text.replace(text.find("\"seconds\":0.25"), 14, "\"seconds\":0.26");
    ASSERT_TRUE(base::write_file_atomic(path, std::string_view(text)));
    EXPECT_NE(check_records(path).error().message.find("Merkle root"), std::string::npos);
    text.replace(text.find("Because."), 8, "Because!");
    ASSERT_TRUE(base::write_file_atomic(path, std::string_view(text)));
    EXPECT_NE(check_records(path).error().message.find("answer.sha256"), std::string::npos);
}

TEST(Record, messages_line_ends_with_the_answer) {
    const auto json = formats::parse_json(write_messages_line(sample_record(1)), "line");
    ASSERT_TRUE(json);
    const auto& messages = (*json)["messages"];
    ASSERT_EQ(messages.size(), 3U);
    EXPECT_EQ(messages[2]["role"], "assistant");
    EXPECT_EQ(messages[2]["content"], "Because.\nIt is.");
}

TEST(Prompts, three_forms) {
    const auto prompts = parse_prompts(
        "{\"prompt\":\"one\",\"id\":\"a\",\"metadata\":{\"thing\":\"x\"}}\r\n\n"
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"two\"}]}\n"
        "{\"prompt\":\"two\"}",
        PromptFormat::json_lines, "p.jsonl", "Be kind.");
    ASSERT_TRUE(prompts) << prompts.error().message;
    ASSERT_EQ(prompts->size(), 3U);
    EXPECT_EQ((*prompts)[0].id, "a");
    EXPECT_EQ((*prompts)[0].metadata["thing"], "x");
    EXPECT_EQ((*prompts)[0].messages[0].content, "Be kind.");
    EXPECT_EQ((*prompts)[1].messages[0].content, "s");
    EXPECT_NE((*prompts)[1].id, (*prompts)[2].id);

    const auto plain = parse_prompts("one\n\n two \none\n", PromptFormat::plain_text, "p.txt");
    ASSERT_TRUE(plain);
    ASSERT_EQ(plain->size(), 2U);
    EXPECT_EQ((*plain)[1].messages[0].content, "two");
}

TEST(Prompts, faults_name_the_line) {
    const auto message = [](std::string_view text) {
        const auto prompts = parse_prompts(text, PromptFormat::json_lines, "p.jsonl");
        return prompts ? std::string() : prompts.error().message;
    };
    EXPECT_NE(message("{\"prompt\":\"x\"}\n{\"text\":\"x\"}").find("p.jsonl:2"), std::string::npos);
    EXPECT_NE(message("{\"prompt\":\" \"}").find("empty"), std::string::npos);
    EXPECT_NE(message("{\"prompt\":\"x\",\"messages\":[]}").find("either"), std::string::npos);
    EXPECT_NE(message("{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"a\",\"prompt\":\"y\"}").find("twice"),
              std::string::npos);
    EXPECT_NE(message(R"({"messages":[{"role":"assistant","content":"x"}]})").find("assistant"),
              std::string::npos);
    EXPECT_NE(message("").find("no prompt"), std::string::npos);
}

TEST(Prompts, the_demonstrations_own_file_is_sound) {
    const auto prompts = read_prompts(fs::path(RETORT_SOURCE_DIR) / "recipes/prompts/everyday-things.jsonl");
    ASSERT_TRUE(prompts) << prompts.error().message;
    EXPECT_GE(prompts->size(), 600U);
    for (const Prompt& prompt : *prompts) {
        ASSERT_TRUE(prompt.metadata.contains("thing")) << prompt.id;
        EXPECT_NE(prompt.messages[0].content.find(prompt.metadata["thing"].get<std::string>()),
                  std::string::npos);
    }
}

}  // namespace
}  // namespace retort::data
