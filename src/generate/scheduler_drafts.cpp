// The scheduler's part that has to do with a draft model: who may use it, what it reads, how much it
// proposes.
#include <algorithm>

#include "generate/scheduler.h"

namespace retort::generate {

// Where many run, a machine has enough to do; but a seed promises an answer that does not depend on them.
bool Scheduler::drafts_now(const Sequence& sequence) const {
    if (!sequence.draft.enabled) return false;
    const SamplingParameters& sampling = sequence.scheduled.request.sampling;
    const bool promised = sampling.temperature > 0.0F && sampling.seed.has_value();
    return promised || static_cast<std::int64_t>(running_.size()) <= plan_.draft_sequences;
}

// budget: tokens of prompts, and of what was left behind, that the draft model may still read in this step.
DraftTask Scheduler::draft_task(Sequence& sequence, std::int64_t& budget) const {
    DraftTask task{&sequence.draft, &sequence.sampler, &sequence.tokens, {}, 0, 0};
    if (!drafts_now(sequence)) return task;
    const std::int64_t behind = sequence.computed + sequence.taking - sequence.draft.computed;
    const bool decodes = sequence.computed >= sequence.prompt_size;
    if (!decodes || behind > usual_draft_reading) {
        task.read = std::min(budget, behind);
        budget -= task.read;
    } else {
        task.read = behind;
    }
    if (!decodes && sequence.draft.computed + task.read < sequence.prompt_size) {
        // The answer begins when both have read the prompt, so that what is proposed never depends on what of
        // it the draft model found in the cache.
        sequence.taking = std::min(sequence.taking, sequence.prompt_size - 1 - sequence.computed);
    }
    if (decodes && task.read == behind) {
        const std::int64_t left = sequence.scheduled.request.max_tokens -
                                  (static_cast<std::int64_t>(sequence.tokens.size()) - sequence.prompt_size);
        task.propose = std::min(plan_.draft_tokens, left - 1);
        if (task.propose <= 0) task.read = task.propose = 0;
    }
    return task;
}

void Scheduler::choose_drafts() {
    std::int64_t budget = plan_.prefill_chunk;
    std::vector<DraftTask> tasks;
    std::vector<Sequence*> owners;
    for (auto& sequence : running_) {
        const DraftTask task = draft_task(*sequence, budget);
        if (task.read == 0) continue;
        sequence->taking += task.propose;
        provide_pages(*sequence);
        sequence->taking -= task.propose;
        tasks.push_back(task);
        tasks.back().pages = sequence->pages;
        owners.push_back(sequence.get());
    }
    if (tasks.empty()) return;
    drafter_->run(tasks);
    for (Sequence* sequence : owners) sequence->taking += sequence->draft.count;
}

}  // namespace retort::generate
