// tokenizer.json and tokenizer_config.json, read and written.
#include <algorithm>
#include <unordered_map>

#include "text/tokenizer_spec.h"

namespace retort::text {
namespace {

using formats::Json;

// A vocabulary's ids are dense; a file whose ids are not asks for memory that its own size does not justify.
constexpr std::size_t spare_ids = 1024;

Json* member(Json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
}

Json taken(Json& object, const char* key) {
    Json* value = member(object, key);
    return value == nullptr ? Json() : std::move(*value);
}

Status read_vocabulary(Json& model, TokenizerSpec& spec) {
    Json* vocabulary = member(model, "vocab");
    if (vocabulary == nullptr || !vocabulary->is_object()) {
        return fail(ErrorCode::format, "tokenizer.json: model.vocab is no object");
    }
    const std::size_t most = vocabulary->size() * 2 + spare_ids;
    std::size_t size = 0;
    for (const auto& [token, id] : vocabulary->items()) {
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= most) {
            return fail(ErrorCode::format,
                        "tokenizer.json: model.vocab: token {:?} has the id {}, of {} tokens", token,
                        formats::write_json(id), vocabulary->size());
        }
        size = std::max<std::size_t>(size, id.get<std::size_t>() + 1);
    }
    spec.tokens.resize(size);
    std::vector<bool> seen(size, false);
    for (const auto& [token, id_json] : vocabulary->items()) {
        const auto id = id_json.get<std::size_t>();
        if (seen[id])
            return fail(ErrorCode::format, "tokenizer.json: model.vocab: two tokens have the id {}", id);
        seen[id] = true;
        spec.tokens[id] = token;
    }
    spec.model_vocabulary = static_cast<std::int32_t>(size);
    return {};
}

Status read_merges(Json& model, TokenizerSpec& spec) {
    Json* merges = member(model, "merges");
    if (merges == nullptr || !merges->is_array())
        return fail(ErrorCode::format, "tokenizer.json: model.merges is no array");
    spec.merges.reserve(merges->size());
    for (Json& merge : *merges) {
        if (merge.is_string()) {
            const auto& text = merge.get_ref<const std::string&>();
            const std::size_t space = text.find(' ');
            if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
                spec.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
                continue;
            }
        } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            spec.merges.emplace_back(std::move(merge[0].get_ref<std::string&>()),
                                     std::move(merge[1].get_ref<std::string&>()));
            continue;
        }
        return fail(ErrorCode::format, "tokenizer.json: model.merges[{}] is no pair of tokens: {}",
                    spec.merges.size(), formats::write_json(merge));
    }
    return {};
}

Status read_model(Json& model, TokenizerSpec& spec) {
    RETORT_TRY(const std::string type, formats::json_string(model, "type", "BPE"));
    if (type != "BPE")
        return fail(ErrorCode::unsupported, "tokenizer.json: model {:?} is not supported (BPE is)", type);
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        RETORT_TRY(const std::string text, formats::json_string(model, affix, ""));
        if (!text.empty())
            return fail(ErrorCode::unsupported, "tokenizer.json: model.{} {:?} is not supported", affix,
                        text);
    }
    RETORT_TRY(const double dropout, formats::json_number(model, "dropout", 0.0));
    if (dropout != 0)
        return fail(ErrorCode::unsupported, "tokenizer.json: model.dropout {} is not supported", dropout);
    RETORT_TRY(spec.byte_fallback, formats::json_boolean(model, "byte_fallback", false));
    RETORT_TRY(spec.fuse_unknown, formats::json_boolean(model, "fuse_unk", false));
    RETORT_TRY(spec.ignore_merges, formats::json_boolean(model, "ignore_merges", false));
    RETORT_TRY(spec.unknown_token, formats::json_string(model, "unk_token", ""));
    RETORT_CHECK(read_vocabulary(model, spec));
    return read_merges(model, spec);
}

Status read_added_tokens(const Json& root, TokenizerSpec& spec) {
    const Json* list = formats::json_find(root, "added_tokens");
    if (list == nullptr) return {};
    if (!list->is_array()) return fail(ErrorCode::format, "tokenizer.json: added_tokens is no array");
    const std::size_t most = (spec.tokens.size() + list->size()) * 2 + spare_ids;
    std::unordered_map<std::string_view, std::int32_t> known;
    const std::vector<std::string> vocabulary = spec.tokens;
    known.reserve(vocabulary.size());
    for (std::size_t id = 0; id < vocabulary.size(); ++id)
        known.emplace(vocabulary[id], static_cast<std::int32_t>(id));
    for (const Json& item : *list) {
        AddedToken token;
        RETORT_TRY(token.content, formats::json_string(item, "content"));
        RETORT_TRY(const std::int64_t id, formats::json_integer(item, "id"));
        RETORT_TRY(token.special, formats::json_boolean(item, "special", false));
        RETORT_TRY(token.single_word, formats::json_boolean(item, "single_word", false));
        RETORT_TRY(token.lstrip, formats::json_boolean(item, "lstrip", false));
        RETORT_TRY(token.rstrip, formats::json_boolean(item, "rstrip", false));
        RETORT_TRY(token.normalized, formats::json_boolean(item, "normalized", !token.special));
        if (token.content.empty()) continue;
        if (id < 0 || static_cast<std::uint64_t>(id) >= most) {
            return fail(ErrorCode::format, "tokenizer.json: added token {:?} has the id {}, of {} tokens",
                        token.content, id, spec.tokens.size());
        }
        token.id = static_cast<std::int32_t>(id);
        const auto same = known.find(token.content);
        if (same != known.end())
            token.id = same->second;  // the model's vocabulary has the say, as in the reference
        const auto at = static_cast<std::size_t>(token.id);
        if (at >= spec.tokens.size()) spec.tokens.resize(at + 1);
        if (spec.tokens[at].empty()) {
            spec.tokens[at] = token.content;
        } else if (spec.tokens[at] != token.content) {
            return fail(ErrorCode::format, "tokenizer.json: added token {:?} has the id {} of the token {:?}",
                        token.content, id, spec.tokens[at]);
        }
        spec.added_tokens.push_back(std::move(token));
    }
    std::stable_sort(spec.added_tokens.begin(), spec.added_tokens.end(),
                     [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    const auto repeated =
        std::adjacent_find(spec.added_tokens.begin(), spec.added_tokens.end(),
                           [](const AddedToken& a, const AddedToken& b) { return a.id == b.id; });
    if (repeated != spec.added_tokens.end()) {
        return fail(ErrorCode::format, "tokenizer.json: added token {:?} is there twice", repeated->content);
    }
    return {};
}

// "bos_token": "<s>" or {"content": "<s>", …} or null.
Result<std::string> special_token(const Json& config, const char* key) {
    const Json* value = formats::json_find(config, key);
    if (value != nullptr && value->is_object()) return formats::json_string(*value, "content", "");
    return formats::json_string(config, key, "");
}

Json added_token_json(const AddedToken& token, bool with_id) {
    Json json = {{"content", token.content},         {"lstrip", token.lstrip},
                 {"normalized", token.normalized},   {"rstrip", token.rstrip},
                 {"single_word", token.single_word}, {"special", token.special}};
    if (with_id) json["id"] = token.id;
    return json;
}

}  // namespace

Result<TokenizerSpec> spec_from_json(std::string_view tokenizer_json,
                                     std::string_view tokenizer_config_json) {
    RETORT_TRY(Json root, formats::parse_json(tokenizer_json, "tokenizer.json"));
    if (!root.is_object()) return fail(ErrorCode::format, "tokenizer.json: not an object");
    TokenizerSpec spec;
    Json* model = member(root, "model");
    if (model == nullptr || !model->is_object())
        return fail(ErrorCode::format, "tokenizer.json: no \"model\"");
    RETORT_CHECK(read_model(*model, spec));
    RETORT_CHECK(read_added_tokens(root, spec));
    spec.normalizer = taken(root, "normalizer");
    spec.pre_tokenizer = taken(root, "pre_tokenizer");
    spec.post_processor = taken(root, "post_processor");
    spec.decoder = taken(root, "decoder");
    if (!tokenizer_config_json.empty()) {
        RETORT_TRY(spec.config, formats::parse_json(tokenizer_config_json, "tokenizer_config.json"));
        if (!spec.config.is_object()) return fail(ErrorCode::format, "tokenizer_config.json: not an object");
        RETORT_TRY(spec.special.bos, special_token(spec.config, "bos_token"));
        RETORT_TRY(spec.special.eos, special_token(spec.config, "eos_token"));
        RETORT_TRY(spec.special.unknown, special_token(spec.config, "unk_token"));
        RETORT_TRY(spec.special.padding, special_token(spec.config, "pad_token"));
    }
    return spec;
}

Result<std::string> spec_to_json(const TokenizerSpec& spec) {
    Json vocabulary = Json::object();
    for (std::int32_t id = 0; id < spec.model_vocabulary; ++id) {
        const std::string& token = spec.tokens[static_cast<std::size_t>(id)];
        if (token.empty()) continue;
        const auto [at, inserted] = vocabulary.emplace(token, id);
        if (!inserted) {
            return fail(ErrorCode::unsupported,
                        "tokens {} and {} are both {:?}: tokenizer.json cannot hold such a vocabulary",
                        formats::write_json(*at), id, token);
        }
    }
    Json merges = Json::array();
    for (const auto& [left, right] : spec.merges) merges.push_back({left, right});
    Json added = Json::array();
    for (const AddedToken& token : spec.added_tokens) added.push_back(added_token_json(token, true));
    const Json model = {
        {"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", spec.unknown_token.empty() ? Json() : Json(spec.unknown_token)},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", spec.fuse_unknown},
        {"byte_fallback", spec.byte_fallback},
        {"ignore_merges", spec.ignore_merges},
        {"vocab", std::move(vocabulary)},
        {"merges", std::move(merges)},
    };
    const Json root = {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", std::move(added)},
        {"normalizer", spec.normalizer},
        {"pre_tokenizer", spec.pre_tokenizer},
        {"post_processor", spec.post_processor},
        {"decoder", spec.decoder},
        {"model", model},
    };
    return formats::write_json(root);
}

std::string spec_to_config_json(const TokenizerSpec& spec, std::string_view chat_template) {
    Json config = spec.config.is_object() ? spec.config : Json::object();
    if (!spec.config.is_object()) {
        config["tokenizer_class"] = "PreTrainedTokenizerFast";
        config["clean_up_tokenization_spaces"] = false;
        Json& decoder = config["added_tokens_decoder"] = Json::object();
        for (const AddedToken& token : spec.added_tokens)
            decoder[std::to_string(token.id)] = added_token_json(token, false);
        const auto put = [&](const char* key, const std::string& text) {
            if (!text.empty()) config[key] = text;
        };
        put("bos_token", spec.special.bos);
        put("eos_token", spec.special.eos);
        put("unk_token", spec.special.unknown);
        put("pad_token", spec.special.padding);
    }
    if (!chat_template.empty()) config["chat_template"] = chat_template;
    return formats::write_json(config, 2) + "\n";
}

}  // namespace retort::text
