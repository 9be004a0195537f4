// What the tests of whole runs share: a teacher in this process, over a real socket, and options that ask it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collect/collect.h"
#include "http/server.h"

namespace retort::collect {

namespace fs = std::filesystem;

inline fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_collect_" + name);
    fs::remove_all(path);
    fs::create_directories(path);
    return path;
}

struct Reply {
    int status = 200;
    std::string content = "Yes.";
    std::string finish_reason = "stop";
    http::Headers headers;
    std::string error_code;
    double delay = 0;
};

// Answers by a rule of (how many requests came before, the prompt, the body); counts what was asked.
class Teacher {
  public:
    using Rule = std::function<Reply(int, const std::string&, const formats::Json&)>;

    explicit Teacher(Rule rule) : rule_(std::move(rule)) {
        auto server = http::Server::start(
            {}, [this](http::ServerRequest request, auto writer) { answer(request, std::move(writer)); });
        EXPECT_TRUE(server) << server.error().message;
        server_ = std::move(*server);
    }
    ~Teacher() {
        server_->stop();
        server_->join();
        for (std::thread& thread : delayed_) thread.join();
    }
    Teacher(const Teacher&) = delete;
    Teacher& operator=(const Teacher&) = delete;

    [[nodiscard]] std::string url() const { return fmt::format("http://127.0.0.1:{}/v1", server_->port()); }
    std::map<std::string, int> asked() {
        const std::lock_guard lock(mutex_);
        return asked_;
    }
    int requests() {
        const std::lock_guard lock(mutex_);
        return count_;
    }
    int most_in_flight() {
        const std::lock_guard lock(mutex_);
        return most_in_flight_;
    }

  private:
    void answer(const http::ServerRequest& request, std::shared_ptr<http::ResponseWriter> writer) {
        const auto body = formats::parse_json(request.body, "request");
        ASSERT_TRUE(body);
        const std::string prompt = (*body)["messages"].back()["content"];
        Reply reply;
        {
            const std::lock_guard lock(mutex_);
            reply = rule_(count_++, prompt, *body);
            if (reply.status == 200) ++asked_[prompt];
            most_in_flight_ = std::max(most_in_flight_, ++in_flight_);
        }
        const auto send = [this, reply, writer] {
            {
                const std::lock_guard lock(mutex_);
                --in_flight_;
            }
            formats::Json json;
            if (reply.status == 200) {
                json = {{"id", "c"},
                        {"object", "chat.completion"},
                        {"created", 1},
                        {"model", "teacher"},
                        {"choices",
                         {{{"index", 0},
                           {"finish_reason", reply.finish_reason},
                           {"message", {{"role", "assistant"}, {"content", reply.content}}}}}},
                        {"usage", {{"prompt_tokens", 10}, {"completion_tokens", 5}, {"total_tokens", 15}}}};
            } else {
                json = {{"error",
                         {{"message", "no"},
                          {"type", "t"},
                          {"param", nullptr},
                          {"code",
                           reply.error_code.empty() ? formats::Json() : formats::Json(reply.error_code)}}}};
            }
            writer->send(reply.status, reply.headers, formats::write_json(json));
        };
        if (reply.delay <= 0) return send();
        const std::lock_guard lock(mutex_);
        delayed_.emplace_back([send, delay = reply.delay] {
            std::this_thread::sleep_for(std::chrono::duration<double>(delay));
            send();
        });
    }

    Rule rule_;
    std::mutex mutex_;
    std::map<std::string, int> asked_;
    int count_ = 0;
    int in_flight_ = 0;
    int most_in_flight_ = 0;
    std::vector<std::thread> delayed_;
    std::unique_ptr<http::Server> server_;
};

inline Reply plain(int, const std::string& prompt, const formats::Json&) {
    return {.content = "About " + prompt + "."};
}

inline CollectOptions options_for(const fs::path& folder, const std::string& url, int prompts) {
    CollectOptions options;
    options.output = folder / "answers";
    std::string text;
    for (int i = 0; i < prompts; ++i)
        text += fmt::format("{{\"prompt\":\"prompt {}\",\"id\":\"p{}\"}}\n", i, i);
    options.prompts = *data::parse_prompts(text, data::PromptFormat::json_lines, "prompts");
    options.endpoints = {{.url = url, .api_key = ""}};
    options.model = "teacher";
    options.max_tokens = 50;
    options.terms = folder / "terms.toml";
    std::ofstream(options.terms)
        << "permitted_by = \"me\"\nlicence = \"CC0-1.0\"\nallows_training_on_outputs = "
           "true\nscope = \"all\"\ndate = \"2026-01-01\"\n";
    options.pressure = {.initial_concurrency = 4,
                        .max_concurrency = 8,
                        .backoff_base_seconds = 0.005,
                        .backoff_max_seconds = 0.05};
    options.jitter_seed = 1;
    options.quiet = true;
    return options;
}

}  // namespace retort::collect
