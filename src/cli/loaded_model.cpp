#include "cli/loaded_model.h"

#include "cli/model_path.h"
#include "formats/json.h"
#include "model/weights.h"
#include "tensor/linear.h"

namespace retort::cli {

namespace {

using Json = nlohmann::ordered_json;

Result<Json> parse_ordered(const std::string& text, std::string_view name) {
    // The limits first, by the plain parser; then once more in the order in which it was written, which
    // templates reproduce.
    RETORT_CHECK(formats::parse_json(text, name));
    return Json::parse(text);
}

// On the wire a call's arguments are a string that holds JSON; templates write the object.
void unpack_arguments(Json& calls) {
    for (Json& call : calls) {
        if (!call.is_object() || !call.contains("function")) continue;
        Json& function = call["function"];
        if (!function.is_object() || !function.contains("arguments") || !function["arguments"].is_string())
            continue;
        auto arguments = parse_ordered(function["arguments"].get<std::string>(), "arguments");
        if (arguments && arguments->is_object()) function["arguments"] = std::move(*arguments);
    }
}

Result<Json> message_json(const api::ChatMessage& message) {
    Json json = {{"role", message.role == "developer" ? "system" : message.role},
                 {"content", message.content}};
    if (!message.reasoning_content.empty()) json["reasoning_content"] = message.reasoning_content;
    if (!message.name.empty()) json["name"] = message.name;
    if (!message.tool_call_id.empty()) json["tool_call_id"] = message.tool_call_id;
    if (!message.tool_calls_json.empty()) {
        RETORT_TRY(json["tool_calls"], parse_ordered(message.tool_calls_json, "tool_calls"));
        unpack_arguments(json["tool_calls"]);
    }
    return json;
}

bool template_mentions(const text::TextModel& text, std::string_view word) {
    return text.chat_template.source().find(word) != std::string::npos;
}

Result<model::Weights> load_draft(std::string_view draft, const LoadedModel& model) {
    RETORT_TRY(const std::filesystem::path path, resolve_model(draft));
    RETORT_TRY(const text::TextModel text, text::load_text_model(path));
    if (text.tokenizer.hash() != model.text.tokenizer.hash()) {
        return fail(
            ErrorCode::invalid_argument,
            "draft model {}: its tokenizer is not that of {}; a draft must have the same, as a student "
            "distilled from it has",
            path.string(), model.path.string());
    }
    return model::load_weights(path);
}

}  // namespace

Result<LoadedModel> load_model(std::string_view path_or_name, const generate::EngineOptions& options,
                               std::string_view draft) {
    RETORT_TRY(std::filesystem::path path, resolve_model(path_or_name));
    RETORT_TRY(text::TextModel text, text::load_text_model(path));
    RETORT_TRY(model::Weights weights, model::load_weights(path));
    LoadedModel model{path, model_display_name(path), std::move(text), nullptr};
    std::optional<model::Weights> draft_weights;
    if (!draft.empty()) {
        RETORT_TRY(draft_weights, load_draft(draft, model));
    }
    tensor::set_activation_bits(options.activation_bits);
    RETORT_TRY(model.engine, generate::Engine::create(std::move(weights), options, std::move(draft_weights)));
    return model;
}

void add_cache_type_option(CLI::App& app, tensor::DType& type) {
    app.add_option_function<std::string>(
           "--cache-type",
           [&type](const std::string& name) {
               type = name == "f32" ? tensor::DType::f32 : tensor::DType::bf16;
           },
           "of the keys and values that are kept: bf16, or f32 in twice the memory")
        ->check(CLI::IsMember({"bf16", "f32"}))
        ->default_str(std::string(tensor::dtype_info(type).name));
}

void add_activations_option(CLI::App& app, int& bits) {
    app.add_option_function<std::string>(
           "--activations", [&bits](const std::string& name) { bits = name == "int16" ? 16 : 8; },
           "with quantised weights: int8 where that is fine enough, or int16 throughout, slower and exact to "
           "a "
           "millionth")
        ->check(CLI::IsMember({"int8", "int16"}))
        ->default_str(bits == 16 ? "int16" : "int8");
}

Result<std::string> render_conversation(const text::TextModel& text, const api::ChatRequest& request) {
    if (text.chat_template.empty()) {
        return fail(ErrorCode::unsupported,
                    "the model has no chat template, so it cannot hold a conversation");
    }
    Json messages = Json::array();
    for (const api::ChatMessage& message : request.messages) {
        RETORT_TRY(Json json, message_json(message));
        messages.push_back(std::move(json));
    }
    text::ChatTemplateOptions options;
    if (!request.tools_json.empty()) {
        RETORT_TRY(options.tools, parse_ordered(request.tools_json, "tools"));
    }
    if (request.enable_thinking) options.variables["enable_thinking"] = *request.enable_thinking;
    if (!request.reasoning_effort.empty()) {
        options.variables["reasoning_effort"] = request.reasoning_effort;
    }
    return text.chat_template.render(messages, options);
}

bool uses_think_tags(const text::TextModel& text) {
    return template_mentions(text, "<think>");
}

serve::ServedModel served_model(LoadedModel& model) {
    serve::ServedModel served{model.engine.get(), model.text.tokenizer, {}, {}, false};
    // The text is reached through its own copy, so that moving `model` afterwards does no harm.
    served.render = [text = model.text](const api::ChatRequest& request) {
        return render_conversation(text, request);
    };
    served.end_of_turn_tokens = model.text.end_of_turn_tokens;
    served.uses_think_tags = uses_think_tags(model.text);
    served.tool_style = serve::tool_style_of(model.text.chat_template.source());
    return served;
}

}  // namespace retort::cli
