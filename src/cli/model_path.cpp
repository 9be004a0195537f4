#include "cli/model_path.h"

#include <algorithm>
#include <string>
#include <vector>

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

Result<fs::path> resolve_folder(const fs::path& folder) {
    std::error_code code;
    std::vector<fs::path> ggufs;
    for (fs::directory_iterator at(folder, code), end; !code && at != end; at.increment(code)) {
        if (at->path().extension() == ".gguf") ggufs.push_back(at->path());
    }
    if (code) return fail(ErrorCode::io, "{}: {}", folder.string(), code.message());
    if (fs::exists(folder / "config.json", code)) return folder;
    std::sort(ggufs.begin(), ggufs.end());
    if (ggufs.size() == 1) return ggufs.front();
    if (ggufs.empty()) {
        return fail(ErrorCode::not_found, "{}: no model in it (a .gguf file, or config.json with weights)",
                    folder.string());
    }
    std::string names;
    for (const fs::path& path : ggufs) names += "\n  " + path.string();
    return fail(ErrorCode::invalid_argument, "{}: several models in it; name one of{}", folder.string(),
                names);
}

}  // namespace

Result<fs::path> resolve_model(std::string_view path_or_name) {
    std::error_code code;
    const fs::path given(path_or_name);
    if (given.empty()) return fail(ErrorCode::invalid_argument, "the model's path is empty");
    if (fs::is_directory(given, code)) return resolve_folder(given);
    if (fs::exists(given, code)) return given;
    const fs::path pulled = fs::path("models") / given;
    if (fs::is_directory(pulled, code)) return resolve_folder(pulled);
    return fail(
        ErrorCode::not_found,
        "{}: no such file or folder, and no model of that name under models/ (retort pull brings one)",
        given.string());
}

std::string model_display_name(const fs::path& path) {
    fs::path clean = path;
    while (!clean.has_filename() && clean.has_parent_path()) clean = clean.parent_path();
    const std::string extension = clean.extension().string();
    if (extension == ".gguf" || extension == ".safetensors") return clean.stem().string();
    return clean.filename().string();
}

}  // namespace retort::cli
