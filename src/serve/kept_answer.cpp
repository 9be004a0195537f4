#include "serve/kept_answer.h"

#include <utility>

#include "serve/generation_job.h"

namespace retort::serve {

void KeptAnswer::start(const std::shared_ptr<const ServedModel>& model, ActiveJobs& active) {
    if (!withheld_) {
        sides_[1].ended = true;
        return;
    }
    active.enter();
    const auto leave = std::shared_ptr<void>(nullptr, [&active](void*) { active.leave(); });
    auto submitted = generate::submit_text(
        *model->engine, model->tokenizer, std::move(*withheld_),
        [self = shared_from_this()](const generate::TextDelta& delta) {
            self->add(1, delta);
            return !self->owner_->stopping();
        },
        // The model is held until its engine has let go of the request.
        [self = shared_from_this(), model, leave](const Result<generate::TextCompletion>& done) {
            self->end(1, done);
        });
    withheld_.reset();
    if (!submitted) end(1, tl::make_unexpected(submitted.error()));
}

void KeptAnswer::add(std::size_t side, const generate::TextDelta& delta) {
    const std::lock_guard lock(mutex_);
    sides_[side].content += delta.content;
    if (keeps_reasoning_) sides_[side].reasoning += delta.reasoning;
}

void KeptAnswer::end(std::size_t side, const Result<generate::TextCompletion>& done) {
    escrow::Record record;
    {
        const std::lock_guard lock(mutex_);
        if (sides_[side].ended) return;
        sides_[side].ended = true;
        sides_[side].whole = done && done->completion.finish_reason != generate::FinishReason::cancelled;
        if (!sides_[0].ended || !sides_[1].ended) return;
        record = record_;
        const bool whole = sides_[0].whole && (record.kind != escrow::RecordKind::twin || sides_[1].whole);
        if (record.kind != escrow::RecordKind::twin) {
            if (sides_[0].text().empty()) return;
            record.sent_whole = record.sent_whole && whole;
            record.answers = {sides_[0].text()};
        } else if (!whole) {
            record.kind = escrow::RecordKind::broken;
        } else if (sides_[0].text() == sides_[1].text()) {
            record.kind = escrow::RecordKind::identical;
            record.answers = {sides_[0].text()};
        } else {
            record.answers = {sides_[0].text(), sides_[1].text()};
            if (record.served == 1) std::swap(record.answers[0], record.answers[1]);
        }
        if (record.kind != escrow::RecordKind::twin) record.served = 0;
    }
    owner_->keep(record);
}

}  // namespace retort::serve
