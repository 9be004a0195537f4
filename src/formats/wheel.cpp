#include "formats/wheel.h"

#include <sodium.h>

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

// base64 with '-' and '_', no padding, as RECORD has it.
std::optional<base::Sha256> sha256_from_base64url(std::string_view text) {
    base::Sha256 hash{};
    std::size_t size = 0;
    const char* end = nullptr;
    if (sodium_base642bin(hash.data(), hash.size(), text.data(), text.size(), nullptr, &size, &end,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        size != hash.size() || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return hash;
}

std::string_view next_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

}  // namespace

const ZipEntry* find_wheel_info(const ZipArchive& wheel, std::string_view file) {
    constexpr std::string_view suffix = ".dist-info";
    for (const ZipEntry& entry : wheel.entries()) {
        const std::string_view name = entry.name;
        const std::size_t slash = name.find('/');
        if (slash == std::string_view::npos || slash <= suffix.size()) continue;
        if (name.substr(0, slash).ends_with(suffix) && name.substr(slash + 1) == file) return &entry;
    }
    return nullptr;
}

Result<WheelHashes> parse_wheel_record(std::string_view text, std::string_view name) {
    constexpr std::string_view prefix = "sha256=";
    WheelHashes hashes;
    while (!text.empty()) {
        const std::string_view line = next_line(text);
        std::vector<std::string> fields = csv_fields(line);
        if (fields.size() < 2 || !fields[1].starts_with(prefix)) continue;
        const auto hash = sha256_from_base64url(std::string_view(fields[1]).substr(prefix.size()));
        if (!hash) return fail(ErrorCode::format, "{}: '{}': not a SHA-256", name, line);
        hashes.emplace(std::move(fields[0]), *hash);
    }
    return hashes;
}

Result<WheelHashes> read_wheel_record(ZipArchive& wheel) {
    const ZipEntry* record = find_wheel_info(wheel, "RECORD");
    if (record == nullptr) {
        return fail(ErrorCode::format, "{}: not a wheel: it has no .dist-info/RECORD", wheel.name());
    }
    RETORT_TRY(const std::string text, wheel.read(*record, largest_record));
    return parse_wheel_record(text, wheel.name() + "/RECORD");
}

}  // namespace retort::formats
