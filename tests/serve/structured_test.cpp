// Answers held to a format, tool calls, prompts echoed and scored, embeddings, tokens: over a scripted
// engine.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "fake_engine.h"
#include "http/client.h"
#include "serve/server.h"
#include "serve/tool_calls.h"

namespace retort::serve {
namespace {

using test::FakeEngine;
using Json = nlohmann::json;

std::vector<std::int32_t> last_line(const generate::Request& request) {
    const auto line = std::find(request.prompt.rbegin(), request.prompt.rend(), '\n').base();
    return {line, request.prompt.end()};
}

class StructuredTest : public ::testing::Test {
  protected:
    void start(ToolStyle tools = ToolStyle::none, bool think = false, FakeEngine::Options engine_options = {},
               double keep_alive = 15) {
        engine_ = std::make_unique<FakeEngine>(last_line, engine_options);
        ServerOptions options;
        options.model_id = "fake";
        options.keep_alive_seconds = keep_alive;
        const auto render = [this](const api::ChatRequest& request) -> Result<std::string> {
            rendered_tools_ = request.tools_json;
            return "system\n" + request.messages.back().content;
        };
        ServedModel model{engine_.get(), test::byte_tokenizer(), render, {test::end_token}, think, tools};
        auto server = Server::create(std::move(options), std::move(model));
        ASSERT_TRUE(server) << server.error().message;
        server_ = std::move(*server);
    }

    http::ClientResponse post(const std::string& path, const Json& body) {
        http::ClientRequest request;
        request.method = "POST";
        request.url = "http://127.0.0.1:" + std::to_string(server_->port()) + path;
        request.body = body.dump();
        auto response = client_.send(request);
        EXPECT_TRUE(response) << response.error().message;
        return response ? *response : http::ClientResponse();
    }
    Json ask(const std::string& say, Json fields, int status = 200) {
        fields["model"] = "fake";
        fields["messages"] = {{{"role", "user"}, {"content", say}}};
        const http::ClientResponse response = post("/v1/chat/completions", fields);
        EXPECT_EQ(response.status, status) << response.body;
        return fields.value("stream", false) ? Json(response.body) : Json::parse(response.body);
    }
    std::string content(const std::string& say, const Json& fields) {
        const Json answer = ask(say, fields);
        return answer["choices"][0]["message"]["content"].get<std::string>();
    }
    static Json schema_format(const Json& schema) {
        return {{"response_format",
                 {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}}}};
    }
    static std::vector<Json> events(const std::string& body) {
        std::vector<Json> out;
        for (std::size_t at = body.find("data: {"); at != std::string::npos;
             at = body.find("data: {", at + 1)) {
            out.push_back(Json::parse(body.substr(at + 6, body.find("\n\n", at) - at - 6)));
        }
        return out;
    }

    std::unique_ptr<FakeEngine> engine_;
    std::unique_ptr<Server> server_;
    http::Client client_;
    std::string rendered_tools_;
};

const Json weather = {{"type", "function"},
                      {"function",
                       {{"name", "weather"},
                        {"parameters",
                         {{"type", "object"},
                          {"properties", {{"city", {{"type", "string"}, {"maxLength", 5}}}}},
                          {"required", {"city"}},
                          {"additionalProperties", false}}}}}};

TEST_F(StructuredTest, an_answer_is_held_to_json) {
    start();
    const Json object = {{"response_format", {{"type", "json_object"}}}};
    EXPECT_EQ(content(R"({"a": [1]} and more)", object), R"({"a": [1]})");
    const Json schema = {{"type", "object"},
                         {"properties", {{"a", {{"type", "integer"}}}}},
                         {"required", {"a"}},
                         {"additionalProperties", false}};
    EXPECT_EQ(content(R"({"b":1}!)", schema_format(schema)), R"({"a":1})");
    EXPECT_EQ(ask(R"({"b":1}!)", schema_format(schema))["choices"][0]["finish_reason"], "stop");
    Json cut = schema_format(schema);
    cut["max_tokens"] = 3;
    EXPECT_EQ(ask("x", cut)["choices"][0]["finish_reason"], "length");
    EXPECT_EQ(content("plain", {{"response_format", {{"type", "text"}}}}), "plain");
}

TEST_F(StructuredTest, a_schema_keeps_its_order_and_its_unknown_keywords_are_named) {
    start();
    // Written by hand: the order of members is what matters.
    const std::string body =
        R"({"model":"fake","messages":[{"role":"user","content":"x"}],"max_tokens":6,"response_format":{"type":"json_schema",)"
        R"("json_schema":{"name":"n","schema":{"type":"object","properties":{"zeta":{"type":"null"},"alpha":{"type":"null"}},)"
        R"("required":["zeta","alpha"]}}}})";
    http::ClientRequest request;
    request.method = "POST";
    request.url = "http://127.0.0.1:" + std::to_string(server_->port()) + "/v1/chat/completions";
    request.body = body;
    const auto response = client_.send(request);
    ASSERT_EQ(response->status, 200) << response->body;
    const std::string said = Json::parse(response->body)["choices"][0]["message"]["content"];
    EXPECT_EQ(said.find("alpha"), std::string::npos);
    const Json error = ask("x", schema_format({{"type", "integer"}, {"multipleOf", 3}}), 400)["error"];
    EXPECT_EQ(error["param"], "response_format");
    EXPECT_EQ(error["code"], "unsupported_parameter");
    EXPECT_NE(error["message"].get<std::string>().find("multipleOf"), std::string::npos);
    EXPECT_EQ(ask("x", {{"response_format", {{"type", "json_schema"}}}}, 400)["error"]["param"],
              "response_format.json_schema");
}

TEST_F(StructuredTest, reasoning_comes_before_what_is_held_to_a_format) {
    start(ToolStyle::none, true);
    const Json answer =
        ask(R"(<think>{ hm</think>{"a":1}...)", {{"response_format", {{"type", "json_object"}}}});
    EXPECT_EQ(answer["choices"][0]["message"]["reasoning_content"], "{ hm");
    EXPECT_EQ(answer["choices"][0]["message"]["content"], R"({"a":1})");
}

TEST_F(StructuredTest, tool_calls_are_taken_out_of_the_text) {
    start(ToolStyle::hermes);
    const std::string say =
        R"(Let me see. <tool_call>{"name":"weather","arguments":{"city":"Oslo"}}</tool_call>)";
    const Json fields = {{"tools", {weather}}};
    const Json answer = ask(say, fields);
    const Json& choice = answer["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "tool_calls");
    EXPECT_EQ(choice["message"]["content"], "Let me see.");
    ASSERT_EQ(choice["message"]["tool_calls"].size(), 1U);
    const Json& call = choice["message"]["tool_calls"][0];
    EXPECT_EQ(call["type"], "function");
    EXPECT_EQ(call["function"]["name"], "weather");
    EXPECT_EQ(Json::parse(call["function"]["arguments"].get<std::string>()), Json({{"city", "Oslo"}}));
    EXPECT_TRUE(call["id"].get<std::string>().starts_with("call_"));
    EXPECT_FALSE(rendered_tools_.empty());

    Json streamed = fields;
    streamed["stream"] = true;
    std::string text;
    std::string finish;
    Json calls = Json::array();
    for (const Json& event : events(ask(say, streamed).get<std::string>())) {
        for (const Json& part : event["choices"]) {
            text += part["delta"].value("content", "");
            for (const Json& one : part["delta"].value("tool_calls", Json::array())) calls.push_back(one);
            if (part["finish_reason"].is_string()) finish = part["finish_reason"];
        }
    }
    EXPECT_EQ(text, "Let me see.");
    EXPECT_EQ(finish, "tool_calls");
    ASSERT_EQ(calls.size(), 1U);
    EXPECT_EQ(calls[0]["index"], 0);
    EXPECT_EQ(calls[0]["function"]["name"], "weather");

    EXPECT_EQ(content("no call", fields), "no call");
    Json none = fields;
    none["tool_choice"] = "none";
    EXPECT_EQ(content(say, none), say);
    EXPECT_TRUE(rendered_tools_.empty());
}

TEST_F(StructuredTest, a_tool_may_be_required) {
    start(ToolStyle::hermes);
    for (const Json& choice :
         {Json("required"), Json({{"type", "function"}, {"function", {{"name", "weather"}}}})}) {
        const Json answer =
            ask("hello", {{"tools", {weather}}, {"tool_choice", choice}, {"parallel_tool_calls", false}});
        const Json& message = answer["choices"][0]["message"];
        EXPECT_TRUE(message["content"].is_null()) << message;
        ASSERT_EQ(message["tool_calls"].size(), 1U);
        const Json arguments =
            Json::parse(message["tool_calls"][0]["function"]["arguments"].get<std::string>());
        EXPECT_TRUE(arguments["city"].is_string());
        EXPECT_EQ(answer["choices"][0]["finish_reason"], "tool_calls");
    }
    EXPECT_EQ(ask("x", {{"tool_choice", "required"}}, 400)["error"]["param"], "tool_choice");
    EXPECT_EQ(ask("x",
                  {{"tools", {weather}},
                   {"tool_choice", {{"type", "function"}, {"function", {{"name", "other"}}}}}},
                  400)["error"]["param"],
              "tool_choice.function.name");
    EXPECT_EQ(ask("x", {{"tools", {{{"type", "function"}, {"function", {{"name", "a b"}}}}}}},
                  400)["error"]["param"],
              "tools[0].function.name");
    EXPECT_EQ(ask("x", {{"functions", Json::array()}}, 400)["error"]["param"], "functions");
    Json strict = weather;
    strict["function"]["strict"] = true;
    strict["function"]["parameters"]["properties"]["city"]["contentEncoding"] = "base64";
    EXPECT_EQ(ask("x", {{"tools", {strict}}, {"tool_choice", "required"}}, 400)["error"]["param"], "tools");
    strict["function"]["strict"] = false;  // then any object will do
    ask("x", {{"tools", {strict}}, {"tool_choice", "required"}, {"max_tokens", 5}});
}

TEST(ToolCalls, of_each_convention_in_pieces_of_any_size) {
    struct Case {
        ToolStyle style;
        std::string text;
        std::string content;
        std::vector<std::pair<std::string, std::string>> calls;
    };
    const std::vector<Case> cases = {
        {ToolStyle::hermes,
         "a <b\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": "
         "2}}\n</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call>\n",
         "a <b",
         {{"f", R"({"z":1,"a":2})"}, {"g", "{}"}}},
        {ToolStyle::hermes, "x <tool_call>not json</tool_call> y", "x <tool_call>not json</tool_call> y", {}},
        {ToolStyle::hermes, "x <tool_call>{\"name\":", "x <tool_call>{\"name\":", {}},
        {ToolStyle::hermes, "a <tool_cal", "a <tool_cal", {}},
        {ToolStyle::llama3, R"({"name": "f", "parameters": {"q": "}"}})", "", {{"f", R"({"q":"}"})"}}},
        {ToolStyle::llama3,
         R"(<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}})",
         "",
         {{"f", "{}"}, {"g", "{}"}}},
        {ToolStyle::llama3, R"({"just": "json"})", R"({"just": "json"})", {}},
        {ToolStyle::llama3, "plain text {", "plain text {", {}},
        {ToolStyle::mistral,
         R"([TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}])",
         "",
         {{"f", R"({"x":1})"}, {"g", "{}"}}},
        {ToolStyle::mistral, "sure [TOOL_CALLS][broken", "sure [TOOL_CALLS][broken", {}},
        {ToolStyle::mistral_v11,
         R"([TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g{})",
         "",
         {{"f", R"({"x": 1})"}, {"g", "{}"}}},
        {ToolStyle::unknown, "<tool_call>{}</tool_call>", "<tool_call>{}</tool_call>", {}},
    };
    for (const Case& one : cases) {
        for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{1000}}) {
            ToolCallParser parser(one.style);
            std::string content;
            std::vector<ToolCall> calls;
            const auto add = [&](ToolCallParser::Parts parts) {
                content += parts.content;
                for (ToolCall& call : parts.calls) calls.push_back(std::move(call));
            };
            for (std::size_t i = 0; i < one.text.size(); i += step)
                add(parser.push(one.text.substr(i, step)));
            add(parser.finish());
            if (one.calls.empty()) {
                EXPECT_EQ(content, one.content) << step;
            } else {
                EXPECT_EQ(content.substr(0, content.find_last_not_of(" \n") + 1), one.content)
                    << one.text << step;
            }
            ASSERT_EQ(calls.size(), one.calls.size()) << one.text << " by " << step;
            for (std::size_t i = 0; i < calls.size(); ++i) {
                EXPECT_EQ(calls[i].name, one.calls[i].first);
                EXPECT_EQ(calls[i].arguments, one.calls[i].second);
            }
        }
    }
    ToolCallParser parser(ToolStyle::mistral);
    (void)parser.push(R"([TOOL_CALLS][{"name":"f","arguments":{}}])");
    EXPECT_EQ(parser.finish().calls.at(0).id.size(), 9U);
}

TEST(ToolCalls, the_template_tells_the_convention) {
    EXPECT_EQ(tool_style_of("{{ messages }}"), ToolStyle::none);
    EXPECT_EQ(tool_style_of("{% if tools %}<tool_call>"), ToolStyle::hermes);
    EXPECT_EQ(tool_style_of("{% if tools %}[TOOL_CALLS]"), ToolStyle::mistral);
    EXPECT_EQ(tool_style_of("{% if tools %}[TOOL_CALLS][ARGS]"), ToolStyle::mistral_v11);
    EXPECT_EQ(tool_style_of("{% if tools %}<|python_tag|>"), ToolStyle::llama3);
    EXPECT_EQ(tool_style_of("{% if tools %}"), ToolStyle::unknown);
}

TEST_F(StructuredTest, an_echoed_prompt_is_scored) {
    start();
    const Json answer = Json::parse(post("/v1/completions", {{"model", "fake"},
                                                             {"prompt", "caf\u00e9\nab"},
                                                             {"echo", true},
                                                             {"logprobs", 1},
                                                             {"max_tokens", 2}})
                                        .body);
    const Json& choice = answer["choices"][0];
    EXPECT_EQ(choice["text"], "caf\u00e9\nabab");
    const Json& logprobs = choice["logprobs"];
    ASSERT_EQ(logprobs["tokens"].size(), 10U) << logprobs;  // eight bytes and two of the answer
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
    EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
    EXPECT_EQ(logprobs["token_logprobs"][1], -0.25);
    EXPECT_EQ(logprobs["token_logprobs"][8], -0.5);
    EXPECT_EQ(logprobs["tokens"][9], "b");
    EXPECT_EQ(logprobs["top_logprobs"][9]["b"], -0.5);
    const Json alone = Json::parse(post("/v1/completions", {{"model", "fake"},
                                                            {"prompt", {{97, 98}, {99}}},
                                                            {"echo", true},
                                                            {"logprobs", 0},
                                                            {"max_tokens", 0}})
                                       .body);
    EXPECT_EQ(alone["choices"][0]["text"], "ab");
    EXPECT_EQ(alone["choices"][1]["text"], "c");
    EXPECT_EQ(alone["choices"][0]["logprobs"]["tokens"].size(), 2U);
    EXPECT_EQ(alone["choices"][0]["finish_reason"], "length");
    EXPECT_EQ(alone["usage"]["completion_tokens"], 0);
    EXPECT_EQ(post("/v1/completions", {{"model", "fake"}, {"prompt", "x"}, {"max_tokens", 0}}).status, 400);
    EXPECT_EQ(post("/v1/completions",
                   {{"model", "fake"}, {"prompt", "x"}, {"echo", true}, {"logprobs", 1}, {"stream", true}})
                  .status,
              400);
    const std::string streamed =
        post("/v1/completions", {{"model", "fake"}, {"prompt", "p\nq"}, {"echo", true}, {"stream", true}})
            .body;
    std::string text;
    for (const Json& event : events(streamed)) text += event["choices"][0]["text"].get<std::string>();
    EXPECT_EQ(text, "p\nqq");
}

TEST_F(StructuredTest, embeds_as_numbers_and_as_base64) {
    start();
    const Json one = Json::parse(post("/v1/embeddings", {{"model", "fake"}, {"input", "ab"}}).body);
    EXPECT_EQ(one["data"][0]["embedding"].size(), 3U) << one;
    EXPECT_NEAR(one["data"][0]["embedding"][0].get<double>(), 0.6, 1e-6);
    EXPECT_NEAR(one["data"][0]["embedding"][2].get<double>(), 0.8, 1e-6);
    EXPECT_EQ(one["usage"]["prompt_tokens"], 2);
    const Json two = Json::parse(
        post("/v1/embeddings", {{"model", "fake"}, {"input", {"a", "b"}}, {"encoding_format", "base64"}})
            .body);
    EXPECT_EQ(two["data"][1]["embedding"], "AACAPwAAAAAAAAAA");  // 1, 0, 0
    EXPECT_EQ(two["data"][1]["index"], 1);
    EXPECT_EQ(post("/v1/embeddings", {{"model", "fake"}, {"input", {{97}, {98}}}, {"dimensions", 3}}).status,
              200);
    EXPECT_EQ(post("/v1/embeddings", {{"model", "fake"}, {"input", "a"}, {"dimensions", 2}}).status, 400);
    EXPECT_EQ(post("/v1/embeddings", {{"model", "fake"}, {"input", ""}}).status, 400);
    EXPECT_EQ(post("/v1/embeddings", {{"model", "fake"}, {"input", "a"}, {"encoding_format", "int8"}}).status,
              400);
    EXPECT_EQ(post("/v1/embeddings", {{"model", "fake"}, {"input", {70000}}}).status, 400);
    EXPECT_EQ(post("/v1/embeddings", {{"model", "other"}, {"input", "a"}}).status, 404);
    EXPECT_EQ(post("/v1/embeddings", {{"model", "fake"}, {"input", std::string(2000, 'x')}}).status, 400);
}

TEST_F(StructuredTest, tokens_and_back) {
    start();
    const Json tokens =
        Json::parse(post("/tokenize", {{"prompt", "a<|end|>"}, {"return_token_strs", true}}).body);
    EXPECT_EQ(tokens["tokens"], Json({97, 256}));
    EXPECT_EQ(tokens["count"], 2);
    EXPECT_EQ(tokens["max_model_len"], 1000);
    EXPECT_EQ(tokens["token_strs"][1], "<|end|>");
    EXPECT_EQ(Json::parse(post("/tokenize", {{"content", "ab"}}).body)["tokens"], Json({97, 98}));
    EXPECT_EQ(
        Json::parse(post("/tokenize", {{"messages", {{{"role", "user"}, {"content", "x"}}}}}).body)["count"],
        8);
    EXPECT_EQ(Json::parse(post("/detokenize", {{"tokens", {97, 98}}}).body)["prompt"], "ab");
    EXPECT_EQ(post("/tokenize", Json::object()).status, 400);
    EXPECT_EQ(post("/detokenize", {{"tokens", "x"}}).status, 400);
}

TEST_F(StructuredTest, the_page_comes_with_a_strict_policy) {
    start();
    const auto get = [&](const std::string& path) {
        http::ClientRequest request;
        request.url = "http://127.0.0.1:" + std::to_string(server_->port()) + path;
        return *client_.send(request);
    };
    const http::ClientResponse page = get("/");
    EXPECT_EQ(page.status, 200);
    EXPECT_EQ(page.headers.get("content-type"), "text/html; charset=utf-8");
    EXPECT_NE(page.body.find("<title>Retort</title>"), std::string::npos);
    const std::string policy(page.headers.get("content-security-policy"));
    EXPECT_NE(policy.find("default-src 'none'; script-src 'self';"), std::string::npos);
    EXPECT_EQ(policy.find("unsafe"), std::string::npos);
    EXPECT_EQ(page.headers.get("x-content-type-options"), "nosniff");
    for (const char* path : {"/chat.js", "/chat.css", "/render.js", "/config.json"})
        EXPECT_EQ(get(path).status, 200) << path;
    for (const char* path :
         {"/../etc/passwd", "/%2e%2e/etc/passwd", "/vendor/../../etc/passwd", "/vendor/", "/chat.js%00"}) {
        EXPECT_EQ(get(path).status, 404) << path;
    }
}

TEST_F(StructuredTest, a_waiting_stream_is_kept_alive) {
    start(ToolStyle::none, false, {std::chrono::milliseconds(400), 1000}, 0.1);
    const std::string body = ask("a", {{"stream", true}});
    EXPECT_NE(body.find(": keep-alive\n\n"), std::string::npos) << body;
    EXPECT_NE(body.find(R"("content":"a")"), std::string::npos) << body;
    EXPECT_NE(body.find("[DONE]"), std::string::npos);
}

}  // namespace
}  // namespace retort::serve
