#include "data/manifest.h"

#include <utility>

namespace retort::data {

using formats::Json;

namespace {
constexpr std::string_view manifest_format = "retort-records-1";

template <typename Value>
Json map_to_json(const std::map<std::string, Value>& map) {
    Json json = Json::object();
    for (const auto& [key, value] : map) json[key] = value;
    return json;
}

Result<std::map<std::string, std::int64_t>> counts_from_json(const Json& json, std::string_view key) {
    std::map<std::string, std::int64_t> counts;
    const Json* object = formats::json_find(json, key);
    if (object == nullptr) return counts;
    if (!object->is_object()) return fail(ErrorCode::format, "{} is not an object", key);
    for (const auto& [name, value] : object->items()) {
        RETORT_TRY(counts[name], formats::json_integer(*object, name));
    }
    return counts;
}
}  // namespace

std::string write_manifest(const Manifest& manifest) {
    const Json json = {{"format", manifest_format},
                       {"records", manifest.records},
                       {"merkle_root", manifest.merkle_root},
                       {"teachers", map_to_json(manifest.teachers)},
                       {"terms", map_to_json(manifest.terms)},
                       {"finish_reasons", map_to_json(manifest.finish_reasons)},
                       {"usage",
                        {{"prompt_tokens", manifest.usage.prompt_tokens},
                         {"completion_tokens", manifest.usage.completion_tokens},
                         {"reasoning_tokens", manifest.usage.reasoning_tokens},
                         {"cost", manifest.cost}}},
                       {"parents", manifest.parents}};
    return formats::write_json(json, 2) + "\n";
}

Result<Manifest> parse_manifest(std::string_view text) {
    RETORT_TRY(const Json json, formats::parse_json(text, "manifest"));
    RETORT_TRY(const std::string format, formats::json_string(json, "format"));
    if (format != manifest_format) {
        return fail(ErrorCode::unsupported, "manifest: format is \"{}\"; this program reads \"{}\"", format,
                    manifest_format);
    }
    Manifest manifest;
    RETORT_TRY(manifest.records, formats::json_integer(json, "records"));
    RETORT_TRY(manifest.merkle_root, formats::json_string(json, "merkle_root"));
    RETORT_TRY(manifest.teachers, counts_from_json(json, "teachers"));
    RETORT_TRY(manifest.finish_reasons, counts_from_json(json, "finish_reasons"));
    if (const Json* terms = formats::json_find(json, "terms"); terms != nullptr && terms->is_object()) {
        for (const auto& [id, hash] : terms->items()) {
            RETORT_TRY(manifest.terms[id], formats::json_string(*terms, id));
        }
    }
    if (const Json* usage = formats::json_find(json, "usage"); usage != nullptr) {
        RETORT_TRY(manifest.usage.prompt_tokens, formats::json_integer(*usage, "prompt_tokens", 0));
        RETORT_TRY(manifest.usage.completion_tokens, formats::json_integer(*usage, "completion_tokens", 0));
        RETORT_TRY(manifest.usage.reasoning_tokens, formats::json_integer(*usage, "reasoning_tokens", 0));
        RETORT_TRY(manifest.cost, formats::json_number(*usage, "cost", 0));
    }
    if (const Json* parents = formats::json_find(json, "parents");
        parents != nullptr && parents->is_array()) {
        for (const Json& parent : *parents) {
            if (!parent.is_string())
                return fail(ErrorCode::format, "parents holds something that is no text");
            manifest.parents.push_back(parent.get<std::string>());
        }
    }
    return manifest;
}

Result<Manifest> read_manifest(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path));
    auto manifest = parse_manifest(text);
    if (!manifest) return fail_from(manifest.error(), path.string());
    return manifest;
}

std::filesystem::path manifest_path(const std::filesystem::path& records_path) {
    std::filesystem::path path = records_path;
    path.replace_extension(".manifest.json");
    return path;
}

Result<RecordWriter> RecordWriter::create(const std::filesystem::path& records_path) {
    RETORT_TRY(base::AtomicFile file, base::AtomicFile::create(records_path));
    return RecordWriter(records_path, std::move(file));
}

Status RecordWriter::add(const Record& record) {
    std::string line = write_record(record);
    leaves_.push_back(base::merkle_leaf(line));
    line.push_back('\n');
    ++manifest_.records;
    ++manifest_.teachers[record.request.model];
    manifest_.terms[record.terms_id] = record.terms_sha256;
    ++manifest_.finish_reasons[record.finish_reason];
    manifest_.usage.prompt_tokens += record.usage.prompt_tokens;
    manifest_.usage.completion_tokens += record.usage.completion_tokens;
    manifest_.usage.reasoning_tokens += record.usage.reasoning_tokens;
    manifest_.cost += record.cost;
    return file_.write(std::string_view(line));
}

Result<Manifest> RecordWriter::commit() {
    manifest_.merkle_root = base::to_hex(base::merkle_root(leaves_));
    RETORT_CHECK(file_.commit());
    RETORT_CHECK(base::write_file_atomic(manifest_path(path_), std::string_view(write_manifest(manifest_))));
    return manifest_;
}

Status check_records(const std::filesystem::path& records_path) {
    RETORT_TRY(const Manifest manifest, read_manifest(manifest_path(records_path)));
    RETORT_TRY(const base::MappedFile file, base::MappedFile::open(records_path));
    std::vector<base::Sha256> leaves;
    std::string_view rest = file.text();
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        auto record = parse_record(line);
        const std::string place = fmt::format("{}:{}", records_path.string(), leaves.size() + 1);
        if (!record) return fail_from(record.error(), place);
        if (auto sealed = check_seal(*record); !sealed) return fail_from(sealed.error(), place);
        leaves.push_back(base::merkle_leaf(line));
    }
    if (static_cast<std::int64_t>(leaves.size()) != manifest.records) {
        return fail(ErrorCode::format, "{}: {} records, its manifest says {}", records_path.string(),
                    leaves.size(), manifest.records);
    }
    if (base::to_hex(base::merkle_root(leaves)) != manifest.merkle_root) {
        return fail(ErrorCode::format, "{}: its Merkle root is not the manifest's; the file was changed",
                    records_path.string());
    }
    return {};
}

}  // namespace retort::data
