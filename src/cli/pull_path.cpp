// A file or a folder of this machine: checked, then copied (or linked).
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>

#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/pull.h"

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t copy_block = std::size_t{4} << 20U;

Status copy_file(const fs::path& from, const fs::path& to, bool quiet) {
    RETORT_TRY(const base::MappedFile source, base::MappedFile::open(from));
    RETORT_TRY(base::AtomicFile target, base::AtomicFile::create(to));
    const auto bytes = source.bytes();
    base::Progress progress("copy " + to.filename().string(), bytes.size() / 1'000'000, "MB", quiet);
    for (std::size_t at = 0; at < bytes.size(); at += copy_block) {
        if (base::interrupted())
            return fail(ErrorCode::cancelled, "interrupted; nothing was left half-written");
        RETORT_CHECK(target.write(bytes.subspan(at, std::min(copy_block, bytes.size() - at))));
        progress.update(target.size() / 1'000'000);
    }
    return target.commit();
}

Status link_file(const fs::path& from, const fs::path& to) {
    std::error_code code;
    fs::remove(to, code);
    fs::create_symlink(fs::absolute(from), to, code);
    if (code) return fail(ErrorCode::io, "{}: cannot link: {}", to.string(), code.message());
    return {};
}

}  // namespace

Result<PullRecord> pull_path(const PullOptions& options, const fs::path& folder) {
    const fs::path source(options.source);
    std::error_code code;
    std::vector<fs::path> paths;
    if (fs::is_directory(source, code)) {
        if (!options.sha256.empty()) {
            return fail(ErrorCode::invalid_argument, "--sha256 is for one file; {} is a folder",
                        options.source);
        }
        for (fs::directory_iterator at(source, code), end; !code && at != end; at.increment(code)) {
            const std::string name = at->path().filename().string();
            const bool wanted =
                options.files.empty() ? is_model_related(name) : matches_any(name, options.files);
            if (wanted && at->is_regular_file(code)) paths.push_back(at->path());
        }
        if (code) return fail(ErrorCode::io, "{}: {}", source.string(), code.message());
        std::sort(paths.begin(), paths.end());
    } else {
        paths.push_back(source);
    }
    if (std::none_of(paths.begin(), paths.end(),
                     [](const fs::path& p) { return is_model_file(p.string()); })) {
        return fail(ErrorCode::invalid_argument, "{}: no weights in it (.gguf or .safetensors)",
                    options.source);
    }

    PullRecord record;
    record.resolved = fs::absolute(source).lexically_normal().string();
    for (const fs::path& path : paths) {
        RETORT_TRY(PulledFile file, [&]() -> Result<PulledFile> {
            PulledFile made;
            RETORT_TRY(made.name, safe_file_name(path.filename().string()));
            if (is_model_file(made.name)) RETORT_CHECK(check_weights_file(path));
            RETORT_TRY(made.sha256, sha256_of_file(path));
            made.bytes = fs::file_size(path);
            return made;
        }());
        if (!options.sha256.empty()) {
            if (file.sha256 != options.sha256) {
                return fail(ErrorCode::refused, "{}: sha256 is {}, --sha256 says {}", path.string(),
                            file.sha256, options.sha256);
            }
            file.verified = "--sha256";
        }
        const fs::path target = folder / file.name;
        if (!(fs::exists(target, code) && fs::equivalent(path, target, code))) {
            RETORT_CHECK(options.link ? link_file(path, target) : copy_file(path, target, options.quiet));
        }
        if (file.name.rfind("LICEN", 0) == 0) record.licence_file = file.name;
        record.files.push_back(std::move(file));
    }
    std::vector<fs::path> weights;
    std::copy_if(paths.begin(), paths.end(), std::back_inserter(weights),
                 [](const fs::path& p) { return is_model_file(p.string()); });
    record.licence = licence_beside(paths.front().parent_path(), weights);
    return record;
}

}  // namespace retort::cli
