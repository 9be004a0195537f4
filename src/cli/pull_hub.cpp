// hf:ORG/NAME[@REVISION], over the hub's HTTP interface: one request lists the files of a commit with their
// sizes and hashes, one each brings them.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "cli/download.h"
#include "cli/pull.h"

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view public_hub = "https://huggingface.co";

struct HubFile {
    std::string name;
    std::uint64_t bytes = 0;
    std::string sha256;  // of large files only
};

struct HubListing {
    std::string commit;
    std::string licence;
    std::vector<HubFile> files;
};

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::string hub_endpoint(const PullOptions& options) {
    std::string endpoint = options.endpoint.empty() ? environment("HF_ENDPOINT") : options.endpoint;
    if (endpoint.empty()) endpoint = public_hub;
    while (!endpoint.empty() && endpoint.back() == '/') endpoint.pop_back();
    return endpoint;
}

Result<HubListing> parse_listing(std::string_view text) {
    try {
        const auto json = nlohmann::json::parse(text);
        HubListing listing;
        json.at("sha").get_to(listing.commit);
        if (const auto card = json.find("cardData"); card != json.end() && card->is_object()) {
            if (const auto licence = card->find("license"); licence != card->end() && licence->is_string()) {
                licence->get_to(listing.licence);
            }
        }
        for (const auto& entry : json.at("siblings")) {
            HubFile file;
            entry.at("rfilename").get_to(file.name);
            if (const auto size = entry.find("size"); size != entry.end() && size->is_number_unsigned()) {
                size->get_to(file.bytes);
            }
            if (const auto lfs = entry.find("lfs"); lfs != entry.end() && lfs->is_object()) {
                if (const auto hash = lfs->find("sha256"); hash != lfs->end()) hash->get_to(file.sha256);
            }
            listing.files.push_back(std::move(file));
        }
        return listing;
    } catch (const nlohmann::json::exception& error) {
        return fail(ErrorCode::format, "the hub's answer is not a file listing: {}", error.what());
    }
}

// safetensors if there are any; else the GGUF file, if it is one; files in subfolders only when asked for.
Result<std::vector<HubFile>> choose_files(const HubListing& listing, const PullOptions& options) {
    std::vector<HubFile> chosen;
    std::vector<std::string> ggufs;
    bool safetensors = false;
    for (const HubFile& file : listing.files) {
        if (!options.files.empty()) {
            if (matches_any(file.name, options.files)) chosen.push_back(file);
            continue;
        }
        if (file.name.find('/') != std::string::npos || !is_model_related(file.name)) continue;
        if (fs::path(file.name).extension() == ".gguf") ggufs.push_back(file.name);
        safetensors = safetensors || fs::path(file.name).extension() == ".safetensors";
        chosen.push_back(file);
    }
    if (!options.files.empty()) {
        if (chosen.empty()) {
            return fail(ErrorCode::not_found, "{}: no file there matches --file {}", options.source,
                        options.files.front());
        }
        return chosen;
    }
    if (safetensors) {
        std::erase_if(chosen, [](const HubFile& file) { return fs::path(file.name).extension() == ".gguf"; });
    } else if (ggufs.size() > 1) {
        std::string names;
        for (const std::string& name : ggufs) names += "\n  --file " + name;
        return fail(ErrorCode::invalid_argument, "{}: holds several GGUF files; choose with{}",
                    options.source, names);
    } else if (ggufs.empty()) {
        return fail(ErrorCode::not_found, "{}: no .safetensors and no .gguf file in it", options.source);
    }
    return chosen;
}

// A file that an earlier, interrupted pull finished.
bool is_there(const fs::path& path, const HubFile& file) {
    std::error_code code;
    if (file.bytes == 0 || fs::file_size(path, code) != file.bytes || code) return false;
    if (file.sha256.empty()) return true;
    const auto hash = sha256_of_file(path);
    return hash && *hash == file.sha256;
}

}  // namespace

Result<PullRecord> pull_hub(const PullOptions& options, const fs::path& folder) {
    const std::string endpoint = hub_endpoint(options);
    const std::size_t at = options.source.find('@');
    const std::string repository = options.source.substr(3, at == std::string::npos ? at : at - 3);
    const std::string revision = at == std::string::npos ? "main" : options.source.substr(at + 1);
    http::Headers headers;
    if (const std::string token = environment("HF_TOKEN"); !token.empty()) {
        headers.add("Authorization", "Bearer " + token);
    }

    RETORT_TRY(const FetchedText answer,
               fetch_text(endpoint + "/api/models/" + percent_encoded_path(repository) + "/revision/" +
                              percent_encoded_path(revision) + "?blobs=true",
                          headers, std::size_t{64} << 20U));
    auto listing = parse_listing(answer.body);
    if (!listing) return fail_from(listing.error(), endpoint);
    RETORT_TRY(const std::vector<HubFile> files, choose_files(*listing, options));

    PullRecord record;
    record.resolved = repository + "@" + listing->commit;
    record.licence = canonical_licence(listing->licence);
    std::uint64_t total = 0;
    for (const HubFile& file : files) total += file.bytes;
    if (!options.quiet) {
        spdlog::info("{}: {} files, {}", record.resolved, files.size(),
                     base::bytes_text(static_cast<double>(total)));
    }
    for (const HubFile& file : files) {
        PulledFile pulled;
        RETORT_TRY(pulled.name, safe_file_name(file.name));
        const auto same_name = [&](const PulledFile& other) { return other.name == pulled.name; };
        if (std::any_of(record.files.begin(), record.files.end(), same_name)) {
            return fail(ErrorCode::unsupported, "{}: two chosen files are both called {}; choose with --file",
                        options.source, pulled.name);
        }
        const fs::path path = folder / pulled.name;
        if (!options.force && is_there(path, file)) {
            pulled.bytes = file.bytes;
            RETORT_TRY(pulled.sha256, sha256_of_file(path));
            pulled.verified = file.sha256.empty() ? "" : "hub";
        } else {
            DownloadRequest request;
            request.url = endpoint + "/" + percent_encoded_path(repository) + "/resolve/" +
                          percent_encoded_path(listing->commit) + "/" + percent_encoded_path(file.name);
            request.path = path;
            request.headers = headers;
            request.sha256 = file.sha256;
            request.bytes = file.bytes;
            request.quiet = options.quiet;
            RETORT_TRY(const Downloaded downloaded, download(request));
            pulled.bytes = downloaded.bytes;
            pulled.sha256 = downloaded.sha256;
            pulled.verified = downloaded.verified.empty() ? "" : "hub";
        }
        if (is_model_file(pulled.name)) RETORT_CHECK(check_weights_file(path));
        if (pulled.name.rfind("LICEN", 0) == 0) record.licence_file = pulled.name;
        record.files.push_back(std::move(pulled));
    }
    return record;
}

}  // namespace retort::cli
