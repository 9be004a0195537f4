#include "generate/scheduler_plan.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "generate/decoder.h"

namespace retort::generate {

namespace {

constexpr std::int64_t page_tokens = tensor::kv_page_tokens;

std::int64_t memory_bytes() {
    return static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
}

Status check_finite(float value, const char* name) {
    if (std::isfinite(value)) return {};
    return fail(ErrorCode::invalid_argument, "{} is {}, not a finite number", name, value);
}

Status check_sampling(const SamplingParameters& sampling, std::int64_t vocab_size) {
    RETORT_CHECK(check_finite(sampling.temperature, "temperature"));
    RETORT_CHECK(check_finite(sampling.frequency_penalty, "frequency_penalty"));
    RETORT_CHECK(check_finite(sampling.presence_penalty, "presence_penalty"));
    if (sampling.temperature < 0) {
        return fail(ErrorCode::invalid_argument, "temperature is {}: it must be 0 (greedy) or above",
                    sampling.temperature);
    }
    if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
        return fail(ErrorCode::invalid_argument, "top_p is {}: it must be above 0 and at most 1",
                    sampling.top_p);
    }
    if (!(sampling.min_p >= 0 && sampling.min_p <= 1)) {
        return fail(ErrorCode::invalid_argument, "min_p is {}: it must be from 0 to 1", sampling.min_p);
    }
    if (!(sampling.repetition_penalty > 0) || !std::isfinite(sampling.repetition_penalty)) {
        return fail(ErrorCode::invalid_argument, "repetition_penalty is {}: it must be above 0 (1: none)",
                    sampling.repetition_penalty);
    }
    if (sampling.top_k < 0) {
        return fail(ErrorCode::invalid_argument, "top_k is {}: it must be 0 (off) or above", sampling.top_k);
    }
    for (const auto& [token, bias] : sampling.logit_bias) {
        if (token < 0 || token >= vocab_size || !std::isfinite(bias)) {
            return fail(ErrorCode::invalid_argument,
                        "logit_bias {} of token {}: the vocabulary has {} tokens, and a bias must be finite",
                        bias, token, vocab_size);
        }
    }
    return {};
}

Status plan_drafts(SchedulerPlan& plan, const EngineOptions& options, const model::ModelConfig& draft) {
    if (options.draft_tokens < 1 || options.draft_tokens > 64 || options.draft_sequences < 1) {
        return fail(ErrorCode::invalid_argument,
                    "engine options: draft_tokens {} must be from 1 to 64, draft_sequences {} 1 or above",
                    options.draft_tokens, options.draft_sequences);
    }
    if (options.context_length > draft.context_length) {
        return fail(ErrorCode::invalid_argument, "context length {}: the draft model was made for at most {}",
                    options.context_length, draft.context_length);
    }
    plan.context_length = std::min(plan.context_length, draft.context_length);
    plan.draft_tokens = options.draft_tokens;
    plan.draft_sequences = options.draft_sequences;
    return {};
}

}  // namespace

std::int64_t pages_for(std::int64_t tokens) {
    return (tokens + page_tokens - 1) / page_tokens;
}

Result<SchedulerPlan> plan_scheduler(const model::ModelConfig& config, const EngineOptions& options,
                                     const model::ModelConfig* draft) {
    if (options.max_sequences < 1 || options.prefill_chunk < 1 || options.context_length < 0 ||
        options.cache_bytes < 0) {
        return fail(
            ErrorCode::invalid_argument,
            "engine options: max_sequences {} and prefill_chunk {} must be 1 or above, context_length {} and "
            "cache_bytes {} 0 or above",
            options.max_sequences, options.prefill_chunk, options.context_length, options.cache_bytes);
    }
    constexpr std::int64_t default_context = 8192;
    if (options.context_length > config.context_length) {
        return fail(ErrorCode::invalid_argument, "context length {}: the model was made for at most {}",
                    options.context_length, config.context_length);
    }
    SchedulerPlan plan;
    plan.max_sequences = options.max_sequences;
    plan.prefill_chunk = options.prefill_chunk;
    plan.context_length = options.context_length > 0 ? options.context_length
                                                     : std::min(config.context_length, default_context);
    if (options.cache_type != tensor::DType::f32 && options.cache_type != tensor::DType::bf16) {
        return fail(ErrorCode::invalid_argument, "a cache of {}: keys and values are kept as f32 or bf16",
                    tensor::dtype_info(options.cache_type).name);
    }
    plan.cache_type = options.cache_type;
    std::int64_t page_bytes = Decoder::page_bytes(config, plan.cache_type);
    if (draft != nullptr) {
        RETORT_CHECK(plan_drafts(plan, options, *draft));
        page_bytes += Decoder::page_bytes(*draft, plan.cache_type);
    }
    const std::int64_t one_sequence = pages_for(plan.context_length);
    if (options.cache_bytes > 0) {
        plan.page_count = options.cache_bytes / page_bytes;
    } else {
        plan.page_count = std::min(one_sequence * plan.max_sequences, memory_bytes() / 4 / page_bytes);
    }
    if (plan.page_count < one_sequence) {
        const std::int64_t token_bytes = page_bytes / page_tokens;
        if (options.context_length > 0 || plan.page_count < 1) {
            return fail(
                ErrorCode::invalid_argument,
                "a cache of {} holds {} tokens, fewer than the context length {}: it takes {} a token; give "
                "a shorter context or a larger cache",
                base::bytes_text(static_cast<double>(plan.page_count * page_bytes)),
                plan.page_count * page_tokens, plan.context_length,
                base::bytes_text(static_cast<double>(token_bytes)));
        }
        plan.context_length = plan.page_count * page_tokens;
    }
    return plan;
}

Status check_request(const Request& request, const model::ModelConfig& config, std::int64_t context_length) {
    if (request.prompt.empty()) return fail(ErrorCode::invalid_argument, "the prompt has no tokens");
    const bool prompt_alone = request.max_tokens == 0 && (request.prompt_logprobs || request.embed);
    if (request.embed && request.max_tokens != 0) {
        return fail(ErrorCode::invalid_argument, "max_tokens is {}: an embedding has no answer, so 0",
                    request.max_tokens);
    }
    if (request.max_tokens < 1 && !prompt_alone) {
        return fail(ErrorCode::invalid_argument, "max_tokens is {}: it must be 1 or above",
                    request.max_tokens);
    }
    const auto size = static_cast<std::int64_t>(request.prompt.size());
    if (prompt_alone ? size > context_length : size >= context_length) {
        return fail(ErrorCode::invalid_argument,
                    "the prompt has {} tokens; with a context of {} at most {} leave room for an answer",
                    size, context_length, prompt_alone ? context_length : context_length - 1);
    }
    for (const std::int32_t token : request.prompt) {
        if (token < 0 || token >= config.vocab_size) {
            return fail(ErrorCode::invalid_argument, "token {} of the prompt is outside the vocabulary of {}",
                        token, config.vocab_size);
        }
    }
    if (request.top_logprobs > 20) {
        return fail(ErrorCode::invalid_argument, "top_logprobs is {}: at most 20", request.top_logprobs);
    }
    return check_sampling(request.sampling, config.vocab_size);
}

}  // namespace retort::generate
