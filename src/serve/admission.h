// Who may ask what, and what it cost: the router asks before a request, and whoever answers says after what
// was used. Knows no account store, no route's format and no engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/error.h"
#include "http/server.h"

namespace retort::serve {

struct TokenUse {
    std::int64_t prompt_tokens = 0;
    std::int64_t cached_tokens = 0;
    std::int64_t completion_tokens = 0;  // reasoning included
    std::int64_t reasoning_tokens = 0;
};

enum class RequestEnd { finished, aborted, failed };

// How much of a model's reasoning a plan lets its account see.
enum class ReasoningAccess { full, summarised, withheld };

// What a server that plants (serve/planting.h) does to one sender's answers.
struct PlantingMarks {
    bool watermark = false;  // the guard has armed it for this sender, where it is not everybody's
    std::int64_t twins = 1;  // how many times the usual share of answers
};

// One admitted request, from its reservation to its settlement. A ticket dropped without end() is settled as
// failed, with what was counted until then.
class Ticket {
  public:
    virtual ~Ticket() = default;
    [[nodiscard]] virtual ReasoningAccess reasoning() const = 0;
    // Whose key it is, by a name that says nothing else: the channel of a mark.
    [[nodiscard]] virtual std::string channel() const { return {}; }
    [[nodiscard]] virtual PlantingMarks marks() const { return {}; }
    // The first byte of the answer is about to leave.
    virtual void began() = 0;
    // What has been used so far, all of it; the last call counts.
    virtual void count(const TokenUse& use) = 0;
    // At most once; safe from any thread.
    virtual void end(RequestEnd how, int status) = 0;
};

struct Admitted {
    std::shared_ptr<Ticket> ticket;      // null when refused
    std::optional<api::ApiError> error;  // set when refused
    http::Headers headers;               // for the answer either way: x-ratelimit-*, Retry-After
};

class Admission {
  public:
    virtual ~Admission() = default;
    // Calls `decided` once: at once on this thread when that needs no store, else later on another.
    // `request` must live until then.
    virtual void admit(const http::ServerRequest& request, std::function<void(Admitted)> decided) = 0;
    // Refuses whoever still waits and settles the books; no callback runs after it.
    virtual void stop() = 0;
    // Prometheus' text, added to the server's own.
    [[nodiscard]] virtual std::string metrics() const = 0;
};

// The key of a request: Authorization: Bearer KEY, else X-Api-Key. Empty: none.
std::string_view key_of(const http::ServerRequest& request);

}  // namespace retort::serve
