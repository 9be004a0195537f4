#include "screen/part_file.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "formats/json.h"
#include "screen/part_layout.h"

namespace retort::screen {

using formats::Json;
using namespace part_layout;

namespace {

template <typename T>
Result<std::span<const T>> section_of(std::span<const std::byte> file, const Section& section,
                                      std::string_view name) {
    if (section.offset > file.size() || section.bytes > file.size() - section.offset ||
        section.offset % 64 != 0 || section.bytes % sizeof(T) != 0) {
        return fail(ErrorCode::format, "section {} lies outside the file", name);
    }
    const auto bytes = file.subspan(section.offset, section.bytes);
    return std::span<const T>(reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T));
}

Result<std::vector<Work>> parse_works(std::string_view text, std::uint64_t words) {
    RETORT_TRY(const Json json, formats::parse_json(text, "works"));
    if (!json.is_array()) return fail(ErrorCode::format, "works is not an array");
    std::vector<Work> works;
    std::uint64_t next = 0;
    for (const Json& entry : json) {
        Work work;
        RETORT_TRY(work.name, formats::json_string(entry, "name"));
        RETORT_TRY(work.format, formats::json_string(entry, "format"));
        RETORT_TRY(work.sha256, formats::json_string(entry, "sha256"));
        RETORT_TRY(const std::int64_t bytes, formats::json_integer(entry, "bytes"));
        RETORT_TRY(const std::int64_t count, formats::json_integer(entry, "words"));
        if (bytes < 0 || count < 0 || static_cast<std::uint64_t>(count) >= words ||
            next + static_cast<std::uint64_t>(count) >= words) {
            return fail(ErrorCode::format, "work {} has {} words of {}", work.name, count, words);
        }
        work.bytes = static_cast<std::uint64_t>(bytes);
        work.words = static_cast<std::uint64_t>(count);
        work.first_word = next;
        next += work.words + 1;
        works.push_back(std::move(work));
    }
    return works;
}

Result<Part> parse(base::MappedFile file, bool verify) {
    const std::span<const std::byte> bytes = file.bytes();
    Header header;
    if (bytes.size() < sizeof(header)) return fail(ErrorCode::format, "{} bytes, too few", bytes.size());
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.magic != magic) return fail(ErrorCode::format, "not a part of a screen index");
    if (header.checksum != base::xxh3_64(bytes.first(header_checked))) {
        return fail(ErrorCode::format, "its header's checksum is wrong; build the index again");
    }
    if (header.gram != gram_words) {
        return fail(ErrorCode::unsupported, "grams of {} words; this program reads {}", header.gram,
                    gram_words);
    }
    if (header.bucket_bits > 31) return fail(ErrorCode::format, "{} bits of buckets", header.bucket_bits);
    const auto& sections = header.sections;
    if (verify) {
        for (std::size_t i = 0; i < section_count; ++i) {
            RETORT_TRY(const auto section, section_of<std::byte>(bytes, sections[i], section_names[i]));
            if (base::xxh3_64(section) != sections[i].checksum) {
                return fail(ErrorCode::format, "the checksum of its {} is wrong; build the index again",
                            section_names[i]);
            }
        }
    }
    Part part{.file = std::move(file),
              .works = {},
              .words = {},
              .order = {},
              .buckets = {},
              .filter = {},
              .steps = {},
              .marks = {},
              .far_begins = {}};
    RETORT_TRY(const auto works, section_of<char>(bytes, sections[0], section_names[0]));
    RETORT_TRY(part.words, section_of<Word>(bytes, sections[1], section_names[1]));
    RETORT_TRY(part.order, section_of<std::uint32_t>(bytes, sections[2], section_names[2]));
    RETORT_TRY(part.buckets, section_of<std::uint32_t>(bytes, sections[3], section_names[3]));
    RETORT_TRY(part.filter, section_of<std::uint64_t>(bytes, sections[4], section_names[4]));
    RETORT_TRY(part.steps, section_of<std::uint8_t>(bytes, sections[5], section_names[5]));
    RETORT_TRY(part.marks, section_of<std::uint32_t>(bytes, sections[6], section_names[6]));
    RETORT_TRY(part.far_begins, section_of<std::uint64_t>(bytes, sections[7], section_names[7]));
    part.bucket_shift = 32 - header.bucket_bits;
    if (part.words.size() > most_words || part.order.size() != part.words.size() ||
        part.steps.size() != part.words.size() || part.marks.size() != (part.words.size() + 63) / 64 ||
        part.buckets.size() != (std::size_t{1} << header.bucket_bits) + 1 || part.filter.empty()) {
        return fail(ErrorCode::format, "its sections' sizes contradict each other");
    }
    RETORT_TRY(part.works, parse_works({works.data(), works.size()}, part.words.size() + 1));
    return part;
}

}  // namespace

Result<Part> Part::open(const std::filesystem::path& path, bool verify) {
    RETORT_TRY(base::MappedFile file, base::MappedFile::open(path));
    auto part = parse(std::move(file), verify);
    if (!part) return fail_from(part.error(), path.string());
    return part;
}

std::string Part::header_checksum() const {
    return fmt::format("{:016x}", base::xxh3_64(file.bytes().first(sizeof(Header))));
}

const Work* Part::work_at(std::uint64_t place) const {
    const auto after =
        std::upper_bound(works.begin(), works.end(), place,
                         [](std::uint64_t at, const Work& work) { return at < work.first_word; });
    if (after == works.begin()) return nullptr;
    const Work& work = *(after - 1);
    return place < work.first_word + work.words ? &work : nullptr;
}

std::uint64_t Part::begin_of(std::uint64_t place) const {
    if (place >= words.size()) return 0;
    std::uint64_t sum = 0;
    for (std::uint64_t at = place;; --at) {
        if (at % 64 == 0) return sum + marks[at / 64];
        if (steps[at] == 255) {
            const auto far = std::lower_bound(far_begins.begin(), far_begins.end(), at << 32U);
            return sum + (far != far_begins.end() && *far >> 32U == at ? *far & 0xFFFFFFFFU : 0);
        }
        sum += steps[at];
    }
}

void PartDraft::add(Work work, const Words& text) {
    work.first_word = words.size();
    work.words = text.size();
    words.insert(words.end(), text.ids.begin(), text.ids.end());
    std::uint32_t last = 0;
    const auto put = [&](std::uint32_t begin) {
        const std::uint64_t place = steps.size();
        if (place % 64 == 0) marks.push_back(begin);
        const std::uint32_t step = begin - last;
        if (step >= 255) far_begins.push_back(place << 32U | begin);
        steps.push_back(static_cast<std::uint8_t>(std::min<std::uint32_t>(step, 255)));
        last = begin;
    };
    // The first of a work may count from the work before it.
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (i == 0) {
            const std::uint64_t place = steps.size();
            if (place % 64 == 0) marks.push_back(text.begins[0]);
            far_begins.push_back(place << 32U | text.begins[0]);
            steps.push_back(255);
            last = text.begins[0];
        } else {
            put(text.begins[i]);
        }
    }
    words.push_back(0);
    if (steps.size() % 64 == 0) marks.push_back(0);
    steps.push_back(0);
    works.push_back(std::move(work));
}

}  // namespace retort::screen
