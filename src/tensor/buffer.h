// A fixed block of memory for numbers: 64-byte aligned, zero-filled by the system, huge pages asked for when
// large.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>

namespace retort::tensor {

template <typename T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(std::int64_t count) : count_(count) {
        if (count == 0) return;
        void* mapped = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) throw std::bad_alloc();
        constexpr std::size_t huge_page_bytes = std::size_t{1} << 21U;
        if (bytes() >= huge_page_bytes) ::madvise(mapped, bytes(), MADV_HUGEPAGE);
        data_ = static_cast<T*>(mapped);
    }
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(count_, other.count_);
        return *this;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        if (data_ != nullptr) ::munmap(data_, bytes());
    }

    // Gives the memory of [begin, end) back to the system, as far as whole pages lie in it; it reads as zero.
    void discard(std::int64_t begin, std::int64_t end) {
        constexpr std::uintptr_t page = 4096;
        const auto first = (reinterpret_cast<std::uintptr_t>(data_ + begin) + page - 1) / page * page;
        const auto last = reinterpret_cast<std::uintptr_t>(data_ + end) / page * page;
        if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    }

    [[nodiscard]] T* data() { return data_; }
    [[nodiscard]] const T* data() const { return data_; }
    [[nodiscard]] std::int64_t size() const { return count_; }
    [[nodiscard]] bool empty() const { return count_ == 0; }
    [[nodiscard]] std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
    [[nodiscard]] std::span<T> span() { return {data_, static_cast<std::size_t>(count_)}; }
    [[nodiscard]] std::span<const T> span() const { return {data_, static_cast<std::size_t>(count_)}; }

  private:
    T* data_ = nullptr;
    std::int64_t count_ = 0;
};

}  // namespace retort::tensor
