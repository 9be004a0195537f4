// A model ready to answer: weights in an engine, tokenizer and chat template beside it. What `chat`, `serve`
// and a recipe's teacher share.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "api/chat_request.h"
#include "base/result.h"
#include "generate/engine.h"
#include "serve/server.h"
#include "text/text_model.h"

namespace retort::cli {

struct LoadedModel {
    std::filesystem::path path;
    std::string name;
    text::TextModel text;
    std::unique_ptr<generate::Engine> engine;
};

// A path or a name, as resolve_model takes it. Moves keep the engine's address. draft: the same of a small
// model of the same tokenizer that proposes tokens; empty: none.
Result<LoadedModel> load_model(std::string_view path_or_name, const generate::EngineOptions& options,
                               std::string_view draft = {});

// --cache-type: of keys and values.
void add_cache_type_option(CLI::App& app, tensor::DType& type);
// --activations: where they meet block-quantised weights.
void add_activations_option(CLI::App& app, int& bits);

// The conversation as the model's own template writes it, ready for the answer.
Result<std::string> render_conversation(const text::TextModel& text, const api::ChatRequest& request);

bool uses_think_tags(const text::TextModel& text);

// What the server needs of it; `model` must outlive the server.
serve::ServedModel served_model(LoadedModel& model);

}  // namespace retort::cli
