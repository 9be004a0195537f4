#include "base/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file.h"
#include "base/hash.h"

namespace retort::base {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view magic = "RTJRNL01";
constexpr std::size_t header_bytes = 12;  // u32 length, u64 XXH3 of the payload seeded with the length
constexpr std::uint32_t max_frame_bytes = 1U << 30U;

std::uint64_t checksum(std::string_view frame) {
    return xxh3_64(frame, frame.size());
}

// The length of the whole frame at `at`, or 0 when there is none.
std::uint64_t whole_frame(std::span<const std::byte> bytes, std::uint64_t at, std::string_view& payload) {
    if (bytes.size() - at < header_bytes) return 0;
    std::uint32_t length = 0;
    std::uint64_t sum = 0;
    std::memcpy(&length, bytes.data() + at, 4);
    std::memcpy(&sum, bytes.data() + at + 4, 8);
    if (length > max_frame_bytes || bytes.size() - at - header_bytes < length) return 0;
    payload = {reinterpret_cast<const char*>(bytes.data()) + at + header_bytes, length};
    return checksum(payload) == sum ? header_bytes + length : 0;
}

}  // namespace

Result<JournalRecovery> parse_journal(std::span<const std::byte> bytes,
                                      const std::function<Status(std::string_view)>& on_frame,
                                      std::uint64_t* valid_bytes) {
    JournalRecovery recovery;
    *valid_bytes = 0;
    if (bytes.size() < magic.size()) {
        if (!bytes.empty() && std::memcmp(bytes.data(), magic.data(), bytes.size()) != 0) {
            return fail(ErrorCode::format, "not a retort journal (its first bytes are not {})", magic);
        }
        recovery.torn_bytes = bytes.size();
        return recovery;
    }
    if (std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
        return fail(ErrorCode::format, "not a retort journal (its first bytes are not {})", magic);
    }
    std::uint64_t at = magic.size();
    std::string_view payload;
    while (at < bytes.size()) {
        const std::uint64_t length = whole_frame(bytes, at, payload);
        if (length == 0) break;
        RETORT_CHECK(on_frame(payload));
        ++recovery.frames;
        at += length;
    }
    // A frame whose length is sound but whose checksum is not, with a whole frame right behind it, was
    // damaged later.
    if (bytes.size() - at >= header_bytes) {
        std::uint32_t length = 0;
        std::memcpy(&length, bytes.data() + at, 4);
        const std::uint64_t next = at + header_bytes + length;
        if (length <= max_frame_bytes && next < bytes.size() && whole_frame(bytes, next, payload) > 0) {
            return fail(ErrorCode::format, "frame {} at byte {} is damaged; restore the file from a copy",
                        recovery.frames, at);
        }
    }
    recovery.torn_bytes = bytes.size() - at;
    *valid_bytes = at;
    return recovery;
}

Result<JournalRecovery> read_journal(const fs::path& path,
                                     const std::function<Status(std::string_view)>& on_frame) {
    RETORT_TRY(const MappedFile file, MappedFile::open(path));
    std::uint64_t valid = 0;
    auto recovery = parse_journal(file.bytes(), on_frame, &valid);
    if (!recovery) return fail_from(recovery.error(), path.string());
    return *recovery;
}

Result<Journal> Journal::open(const fs::path& path, const std::function<Status(std::string_view)>& on_frame,
                              JournalRecovery* recovery) {
    if (path.has_parent_path()) RETORT_CHECK(make_folders(path.parent_path()));
    Journal journal;
    journal.path_ = path;
    journal.descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (journal.descriptor_ < 0) {
        return fail(ErrorCode::io, "{}: cannot open: {}", path.string(), std::strerror(errno));
    }
    JournalRecovery found;
    std::uint64_t valid = 0;
    {
        RETORT_TRY(const MappedFile file, MappedFile::open(path));
        auto parsed = parse_journal(file.bytes(), on_frame, &valid);
        if (!parsed) return fail_from(parsed.error(), path.string());
        found = *parsed;
    }
    if (::ftruncate(journal.descriptor_, static_cast<off_t>(valid)) != 0 ||
        ::lseek(journal.descriptor_, 0, SEEK_END) < 0) {
        return fail(ErrorCode::io, "{}: cannot cut the torn tail: {}", path.string(), std::strerror(errno));
    }
    journal.size_ = valid;
    if (valid == 0) {
        if (::write(journal.descriptor_, magic.data(), magic.size()) != static_cast<ssize_t>(magic.size())) {
            return fail(ErrorCode::io, "{}: cannot write: {}", path.string(), std::strerror(errno));
        }
        journal.size_ = magic.size();
    }
    if (recovery != nullptr) *recovery = found;
    return journal;
}

Journal::Journal(Journal&& other) noexcept {
    *this = std::move(other);
}

Journal& Journal::operator=(Journal&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(size_, other.size_);
    return *this;
}

Journal::~Journal() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

Status Journal::append(std::string_view frame) {
    if (frame.size() > max_frame_bytes) {
        return fail(ErrorCode::invalid_argument, "{}: a frame of {} bytes is above the limit of {}",
                    path_.string(), frame.size(), max_frame_bytes);
    }
    std::string buffer(header_bytes, '\0');
    const auto length = static_cast<std::uint32_t>(frame.size());
    const std::uint64_t sum = checksum(frame);
    std::memcpy(buffer.data(), &length, 4);
    std::memcpy(buffer.data() + 4, &sum, 8);
    buffer.append(frame);
    std::size_t done = 0;
    while (done < buffer.size()) {
        const ssize_t wrote = ::write(descriptor_, buffer.data() + done, buffer.size() - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            const int code = errno;
            // Leave the file as it was: a later append must not land behind half a frame.
            if (::ftruncate(descriptor_, static_cast<off_t>(size_)) == 0) ::lseek(descriptor_, 0, SEEK_END);
            return fail(ErrorCode::io, "{}: cannot write: {}{}", path_.string(), std::strerror(code),
                        code == ENOSPC ? "; free some space and run the same command again" : "");
        }
        done += static_cast<std::size_t>(wrote);
    }
    size_ += buffer.size();
    return {};
}

Status Journal::sync() {
    if (::fdatasync(descriptor_) != 0) {
        return fail(ErrorCode::io, "{}: cannot sync: {}", path_.string(), std::strerror(errno));
    }
    return {};
}

}  // namespace retort::base
