#include "serve/constraint.h"

#include <algorithm>
#include <array>

#include "grammar/json_grammar.h"

namespace retort::serve {

namespace {

using grammar::Fragment;
using grammar::GrammarBuilder;
using grammar::Json;

constexpr auto visible_marks = std::to_array<std::string_view>(
    {"<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>"});

tl::unexpected<api::ApiError> refused_param(const char* param, const base::Error& error) {
    api::ApiError out =
        error.code == ErrorCode::unsupported
            ? api::unsupported_parameter(param,
                                         fmt::format("Invalid schema for '{}': {}.", param, error.message))
            : api::invalid_value(param, fmt::format("Invalid schema for '{}': {}.", param, error.message));
    return tl::make_unexpected(std::move(out));
}

bool is_strict(const Json& tool) {
    return tool["function"].value("strict", Json(false)) == Json(true);
}

// The arguments of one tool. A schema that cannot be enforced is an error where the tool is strict, else any
// object will do.
Result<Fragment> arguments_of(GrammarBuilder& builder, const Json& tool) {
    const Json parameters = tool["function"].value("parameters", Json::object());
    const std::string name = tool["function"]["name"].get<std::string>();
    Json schema = parameters.is_object() ? parameters : Json::object();
    if (!schema.contains("type")) schema["type"] = "object";
    // Tried apart first: a builder keeps what a failure leaves in it.
    GrammarBuilder trial;
    Result<Fragment> tried = grammar::schema_value(trial, schema, fmt::format("tools '{}' parameters", name));
    Status works;
    if (!tried) {
        works = tl::make_unexpected(tried.error());
    } else if (auto finished = trial.finish(*tried); !finished) {
        works = tl::make_unexpected(finished.error());
    }
    if (!works && is_strict(tool)) return tl::make_unexpected(works.error());
    return grammar::schema_value(builder, works ? schema : Json{{"type", "object"}}, "parameters");
}

struct CallShape {
    std::string before_name, after_name, after_arguments;
};

CallShape shape_of(ToolStyle style) {
    switch (style) {
        case ToolStyle::llama3:
            return {R"({"name": ")", R"(", "parameters": )", "}"};
        case ToolStyle::mistral:
            return {R"({"name": ")", R"(", "arguments": )", "}"};
        case ToolStyle::mistral_v11:
            return {"[TOOL_CALLS]", "[ARGS]", ""};
        default:
            return {"<tool_call>\n{\"name\": \"", R"(", "arguments": )", "}\n</tool_call>"};
    }
}

// One call or several, in the way of the template.
Result<Fragment> tool_calls(GrammarBuilder& b, const ServedModel& model, const api::ChatRequest& request,
                            const Json& tools) {
    const CallShape shape = shape_of(model.tool_style);
    const std::int32_t one = b.new_rule();
    std::vector<Fragment> ways;
    for (const Json& tool : tools) {
        const std::string name = tool["function"]["name"].get<std::string>();
        const bool is_asked_for = request.tool_choice.kind != api::ToolChoice::Kind::function ||
                                  name == request.tool_choice.function;
        if (!is_asked_for) continue;
        RETORT_TRY(const Fragment arguments, arguments_of(b, tool));
        ways.push_back(b.sequence({b.literal(shape.before_name + name + shape.after_name), arguments,
                                   b.literal(shape.after_arguments)}));
    }
    b.define(one, b.choice(ways));
    const bool several =
        request.parallel_tool_calls && request.tool_choice.kind != api::ToolChoice::Kind::function;
    const auto more = [&](std::string_view between) {
        return several ? b.star(b.sequence({b.literal(between), b.call(one)})) : b.nothing();
    };
    switch (model.tool_style) {
        case ToolStyle::llama3:
            return b.call(one);
        case ToolStyle::mistral:
            return b.sequence({b.literal("[TOOL_CALLS]"), b.optional(b.literal(" ")), b.literal("["),
                               b.call(one), more(", "), b.literal("]")});
        case ToolStyle::mistral_v11:
            return b.sequence({b.call(one), more("")});
        default:
            return b.sequence({b.call(one), more("\n")});
    }
}

// Reasoning that the answer may, or must, come after.
Fragment reasoning(GrammarBuilder& b, bool opened) {
    const auto line_end = [&] { return b.literal("\n"); };
    const auto to_the_end = [&] {
        return b.sequence({b.text_through("</think>"), b.repeat(line_end, 0, 4)});
    };
    if (opened) return to_the_end();
    return b.optional(b.sequence({b.literal("<think>"), to_the_end()}));
}

}  // namespace

std::shared_ptr<grammar::TokenGrammar> GrammarCache::find(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [known, value] : known_) {
        if (known == key) return value;
    }
    return nullptr;
}

void GrammarCache::add(std::string key, std::shared_ptr<grammar::TokenGrammar> grammar) {
    constexpr std::size_t max_known = 16;
    const std::lock_guard lock(mutex_);
    known_.emplace_front(std::move(key), std::move(grammar));
    if (known_.size() > max_known) known_.pop_back();
}

void GrammarCache::clear() {
    const std::lock_guard lock(mutex_);
    known_.clear();
}

std::shared_ptr<const grammar::TokenTree> token_tree_of(const text::Tokenizer& tokenizer) {
    std::vector<std::string> bytes(static_cast<std::size_t>(tokenizer.vocab_size()));
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
        const bool is_text =
            !tokenizer.is_special(id) || std::find(visible_marks.begin(), visible_marks.end(),
                                                   tokenizer.token_text(id)) != visible_marks.end();
        if (is_text) bytes[static_cast<std::size_t>(id)] = tokenizer.token_bytes(id);
    }
    return std::make_shared<const grammar::TokenTree>(std::move(bytes));
}

api::ApiResult<std::shared_ptr<grammar::TokenGrammar>> constraint_of(const ServedModel& model,
                                                                     const api::ChatRequest& request,
                                                                     bool starts_in_reasoning,
                                                                     GrammarCache& cache) {
    using Format = api::ResponseFormat::Kind;
    using Choice = api::ToolChoice::Kind;
    const bool has_tools = !request.tools_json.empty() && request.tool_choice.kind != Choice::none;
    const bool must_call = has_tools && request.tool_choice.kind != Choice::automatic;
    const Json tools = has_tools ? Json::parse(request.tools_json, nullptr, false) : Json::array();
    const bool knows_style = model.tool_style != ToolStyle::unknown && model.tool_style != ToolStyle::none;
    const bool strict_calls = has_tools && !must_call && model.tool_style == ToolStyle::hermes &&
                              std::any_of(tools.begin(), tools.end(), is_strict);
    if (request.response_format.kind == Format::text && !must_call && !strict_calls) {
        return std::shared_ptr<grammar::TokenGrammar>();
    }
    if (must_call && !knows_style) {
        return tl::make_unexpected(
            api::unsupported_parameter("tool_choice",
                                       "How this model's chat template writes tool calls is not known, so "
                                       "that they cannot be required."));
    }
    if (model.end_of_turn_tokens.empty()) {
        return tl::make_unexpected(api::unsupported_parameter(
            "response_format",
            "This model has no end-of-turn token, so that an answer cannot be held to a format."));
    }
    const std::string key =
        fmt::format("{}|{}|{}|{}|{}|{}|{}", static_cast<int>(request.response_format.kind),
                    request.response_format.schema_json, static_cast<int>(request.tool_choice.kind),
                    request.tool_choice.function, request.parallel_tool_calls, starts_in_reasoning,
                    must_call || strict_calls || has_tools ? request.tools_json : "");
    if (auto known = cache.find(key)) return known;

    GrammarBuilder b;
    std::vector<Fragment> ways;
    if (!must_call && request.response_format.kind == Format::json_object) {
        ways.push_back(grammar::JsonGrammar(b).object());
    } else if (!must_call && request.response_format.kind == Format::json_schema) {
        const Json schema = Json::parse(request.response_format.schema_json, nullptr, false);
        auto value = grammar::schema_value(b, schema, "schema");
        if (!value) return refused_param("response_format", value.error());
        ways.push_back(*value);
    }
    const char* param = must_call || strict_calls ? "tools" : "response_format";
    if (has_tools && knows_style) {
        auto calls = tool_calls(b, model, request, tools);
        if (!calls) return refused_param("tools", calls.error());
        if (strict_calls && ways.empty()) {
            ways.push_back(b.sequence({b.text_without("<tool_call>"), b.optional(*calls)}));
        } else {
            ways.push_back(*calls);
        }
    }
    std::vector<Fragment> parts;
    if (model.uses_think_tags) parts.push_back(reasoning(b, starts_in_reasoning));
    if (model.tokenizer.strips_leading_space()) parts.push_back(b.optional(b.literal(" ")));
    parts.push_back(b.choice(ways));
    auto finished = b.finish(b.sequence(parts));
    if (!finished) return refused_param(param, finished.error());
    auto made = std::make_shared<grammar::TokenGrammar>(std::move(*finished), model.token_tree);
    cache.add(key, made);
    return made;
}

generate::SamplingHook hook_of(std::shared_ptr<grammar::TokenGrammar> grammar,
                               std::vector<std::int32_t> end_tokens, std::size_t prompt_size) {
    struct Progress {
        std::int32_t state;
        std::size_t read;
    };
    auto progress = std::make_shared<Progress>(Progress{grammar->start(), prompt_size});
    generate::SamplingHook hook;
    hook.change_logits = [grammar = std::move(grammar), end_tokens = std::move(end_tokens), progress](
                             std::span<const std::int32_t> context, std::span<float> logits) {
        for (; progress->read < context.size(); ++progress->read) {
            progress->state = grammar->step(progress->state, context[progress->read]);
        }
        grammar->mask(progress->state, end_tokens, logits);
    };
    return hook;
}

}  // namespace retort::serve
