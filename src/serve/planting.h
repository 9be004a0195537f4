// What a server plants in its answers, so that a model trained on them can be told later (docs/audit.md):
// keyed marks, twins by a committed coin, canaries; and the escrow of what was planted. Knows no file format
// but escrow's, no account and no audit.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "api/error.h"
#include "base/result.h"
#include "escrow/plant.h"
#include "generate/engine.h"
#include "serve/admission.h"

namespace retort::serve {

struct JobRequest;
struct ServedModel;

// What is planted into, as far as the request's own route knows it.
struct PlantedRequest {
    std::string channel;                                // whose key asked
    formats::Json messages = formats::Json::array();    // of a conversation
    std::string prompt;                                 // of a plain completion
    std::optional<std::string> last_question;           // where a canary's prompt may stand
    ReasoningAccess reasoning = ReasoningAccess::full;  // what of it the client sees
    PlantingMarks marks;
};

// The mark of a channel, after whatever else acts on the logits (a grammar's mask). The plant must have a
// scheme; one answer's hook. What serves uses, for whoever must measure it.
void add_mark(const escrow::Plant& plant, const std::string& channel, generate::SamplingHook& hook);

class Planting {
  public:
    // The folder of `retort audit plant`; one server at a time. marks_everybody: else only whom the guard has
    // armed the watermark for.
    static Result<std::shared_ptr<Planting>> open(const std::filesystem::path& folder,
                                                  bool marks_everybody = true);

    // Marks the job's choices and says what of its answer is kept. The error is the client's: a marked tier
    // gives no logprobs.
    std::optional<api::ApiError> apply(const PlantedRequest& request, const ServedModel& model,
                                       JobRequest& job);

    void keep(const escrow::Record& record);
    // Publishes the root of a day that is over.
    void tick();
    // Answers that are still kept for their twin's sake end now.
    void stop() { stopping_ = true; }
    [[nodiscard]] bool stopping() const { return stopping_; }
    [[nodiscard]] const escrow::Plant& plant() const { return plant_; }
    [[nodiscard]] std::string metrics() const;

  private:
    Planting() = default;
    bool draws_twin(const PlantedRequest& request, const JobRequest& job, escrow::Record& record);

    std::weak_ptr<Planting> self_;
    escrow::Plant plant_;
    bool marks_everybody_ = true;
    std::unique_ptr<escrow::Vault> vault_;
    std::atomic<std::uint64_t> next_coin_{0};
    std::atomic<std::uint64_t> kept_{0};
    std::atomic<std::uint64_t> lost_{0};
    std::atomic<bool> stopping_{false};
    std::mutex day_mutex_;
    std::string day_;
};

}  // namespace retort::serve
