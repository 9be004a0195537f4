#include "model/fresh.h"

#include <algorithm>
#include <array>

#include "base/file.h"
#include "formats/json.h"
#include "formats/recipe.h"

namespace retort::model {

using formats::Json;

namespace {

// Keys of a TOML file; a whole config.json may say more, which config_from_json() judges.
constexpr std::array<std::string_view, 15> known_keys = {
    "model_type",          "vocab_size",        "hidden_size",
    "intermediate_size",   "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim",          "rms_norm_eps",
    "rope_theta",          "rope_scaling",      "tie_word_embeddings",
    "bos_token_id",        "eos_token_id",      "max_position_embeddings"};

Result<Json> parse_shape(std::string_view text, std::string_view name) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && text[first] == '{') return formats::parse_json(text, name);
    RETORT_TRY(const formats::TomlTable table, formats::TomlTable::parse(text, std::string(name)));
    const Json json = table.to_json();
    for (const auto& [key, value] : json.items()) {
        if (std::find(known_keys.begin(), known_keys.end(), key) == known_keys.end()) {
            return fail(ErrorCode::invalid_argument, "{}: {} is no key of a model's shape; there are {}",
                        name, key, fmt::join(known_keys, ", "));
        }
    }
    return json;
}

void set_default(Json& json, const char* key, Json value) {
    if (formats::json_find(json, key) == nullptr) json[key] = std::move(value);
}

std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

Result<ModelConfig> parse_fresh_config(std::string_view text, std::string_view name,
                                       const FreshTokens& tokens) {
    RETORT_TRY(Json json, parse_shape(text, name));
    if (!json.is_object()) return fail(ErrorCode::format, "{}: holds no object", name);
    const bool named = json.contains("model_type") || json.contains("architectures");
    if (!named) json["model_type"] = "llama";
    set_default(json, "vocab_size", tokens.vocab_size);
    set_default(json, "rms_norm_eps", 1e-5);
    set_default(json, "tie_word_embeddings", true);
    if (const Json* heads = formats::json_find(json, "num_attention_heads"))
        set_default(json, "num_key_value_heads", *heads);
    if (const Json* hidden = formats::json_find(json, "hidden_size");
        hidden != nullptr && hidden->is_number_integer()) {
        // SwiGLU's usual 8/3 of the width
        set_default(json, "intermediate_size", rounded_up(hidden->get<std::int64_t>() * 8 / 3, 16));
    }
    if (tokens.bos >= 0) set_default(json, "bos_token_id", tokens.bos);
    if (tokens.eos >= 0) set_default(json, "eos_token_id", tokens.eos);
    auto config = config_from_json(formats::write_json(json));
    if (!config) return fail_from(config.error(), name);
    if (config->vocab_size < tokens.vocab_size) {
        return fail(ErrorCode::invalid_argument, "{}: vocab_size {} is below the tokenizer's {}", name,
                    config->vocab_size, tokens.vocab_size);
    }
    return config;
}

Result<ModelConfig> read_fresh_config(const std::filesystem::path& path, const FreshTokens& tokens) {
    RETORT_TRY(const std::string text, base::read_file(path, std::size_t{1} << 20U));
    return parse_fresh_config(text, path.string(), tokens);
}

}  // namespace retort::model
