#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace retort::base {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t write_buffer_bytes = std::size_t{1} << 20U;

tl::unexpected<Error> os_error(const fs::path& path, std::string_view what) {
    const int code = errno;
    if (code == ENOENT)
        return fail(ErrorCode::not_found, "{}: cannot {}: no such file or folder", path.string(), what);
    if (code == ENOSPC)
        return fail(ErrorCode::io,
                    "{}: cannot {}: the disk is full; free some space and run the same command again",
                    path.string(), what);
    return fail(ErrorCode::io, "{}: cannot {}: {}", path.string(), what, std::strerror(code));
}

Status write_all(int descriptor, const char* data, std::size_t size, const fs::path& path) {
    while (size > 0) {
        const ssize_t wrote = ::write(descriptor, data, size);
        if (wrote < 0) {
            if (errno == EINTR) continue;
            return os_error(path, "write");
        }
        data += wrote;
        size -= static_cast<std::size_t>(wrote);
    }
    return {};
}

}  // namespace

Result<MappedFile> MappedFile::open(const fs::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return os_error(path, "open");
    struct stat info {};
    if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
        ::close(descriptor);
        return fail(ErrorCode::invalid_argument, "{}: not a regular file", path.string());
    }
    MappedFile file;
    file.path_ = path;
    file.size_ = static_cast<std::size_t>(info.st_size);
    if (file.size_ > 0) {
        void* mapped = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (mapped == MAP_FAILED) {
            auto error = os_error(path, "map");
            ::close(descriptor);
            return error;
        }
        file.data_ = static_cast<const std::byte*>(mapped);
    }
    ::close(descriptor);
    return file;
}

void forget_pages(std::span<const std::byte> bytes) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page;
    const auto end = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()) / page * page;
    if (begin >= end) return;
    ::madvise(const_cast<std::byte*>(bytes.data()) + (begin - reinterpret_cast<std::uintptr_t>(bytes.data())),
              end - begin, MADV_DONTNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept {
    *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(path_, other.path_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<std::string> read_file(const fs::path& path, std::size_t max_bytes) {
    RETORT_TRY(const MappedFile file, MappedFile::open(path));
    if (file.bytes().size() > max_bytes) {
        return fail(ErrorCode::format, "{}: {} bytes, more than the {} this kind of file may have",
                    path.string(), file.bytes().size(), max_bytes);
    }
    return std::string(file.text());
}

Status write_file_atomic(const fs::path& path, std::span<const std::byte> bytes) {
    RETORT_TRY(AtomicFile file, AtomicFile::create(path));
    RETORT_CHECK(file.write(bytes));
    return file.commit();
}

Status write_file_atomic(const fs::path& path, std::string_view text) {
    return write_file_atomic(path, std::as_bytes(std::span(text)));
}

Result<AtomicFile> AtomicFile::create(const fs::path& path) {
    if (path.has_parent_path()) RETORT_CHECK(make_folders(path.parent_path()));
    std::string pattern = path.string() + ".partial.XXXXXX";
    const int descriptor = ::mkostemp(pattern.data(), O_CLOEXEC);
    if (descriptor < 0) return os_error(path, "create");
    ::fchmod(descriptor, 0644);
    AtomicFile file;
    file.path_ = path;
    file.temporary_ = pattern;
    file.descriptor_ = descriptor;
    return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept {
    *this = std::move(other);
}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(temporary_, other.temporary_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(written_, other.written_);
    std::swap(buffer_, other.buffer_);
    return *this;
}

AtomicFile::~AtomicFile() {
    discard();
}

void AtomicFile::discard() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    descriptor_ = -1;
    ::unlink(temporary_.c_str());
}

Status AtomicFile::flush() {
    RETORT_CHECK(write_all(descriptor_, buffer_.data(), buffer_.size(), path_));
    buffer_.clear();
    return {};
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
    return write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Status AtomicFile::write(std::string_view text) {
    written_ += text.size();
    if (buffer_.size() + text.size() > write_buffer_bytes) RETORT_CHECK(flush());
    if (text.size() >= write_buffer_bytes) return write_all(descriptor_, text.data(), text.size(), path_);
    buffer_.append(text);
    return {};
}

Status AtomicFile::commit() {
    RETORT_CHECK(flush());
    if (::fsync(descriptor_) != 0) return os_error(path_, "sync");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return os_error(path_, "rename into place");
    ::close(descriptor_);
    descriptor_ = -1;
    return sync_directory(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

Status make_folders(const fs::path& path) {
    std::error_code code;
    fs::create_directories(path, code);
    if (code) return fail(ErrorCode::io, "{}: cannot create the folder: {}", path.string(), code.message());
    return {};
}

Status sync_directory(const fs::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return os_error(path, "open");
    const int outcome = ::fsync(descriptor);
    ::close(descriptor);
    // Some file systems do not sync folders; that is theirs to promise, not an error of ours.
    if (outcome != 0 && errno != EINVAL) return os_error(path, "sync");
    return {};
}

Result<FileLock> FileLock::acquire(const fs::path& path) {
    if (path.has_parent_path()) RETORT_CHECK(make_folders(path.parent_path()));
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) return os_error(path, "open");
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        ::close(descriptor);
        return fail(ErrorCode::io, "{}: another process is using this folder; wait for it or stop it",
                    path.string());
    }
    FileLock lock;
    lock.descriptor_ = descriptor;
    return lock;
}

FileLock::FileLock(FileLock&& other) noexcept {
    *this = std::move(other);
}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
}

FileLock::~FileLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace retort::base
