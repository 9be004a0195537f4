#include "base/mapped_output.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file.h"

namespace retort::base {

namespace fs = std::filesystem;

Result<MappedOutput> MappedOutput::create(const fs::path& path, std::uint64_t bytes) {
    if (path.has_parent_path()) RETORT_CHECK(make_folders(path.parent_path()));
    if (bytes == 0)
        return fail(ErrorCode::invalid_argument, "{}: an empty file cannot be mapped", path.string());
    std::string pattern = path.string() + ".partial.XXXXXX";
    MappedOutput output;
    output.descriptor_ = ::mkostemp(pattern.data(), O_CLOEXEC);
    if (output.descriptor_ < 0) {
        return fail(ErrorCode::io, "{}: cannot create: {}", path.string(), std::strerror(errno));
    }
    output.path_ = path;
    output.temporary_ = pattern;
    ::fchmod(output.descriptor_, 0644);
    if (const int code = ::posix_fallocate(output.descriptor_, 0, static_cast<off_t>(bytes)); code != 0) {
        return fail(ErrorCode::io, "{}: no room for {} MB: {}", path.string(), bytes / 1'000'000,
                    std::strerror(code));
    }
    void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, output.descriptor_, 0);
    if (mapped == MAP_FAILED) {
        return fail(ErrorCode::io, "{}: cannot map: {}", path.string(), std::strerror(errno));
    }
    output.data_ = static_cast<std::byte*>(mapped);
    output.size_ = bytes;
    return output;
}

MappedOutput::MappedOutput(MappedOutput&& other) noexcept {
    *this = std::move(other);
}

MappedOutput& MappedOutput::operator=(MappedOutput&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(temporary_, other.temporary_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
}

MappedOutput::~MappedOutput() {
    discard();
}

void MappedOutput::discard() {
    if (data_ != nullptr) ::munmap(data_, size_);
    data_ = nullptr;
    size_ = 0;
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    descriptor_ = -1;
    ::unlink(temporary_.c_str());
}

Status MappedOutput::commit() {
    if (data_ == nullptr) return fail(ErrorCode::invalid_argument, "{}: written already", path_.string());
    const int synced = ::msync(data_, size_, MS_SYNC);
    ::munmap(data_, size_);
    data_ = nullptr;
    size_ = 0;
    if (synced != 0 || ::fsync(descriptor_) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
        return fail(ErrorCode::io, "{}: cannot write: {}", path_.string(), std::strerror(errno));
    }
    ::close(descriptor_);
    descriptor_ = -1;
    return sync_directory(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

}  // namespace retort::base
