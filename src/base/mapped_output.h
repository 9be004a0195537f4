// A file that is made in memory that is the file itself, in any order, and appears whole or not at all. For
// files whose size is known before what is in them; those that are written from front to back are
// AtomicFile's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/result.h"

namespace retort::base {

class MappedOutput {
  public:
    // Reserves the room on the disk first: a full disk is an error here, not a fault while writing. Zeros all
    // over.
    static Result<MappedOutput> create(const std::filesystem::path& path, std::uint64_t bytes);
    MappedOutput(MappedOutput&& other) noexcept;
    MappedOutput& operator=(MappedOutput&& other) noexcept;
    MappedOutput(const MappedOutput&) = delete;
    MappedOutput& operator=(const MappedOutput&) = delete;
    ~MappedOutput();  // without commit() nothing is left behind

    [[nodiscard]] std::span<std::byte> bytes() { return {data_, size_}; }
    // Synchronises and gives it its name. The bytes are no longer there to be written.
    Status commit();

  private:
    MappedOutput() = default;
    void discard();
    std::filesystem::path path_;
    std::filesystem::path temporary_;
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    int descriptor_ = -1;
};

}  // namespace retort::base
