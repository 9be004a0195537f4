#include "cli/run_folder.h"

#include <algorithm>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view finished_name = "stage.json";
constexpr std::string_view pending_name = "stage.pending.json";

bool is_bookkeeping(const fs::path& file) {
    return file == finished_name || file == pending_name;
}

Result<std::map<std::string, std::string>> hash_files(const fs::path& folder) {
    std::map<std::string, std::string> files;
    std::error_code code;
    for (const auto& entry : fs::recursive_directory_iterator(folder, code)) {
        if (!entry.is_regular_file()) continue;
        const fs::path name = fs::relative(entry.path(), folder);
        if (is_bookkeeping(name)) continue;
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(entry.path()));
        files[name.generic_string()] = base::to_hex(hash);
    }
    if (code) return fail(ErrorCode::io, "{}: cannot list the folder: {}", folder.string(), code.message());
    return files;
}

// The finished mark, when it is there, whole, of this key, and every file it names exists.
bool read_finished(const fs::path& folder, const std::string& key, StageResult& result) {
    const auto text = base::read_file(folder / finished_name);
    if (!text) return false;
    const auto json = formats::parse_json(*text, finished_name);
    if (!json || !json->is_object() || json->value("key", "") != key) return false;
    result.key = key;
    for (const auto& [name, hash] : json->at("files").items()) {
        if (!hash.is_string() || !fs::exists(folder / name)) return false;
        result.files[name] = hash.get<std::string>();
    }
    return true;
}

std::string pending_key(const fs::path& folder) {
    const auto text = base::read_file(folder / pending_name);
    return text ? *text : std::string();
}

Status empty_folder(const fs::path& folder) {
    std::error_code code;
    fs::remove_all(folder, code);
    if (code) return fail(ErrorCode::io, "{}: cannot empty the folder: {}", folder.string(), code.message());
    return base::make_folders(folder);
}

}  // namespace

Result<RunFolder> RunFolder::open(const fs::path& folder) {
    RETORT_CHECK(base::make_folders(folder));
    RETORT_TRY(base::FileLock lock, base::FileLock::acquire(folder / ".lock"));
    return RunFolder(folder, std::move(lock));
}

Result<StageResult> RunFolder::stage(std::string_view name, const formats::Json& inputs,
                                     const std::function<Status(const fs::path&)>& work,
                                     const StageOptions& options) {
    const fs::path folder = folder_ / name;
    StageResult result;
    const std::string key = base::sha256_hex(fmt::format("{} {}", name, inputs.dump()));
    if (read_finished(folder, key, result)) {
        result.was_there = true;
        spdlog::info("{}: there already", name);
        return result;
    }
    RETORT_CHECK(base::make_folders(folder));
    if (pending_key(folder) != key) {
        if (!options.keep_on_change) RETORT_CHECK(empty_folder(folder));
        std::error_code code;
        fs::remove(folder / finished_name, code);
        RETORT_CHECK(base::write_file_atomic(folder / pending_name, key));
    }
    spdlog::info("{}: begins", name);
    const double start = base::monotonic_seconds();
    RETORT_CHECK(work(folder));
    for (const std::string& scratch : options.scratch_files) {
        std::error_code code;
        fs::remove(folder / scratch, code);
    }
    RETORT_TRY(result.files, hash_files(folder));
    result.key = key;
    const formats::Json mark = {{"stage", name},
                                {"key", key},
                                {"inputs", inputs},
                                {"files", result.files},
                                {"finished", base::utc_now()},
                                {"seconds", base::monotonic_seconds() - start}};
    RETORT_CHECK(base::write_file_atomic(folder / finished_name, mark.dump(2) + "\n"));
    std::error_code code;
    fs::remove(folder / pending_name, code);
    spdlog::info("{}: done in {}", name, base::duration_text(base::monotonic_seconds() - start));
    return result;
}

}  // namespace retort::cli
