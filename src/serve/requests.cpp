#include "serve/requests.h"

#include <algorithm>
#include <optional>

namespace retort::serve {

namespace {

// Whether the template itself has opened the reasoning: the prompt ends with <think> and white space.
bool ends_in_think(std::string_view prompt) {
    const std::size_t end = prompt.find_last_not_of(" \t\r\n");
    return end != std::string_view::npos && prompt.substr(0, end + 1).ends_with("<think>");
}

// Whether a prompt that its sender has written himself leaves off in the middle of reasoning.
bool is_inside_think(std::string_view prompt) {
    const std::size_t open = prompt.rfind("<think>");
    const std::size_t close = prompt.rfind("</think>");
    return open != std::string_view::npos && (close == std::string_view::npos || close < open);
}

api::ApiResult<generate::TextRequest> prepare(const ServedModel& model, const api::SamplingFields& fields,
                                              std::vector<std::int32_t> prompt, const char* prompt_name) {
    const std::int64_t context = model.engine->context_length();
    const auto length = static_cast<std::int64_t>(prompt.size());
    if (length == 0) return tl::make_unexpected(api::invalid_value(prompt_name, "The prompt has no tokens."));
    const bool prompt_alone = fields.max_tokens == 0;
    if (prompt_alone ? length > context : length >= context) {
        api::ApiError error = api::context_length_exceeded(fmt::format(
            "This model's maximum context length is {} tokens, but the prompt alone has {}. Shorten it.",
            context, length));
        error.param = prompt_name;
        return tl::make_unexpected(std::move(error));
    }
    generate::TextRequest out;
    generate::Request& tokens = out.tokens;
    tokens.prompt = std::move(prompt);
    tokens.max_tokens = std::min(fields.max_tokens.value_or(context), context - length);
    tokens.stop_tokens = model.end_of_turn_tokens;
    out.stops = fields.stop;
    generate::SamplingParameters& sampling = tokens.sampling;
    sampling.temperature = static_cast<float>(fields.temperature.value_or(1));
    sampling.top_p = static_cast<float>(fields.top_p.value_or(1));
    sampling.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(fields.top_k.value_or(0), 0));
    sampling.min_p = static_cast<float>(fields.min_p.value_or(0));
    sampling.repetition_penalty = static_cast<float>(fields.repetition_penalty.value_or(1));
    sampling.frequency_penalty = static_cast<float>(fields.frequency_penalty.value_or(0));
    sampling.presence_penalty = static_cast<float>(fields.presence_penalty.value_or(0));
    for (const auto& [token, bias] : fields.logit_bias) {
        if (token >= model.tokenizer.vocab_size()) {
            return tl::make_unexpected(api::invalid_value(
                "logit_bias",
                fmt::format("Invalid value for 'logit_bias': the vocabulary has {} tokens, and {} is "
                            "none of them.",
                            model.tokenizer.vocab_size(), token)));
        }
        sampling.logit_bias.emplace_back(token, static_cast<float>(bias));
    }
    return out;
}

// n choices of one prompt: the same request, each with a seed of its own.
void add_choices(JobRequest& job, const api::SamplingFields& fields, const generate::TextRequest& request) {
    for (std::int64_t i = 0; i < fields.n; ++i) {
        job.choices.push_back(request);
        if (fields.seed) {
            job.choices.back().tokens.sampling.seed =
                static_cast<std::uint64_t>(*fields.seed) + static_cast<std::uint64_t>(i);
        }
    }
}

// `first`: in a stream each call carries its number.
std::string calls_json(const std::vector<ToolCall>& calls, std::optional<std::int64_t> first) {
    std::vector<api::FunctionCall> out;
    out.reserve(calls.size());
    for (const ToolCall& call : calls) out.push_back({call.id, call.name, call.arguments});
    return api::write_tool_calls(out, first);
}

class ChatFormat : public AnswerFormat {
  public:
    ChatFormat(AnswerIdentity identity, bool include_usage)
        : identity_(std::move(identity)), include_usage_(include_usage) {}

    [[nodiscard]] std::string opening(std::int64_t index) const override {
        api::ChatChunk chunk = empty_chunk();
        api::ChunkChoice& choice = chunk.choices.emplace_back();
        choice.index = index;
        choice.role = "assistant";
        choice.content = "";
        return api::write_chat_chunk(chunk, include_usage_);
    }

    [[nodiscard]] std::string event(std::int64_t index, const ChoiceState& delta) const override {
        api::ChatChunk chunk = empty_chunk();
        api::ChunkChoice& choice = chunk.choices.emplace_back();
        choice.index = index;
        if (!delta.content.empty()) choice.content = delta.content;
        choice.reasoning_content = delta.reasoning;
        if (!delta.tool_calls.empty())
            choice.tool_calls_json = calls_json(delta.tool_calls, delta.first_call);
        choice.logprobs = delta.logprobs;
        choice.finish_reason = delta.finish_reason;
        return api::write_chat_chunk(chunk, include_usage_);
    }

    [[nodiscard]] std::string usage_event(const api::Usage& usage) const override {
        api::ChatChunk chunk = empty_chunk();
        chunk.usage = usage;
        return api::write_chat_chunk(chunk, true);
    }

    [[nodiscard]] std::string whole(const std::vector<ChoiceState>& choices,
                                    const api::Usage& usage) const override {
        api::ChatResponse response{identity_.id, identity_.created,           identity_.model, {},
                                   usage,        identity_.system_fingerprint};
        for (const ChoiceState& state : choices) {
            api::ChatChoice& choice = response.choices.emplace_back();
            choice.index = static_cast<std::int64_t>(response.choices.size()) - 1;
            choice.content = state.content;
            choice.reasoning_content = state.reasoning;
            if (!state.tool_calls.empty())
                choice.tool_calls_json = calls_json(state.tool_calls, std::nullopt);
            choice.finish_reason = state.finish_reason;
            choice.logprobs = state.logprobs;
        }
        return api::write_chat_response(response);
    }

  private:
    [[nodiscard]] api::ChatChunk empty_chunk() const {
        return {identity_.id, identity_.created, identity_.model, {}, {}, identity_.system_fingerprint, {}};
    }
    AnswerIdentity identity_;
    bool include_usage_;
};

class CompletionFormat : public AnswerFormat {
  public:
    CompletionFormat(AnswerIdentity identity, bool include_usage)
        : identity_(std::move(identity)), include_usage_(include_usage) {}

    [[nodiscard]] std::string opening(std::int64_t) const override { return {}; }

    [[nodiscard]] std::string event(std::int64_t index, const ChoiceState& delta) const override {
        api::CompletionResponse response = empty();
        response.choices.push_back(
            {index, delta.content, delta.finish_reason, delta.logprobs, delta.text_offset});
        return api::write_completion_response(response, include_usage_);
    }

    [[nodiscard]] std::string usage_event(const api::Usage& usage) const override {
        api::CompletionResponse response = empty();
        response.usage = usage;
        return api::write_completion_response(response, true);
    }

    [[nodiscard]] std::string whole(const std::vector<ChoiceState>& choices,
                                    const api::Usage& usage) const override {
        api::CompletionResponse response = empty();
        response.usage = usage;
        for (const ChoiceState& state : choices) {
            const auto index = static_cast<std::int64_t>(response.choices.size());
            response.choices.push_back({index, state.content, state.finish_reason, state.logprobs});
        }
        return api::write_completion_response(response, true);
    }

  private:
    [[nodiscard]] api::CompletionResponse empty() const {
        return {identity_.id, identity_.created, identity_.model, {}, {}, identity_.system_fingerprint};
    }
    AnswerIdentity identity_;
    bool include_usage_;
};

}  // namespace

api::ApiResult<JobRequest> prepare_chat(const ServedModel& model, const api::ChatRequest& request,
                                        GrammarCache& grammars) {
    const bool has_tools =
        !request.tools_json.empty() && request.tool_choice.kind != api::ToolChoice::Kind::none;
    if (has_tools && model.tool_style == ToolStyle::none) {
        return tl::make_unexpected(
            api::unsupported_parameter("tools", "'tools' is not supported by this model's chat template."));
    }
    api::ChatRequest shown = request;
    if (!has_tools) shown.tools_json.clear();
    const Result<std::string> prompt = model.render(shown);
    if (!prompt) {
        return tl::make_unexpected(api::invalid_value(
            "messages",
            fmt::format("The model's chat template refuses these messages: {}", prompt.error().message)));
    }
    // The template writes its own BOS; marks of turns in it are tokens.
    text::EncodeOptions encode;
    encode.add_special_tokens = false;
    RETORT_TRY(generate::TextRequest text,
               prepare(model, request.sampling, model.tokenizer.encode(*prompt, encode), "messages"));
    text.split_reasoning = model.uses_think_tags;
    text.starts_in_reasoning = model.uses_think_tags && ends_in_think(*prompt);
    if (has_tools) text.visible = tool_marks(model.tool_style);
    RETORT_TRY(const auto constraint, constraint_of(model, request, text.starts_in_reasoning, grammars));
    if (request.logprobs) text.tokens.top_logprobs = static_cast<std::int32_t>(request.top_logprobs);
    JobRequest job;
    job.stream = request.stream;
    job.include_usage = request.include_usage;
    job.logprobs = request.logprobs;
    job.tools = has_tools ? model.tool_style : ToolStyle::none;
    job.parallel_tool_calls = request.parallel_tool_calls;
    add_choices(job, request.sampling, text);
    if (constraint) {
        for (generate::TextRequest& choice : job.choices) {
            choice.tokens.hook = hook_of(constraint, model.end_of_turn_tokens, choice.tokens.prompt.size());
        }
        job.unmarked_hook = [constraint, ends = model.end_of_turn_tokens,
                             size = job.choices.front().tokens.prompt.size()] {
            return hook_of(constraint, ends, size);
        };
    }
    return job;
}

api::ApiResult<JobRequest> prepare_completion(const ServedModel& model, const api::CompletionRequest& request,
                                              bool hides_reasoning) {
    if (request.echo && request.logprobs && request.stream) {
        return tl::make_unexpected(api::unsupported_parameter(
            "stream", "An echoed prompt's logprobs come whole: 'echo' with 'logprobs' cannot be streamed."));
    }
    JobRequest job;
    job.prompts = static_cast<std::int64_t>(request.prompts.size());
    job.stream = request.stream;
    job.include_usage = request.include_usage;
    job.logprobs = request.logprobs.has_value();
    job.logprobs_with_stop = true;
    for (const api::CompletionRequest::Prompt& prompt : request.prompts) {
        if (prompt.is_tokens) {
            const auto outside =
                std::find_if(prompt.tokens.begin(), prompt.tokens.end(),
                             [&](std::int32_t token) { return token >= model.tokenizer.vocab_size(); });
            if (outside != prompt.tokens.end()) {
                return tl::make_unexpected(api::invalid_value(
                    "prompt",
                    fmt::format("Invalid value for 'prompt': the vocabulary has {} tokens, and {} is none "
                                "of them.",
                                model.tokenizer.vocab_size(), *outside)));
            }
        }
        RETORT_TRY(generate::TextRequest text,
                   prepare(model, request.sampling,
                           prompt.is_tokens ? prompt.tokens : model.tokenizer.encode(prompt.text), "prompt"));
        if (request.logprobs) text.tokens.top_logprobs = static_cast<std::int32_t>(*request.logprobs);
        // Without an answer, what is asked for is the prompt itself.
        text.tokens.prompt_logprobs = request.echo && (request.logprobs || text.tokens.max_tokens == 0);
        const bool hides = hides_reasoning && model.uses_think_tags;
        std::string said;
        if (request.echo || hides)
            said = prompt.is_tokens ? model.tokenizer.decode(prompt.tokens) : prompt.text;
        text.split_reasoning = hides;
        text.starts_in_reasoning = hides && is_inside_think(said);
        if (request.echo) {
            job.echo.insert(job.echo.end(), static_cast<std::size_t>(request.sampling.n), said);
        }
        add_choices(job, request.sampling, text);
    }
    return job;
}

std::unique_ptr<AnswerFormat> chat_format(AnswerIdentity identity, bool include_usage) {
    return std::make_unique<ChatFormat>(std::move(identity), include_usage);
}

std::unique_ptr<AnswerFormat> completion_format(AnswerIdentity identity, bool include_usage) {
    return std::make_unique<CompletionFormat>(std::move(identity), include_usage);
}

}  // namespace retort::serve
