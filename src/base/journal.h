// An append-only file of checksummed frames: what a process killed at any instant leaves can be read again.
// The format is docs/formats/journal.md. Knows nothing of what the frames hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::base {

struct JournalRecovery {
    std::uint64_t frames = 0;
    std::uint64_t torn_bytes = 0;  // cut from the end: an append that a kill interrupted
};

class Journal {
  public:
    // Opens or creates, calls on_frame for each whole frame, cuts a torn tail. A damaged frame that is
    // *followed* by whole ones is not a torn tail but corruption: an error that names the offset.
    static Result<Journal> open(const std::filesystem::path& path,
                                const std::function<Status(std::string_view)>& on_frame,
                                JournalRecovery* recovery = nullptr);
    Journal(Journal&& other) noexcept;
    Journal& operator=(Journal&& other) noexcept;
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;
    ~Journal();

    // In the file when it returns (survives a kill); on the disk after sync() (survives a power cut).
    Status append(std::string_view frame);
    Status sync();

  private:
    Journal() = default;
    std::filesystem::path path_;
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
};

// Reads without opening for writing; a torn tail is skipped.
Result<JournalRecovery> read_journal(const std::filesystem::path& path,
                                     const std::function<Status(std::string_view)>& on_frame);
// The same over bytes in memory; `valid_bytes` is where the whole frames end.
Result<JournalRecovery> parse_journal(std::span<const std::byte> bytes,
                                      const std::function<Status(std::string_view)>& on_frame,
                                      std::uint64_t* valid_bytes);

}  // namespace retort::base
