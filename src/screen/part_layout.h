// How a part lies in its file (docs/formats/screen_index.md): what reading and writing share. Not for other
// parts.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace retort::screen::part_layout {

inline constexpr std::array<char, 8> magic = {'R', 'T', 'S', 'C', 'R', 'N', '0', '1'};
inline constexpr std::size_t section_count = 8;
inline constexpr std::array<std::string_view, section_count> section_names = {
    "works", "words", "order", "buckets", "filter", "steps", "marks", "far_begins"};

struct Section {
    std::uint64_t offset;
    std::uint64_t bytes;
    std::uint64_t checksum;  // XXH3-64
};

// Little-endian, as it lies in the file.
struct Header {
    std::array<char, 8> magic;
    std::uint32_t gram;
    std::uint32_t bucket_bits;
    std::array<Section, section_count> sections;
    std::uint64_t checksum;  // of what is before it
};
static_assert(sizeof(Header) == 16 + 24 * section_count + 8);
inline constexpr std::size_t header_checked = sizeof(Header) - 8;
// More words are not in one part.
inline constexpr std::uint64_t most_words = 0x7FFFFFFFU;

}  // namespace retort::screen::part_layout
