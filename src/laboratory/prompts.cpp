#include "laboratory/prompts.h"

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"

namespace retort::laboratory {

namespace {

constexpr std::size_t most_bytes = std::size_t{256} << 20U;

Result<std::vector<std::string>> read_texts(const std::filesystem::path& path, const std::string& sha256) {
    RETORT_TRY(const std::string bytes, base::read_file(path, most_bytes));
    if (base::sha256_hex(bytes) != sha256) {
        return fail(ErrorCode::format, "{}: not the file that manifest.json names; fetch the sets anew",
                    path.string());
    }
    std::vector<std::string> texts;
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
        const auto line = nlohmann::json::parse(bytes.data() + at, bytes.data() + end, nullptr, false);
        if (!line.is_object() || !line.contains("text") || !line["text"].is_string()) {
            return fail(ErrorCode::format, "{}: line {} has no \"text\"", path.string(), texts.size() + 1);
        }
        texts.push_back(line["text"].get<std::string>());
        at = end + 1;
    }
    return texts;
}

}  // namespace

Result<PromptLibrary> load_prompts(const std::filesystem::path& folder) {
    const auto path = folder / "manifest.json";
    RETORT_TRY(const std::string text, base::read_file(path, std::size_t{1} << 20U));
    const auto manifest = nlohmann::json::parse(text, nullptr, false);
    if (!manifest.is_array()) return fail(ErrorCode::format, "{}: not a list of sets", path.string());
    PromptLibrary library;
    for (const auto& entry : manifest) {
        PromptSet set;
        std::string sha256;
        try {
            set = {entry.at("set"),
                   entry.at("kind"),
                   entry.at("source"),
                   entry.at("package"),
                   entry.at("version"),
                   entry.at("licence"),
                   {}};
            sha256 = entry.at("sha256");
        } catch (const nlohmann::json::exception& error) {
            return fail(ErrorCode::format, "{}: {}", path.string(), error.what());
        }
        if (set.name.find('/') != std::string::npos) {
            return fail(ErrorCode::format, "{}: the set '{}' is no file's name", path.string(), set.name);
        }
        RETORT_TRY(set.texts, read_texts(folder / (set.name + ".jsonl"), sha256));
        library.sets.push_back(std::move(set));
    }
    for (const PromptSet& set : library.sets) {
        auto& pool = set.kind == "question"   ? library.questions
                     : set.kind == "passage"  ? library.passages
                     : set.kind == "template" ? library.templates
                                              : library.entries;
        pool.insert(pool.end(), set.texts.begin(), set.texts.end());
    }
    if (library.questions.empty() || library.passages.empty() || library.entries.empty() ||
        library.templates.empty()) {
        return fail(ErrorCode::invalid_argument,
                    "{}: a laboratory needs sets of questions, passages, entries and templates; "
                    "scripts/guard-prompts.py fetches them",
                    path.string());
    }
    return library;
}

}  // namespace retort::laboratory
