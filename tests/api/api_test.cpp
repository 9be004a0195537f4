#include <gtest/gtest.h>

#include <limits>

#include "api/chat_request.h"
#include "api/chat_response.h"
#include "api/error.h"

namespace retort::api {
namespace {

std::string with(const std::string& fields) {
    return R"({"model":"m","messages":[{"role":"user","content":"hi"}],)" + fields + "}";
}

TEST(ChatRequest, reads_every_field) {
    const auto request = parse_chat_request(R"({
        "model": "m", "unknown": {"a": [1]}, "user": "u", "temperature": 0, "top_p": 0.5, "top_k": -1, "min_p": 0.1,
        "repetition_penalty": 1.1, "frequency_penalty": -2, "presence_penalty": 2, "max_tokens": 5,
        "max_completion_tokens": 7, "logit_bias": {"11": -100, "3": 1.5}, "stop": ["a", "b"], "seed": -3, "n": 2,
        "logprobs": true, "top_logprobs": 20, "stream": true,
        "stream_options": {"include_usage": true, "include_obfuscation": true},
        "response_format": {"type": "text"}, "tools": [], "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": false},
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}], "name": "n"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function"}],
             "reasoning_content": "r"},
            {"role": "tool", "content": "t", "tool_call_id": "c"}]})");
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->model, "m");
    ASSERT_EQ(request->messages.size(), 4U);
    EXPECT_EQ(request->messages[1].content, "one two");
    EXPECT_EQ(request->messages[1].name, "n");
    EXPECT_EQ(request->messages[2].content, "");
    EXPECT_EQ(request->messages[2].reasoning_content, "r");
    EXPECT_EQ(request->messages[2].tool_calls_json, R"([{"id":"c","type":"function"}])");
    EXPECT_EQ(request->messages[3].tool_call_id, "c");
    const SamplingFields& sampling = request->sampling;
    EXPECT_EQ(sampling.max_tokens, 7);
    EXPECT_EQ(sampling.temperature, 0.0);
    EXPECT_EQ(sampling.top_p, 0.5);
    EXPECT_EQ(sampling.top_k, -1);
    EXPECT_EQ(sampling.min_p, 0.1);
    EXPECT_EQ(sampling.repetition_penalty, 1.1);
    EXPECT_EQ(sampling.frequency_penalty, -2.0);
    EXPECT_EQ(sampling.presence_penalty, 2.0);
    EXPECT_EQ(sampling.logit_bias, (std::vector<std::pair<std::int32_t, double>>{{11, -100.0}, {3, 1.5}}));
    EXPECT_EQ(sampling.stop, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(sampling.seed, -3);
    EXPECT_EQ(sampling.n, 2);
    EXPECT_TRUE(request->logprobs);
    EXPECT_EQ(request->top_logprobs, 20);
    EXPECT_TRUE(request->stream);
    EXPECT_TRUE(request->include_usage);
    EXPECT_EQ(request->enable_thinking, false);
    EXPECT_EQ(request->reasoning_effort, "low");
    EXPECT_TRUE(request->tools_json.empty());
}

TEST(ChatRequest, null_stands_for_absent) {
    const auto request = parse_chat_request(with(
        R"("temperature":null,"stop":null,"n":null,"logit_bias":null,"stream_options":null,"tools":null,)"
        R"("response_format":null,"seed":null,"stream":null)"));
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_FALSE(request->sampling.temperature);
    EXPECT_EQ(request->sampling.n, 1);
}

TEST(ChatRequest, an_error_names_the_field) {
    struct Case {
        std::string fields;
        std::string param;
    };
    for (const Case& c : std::vector<Case>{
             {R"("temperature":"0")", "temperature"},
             {R"("temperature":2.1)", "temperature"},
             {R"("temperature":-0.1)", "temperature"},
             {R"("temperature":true)", "temperature"},
             {R"("top_p":1.5)", "top_p"},
             {R"("frequency_penalty":3)", "frequency_penalty"},
             {R"("presence_penalty":[])", "presence_penalty"},
             {R"("max_tokens":"10")", "max_tokens"},
             {R"("max_tokens":0)", "max_tokens"},
             {R"("max_tokens":1.5)", "max_tokens"},
             {R"("max_completion_tokens":-1)", "max_completion_tokens"},
             {R"("n":0)", "n"},
             {R"("n":129)", "n"},
             {R"("seed":"x")", "seed"},
             {R"("seed":1e30)", "seed"},
             {R"("stop":["a","b","c","d","e"])", "stop"},
             {R"("stop":[1])", "stop"},
             {R"("stop":"")", "stop"},
             {R"("stop":{})", "stop"},
             {R"("logit_bias":[1])", "logit_bias"},
             {R"("logit_bias":{"x":1})", "logit_bias"},
             {R"("logit_bias":{"-1":1})", "logit_bias"},
             {R"("logit_bias":{"1":101})", "logit_bias"},
             {R"("logit_bias":{"1":"a"})", "logit_bias"},
             {R"("logprobs":1)", "logprobs"},
             {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
             {R"("top_logprobs":5)", "top_logprobs"},
             {R"("stream":"yes")", "stream"},
             {R"("stream_options":{"include_usage":true})", "stream_options"},
             {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage"},
             {R"("stream":true,"stream_options":{"include_obfuscation":1})",
              "stream_options.include_obfuscation"},
             {R"("reasoning_effort":1)", "reasoning_effort"},
             {R"("parallel_tool_calls":1)", "parallel_tool_calls"},
             {R"("chat_template_kwargs":{"enable_thinking":1})", "chat_template_kwargs.enable_thinking"},
             {R"("functions":[])", "functions"},
             {R"("function_call":"auto")", "function_call"},
             {R"("audio":{})", "audio"},
             {R"("web_search_options":{})", "web_search_options"},
             {R"("tools":[{"type":"custom"}])", "tools[0].type"},
             {R"("tool_choice":{"type":"allowed_tools","allowed_tools":{}})", "tool_choice.type"},
             {R"("tool_choice":{"type":"function"})", "tool_choice.function"},
             {R"("response_format":{"type":"yaml"})", "response_format.type"},
             {R"("response_format":{"type":"json_schema","json_schema":{}})",
              "response_format.json_schema.schema"},
             {R"("response_format":"json")", "response_format"},
             {R"("tools":{})", "tools"},
             {R"("messages":[])", "messages"},
             {R"("messages":"hi")", "messages"},
             {R"("messages":["hi"])", "messages[0]"},
             {R"("messages":[{"content":"x"}])", "messages[0].role"},
             {R"("messages":[{"role":"user","content":"x"},{"role":"king","content":"x"}])",
              "messages[1].role"},
             {R"("messages":[{"role":"user"}])", "messages[0].content"},
             {R"("messages":[{"role":"user","content":5}])", "messages[0].content"},
             {R"("messages":[{"role":"user","content":[{"type":"image_url"}]}])",
              "messages[0].content[0].type"},
             {R"("messages":[{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
             {R"("model":7)", "model"},
         }) {
        const auto request = parse_chat_request(with(c.fields));
        ASSERT_FALSE(request) << c.fields;
        EXPECT_EQ(request.error().status, 400) << c.fields;
        EXPECT_EQ(request.error().param.value_or("none"), c.param) << c.fields;
        EXPECT_FALSE(request.error().message.empty());
    }
    // Known, but not to be had: told apart from a wrong value.
    for (const char* fields : {R"("audio":{})", R"("tool_choice":{"type":"custom","custom":{}})",
                               R"("messages":[{"role":"user","content":[{"type":"input_audio"}]}])"}) {
        EXPECT_EQ(parse_chat_request(with(fields)).error().code, "unsupported_parameter") << fields;
    }
    EXPECT_EQ(parse_chat_request(R"({"messages":[{"role":"user","content":"x"}]})").error().param, "model");
    EXPECT_EQ(parse_chat_request(R"({"model":"m"})").error().param, "messages");
}

TEST(ChatRequest, refuses_what_is_no_json_or_too_deep) {
    for (const std::string& body : std::vector<std::string>{
             std::string(), std::string("{"), std::string("[]"), std::string("nul"), std::string("\"\xff\""),
             with("\"x\":\"\xc3\x28\""), std::string(100'000, '['),
             with("\"x\":" + std::string(70, '[') + std::string(70, ']'))}) {
        const auto request = parse_chat_request(body);
        ASSERT_FALSE(request);
        EXPECT_EQ(request.error().status, 400);
        EXPECT_FALSE(request.error().param);
    }
    EXPECT_TRUE(parse_chat_request(with("\"x\":" + std::string(60, '[') + std::string(60, ']'))));
    EXPECT_TRUE(parse_chat_request(with("\"x\":\"" + std::string(100, '[') + "\"")));
}

TEST(ChatRequest, what_the_client_writes_the_server_reads) {
    ChatRequest request;
    request.model = "m";
    request.messages = {{"system", "s"}, {"user", "caf\u00e9 \"quoted\"\n"}};
    request.sampling.max_tokens = 9;
    request.sampling.temperature = 0.7;
    request.sampling.top_k = 40;
    request.sampling.stop = {"x"};
    request.sampling.seed = std::numeric_limits<std::int64_t>::min();
    request.sampling.n = 3;
    request.sampling.logit_bias = {{5, -1.0}};
    request.logprobs = true;
    request.top_logprobs = 4;
    request.stream = true;
    request.include_usage = true;
    request.enable_thinking = true;
    for (const MaxTokensField field : {MaxTokensField::max_tokens, MaxTokensField::max_completion_tokens}) {
        const auto back = parse_chat_request(write_chat_request(request, field));
        ASSERT_TRUE(back) << back.error().message;
        EXPECT_EQ(write_chat_request(*back, field), write_chat_request(request, field));
        EXPECT_EQ(back->messages[1].content, request.messages[1].content);
        EXPECT_EQ(back->sampling.seed, request.sampling.seed);
        EXPECT_EQ(back->sampling.max_tokens, 9);
    }
    ChatRequest small;
    small.model = "m";
    small.messages = {{"user", "x"}};
    EXPECT_EQ(write_chat_request(small), R"({"model":"m","messages":[{"role":"user","content":"x"}]})");
}

TEST(CompletionRequest, takes_texts_and_ids) {
    const auto text = parse_completion_request(R"({"model":"m","prompt":"x"})");
    ASSERT_TRUE(text);
    EXPECT_EQ(text->sampling.max_tokens, 16);
    EXPECT_EQ(parse_completion_request(R"({"model":"m","prompt":["x","y"]})")->prompts.size(), 2U);
    const auto ids = parse_completion_request(R"({"model":"m","prompt":[1,2,3]})");
    ASSERT_EQ(ids->prompts.size(), 1U);
    EXPECT_EQ(ids->prompts[0].tokens, (std::vector<std::int32_t>{1, 2, 3}));
    EXPECT_EQ(parse_completion_request(R"({"model":"m","prompt":[[1],[2,3]]})")->prompts.size(), 2U);
    for (const char* prompt :
         {"5", "[]", "[-1]", "[1.5]", "[1,\"a\"]", "[{}]", "null", "{}", "[99999999999]"}) {
        const auto bad = parse_completion_request(std::string(R"({"model":"m","prompt":)") + prompt + "}");
        ASSERT_FALSE(bad) << prompt;
        EXPECT_EQ(bad.error().param, "prompt");
    }
    struct Case {
        std::string fields;
        std::string param;
        std::string code;
    };
    for (const Case& c : std::vector<Case>{{R"("suffix":"y")", "suffix", "unsupported_parameter"},
                                           {R"("best_of":2)", "best_of", "unsupported_parameter"},
                                           {R"("logprobs":true)", "logprobs", "invalid_value"},
                                           {R"("logprobs":21)", "logprobs", "invalid_value"},
                                           {R"("echo":1)", "echo", "invalid_value"},
                                           {R"("max_tokens":0)", "max_tokens", "invalid_value"}}) {
        const auto bad = parse_completion_request(R"({"model":"m","prompt":"x",)" + c.fields + "}");
        ASSERT_FALSE(bad) << c.fields;
        EXPECT_EQ(bad.error().param, c.param);
        EXPECT_EQ(bad.error().code, c.code) << c.fields;
    }
    for (const char* fields : {R"("best_of":1)", R"("suffix":"")", R"("suffix":null)",
                               R"("echo":true,"max_tokens":0)", R"("logprobs":20)", R"("unknown":[1])"}) {
        EXPECT_TRUE(parse_completion_request(std::string(R"({"model":"m","prompt":"x",)") + fields + "}"))
            << fields;
    }
}

TEST(ChatResponse, what_the_server_writes_the_client_reads) {
    ChatResponse response;
    response.id = "chatcmpl-1";
    response.created = 123;
    response.model = "m";
    response.system_fingerprint = "fp";
    response.usage = Usage{10, 5, 4, 2};
    ChatChoice choice;
    choice.content = "yes";
    choice.reasoning_content = "hm";
    choice.finish_reason = "stop";
    TokenLogprobs token;
    token.token = "\uFFFD";
    token.logprob = -std::numeric_limits<double>::infinity();
    token.bytes = std::vector<std::uint8_t>{0xc3};
    token.top.push_back({"a", -1.5, {}});
    choice.logprobs = {token};
    response.choices = {choice};
    const std::string written = write_chat_response(response);
    for (const char* part : {R"("object":"chat.completion")", R"("reasoning_content":"hm","refusal":null)",
                             R"("total_tokens":15)"})
        EXPECT_NE(written.find(part), std::string::npos) << written;
    const auto back = parse_chat_response(written);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->id, response.id);
    EXPECT_EQ(back->created, 123);
    EXPECT_EQ(back->system_fingerprint, "fp");
    EXPECT_EQ(back->usage->total_tokens(), 15);
    EXPECT_EQ(back->usage->cached_tokens, 4);
    EXPECT_EQ(back->usage->reasoning_tokens, 2);
    EXPECT_EQ(back->choices[0].content, "yes");
    EXPECT_EQ(back->choices[0].reasoning_content, "hm");
    EXPECT_EQ((*back->choices[0].logprobs)[0].logprob, -9999.0);
    EXPECT_EQ((*back->choices[0].logprobs)[0].bytes, token.bytes);
    EXPECT_EQ((*back->choices[0].logprobs)[0].top[0].token, "a");
    EXPECT_FALSE((*back->choices[0].logprobs)[0].top[0].bytes);
}

TEST(ChatResponse, reads_what_other_servers_write) {
    const auto vllm = parse_chat_response(
        R"({"id":"x","object":"chat.completion","created":1.0,"model":"q","choices":[{"index":0,"message":)"
        R"({"role":"assistant","content":null,"reasoning":"because","tool_calls":[]},"logprobs":null,)"
        R"("finish_reason":"length","stop_reason":null}],"usage":{"prompt_tokens":3,"total_tokens":8,)"
        R"("completion_tokens":5,"prompt_tokens_details":null},"prompt_logprobs":null})");
    ASSERT_TRUE(vllm) << vllm.error().message;
    EXPECT_EQ(vllm->choices[0].content, "");
    EXPECT_EQ(vllm->choices[0].reasoning_content, "because");
    EXPECT_EQ(vllm->choices[0].finish_reason, "length");
    EXPECT_EQ(vllm->usage->completion_tokens, 5);
    EXPECT_TRUE(parse_chat_response(R"({"choices":[]})"));
    for (
        const char* bad :
        {"", "[]", "{}", R"({"choices":{}})", R"({"choices":[{}]})", R"({"choices":[5]})",
         R"({"choices":[{"message":{"content":5}}]})", R"({"choices":[],"usage":7})",
         R"({"choices":[],"created":1e300})",
         R"({"choices":[{"message":{},"logprobs":{"content":[{"token":"a"}]}}]})",
         R"({"choices":[{"message":{},"logprobs":{"content":[{"token":"a","logprob":0,"bytes":[256]}]}}]})"}) {
        const auto response = parse_chat_response(bad);
        ASSERT_FALSE(response) << bad;
        EXPECT_EQ(response.error().code, ErrorCode::format);
    }
}

TEST(ChatChunk, deltas_add_up) {
    ChatResponse whole;
    for (
        const char* data : {
            R"({"id":"c","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})",
            R"({"id":"c","choices":[{"index":0,"delta":{"reasoning_content":"h"}}],"usage":null})",
            R"({"id":"c","choices":[{"index":0,"delta":{"reasoning":"m"}}]})",
            R"({"id":"c","choices":[{"index":1,"delta":{"content":"b"}},{"index":0,"delta":{"content":"a"}}]})",
            R"({"id":"c","choices":[{"index":0,"delta":{"content":"!"},"logprobs":{"content":[{"token":"!","logprob":-1}]}}]})",
            R"({"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})",
            R"({"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}})",
        }) {
        const auto chunk = parse_chat_chunk(data);
        ASSERT_TRUE(chunk) << data << chunk.error().message;
        append_chunk(whole, *chunk);
    }
    ASSERT_EQ(whole.choices.size(), 2U);
    EXPECT_EQ(whole.choices[0].content, "a!");
    EXPECT_EQ(whole.choices[0].reasoning_content, "hm");
    EXPECT_EQ(whole.choices[0].finish_reason, "stop");
    EXPECT_EQ(whole.choices[0].logprobs->size(), 1U);
    EXPECT_EQ(whole.choices[1].content, "b");
    EXPECT_EQ(whole.usage->completion_tokens, 2);
    const auto broken = parse_chat_chunk(R"({"error":{"message":"overloaded","code":503}})");
    ASSERT_TRUE(broken);
    ASSERT_TRUE(broken->error);
    EXPECT_EQ(broken->error->message, "overloaded");
    EXPECT_EQ(broken->error->code, "503");
}

TEST(ChatChunk, usage_is_null_until_it_is_known) {
    ChatChunk chunk;
    chunk.choices.push_back({});
    EXPECT_EQ(write_chat_chunk(chunk, false).find("usage"), std::string::npos);
    EXPECT_NE(write_chat_chunk(chunk, true).find(R"("usage":null)"), std::string::npos);
    EXPECT_NE(write_chat_chunk(chunk, true).find(R"("finish_reason":null)"), std::string::npos);
    EXPECT_NE(write_chat_chunk(chunk, true).find(R"("logprobs":null)"), std::string::npos);
    chunk.choices[0].content = "broken \xff byte";
    EXPECT_NE(write_chat_chunk(chunk, false).find("broken \uFFFD byte"), std::string::npos);
}

TEST(ApiError, envelope_and_the_shapes_of_others) {
    const ApiError error = invalid_value("temperature", "too \"hot\"");
    EXPECT_EQ(write_error(error), R"({"error":{"message":"too \"hot\"","type":"invalid_request_error",)"
                                  R"("param":"temperature","code":"invalid_value"}})");
    const ApiError back = parse_error(400, write_error(error));
    EXPECT_EQ(back.message, error.message);
    EXPECT_EQ(back.param, error.param);
    EXPECT_EQ(back.code, error.code);
    EXPECT_NE(write_error(server_error("x")).find(R"("code":null)"), std::string::npos);
    EXPECT_EQ(
        parse_error(400, R"({"object":"error","message":"m","type":"T","param":null,"code":400})").message,
        "m");
    EXPECT_EQ(parse_error(422, R"({"detail":"not here"})").message, "not here");
    EXPECT_EQ(parse_error(400, R"({"error":"plain"})").message, "plain");
    EXPECT_EQ(parse_error(502, "<html>Bad Gateway</html>").message, "<html>Bad Gateway</html>");
    EXPECT_EQ(parse_error(502, "").message, "status 502 without a body");
    EXPECT_EQ(parse_error(500, "[1]").message, "[1]");
}

TEST(Models, are_listed_and_read) {
    const auto models = parse_models(write_models({{"a", 1}, {"b", 2, "me", 4096}}));
    ASSERT_TRUE(models);
    ASSERT_EQ(models->size(), 2U);
    EXPECT_EQ((*models)[1].id, "b");
    EXPECT_EQ((*models)[1].max_model_len, 4096);
    EXPECT_FALSE(parse_models("{}"));
}

}  // namespace
}  // namespace retort::api
