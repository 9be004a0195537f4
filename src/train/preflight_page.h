// What the checks before a run share: how a finding comes on the page, and what the system says of memory.
// Included by preflight's sources alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "train/preflight.h"

namespace retort::train {

constexpr std::size_t most_round_trips = 64;  // conversations of which the template's round trip is tried

class Page {
  public:
    explicit Page(Preflight& found) : found_(found) {}
    void good(std::string_view about, std::string text) { add(Verdict::good, about, std::move(text)); }
    void note(std::string_view about, std::string text) { add(Verdict::note, about, std::move(text)); }
    void problem(std::string_view about, std::string text) { add(Verdict::problem, about, std::move(text)); }

    // A head of so many rows for a tokenizer of so many ids.
    void vocabulary(std::string_view who, std::int64_t rows, std::int64_t ids);
    // `loaded` bytes are this process's own already; `mend` is what lowers the peak.
    void memory(std::int64_t peak, std::int64_t loaded, std::string_view mend);

  private:
    void add(Verdict verdict, std::string_view about, std::string text) {
        found_.findings.push_back({verdict, std::string(about), std::move(text)});
    }
    Preflight& found_;
};

// Of this process, now and at its peak so far; 0 where the system does not tell.
std::int64_t resident_bytes();
std::int64_t peak_resident_bytes();

std::string_view without_blanks(std::string_view text);  // at both ends

}  // namespace retort::train
