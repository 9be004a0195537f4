// One answer on its way into the escrow: the text as its client gets it and, of a twin, the answer that is
// withheld, generated beside it. Private to this part.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>

#include "escrow/records.h"
#include "generate/text_generation.h"
#include "serve/planting.h"

namespace retort::serve {

class ActiveJobs;

class KeptAnswer : public std::enable_shared_from_this<KeptAnswer> {
  public:
    // record: all but its answers. of a twin, `served` says which of the two the client gets.
    KeptAnswer(std::shared_ptr<Planting> owner, escrow::Record record, bool keeps_reasoning)
        : owner_(std::move(owner)), record_(std::move(record)), keeps_reasoning_(keeps_reasoning) {}

    // The withheld answer, drawn beside the one that is served. It holds `active` until it has ended.
    void set_withheld(generate::TextRequest request) { withheld_ = std::move(request); }
    void start(const std::shared_ptr<const ServedModel>& model, ActiveJobs& active);

    void served(const generate::TextDelta& delta) { add(0, delta); }
    void served_done(const Result<generate::TextCompletion>& done, bool sent_whole) {
        {
            const std::lock_guard lock(mutex_);
            record_.sent_whole = sent_whole;
        }
        end(0, done);
    }
    // Whether the served answer is wanted to its end although its client has gone: of a twin it is, or the
    // clients' patience would choose the pairs.
    [[nodiscard]] bool wants_rest() const {
        return record_.kind == escrow::RecordKind::twin && !owner_->stopping();
    }

  private:
    struct Side {
        std::string reasoning;
        std::string content;
        bool ended = false;
        bool whole = false;
        [[nodiscard]] std::string text() const {
            return reasoning.empty() ? content : "<think>\n" + reasoning + "\n</think>\n\n" + content;
        }
    };
    void add(std::size_t side, const generate::TextDelta& delta);
    void end(std::size_t side, const Result<generate::TextCompletion>& done);

    std::shared_ptr<Planting> owner_;
    std::mutex mutex_;
    escrow::Record record_;
    bool keeps_reasoning_;
    std::optional<generate::TextRequest> withheld_;
    std::array<Side, 2> sides_;  // served, withheld
};

}  // namespace retort::serve
