#include "screen/index.h"

#include <algorithm>

#include "base/hash.h"
#include "formats/json.h"

namespace retort::screen {

namespace fs = std::filesystem;
using formats::Json;

namespace {

constexpr std::string_view format_name = "retort-screen-index-1";

struct Listing {
    std::vector<std::string> parts;
    std::vector<std::string> headers;  // their checksums, which hold those of all their sections
    std::string id;
};

// Names of files in the folder itself: an index cannot lead out of it.
bool is_plain_name(std::string_view name) {
    return !name.empty() && name.find('/') == std::string_view::npos && name != "." && name != "..";
}

Result<Listing> read_listing(const fs::path& folder) {
    const fs::path path = folder / "index.json";
    auto text = base::read_file(path, std::size_t{1} << 24U);
    if (!text) {
        return fail(text.error().code, "{}: no index of works here; `retort screen index` makes one",
                    folder.string());
    }
    RETORT_TRY(const Json json, formats::parse_json(*text, path.string()));
    RETORT_TRY(const std::string format, formats::json_string(json, "format"));
    if (format != format_name) {
        return fail(ErrorCode::unsupported, "{}: format is \"{}\"; this program reads \"{}\"", path.string(),
                    format, format_name);
    }
    Listing listing;
    const Json* parts = formats::json_find(json, "parts");
    if (parts == nullptr || !parts->is_array()) return fail(ErrorCode::format, "{}: no parts", path.string());
    for (const Json& part : *parts) {
        RETORT_TRY(std::string name, formats::json_string(part, "file"));
        if (!is_plain_name(name)) return fail(ErrorCode::format, "{}: part \"{}\"", path.string(), name);
        RETORT_TRY(std::string header, formats::json_string(part, "header"));
        listing.parts.push_back(std::move(name));
        listing.headers.push_back(std::move(header));
    }
    listing.id = base::sha256_hex(*text);
    return listing;
}

// The list of these parts in the folder, in place of the one there.
Status write_listing(const fs::path& folder, const std::vector<std::string>& names) {
    Json parts = Json::array();
    for (const std::string& name : names) {
        RETORT_TRY(const Part written, Part::open(folder / name, false));
        parts.push_back(
            {{"file", name}, {"bytes", written.size_bytes()}, {"header", written.header_checksum()}});
    }
    const Json json = {{"format", format_name}, {"parts", parts}};
    return base::write_file_atomic(folder / "index.json",
                                   std::string_view(formats::write_json(json, 2) + "\n"));
}

// Of a part that is not on the list; a file that some killed run left there is written over.
std::string new_part_name(const std::vector<std::string>& names, std::uint64_t& next_number) {
    std::string name;
    do {
        name = fmt::format("part-{:05}.rts", next_number++);
    } while (std::find(names.begin(), names.end(), name) != names.end());
    return name;
}

}  // namespace

Result<Index> Index::open(const fs::path& folder, bool verify) {
    RETORT_TRY(Listing listing, read_listing(folder));
    Index index;
    index.folder = folder;
    index.id = std::move(listing.id);
    for (std::size_t i = 0; i < listing.parts.size(); ++i) {
        const std::string& name = listing.parts[i];
        RETORT_TRY(Part part, Part::open(folder / name, verify));
        if (part.header_checksum() != listing.headers[i]) {
            return fail(ErrorCode::format, "{}: not the part that index.json lists",
                        (folder / name).string());
        }
        index.parts.push_back(std::move(part));
    }
    return index;
}

std::uint64_t Index::words() const {
    std::uint64_t sum = 0;
    for (const Part& part : parts) sum += part.words.size() - part.works.size();
    return sum;
}

std::uint64_t Index::works() const {
    std::uint64_t sum = 0;
    for (const Part& part : parts) sum += part.works.size();
    return sum;
}

std::uint64_t Index::size_bytes() const {
    std::uint64_t sum = 0;
    for (const Part& part : parts) sum += part.size_bytes();
    return sum;
}

Result<IndexBuilder> IndexBuilder::create(IndexOptions options) {
    IndexBuilder builder;
    std::error_code error;
    if (fs::exists(options.output / "index.json", error)) {
        if (!options.add) {
            return fail(ErrorCode::invalid_argument, "{}: there is an index already; --add adds to it",
                        options.output.string());
        }
        RETORT_TRY(Listing listing, read_listing(options.output));
        RETORT_TRY(const Index index, Index::open(options.output, false));
        for (const Part& part : index.parts) {
            for (const Work& work : part.works) builder.known_.push_back(work.sha256);
        }
        std::sort(builder.known_.begin(), builder.known_.end());
        builder.part_names_ = std::move(listing.parts);
        for (const std::string& name : builder.part_names_) {
            builder.report_.index_bytes += fs::file_size(options.output / name, error);
        }
    }
    RETORT_CHECK(base::make_folders(options.output));
    builder.words_per_part_ =
        std::min<std::uint64_t>(options.memory_bytes / build_bytes_per_word, 0x7FF00000U);
    builder.options_ = std::move(options);
    return builder;
}

bool IndexBuilder::knows(std::string_view sha256) const {
    return std::binary_search(known_.begin(), known_.end(), sha256);
}

Status IndexBuilder::add(const WorkText& work) {
    RETORT_CHECK(split_words(work.text, words_));
    if (words_.size() + 1 > words_per_part_) {
        return fail(ErrorCode::invalid_argument,
                    "{}: {} words; building a part of so many takes {} MiB (--memory)", work.name,
                    words_.size(), (words_.size() * build_bytes_per_word >> 20U) + 1);
    }
    if (draft_.words.size() + words_.size() + 1 > words_per_part_) RETORT_CHECK(flush());
    if (draft_.words.empty()) {
        draft_.words.reserve(words_per_part_ + sorted_words + gram_words);  // grows by pages, not by copies
        draft_.steps.reserve(words_per_part_);
    }
    Work entry;
    entry.name = work.name;
    entry.format = work.format;
    entry.sha256 = work.sha256;
    entry.bytes = work.text.size();
    draft_.add(std::move(entry), words_);
    ++report_.works;
    report_.words += words_.size();
    report_.text_bytes += work.text.size();
    return {};
}

Status IndexBuilder::flush() {
    if (draft_.works.empty()) return {};
    std::error_code error;
    const std::string name = new_part_name(part_names_, next_number_);
    for (const Work& work : draft_.works) known_.push_back(work.sha256);
    std::sort(known_.begin(), known_.end());
    RETORT_CHECK(write_part(options_.output / name, std::move(draft_)));
    draft_ = PartDraft{};
    report_.index_bytes += fs::file_size(options_.output / name, error);
    ++report_.parts;
    part_names_.push_back(name);
    return write_listing(options_.output, part_names_);
}

Status IndexBuilder::commit() {
    RETORT_CHECK(flush());
    if (part_names_.empty()) {
        return fail(ErrorCode::invalid_argument, "no work in what was given: nothing is written to {}{}",
                    options_.output.string(),
                    report_.skipped.empty() ? std::string() : "; left out: " + report_.skipped.front());
    }
    return {};
}

Result<std::size_t> merge_index(const fs::path& folder, std::uint64_t memory_bytes) {
    RETORT_TRY(const Listing listing, read_listing(folder));
    const std::size_t count = listing.parts.size();
    if (count < 2) return count;
    std::uint64_t next_number = 1;
    const std::string name = new_part_name(listing.parts, next_number);
    {
        RETORT_TRY(const Index index, Index::open(folder));
        RETORT_CHECK(merge_parts(folder / name, index.parts, memory_bytes));
    }
    RETORT_CHECK(write_listing(folder, {name}));
    std::error_code error;
    for (const std::string& old : listing.parts) fs::remove(folder / old, error);
    return count;
}

}  // namespace retort::screen
