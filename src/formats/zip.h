// Zip archives: listing, and taking single members out under names that the caller chooses, so that no
// member's name ever becomes a path. Members that claim or yield more than allowed are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"

namespace retort::formats {

struct ZipEntry {
    std::string name;
    std::uint64_t size = 0;
    std::uint64_t compressed_size = 0;
    std::uint64_t index = 0;
};

class ZipArchive {
  public:
    static Result<ZipArchive> open(const std::filesystem::path& path);
    // The same over bytes that the caller keeps alive.
    static Result<ZipArchive> parse(std::span<const std::byte> bytes, std::string name);

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const std::vector<ZipEntry>& entries() const { return entries_; }
    [[nodiscard]] const ZipEntry* find(std::string_view entry_name) const;

    Result<std::string> read(const ZipEntry& entry, std::uint64_t max_bytes);
    // Writes the member to `target` whole or not at all, and tells its hash; with `expected`, a member of
    // another hash is an error and nothing is written. on_bytes, called now and then, is told how many are
    // done.
    Result<base::Sha256> extract(const ZipEntry& entry, const std::filesystem::path& target,
                                 const std::optional<base::Sha256>& expected = {},
                                 const std::function<void(std::uint64_t)>& on_bytes = {});

  private:
    struct Handle;
    ZipArchive() = default;
    Status list();
    Status stream(const ZipEntry& entry, const std::function<Status(std::span<const std::byte>)>& on_piece);

    std::string name_;
    std::shared_ptr<Handle> handle_;
    std::vector<ZipEntry> entries_;
};

}  // namespace retort::formats
