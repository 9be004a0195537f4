// Bits into bytes and back, lowest bit of a byte first: fixed widths, Elias gamma and Rice codes, as a logit
// cache's draws are kept in. Knows nothing of what they mean.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace retort::data {

class BitWriter {
  public:
    // The `width` lowest bits of value, 0 to 32.
    void fixed(std::uint32_t value, int width) {
        for (int i = 0; i < width; ++i) bit((value >> static_cast<unsigned>(i)) & 1U);
    }
    // Elias gamma of value ≥ 1: one bit for 1, three for 2 and 3, five for 4 to 7.
    void gamma(std::uint32_t value) {
        const int width = std::bit_width(value) - 1;
        for (int i = 0; i < width; ++i) bit(0);
        bit(1);
        fixed(value, width);
    }
    // value / 2^width in unary, then its `width` lowest bits.
    void rice(std::uint32_t value, int width) {
        for (std::uint32_t i = value >> static_cast<unsigned>(width); i > 0; --i) bit(0);
        bit(1);
        fixed(value, width);
    }
    // Fills the last byte with zeros.
    std::string take() { return std::move(bytes_); }

  private:
    void bit(std::uint32_t value) {
        if (used_ == 8) used_ = 0;
        if (used_ == 0) bytes_.push_back(0);
        bytes_.back() = static_cast<char>(static_cast<unsigned char>(bytes_.back()) | (value << used_));
        ++used_;
    }
    std::string bytes_;
    unsigned used_ = 0;  // bits of the last byte
};

// Behind the end it reads ones, so that every code ends, and remembers it.
class BitReader {
  public:
    explicit BitReader(std::string_view bytes) : bytes_(bytes) {}
    std::uint32_t fixed(int width) {
        std::uint32_t value = 0;
        for (int i = 0; i < width; ++i) value |= bit() << static_cast<unsigned>(i);
        return value;
    }
    // 0 where the code is of a number beyond 31 bits.
    std::uint32_t gamma() {
        constexpr int widest = 31;
        int width = 0;
        while (bit() == 0) ++width;
        return width > widest ? 0 : fixed(width) | 1U << static_cast<unsigned>(width);
    }
    std::uint64_t rice(int width) {
        std::uint64_t high = 0;
        while (bit() == 0) ++high;
        return high << static_cast<unsigned>(width) | fixed(width);
    }
    [[nodiscard]] bool ran_out() const { return ran_out_; }
    // Nothing is left but the zeros that fill the last byte.
    [[nodiscard]] bool at_end() const {
        if (bytes_.size() * 8 - at_ >= 8) return false;
        return at_ % 8 == 0 || static_cast<unsigned char>(bytes_.back()) >> at_ % 8 == 0;
    }

  private:
    std::uint32_t bit() {
        if (at_ >= bytes_.size() * 8) {
            ran_out_ = true;
            return 1;
        }
        const auto byte = static_cast<unsigned char>(bytes_[at_ / 8]);
        return static_cast<std::uint32_t>(byte >> at_++ % 8) & 1U;
    }
    std::string_view bytes_;
    std::size_t at_ = 0;  // in bits
    bool ran_out_ = false;
};

}  // namespace retort::data
