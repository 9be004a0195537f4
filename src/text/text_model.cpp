#include "text/text_model.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "formats/json.h"

namespace retort::text {
namespace {

namespace fs = std::filesystem;
using formats::Json;

// Ends of a turn that published models use beside their eos token.
constexpr std::string_view turn_ends[] = {"<|im_end|>",    "<|eot_id|>",      "<|eom_id|>",    "<|end|>",
                                          "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "</s>"};

// eos first, then what the model's files name, then the special tokens above that the template itself writes.
void find_turn_ends(TextModel& model, const std::vector<std::int64_t>& named) {
    const auto add = [&](std::int64_t id) {
        if (id < 0 || id >= model.tokenizer.vocab_size()) return;
        const auto token = static_cast<std::int32_t>(id);
        auto& list = model.end_of_turn_tokens;
        if (std::find(list.begin(), list.end(), token) == list.end()) list.push_back(token);
    };
    add(model.tokenizer.eos_id());
    for (const std::int64_t id : named) add(id);
    for (const std::string_view text : turn_ends) {
        const std::int32_t id = model.tokenizer.token_to_id(text);
        if (!model.tokenizer.is_special(id)) continue;
        if (model.chat_template.source().find(text) != std::string::npos) add(id);
    }
}

Result<std::string> read_if_there(const fs::path& path) {
    std::error_code code;
    if (!fs::exists(path, code)) return std::string();
    return base::read_file(path);
}

// eos_token_id of generation_config.json or config.json: a number or a list of them.
Result<std::vector<std::int64_t>> named_eos(const fs::path& folder) {
    for (const char* name : {"generation_config.json", "config.json"}) {
        RETORT_TRY(const std::string text, read_if_there(folder / name));
        if (text.empty()) continue;
        RETORT_TRY(const Json json, formats::parse_json(text, (folder / name).string()));
        const Json* eos = formats::json_find(json, "eos_token_id");
        if (eos == nullptr) continue;
        std::vector<std::int64_t> ids;
        for (const Json& id : eos->is_array() ? *eos : Json::array({*eos})) {
            if (!id.is_number_integer()) {
                return fail(ErrorCode::format, "{}: eos_token_id is no token id", (folder / name).string());
            }
            ids.push_back(id.get<std::int64_t>());
        }
        return ids;
    }
    return std::vector<std::int64_t>();
}

// chat_template.jinja, else chat_template.json, else the member of tokenizer_config.json: a text, or named
// ones of which "default" is it.
Result<std::string> find_template(const fs::path& folder, const std::string& config_text) {
    RETORT_TRY(std::string file, read_if_there(folder / "chat_template.jinja"));
    if (!file.empty()) return file;
    RETORT_TRY(const std::string json_file, read_if_there(folder / "chat_template.json"));
    for (const std::string* text : {&json_file, &config_text}) {
        if (text->empty()) continue;
        RETORT_TRY(const Json json, formats::parse_json(*text, (folder / "tokenizer_config.json").string()));
        const Json* entry = formats::json_find(json, "chat_template");
        if (entry == nullptr) continue;
        if (entry->is_string()) return entry->get<std::string>();
        if (!entry->is_array()) continue;
        for (const Json& named : *entry) {
            RETORT_TRY(const std::string name, formats::json_string(named, "name", ""));
            if (name == "default") return formats::json_string(named, "template");
        }
    }
    return std::string();
}

Result<TextModel> load_folder(const fs::path& folder) {
    std::error_code code;
    if (!fs::exists(folder / "tokenizer.json", code)) {
        return fail(ErrorCode::not_found,
                    "{}: no tokenizer.json; a tokenizer.model can be converted by transformers",
                    folder.string());
    }
    RETORT_TRY(const std::string tokenizer_text, base::read_file(folder / "tokenizer.json"));
    RETORT_TRY(const std::string config_text, read_if_there(folder / "tokenizer_config.json"));
    auto tokenizer = Tokenizer::from_json(tokenizer_text, config_text);
    if (!tokenizer) return fail_from(std::move(tokenizer.error()), folder.string());
    TextModel model{std::move(*tokenizer), {}, {}};
    RETORT_TRY(std::string source, find_template(folder, config_text));
    if (!source.empty()) {
        auto chat_template = ChatTemplate::parse(std::move(source), model.tokenizer.special_tokens());
        if (!chat_template) return fail_from(std::move(chat_template.error()), folder.string());
        model.chat_template = std::move(*chat_template);
    }
    RETORT_TRY(const std::vector<std::int64_t> eos, named_eos(folder));
    find_turn_ends(model, eos);
    return model;
}

}  // namespace

Result<TextModel> text_model_from_gguf(const formats::GgufFile& file) {
    RETORT_TRY(Tokenizer tokenizer, Tokenizer::from_gguf(file));
    TextModel model{std::move(tokenizer), {}, {}};
    RETORT_TRY(std::string source, file.string_or("tokenizer.chat_template", ""));
    if (!source.empty()) {
        auto chat_template = ChatTemplate::parse(std::move(source), model.tokenizer.special_tokens());
        if (!chat_template) return fail_from(std::move(chat_template.error()), file.name());
        model.chat_template = std::move(*chat_template);
    }
    std::vector<std::int64_t> named;
    for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
        RETORT_TRY(const std::int64_t id, file.integer_or(key, -1));
        named.push_back(id);
    }
    find_turn_ends(model, named);
    return model;
}

Result<TextModel> load_text_model(const fs::path& path) {
    std::error_code code;
    if (fs::is_directory(path, code)) return load_folder(path);
    if (!fs::exists(path, code))
        return fail(ErrorCode::not_found, "{}: no such file or folder", path.string());
    if (fs::exists(path.parent_path() / "tokenizer.json", code) && path.extension() != ".gguf") {
        return load_folder(path.parent_path());
    }
    RETORT_TRY(const formats::GgufFile file, formats::GgufFile::open(path));
    return text_model_from_gguf(file);
}

Status write_text_files(const TextModel& model, const fs::path& folder) {
    RETORT_TRY(const std::string tokenizer, model.tokenizer.to_tokenizer_json());
    RETORT_CHECK(base::write_file_atomic(folder / "tokenizer.json", tokenizer));
    // The template is in both places: older readers look into tokenizer_config.json, newer ones beside it.
    const std::string& source = model.chat_template.source();
    RETORT_CHECK(base::write_file_atomic(folder / "tokenizer_config.json",
                                         model.tokenizer.to_tokenizer_config_json(source)));
    if (!source.empty()) RETORT_CHECK(base::write_file_atomic(folder / "chat_template.jinja", source));
    return {};
}

}  // namespace retort::text
