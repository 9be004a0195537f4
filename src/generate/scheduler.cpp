#include "generate/scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/clock.h"
#include "tensor/team.h"

namespace retort::generate {

namespace {

constexpr std::int64_t page_tokens = tensor::kv_page_tokens;

std::int64_t common_prefix(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
    return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// Whether every token of the prompt must be run, though the cache may know its beginning.
bool computes_all(const Request& request) {
    return request.prompt_logprobs || request.embed;
}

}  // namespace

Scheduler::Sequence::Sequence(ScheduledRequest from, std::uint64_t default_seed)
    : scheduled(std::move(from)),
      sampler(scheduled.request.sampling, scheduled.request.top_logprobs, scheduled.request.hook,
              scheduled.request.prompt, default_seed),
      tokens(scheduled.request.prompt),
      prompt_size(static_cast<std::int64_t>(tokens.size())) {}

std::int64_t Scheduler::Sequence::logit_rows() const {
    if (scheduled.request.prompt_logprobs && computed < prompt_size) {
        // The prompt's last token predicts none of the prompt.
        return samples_after_step() ? taking : std::min(taking, prompt_size - 1 - computed);
    }
    return sampled_rows();
}

Scheduler::Scheduler(model::Weights weights, const SchedulerPlan& plan, std::uint64_t default_seed,
                     std::optional<model::Weights> draft)
    : plan_(plan),
      default_seed_(default_seed),
      decoder_(std::move(weights), plan.page_count, plan.context_length,
               plan.prefill_chunk + plan.max_sequences * (1 + plan.draft_tokens), plan.cache_type),
      cache_(plan.page_count) {
    if (draft) {
        drafter_ = std::make_unique<Drafter>(std::move(*draft), plan.page_count, plan.context_length,
                                             plan.prefill_chunk + plan.max_sequences * usual_draft_reading,
                                             config().vocab_size, plan.cache_type);
    }
}

void Scheduler::add(ScheduledRequest request) {
    const auto prompt_size = static_cast<std::int64_t>(request.request.prompt.size());
    request.request.max_tokens = std::min(request.request.max_tokens, plan_.context_length - prompt_size);
    waiting_.push_back(std::move(request));
}

void Scheduler::cancel(std::uint64_t id) {
    for (auto& sequence : running_) {
        if (sequence->scheduled.id == id) finish(*sequence, FinishReason::cancelled);
    }
    std::erase_if(running_, [](const auto& sequence) { return sequence->finished; });
    const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                    [id](const auto& request) { return request.id == id; });
    if (found == waiting_.end()) return;
    const ScheduledRequest request = std::move(*found);
    waiting_.erase(found);
    Completion completion;
    completion.finish_reason = FinishReason::cancelled;
    completion.prompt_tokens = static_cast<std::int64_t>(request.request.prompt.size());
    completion.queue_seconds = base::monotonic_seconds() - request.arrived;
    request.on_done(std::move(completion));
}

void Scheduler::cancel_all() {
    while (!waiting_.empty()) cancel(waiting_.front().id);
    while (!running_.empty()) cancel(running_.front()->scheduled.id);
}

// Whether a running sequence is about to compute whole pages of this prompt: computing them twice would cost
// more than the wait.
bool Scheduler::worth_waiting(const Request& request) const {
    if (computes_all(request)) return false;
    const std::int64_t known = cache_.match_length(request.prompt);
    for (const auto& sequence : running_) {
        if (sequence->computed >= sequence->prompt_size) continue;
        const std::int64_t common =
            common_prefix(request.prompt,
                          std::span(sequence->tokens).first(static_cast<std::size_t>(sequence->prompt_size)));
        if (common / page_tokens * page_tokens >= known + page_tokens) return true;
    }
    return false;
}

bool Scheduler::try_start(ScheduledRequest& request) {
    const auto& prompt = request.request.prompt;
    // The last token is always run: its logits are needed.
    PageCache::Match match =
        cache_.match(std::span(prompt).first(computes_all(request.request) ? 0 : prompt.size() - 1));
    const std::int64_t need =
        pages_for(static_cast<std::int64_t>(prompt.size()) + request.request.max_tokens) -
        static_cast<std::int64_t>(match.pages.size());
    std::int64_t promised = 0;
    for (const auto& sequence : running_) {
        promised += sequence->page_need - static_cast<std::int64_t>(sequence->pages.size());
    }
    if (cache_.held_pages() + promised + need > plan_.page_count) {
        cache_.release(match.pages, {});
        return false;
    }
    const std::uint64_t seed = default_seed_ + request.id;
    auto sequence = std::make_unique<Sequence>(std::move(request), seed);
    sequence->queue_seconds = base::monotonic_seconds() - sequence->scheduled.arrived;
    if (sequence->scheduled.request.embed) {
        sequence->hidden_sum.assign(static_cast<std::size_t>(config().hidden_size), 0.0F);
    }
    sequence->cached = match.tokens();
    sequence->computed = sequence->cached;
    sequence->published = match.pages.size();
    sequence->page_need = need + static_cast<std::int64_t>(match.pages.size());
    sequence->pages = std::move(match.pages);
    if (match.partial_tokens > 0) {
        // Before the page is taken: it may be the very same.
        const std::int64_t drafted =
            drafter_ ? std::min(drafter_->valid_tokens(match.partial_page), match.partial_tokens) : 0;
        sequence->pages.push_back(take_page());
        if (sequence->pages.back() != match.partial_page) {
            decoder_.copy_page(match.partial_page, sequence->pages.back());
        }
        if (drafter_) drafter_->page_copied(match.partial_page, sequence->pages.back(), drafted);
    }
    if (drafter_) {
        const Request& started = sequence->scheduled.request;
        sequence->draft.enabled = started.max_tokens > 1 && !started.hook.choose;
        sequence->draft.computed = drafter_->computed_of(sequence->pages);
    }
    prompt_tokens_ += static_cast<std::uint64_t>(sequence->prompt_size);
    prefix_hits_ += static_cast<std::uint64_t>(sequence->cached);
    running_.push_back(std::move(sequence));
    return true;
}

void Scheduler::admit() {
    for (auto next = waiting_.begin();
         next != waiting_.end() && static_cast<std::int64_t>(running_.size()) < plan_.max_sequences;) {
        if (worth_waiting(next->request)) {
            ++next;
            continue;
        }
        if (!try_start(*next))
            return;  // none overtakes it for want of pages, or a long one would never start
        next = waiting_.erase(next);
    }
}

std::int32_t Scheduler::take_page() {
    const std::int32_t page = cache_.allocate();
    if (drafter_) drafter_->page_taken(page);
    return page;
}

void Scheduler::provide_pages(Sequence& sequence) {
    while (static_cast<std::int64_t>(sequence.pages.size()) <
           pages_for(sequence.computed + sequence.taking)) {
        sequence.pages.push_back(take_page());
    }
}

void Scheduler::choose_tokens() {
    std::int64_t budget = plan_.prefill_chunk;
    for (auto& sequence : running_) {
        const bool decodes = sequence->computed >= sequence->prompt_size;
        sequence->taking = decodes ? sequence->pending() : std::min(budget, sequence->pending());
        if (!decodes) budget -= sequence->taking;
        provide_pages(*sequence);
    }
}

void Scheduler::run_model() {
    struct Wanted {
        Sequence* sequence;
        std::int64_t first;  // of its rows of logits
        std::int64_t count;
    };
    std::vector<Segment> segments;
    std::vector<Wanted> wanted;
    std::int64_t next_row = 0;
    for (auto& sequence : running_) {
        if (sequence->taking == 0) continue;
        const std::int64_t rows = sequence->logit_rows();
        // Rows for the prompt's own tokens end before its last one where that is not sampled from.
        const bool skips_last =
            rows > 0 && !sequence->samples_after_step() && sequence->ends_prompt_or_decodes();
        segments.push_back({std::span(sequence->tokens)
                                .subspan(static_cast<std::size_t>(sequence->computed),
                                         static_cast<std::size_t>(sequence->taking)),
                            sequence->computed, sequence->pages, rows + (skips_last ? 1 : 0),
                            sequence->hidden_sum});
        if (rows > 0) wanted.push_back({sequence.get(), next_row, rows});
        next_row += segments.back().logit_rows;
    }
    if (segments.empty()) return;  // all wait for the draft model
    const std::span<float> logits = decoder_.step(segments);
    const std::int64_t vocab = config().vocab_size;
    const auto read = [&](std::int64_t i) {
        const Wanted& one = wanted[static_cast<std::size_t>(i)];
        read_rows(*one.sequence, logits.subspan(static_cast<std::size_t>(one.first * vocab),
                                                static_cast<std::size_t>(one.count * vocab)));
    };
    const auto count = static_cast<std::int64_t>(wanted.size());
    if (count < 4) {
        for (std::int64_t i = 0; i < count; ++i) read(i);
    } else {
        tensor::team_each(count, read);
    }
}

// rows (logit_rows, vocab): log-probabilities of the prompt's tokens, and the draw of the next one.
void Scheduler::read_rows(Sequence& sequence, std::span<float> rows) const {
    const auto vocab = static_cast<std::size_t>(config().vocab_size);
    const Request& request = sequence.scheduled.request;
    if (request.prompt_logprobs && sequence.computed < sequence.prompt_size) {
        for (std::int64_t i = 0; i < sequence.taking && sequence.computed + i + 1 < sequence.prompt_size;
             ++i) {
            const std::int32_t token = sequence.tokens[static_cast<std::size_t>(sequence.computed + i + 1)];
            sequence.prompt_events.push_back(describe_token(
                rows.subspan(static_cast<std::size_t>(i) * vocab, vocab), token, request.top_logprobs));
        }
    }
    if (sequence.samples_after_step()) {
        sample_rows(sequence, rows.last(static_cast<std::size_t>(sequence.sampled_rows()) * vocab));
    }
}

// rows (1 + proposals, vocab). In order, as without a draft: what is drawn at a place is known before the
// next.
void Scheduler::sample_rows(Sequence& sequence, std::span<float> rows) const {
    const auto vocab = static_cast<std::size_t>(config().vocab_size);
    const auto proposals = static_cast<std::size_t>(sequence.draft.count);
    const std::size_t known = sequence.tokens.size() - proposals;
    for (std::size_t i = 0; i <= proposals; ++i) {
        const auto context = std::span(sequence.tokens).first(known + i);
        const auto row = rows.subspan(i * vocab, vocab);
        Result<TokenEvent> event = i == proposals
                                       ? sequence.sampler.sample(context, row)
                                       : sequence.sampler.verify(context, row, sequence.tokens[known + i],
                                                                 sequence.draft.probabilities[i]);
        if (!event) {
            sequence.sampling = tl::unexpected(event.error());
            return;
        }
        sequence.sampled.push_back(std::move(*event));
        if (i < proposals && sequence.sampled.back().token != sequence.tokens[known + i]) return;
    }
}

void Scheduler::step() {
    admit();
    if (running_.empty()) return;
    choose_tokens();
    if (drafter_) choose_drafts();
    run_model();
    for (auto& sequence : running_) advance(*sequence);
    std::erase_if(running_, [](const auto& sequence) { return sequence->finished; });
}

void Scheduler::publish(Sequence& sequence) {
    for (; static_cast<std::int64_t>(sequence.published + 1) * page_tokens <= sequence.computed;
         ++sequence.published) {
        const std::int32_t own = sequence.pages[sequence.published];
        cache_.publish(sequence.pages, sequence.published,
                       std::span(sequence.tokens).subspan(sequence.published * page_tokens, page_tokens));
        const std::int32_t now = sequence.pages[sequence.published];
        if (drafter_ && now != own) drafter_->page_replaced(own, now);
    }
}

void Scheduler::advance(Sequence& sequence) {
    const bool samples = sequence.samples_after_step();
    const std::int64_t proposals = sequence.draft.count;
    const bool decodes = sequence.computed >= sequence.prompt_size;
    sequence.tokens.resize(sequence.tokens.size() - static_cast<std::size_t>(proposals));
    sequence.computed += sequence.taking - proposals;
    sequence.taking = 0;
    if (sequence.draft.enabled) {
        const auto stand = std::max<std::int64_t>(0, static_cast<std::int64_t>(sequence.sampled.size()) - 1);
        drafter_->keep(sequence.draft, sequence.pages,
                       static_cast<std::int64_t>(sequence.tokens.size()) + stand);
        sequence.drafted_tokens += proposals;
        sequence.draft_hits += stand;
        drafted_tokens_ += static_cast<std::uint64_t>(proposals);
        draft_hits_ += static_cast<std::uint64_t>(stand);
    }
    publish(sequence);
    if (!samples) {
        if (sequence.computed == sequence.prompt_size && sequence.scheduled.request.max_tokens == 0) {
            finish_prompt(sequence);
        }
        return;
    }
    if (decodes) ++sequence.steps;
    const std::vector<TokenEvent> events = std::exchange(sequence.sampled, {});
    for (std::size_t i = 0; i < events.size() && !sequence.finished; ++i) {
        if (i > 0) {  // its keys and values are there: the step ran it as a proposal
            ++sequence.computed;
            publish(sequence);
        }
        take_token(sequence, events[i]);
    }
    if (!sequence.finished && !sequence.sampling) finish(sequence, tl::unexpected(sequence.sampling.error()));
}

// The next token of the answer.
void Scheduler::take_token(Sequence& sequence, const TokenEvent& event) {
    const Request& request = sequence.scheduled.request;
    if (std::find(request.stop_tokens.begin(), request.stop_tokens.end(), event.token) !=
        request.stop_tokens.end()) {
        sequence.stop = event;
        return finish(sequence, FinishReason::stop);
    }
    sequence.tokens.push_back(event.token);
    ++generated_tokens_;
    if (!sequence.scheduled.on_token(event)) return finish(sequence, FinishReason::cancelled);
    if (static_cast<std::int64_t>(sequence.tokens.size()) - sequence.prompt_size == request.max_tokens) {
        finish(sequence, FinishReason::length);
    }
}

void Scheduler::finish(Sequence& sequence, FinishReason reason) {
    Completion completion;
    completion.finish_reason = reason;
    completion.prompt_tokens = sequence.prompt_size;
    completion.cached_tokens = sequence.cached;
    completion.completion_tokens = static_cast<std::int64_t>(sequence.tokens.size()) - sequence.prompt_size;
    completion.queue_seconds = sequence.queue_seconds;
    completion.prompt = std::move(sequence.prompt_events);
    completion.stop = sequence.stop;
    completion.steps = sequence.steps;
    completion.drafted_tokens = sequence.drafted_tokens;
    completion.draft_hits = sequence.draft_hits;
    finish(sequence, std::move(completion));
}

// The end of a request that asks about its prompt alone.
void Scheduler::finish_prompt(Sequence& sequence) {
    for (float& value : sequence.hidden_sum) {
        value /= static_cast<float>(sequence.prompt_size);
        if (!std::isfinite(value)) {
            return finish(sequence,
                          fail(ErrorCode::internal,
                               "the model's outputs are not finite numbers: its weights may be damaged"));
        }
    }
    Completion completion;
    completion.finish_reason = FinishReason::length;
    completion.prompt_tokens = sequence.prompt_size;
    completion.queue_seconds = sequence.queue_seconds;
    completion.prompt = std::move(sequence.prompt_events);
    completion.embedding = std::move(sequence.hidden_sum);
    finish(sequence, std::move(completion));
}

void Scheduler::finish(Sequence& sequence, Result<Completion> result) {
    const auto known = sequence.published * page_tokens;
    const auto tail = static_cast<std::size_t>(sequence.computed) - known;
    // After an error the numbers in the pages are not to be used again.
    cache_.release(sequence.pages, result ? std::span(sequence.tokens).subspan(known, tail)
                                          : std::span<const std::int32_t>());
    sequence.finished = true;
    sequence.scheduled.on_done(std::move(result));
}

EngineStatistics Scheduler::statistics() const {
    EngineStatistics statistics;
    statistics.running = static_cast<std::int64_t>(running_.size());
    statistics.waiting = static_cast<std::int64_t>(waiting_.size());
    statistics.kv_cache_usage = static_cast<double>(cache_.held_pages()) /
                                static_cast<double>(std::max<std::int64_t>(1, plan_.page_count));
    statistics.prompt_tokens = prompt_tokens_;
    statistics.generated_tokens = generated_tokens_;
    statistics.prefix_cache_hits = prefix_hits_;
    statistics.drafted_tokens = drafted_tokens_;
    statistics.draft_hits = draft_hits_;
    return statistics;
}

}  // namespace retort::generate
