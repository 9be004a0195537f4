// One file from an http(s) URL.
#include "cli/download.h"
#include "cli/pull.h"

namespace retort::cli {

namespace fs = std::filesystem;

Result<PullRecord> pull_url(const PullOptions& options, const fs::path& folder) {
    const std::string path = options.source.substr(0, options.source.find_first_of("?#"));
    RETORT_TRY(const std::string name, safe_file_name(percent_decoded(path)));
    if (!is_model_file(name)) {
        return fail(ErrorCode::invalid_argument, "{}: not the URL of a .gguf or .safetensors file",
                    options.source);
    }
    DownloadRequest request;
    request.url = options.source;
    request.path = folder / name;
    request.sha256 = options.sha256;
    request.quiet = options.quiet;
    RETORT_TRY(const Downloaded downloaded, download(request));
    RETORT_CHECK(check_weights_file(request.path));
    PullRecord record;
    record.resolved = options.source;
    record.files.push_back({name, downloaded.bytes, downloaded.sha256, downloaded.verified});
    return record;
}

}  // namespace retort::cli
