#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "base/interrupt.h"
#include "base/mapped_output.h"
#include "formats/json.h"
#include "screen/part_file.h"
#include "screen/part_layout.h"
#include "screen/suffix_order.h"

namespace retort::screen {

using formats::Json;
using namespace part_layout;

namespace {

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

// A part's file in the making: every section has its place, those of a draft or of other parts are copied in,
// and finish() makes the rest of them.
struct PartOutput {
    base::MappedOutput file;
    Header header{};
    std::span<char> works;
    std::span<Word> words;
    std::span<std::uint32_t> order;
    Lookup lookup;
    std::span<std::uint8_t> steps;
    std::span<std::uint32_t> marks;
    std::span<std::uint64_t> far_begins;

    template <typename T>
    std::span<T> section(std::size_t i) {
        const auto bytes = file.bytes().subspan(header.sections[i].offset, header.sections[i].bytes);
        return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
    }

    static Result<PartOutput> create(const std::filesystem::path& path, std::string_view works,
                                     std::uint64_t words, std::uint64_t far_begins) {
        if (words > most_words) {
            return fail(ErrorCode::unsupported, "{}: {} words in one part; at most 2^31 - 1", path.string(),
                        words);
        }
        Header header{};
        header.magic = magic;
        header.gram = gram_words;
        header.bucket_bits = bucket_bits_of(words);
        const std::array<std::uint64_t, section_count> sizes = {
            works.size(),
            4 * words,
            4 * words,
            4 * ((std::uint64_t{1} << header.bucket_bits) + 1),
            8 * (words / 8 + 1),
            words,
            4 * ((words + 63) / 64),
            8 * far_begins};
        const auto aligned = [](std::uint64_t at) { return (at + 63) / 64 * 64; };
        std::uint64_t at = aligned(sizeof(Header));
        std::uint64_t end = at;
        for (std::size_t i = 0; i < section_count; ++i) {
            header.sections[i] = {at, sizes[i], 0};
            end = at + sizes[i];
            at = aligned(end);
        }
        RETORT_TRY(base::MappedOutput file, base::MappedOutput::create(path, end));
        PartOutput output{.file = std::move(file), .header = header};
        output.works = output.section<char>(0);
        output.words = output.section<Word>(1);
        output.order = output.section<std::uint32_t>(2);
        output.lookup = {output.section<std::uint32_t>(3), output.section<std::uint64_t>(4),
                         header.bucket_bits};
        output.steps = output.section<std::uint8_t>(5);
        output.marks = output.section<std::uint32_t>(6);
        output.far_begins = output.section<std::uint64_t>(7);
        std::copy(works.begin(), works.end(), output.works.begin());
        return output;
    }

    // The order of the words that are there, in as many passes over them as the memory makes necessary; then
    // the sums.
    Status finish(std::uint64_t memory_bytes) {
        const WordsThenZeros padded(words);
        const std::uint64_t bytes = words.size() * order_bytes_per_word;
        const std::uint64_t passes = std::max<std::uint64_t>(1, (bytes + memory_bytes - 1) / memory_bytes);
        constexpr std::uint64_t keys = std::uint64_t{1} << 32U;
        std::uint64_t done = 0;
        for (std::uint64_t pass = 0; pass < passes; ++pass) {
            if (base::interrupted()) return fail(ErrorCode::cancelled, "stopped");
            const auto items =
                sorted_suffixes(padded, keys * pass / passes, keys * (pass + 1) / passes, lookup);
            for (const std::uint64_t item : items) order[done++] = static_cast<std::uint32_t>(item);
        }
        sum_buckets(lookup);
        for (Section& section : header.sections) {
            section.checksum =
                base::xxh3_64(std::as_bytes(file.bytes().subspan(section.offset, section.bytes)));
        }
        const auto header_bytes = std::as_bytes(std::span(&header, 1));
        header.checksum = base::xxh3_64(header_bytes.first(header_checked));
        std::memcpy(file.bytes().data(), &header, sizeof(header));
        return file.commit();
    }
};

}  // namespace

Status write_part(const std::filesystem::path& path, PartDraft&& given) {
    PartDraft draft = std::move(given);
    RETORT_TRY(PartOutput output, PartOutput::create(path, write_works(draft.works), draft.words.size(),
                                                     draft.far_begins.size()));
    std::copy(draft.words.begin(), draft.words.end(), output.words.begin());
    std::copy(draft.steps.begin(), draft.steps.end(), output.steps.begin());
    std::copy(draft.marks.begin(), draft.marks.end(), output.marks.begin());
    std::copy(draft.far_begins.begin(), draft.far_begins.end(), output.far_begins.begin());
    draft = PartDraft{};
    return output.finish(order_bytes_per_word * std::max<std::uint64_t>(1, output.words.size()));
}

Status merge_parts(const std::filesystem::path& path, std::span<const Part> parts,
                   std::uint64_t memory_bytes) {
    std::vector<Work> works;
    std::uint64_t words = 0;
    std::uint64_t far_begins = 0;
    for (const Part& part : parts) {
        works.insert(works.end(), part.works.begin(), part.works.end());
        words += part.words.size();
        far_begins += part.far_begins.size();
    }
    RETORT_TRY(PartOutput output, PartOutput::create(path, write_works(works), words, far_begins));
    std::uint64_t first = 0;
    std::uint64_t far = 0;
    for (const Part& part : parts) {
        std::copy(part.words.begin(), part.words.end(),
                  output.words.begin() + static_cast<std::ptrdiff_t>(first));
        std::copy(part.steps.begin(), part.steps.end(),
                  output.steps.begin() + static_cast<std::ptrdiff_t>(first));
        for (const std::uint64_t begin : part.far_begins) output.far_begins[far++] = begin + (first << 32U);
        for (std::uint64_t place = (first + 63) / 64 * 64; place < first + part.words.size(); place += 64) {
            const bool is_end = part.words[place - first] == 0;
            output.marks[place / 64] = is_end ? 0 : static_cast<std::uint32_t>(part.begin_of(place - first));
        }
        first += part.words.size();
    }
    return output.finish(std::max<std::uint64_t>(memory_bytes, 1));
}

}  // namespace retort::screen
