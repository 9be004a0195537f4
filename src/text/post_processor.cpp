#include "text/post_processor.h"

namespace retort::text {
namespace {

using formats::Json;
constexpr int max_post_processors = 16;
constexpr std::size_t most_tokens = 64;

Status bad(std::string_view what) {
    return fail(ErrorCode::format, "tokenizer.json: post_processor: {}", what);
}

bool is_token_id(const Json& json) {
    return json.is_number_integer() && json.get<std::int64_t>() >= 0 &&
           json.get<std::int64_t>() <= 0x7FFFFFFF;
}

Status add_template(const Json& json, PostProcessor& out) {
    const Json* single = formats::json_find(json, "single");
    const Json* tokens = formats::json_find(json, "special_tokens");
    if (single == nullptr || !single->is_array()) return bad("TemplateProcessing without \"single\"");
    PostProcessor added;
    bool after_text = false;
    for (const Json& item : *single) {
        if (formats::json_find(item, "Sequence") != nullptr) {
            if (after_text) return bad("a template with two sequences");
            after_text = true;
            continue;
        }
        const Json* special = formats::json_find(item, "SpecialToken");
        if (special == nullptr) return bad("a template item that is no Sequence and no SpecialToken");
        RETORT_TRY(const std::string name, formats::json_string(*special, "id"));
        const Json* entry = tokens != nullptr ? formats::json_find(*tokens, name) : nullptr;
        const Json* ids = entry != nullptr ? formats::json_find(*entry, "ids") : nullptr;
        if (ids == nullptr || !ids->is_array())
            return bad(fmt::format("no ids for the special token {:?}", name));
        auto& side = after_text ? added.after : added.before;
        for (const Json& id : *ids) {
            if (!is_token_id(id)) return bad("an id that is no token id");
            side.push_back(id.get<std::int32_t>());
        }
        if (side.size() > most_tokens) return bad("a template of more than 64 tokens");
    }
    if (!after_text) return bad("a template without the sequence A");
    // A later processor goes around what an earlier one made.
    out.before.insert(out.before.begin(), added.before.begin(), added.before.end());
    out.after.insert(out.after.end(), added.after.begin(), added.after.end());
    return {};
}

Result<std::int32_t> named_id(const Json& json, const char* key) {
    const Json* pair = formats::json_find(json, key);
    if (pair == nullptr || !pair->is_array() || pair->size() != 2 || !is_token_id((*pair)[1])) {
        return fail(ErrorCode::format, "tokenizer.json: post_processor: {:?} must be [token, id]", key);
    }
    return (*pair)[1].get<std::int32_t>();
}

Status add(const Json& json, int depth, PostProcessor& out) {
    RETORT_TRY(const std::string type, formats::json_string(json, "type"));
    if (depth > max_post_processors)
        return fail(ErrorCode::unsupported, "tokenizer.json: post-processors nested too deeply");
    if (type == "ByteLevel") return {};  // only offsets
    if (type == "TemplateProcessing") return add_template(json, out);
    if (type == "Sequence") {
        const Json* parts = formats::json_find(json, "processors");
        if (parts == nullptr || !parts->is_array()) return bad("a Sequence without \"processors\"");
        for (const Json& part : *parts) RETORT_CHECK(add(part, depth + 1, out));
        if (out.before.size() + out.after.size() > most_tokens) return bad("more than 64 tokens");
        return {};
    }
    if (type == "BertProcessing" || type == "RobertaProcessing") {
        RETORT_TRY(const std::int32_t cls, named_id(json, "cls"));
        RETORT_TRY(const std::int32_t sep, named_id(json, "sep"));
        out.before.insert(out.before.begin(), cls);
        out.after.push_back(sep);
        return {};
    }
    return fail(ErrorCode::unsupported,
                "tokenizer.json: post_processor {:?} is not supported (TemplateProcessing, ByteLevel, "
                "BertProcessing, "
                "RobertaProcessing and Sequence are)",
                type);
}

}  // namespace

Result<PostProcessor> PostProcessor::parse(const Json* json) {
    PostProcessor result;
    if (json != nullptr) RETORT_CHECK(add(*json, 0, result));
    return result;
}

Json template_processing(const std::vector<NamedToken>& before, const std::vector<NamedToken>& after) {
    Json single = Json::array();
    Json pair = Json::array();
    Json tokens = Json::object();
    const auto put = [&](const std::vector<NamedToken>& list, int type, Json& into) {
        for (const NamedToken& token : list) {
            into.push_back({{"SpecialToken", {{"id", token.text}, {"type_id", type}}}});
            tokens[token.text] = {{"id", token.text}, {"ids", {token.id}}, {"tokens", {token.text}}};
        }
    };
    put(before, 0, single);
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    put(after, 0, single);
    pair = single;
    put(before, 1, pair);
    pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    put(after, 1, pair);
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

}  // namespace retort::text
