#include "cli/pull_record.h"

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace retort::cli {

namespace fs = std::filesystem;

std::string pull_record_to_json(const PullRecord& record) {
    nlohmann::ordered_json json;
    json["source"] = record.source;
    json["resolved"] = record.resolved;
    json["date"] = record.date;
    json["licence"] = record.licence;
    json["licence_file"] = record.licence_file;
    json["files"] = nlohmann::ordered_json::array();
    for (const PulledFile& file : record.files) {
        json["files"].push_back({{"name", file.name},
                                 {"bytes", file.bytes},
                                 {"sha256", file.sha256},
                                 {"verified", file.verified}});
    }
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Result<PullRecord> pull_record_from_json(std::string_view text) {
    try {
        const auto json = nlohmann::json::parse(text);
        PullRecord record;
        json.at("source").get_to(record.source);
        json.at("resolved").get_to(record.resolved);
        json.at("date").get_to(record.date);
        json.at("licence").get_to(record.licence);
        json.at("licence_file").get_to(record.licence_file);
        for (const auto& entry : json.at("files")) {
            PulledFile file;
            entry.at("name").get_to(file.name);
            entry.at("bytes").get_to(file.bytes);
            entry.at("sha256").get_to(file.sha256);
            entry.at("verified").get_to(file.verified);
            RETORT_TRY(file.name, safe_file_name(file.name));
            record.files.push_back(std::move(file));
        }
        return record;
    } catch (const nlohmann::json::exception& error) {
        return fail(ErrorCode::format, "not a pull record: {}", error.what());
    }
}

Result<Intactness> check_pulled(const fs::path& folder, PullRecord& record) {
    const fs::path record_path = folder / "pull.json";
    std::error_code code;
    if (!fs::exists(record_path, code)) return Intactness::absent;
    RETORT_TRY(const std::string text, base::read_file(record_path, std::size_t{16} << 20U));
    auto parsed = pull_record_from_json(text);
    if (!parsed) return fail_from(parsed.error(), record_path.string() + " (delete it to pull anew)");
    record = std::move(*parsed);
    for (const PulledFile& file : record.files) {
        const fs::path path = folder / file.name;
        if (!fs::exists(path, code)) return Intactness::incomplete;
        RETORT_TRY(const std::string hash, sha256_of_file(path));
        if (hash != file.sha256) {
            return fail(
                ErrorCode::refused,
                "{}: changed since it was pulled (sha256 {}, pull.json says {}); move it away, or pull "
                "with --force to replace it",
                path.string(), hash, file.sha256);
        }
    }
    return Intactness::intact;
}

}  // namespace retort::cli
