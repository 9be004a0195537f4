#include "data/lineage.h"

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/hash.h"
#include "data/manifest.h"

namespace retort::data {

namespace fs = std::filesystem;
using formats::Json;

namespace {
constexpr std::string_view lineage_format = "retort-lineage-1";
constexpr std::string_view lineage_name = "lineage.json";
}  // namespace

Result<std::string> hash_of_path(const fs::path& path) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(path));
        return base::to_hex(hash);
    }
    std::map<std::string, fs::path> files;
    for (fs::directory_iterator at(path, error); !error && at != fs::directory_iterator();
         at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (at->is_regular_file(error) && name != lineage_name && name != "pull.json")
            files[name] = at->path();
    }
    if (error) return fail(ErrorCode::io, "{}: {}", path.string(), error.message());
    std::string lines;
    for (const auto& [name, file] : files) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(file));
        lines += base::to_hex(hash) + "  " + name + "\n";
    }
    return base::sha256_hex(lines);
}

Result<LineageInput> lineage_input(std::string role, const fs::path& path) {
    LineageInput input;
    input.role = std::move(role);
    std::error_code error;
    input.path = fs::absolute(path, error).lexically_normal();
    RETORT_TRY(input.sha256, hash_of_path(path));
    if (fs::exists(manifest_path(path), error) && !fs::is_directory(path, error)) {
        if (const auto manifest = read_manifest(manifest_path(path)))
            input.merkle_root = manifest->merkle_root;
    }
    return input;
}

Status save_lineage(const fs::path& file, Lineage lineage,
                    const std::vector<std::pair<std::string, fs::path>>& inputs) {
    for (const auto& [role, path] : inputs) {
        if (path.empty()) continue;
        RETORT_TRY(LineageInput input, lineage_input(role, path));
        lineage.inputs.push_back(std::move(input));
    }
    return base::write_file_atomic(file, std::string_view(write_lineage(lineage)));
}

Status save_lineage(const fs::path& file, std::string made_by,
                    const std::vector<std::pair<std::string, fs::path>>& inputs) {
    Lineage lineage;
    lineage.made_by = std::move(made_by);
    return save_lineage(file, std::move(lineage), inputs);
}

std::string write_lineage(const Lineage& lineage) {
    Json inputs = Json::array();
    for (const LineageInput& input : lineage.inputs) {
        Json json = {{"role", input.role}, {"path", input.path.string()}, {"sha256", input.sha256}};
        if (!input.merkle_root.empty()) json["merkle_root"] = input.merkle_root;
        inputs.push_back(std::move(json));
    }
    Json json = {{"format", lineage_format}, {"made_by", lineage.made_by}, {"inputs", inputs}};
    if (!lineage.pruned.empty()) json["pruned"] = lineage.pruned;
    if (!lineage.objective.empty()) json["objective"] = lineage.objective;
    return formats::write_json(json, 2) + "\n";
}

Result<Lineage> parse_lineage(std::string_view text, std::string_view name) {
    RETORT_TRY(const Json json, formats::parse_json(text, name));
    if (!json.is_object()) return fail(ErrorCode::format, "{}: not an object", name);
    RETORT_TRY(const std::string format, formats::json_string(json, "format"));
    if (format != lineage_format) {
        return fail(ErrorCode::unsupported, "{}: format is \"{}\"; this program reads \"{}\"", name, format,
                    lineage_format);
    }
    Lineage lineage;
    RETORT_TRY(lineage.made_by, formats::json_string(json, "made_by"));
    RETORT_TRY(lineage.pruned, formats::json_string(json, "pruned", std::string()));
    RETORT_TRY(lineage.objective, formats::json_string(json, "objective", std::string()));
    const Json* inputs = formats::json_find(json, "inputs");
    if (inputs == nullptr || !inputs->is_array())
        return fail(ErrorCode::format, "{}: inputs is no list", name);
    for (const Json& each : *inputs) {
        if (!each.is_object()) return fail(ErrorCode::format, "{}: an input is no object", name);
        LineageInput input;
        RETORT_TRY(input.role, formats::json_string(each, "role"));
        RETORT_TRY(const std::string path, formats::json_string(each, "path"));
        input.path = path;
        RETORT_TRY(input.sha256, formats::json_string(each, "sha256"));
        RETORT_TRY(input.merkle_root, formats::json_string(each, "merkle_root", std::string()));
        lineage.inputs.push_back(std::move(input));
    }
    return lineage;
}

std::optional<fs::path> find_lineage(const fs::path& model) {
    std::error_code error;
    std::vector<fs::path> places;
    if (fs::is_directory(model, error)) {
        const fs::path folder = fs::absolute(model, error).lexically_normal();
        places = {folder / lineage_name,
                  (folder.has_filename() ? folder : folder.parent_path()).parent_path() / lineage_name};
    } else {
        places = {fs::path(model.string() + "." + std::string(lineage_name))};
        if (model.extension() == ".safetensors") places.push_back(model.parent_path() / lineage_name);
    }
    const auto found = std::find_if(places.begin(), places.end(),
                                    [&](const fs::path& place) { return fs::exists(place, error); });
    return found == places.end() ? std::nullopt : std::optional(*found);
}

}  // namespace retort::data
