// Files: memory-mapped reading, and writing that is all or nothing (temporary name, fsync, rename).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::base {

// A read-only memory-mapped file. Moves keep the address of the bytes.
class MappedFile {
  public:
    static Result<MappedFile> open(const std::filesystem::path& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile();

    [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
    [[nodiscard]] std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  private:
    MappedFile() = default;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    std::filesystem::path path_;
};

// Gives back the memory of bytes of a MappedFile that will hardly be read again; a later reading brings them
// from the file once more. Never for other memory, which would be lost.
void forget_pages(std::span<const std::byte> bytes);

// The whole of a regular file as text; an error above max_bytes.
Result<std::string> read_file(const std::filesystem::path& path,
                              std::size_t max_bytes = std::size_t{1} << 30U);

// Writes path whole or not at all: a reader, or a process killed at any instant, sees the old file or the
// new.
Status write_file_atomic(const std::filesystem::path& path, std::span<const std::byte> bytes);
Status write_file_atomic(const std::filesystem::path& path, std::string_view text);

// The streaming form of the same. commit() is what makes the file appear; without it nothing is left behind.
class AtomicFile {
  public:
    static Result<AtomicFile> create(const std::filesystem::path& path);
    AtomicFile(AtomicFile&& other) noexcept;
    AtomicFile& operator=(AtomicFile&& other) noexcept;
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    ~AtomicFile();

    Status write(std::span<const std::byte> bytes);
    Status write(std::string_view text);
    Status commit();
    [[nodiscard]] std::uint64_t size() const { return written_; }

  private:
    AtomicFile() = default;
    Status flush();
    void discard();
    std::filesystem::path path_;
    std::filesystem::path temporary_;
    int descriptor_ = -1;
    std::uint64_t written_ = 0;
    std::string buffer_;
};

Status make_folders(const std::filesystem::path& path);
// fsync of a folder, so that a rename in it survives a power cut.
Status sync_directory(const std::filesystem::path& path);

// Exclusive advisory lock on PATH (created if need be); fails at once, naming the file, when another process
// holds it.
class FileLock {
  public:
    static Result<FileLock> acquire(const std::filesystem::path& path);
    FileLock(FileLock&& other) noexcept;
    FileLock& operator=(FileLock&& other) noexcept;
    FileLock(const FileLock&) = delete;
    FileLock& operator=(const FileLock&) = delete;
    ~FileLock();

  private:
    FileLock() = default;
    int descriptor_ = -1;
};

}  // namespace retort::base
