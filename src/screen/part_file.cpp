#include "screen/part_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/hash.h"
#include "formats/json.h"

namespace retort::screen {

using formats::Json;

namespace {

constexpr std::array<char, 8> magic = {'R', 'T', 'S', 'C', 'R', 'N', '0', '1'};
constexpr std::size_t section_count = 8;
constexpr std::array<std::string_view, section_count> section_names = {
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
constexpr std::size_t header_checked = sizeof(Header) - 8;

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

std::string write_works(const std::vector<Work>& works) {
    Json json = Json::array();
    for (const Work& work : works) {
        json.push_back({{"name", work.name},
                        {"format", work.format},
                        {"sha256", work.sha256},
                        {"bytes", work.bytes},
                        {"words", work.words}});
    }
    return formats::write_json(json);
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
    if (part.words.size() > 0x7FFFFFFFU || part.order.size() != part.words.size() ||
        part.steps.size() != part.words.size() || part.marks.size() != (part.words.size() + 63) / 64 ||
        part.buckets.size() != (std::size_t{1} << header.bucket_bits) + 1 || part.filter.empty()) {
        return fail(ErrorCode::format, "its sections' sizes contradict each other");
    }
    RETORT_TRY(part.works, parse_works({works.data(), works.size()}, part.words.size() + 1));
    return part;
}

// Least significant digit first over the key in the upper half: stable, so equal keys stay in order of place.
void sort_by_key(std::vector<std::uint64_t>& items) {
    std::vector<std::uint64_t> other(items.size());
    constexpr std::array<unsigned, 3> shifts = {32, 43, 54};
    constexpr std::array<unsigned, 3> widths = {11, 11, 10};
    for (std::size_t pass = 0; pass < shifts.size(); ++pass) {
        const unsigned shift = shifts[pass];
        const std::uint64_t mask = (std::uint64_t{1} << widths[pass]) - 1;
        std::vector<std::size_t> places(mask + 2);
        for (const std::uint64_t item : items) ++places[((item >> shift) & mask) + 1];
        for (std::size_t i = 1; i < places.size(); ++i) places[i] += places[i - 1];
        for (const std::uint64_t item : items) other[places[(item >> shift) & mask]++] = item;
        items.swap(other);
    }
}

// Groups of one key, by words. `words` has sorted_words zeros behind it.
void sort_groups(std::vector<std::uint64_t>& items, const Word* words) {
    const auto before = [words](std::uint64_t a, std::uint64_t b) {
        const auto p = static_cast<std::uint32_t>(a);
        const auto q = static_cast<std::uint32_t>(b);
        for (std::size_t i = 0; i < sorted_words; i += 8) {
            if (std::memcmp(words + p + i, words + q + i, 8 * sizeof(Word)) == 0) continue;
            for (std::size_t k = i; k < i + 8; ++k) {
                if (words[p + k] != words[q + k]) return words[p + k] < words[q + k];
            }
        }
        return p < q;
    };
    const auto count = static_cast<std::int64_t>(items.size());
    // Shares of the array, each from the first group that begins in it.
    constexpr std::int64_t shares = 64;
    const auto group_start = [&](std::int64_t at) {
        while (at > 0 && at < count &&
               items[static_cast<std::size_t>(at)] >> 32U == items[static_cast<std::size_t>(at - 1)] >> 32U) {
            ++at;
        }
        return at;
    };
    std::array<std::int64_t, shares + 1> bounds{};
    for (std::int64_t i = 0; i <= shares; ++i)
        bounds[static_cast<std::size_t>(i)] = group_start(count * i / shares);
#pragma omp parallel for schedule(dynamic, 1)
    for (std::int64_t share = 0; share < shares; ++share) {
        const std::int64_t end = bounds[static_cast<std::size_t>(share) + 1];
        for (std::int64_t at = bounds[static_cast<std::size_t>(share)]; at < end;) {
            std::int64_t last = at + 1;
            while (last < end && items[static_cast<std::size_t>(last)] >> 32U ==
                                     items[static_cast<std::size_t>(at)] >> 32U) {
                ++last;
            }
            if (last - at > 1) std::sort(items.begin() + at, items.begin() + last, before);
            at = last;
        }
    }
}

struct Lookup {
    std::vector<std::uint32_t> order;
    std::vector<std::uint32_t> buckets;
    std::vector<std::uint64_t> filter;
    unsigned bucket_bits = 0;
};

Lookup make_lookup(std::vector<Word>& words) {
    Lookup made;
    const std::size_t count = words.size();
    made.filter.assign(count / 8 + 1, 0);
    made.bucket_bits = static_cast<unsigned>(std::bit_width(count / 8 + 1));
    const unsigned shift = 32 - made.bucket_bits;
    words.resize(count + sorted_words + gram_words, 0);
    std::vector<std::uint64_t> items(count);
    {
        std::vector<std::uint64_t> hashes;
        constexpr std::size_t step = 1U << 16U;
        for (std::size_t at = 0; at < count; at += step) {
            const std::size_t here = std::min(step, count - at);
            gram_hashes(std::span(words).subspan(at, here + gram_words - 1), hashes);
            for (std::size_t i = 0; i < here; ++i) {
                items[at + i] = std::uint64_t{GramHash::key(hashes[i])} << 32U | (at + i);
                const auto block = static_cast<std::size_t>(
                    (static_cast<unsigned __int128>(hashes[i]) * made.filter.size()) >> 64U);
                made.filter[block] |= Part::filter_bits(hashes[i]);
            }
        }
    }
    sort_by_key(items);
    sort_groups(items, words.data());
    words.resize(count);
    made.buckets.assign((std::size_t{1} << made.bucket_bits) + 1, 0);
    for (const std::uint64_t item : items) ++made.buckets[(item >> 32U >> shift) + 1];
    for (std::size_t i = 1; i < made.buckets.size(); ++i) made.buckets[i] += made.buckets[i - 1];
    made.order.resize(count);
    for (std::size_t i = 0; i < count; ++i) made.order[i] = static_cast<std::uint32_t>(items[i]);
    return made;
}

}  // namespace

void gram_hashes(std::span<const Word> words, std::vector<std::uint64_t>& out) {
    out.clear();
    if (words.size() < gram_words) return;
    std::uint64_t highest = 1;
    for (std::size_t i = 0; i + 1 < gram_words; ++i) highest *= GramHash::base;
    out.resize(words.size() - gram_words + 1);
    std::uint64_t rolled = 0;
    for (std::size_t i = 0; i + 1 < gram_words; ++i) rolled = rolled * GramHash::base + words[i];
    for (std::size_t i = 0; i < out.size(); ++i) {
        rolled = rolled * GramHash::base + words[i + gram_words - 1];
        out[i] = GramHash::mix(rolled);
        rolled -= words[i] * highest;
    }
}

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

Status write_part(const std::filesystem::path& path, PartDraft&& given) {
    PartDraft draft = std::move(given);
    if (draft.words.size() > 0x7FFFFFFFU) {
        return fail(ErrorCode::unsupported, "{} words in one part; at most 2^31 - 1", draft.words.size());
    }
    const std::string works = write_works(draft.works);
    const Lookup lookup = make_lookup(draft.words);
    const std::array<std::span<const std::byte>, section_count> contents = {
        std::as_bytes(std::span(works)),         std::as_bytes(std::span(draft.words)),
        std::as_bytes(std::span(lookup.order)),  std::as_bytes(std::span(lookup.buckets)),
        std::as_bytes(std::span(lookup.filter)), std::as_bytes(std::span(draft.steps)),
        std::as_bytes(std::span(draft.marks)),   std::as_bytes(std::span(draft.far_begins))};
    Header header{};
    header.magic = magic;
    header.gram = gram_words;
    header.bucket_bits = lookup.bucket_bits;
    const auto aligned = [](std::uint64_t at) { return (at + 63) / 64 * 64; };
    std::uint64_t at = aligned(sizeof(Header));
    for (std::size_t i = 0; i < section_count; ++i) {
        header.sections[i] = {at, contents[i].size(), base::xxh3_64(contents[i])};
        at = aligned(at + contents[i].size());
    }
    const auto header_bytes = std::as_bytes(std::span(&header, 1));
    header.checksum = base::xxh3_64(header_bytes.first(header_checked));
    RETORT_TRY(base::AtomicFile file, base::AtomicFile::create(path));
    RETORT_CHECK(file.write(header_bytes));
    constexpr std::array<std::byte, 64> zeros{};
    for (std::size_t i = 0; i < section_count; ++i) {
        RETORT_CHECK(file.write(std::span(zeros).first(header.sections[i].offset - file.size())));
        RETORT_CHECK(file.write(contents[i]));
    }
    return file.commit();
}

}  // namespace retort::screen
