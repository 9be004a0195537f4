// The tokenizer.* metadata of a GGUF file, read and written. A GGUF file names its pre-tokenizer by one word
// (tokenizer.ggml.pre); here each word stands for the components that the model's own tokenizer.json has.
#include <algorithm>
#include <unordered_map>

#include "text/post_processor.h"
#include "text/scanner.h"
#include "text/tokenizer_spec.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

using formats::GgufArray;
using formats::GgufFile;
using formats::GgufValue;
using formats::Json;

enum TokenType : std::int64_t {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6
};

constexpr std::string_view marker = "\xE2\x96\x81";  // ▁
constexpr std::string_view tekken_words =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen35_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// What one word of tokenizer.ggml.pre stands for.
struct Pipeline {
    std::string_view pre;
    bool nfc;
    bool digits;             // digits apart before all else
    std::string_view words;  // the Split expression; empty: ByteLevel's own
    bool ignore_merges;
    bool adds_bos;  // where the file does not say
};

const Pipeline pipelines[] = {
    {"smollm", false, true, "", false, false},
    {"starcoder", false, true, "", false, false},
    {"gpt-2", false, false, "", false, false},
    {"llama-bpe", false, false, word_pattern_text(WordPattern::llama3), true, true},
    {"llama3", false, false, word_pattern_text(WordPattern::llama3), true, true},
    {"llama-v3", false, false, word_pattern_text(WordPattern::llama3), true, true},
    {"qwen2", true, false, word_pattern_text(WordPattern::qwen2), false, false},
    {"deepseek-r1-qwen", true, false, word_pattern_text(WordPattern::qwen2), false, false},
    {"qwen35", true, false, qwen35_words, false, false},
    {"tekken", false, false, tekken_words, true, true},
};

Json byte_level(bool use_regex) {
    return {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json pre_tokenizer_of(const Pipeline& pipeline) {
    Json parts = Json::array();
    if (pipeline.digits) parts.push_back({{"type", "Digits"}, {"individual_digits", true}});
    if (!pipeline.words.empty()) {
        const Json pattern = {{"Regex", pipeline.words}};
        parts.push_back(
            {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}});
    }
    parts.push_back(byte_level(pipeline.words.empty()));
    if (parts.size() == 1) return parts[0];
    return {{"type", "Sequence"}, {"pretokenizers", parts}};
}

Json normalizer_of(const Pipeline& pipeline) {
    return pipeline.nfc ? Json{{"type", "NFC"}} : Json();
}

Json replace(std::string_view from, std::string_view to) {
    const Json pattern = {{"String", from}};
    return {{"type", "Replace"}, {"pattern", pattern}, {"content", to}};
}

Json spm_normalizer(bool add_prefix) {
    if (!add_prefix) return replace(" ", marker);
    const Json steps = {Json{{"type", "Prepend"}, {"prepend", marker}}, replace(" ", marker)};
    return {{"type", "Sequence"}, {"normalizers", steps}};
}

Json spm_decoder(bool add_prefix) {
    Json steps = {replace(marker, " "), Json{{"type", "ByteFallback"}}, Json{{"type", "Fuse"}}};
    if (add_prefix) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    return {{"type", "Sequence"}, {"decoders", steps}};
}

// Merges from a SentencePiece vocabulary, ordered as the reference's converter does: by score, highest first,
// then the longer left half, then the longer right half (in characters); ties by the tokens' ids.
std::vector<std::pair<std::string, std::string>> merges_from_scores(const std::vector<std::string>& tokens,
                                                                    const std::vector<double>& scores) {
    struct Merge {
        double score;
        std::uint32_t left_length, right_length;
        std::int32_t token, left, right;
        std::uint32_t cut;
    };
    std::unordered_map<std::string_view, std::int32_t> ids;
    ids.reserve(tokens.size());
    for (std::size_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], static_cast<std::int32_t>(id));
    constexpr std::size_t longest_token = 1024;  // a hostile file's megabyte token would cost its square
    std::vector<Merge> merges;
    for (std::size_t id = 0; id < tokens.size(); ++id) {
        const std::string_view token = tokens[id];
        if (token.size() > longest_token) continue;
        std::uint32_t length = 0;
        for (std::size_t at = 0; at < token.size(); at += decode_valid(token, at).length) ++length;
        std::uint32_t left_length = 0;
        for (std::size_t cut = 0; cut < token.size();) {
            cut += decode_valid(token, cut).length;
            ++left_length;
            if (cut == token.size()) break;
            const auto left = ids.find(token.substr(0, cut));
            if (left == ids.end()) continue;
            const auto right = ids.find(token.substr(cut));
            if (right == ids.end()) continue;
            merges.push_back({scores[id], left_length, length - left_length, static_cast<std::int32_t>(id),
                              left->second, right->second, static_cast<std::uint32_t>(cut)});
        }
    }
    std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
        return std::tuple(-a.score, b.left_length, b.right_length, a.token, a.left, a.right) <
               std::tuple(-b.score, a.left_length, a.right_length, b.token, b.left, b.right);
    });
    std::vector<std::pair<std::string, std::string>> result;
    result.reserve(merges.size());
    for (const Merge& merge : merges) {
        const std::string& token = tokens[static_cast<std::size_t>(merge.token)];
        result.emplace_back(token.substr(0, merge.cut), token.substr(merge.cut));
    }
    return result;
}

// A row that only fills a matrix up: "[PAD151936]" at its own id.
bool is_padding(std::string_view token, std::size_t id) {
    return token == fmt::format("[PAD{}]", id);
}

Result<std::string> token_of(const GgufFile& file, const TokenizerSpec& spec, std::string_view key) {
    if (file.find(key) == nullptr) return std::string();
    RETORT_TRY(const std::int64_t id, file.integer(key));
    if (id < 0 || static_cast<std::size_t>(id) >= spec.tokens.size()) {
        return fail(ErrorCode::format, "{}: {} is not in the vocabulary of {}", key, id, spec.tokens.size());
    }
    return spec.tokens[static_cast<std::size_t>(id)];
}

Status read_tokens(const GgufFile& file, TokenizerSpec& spec, std::vector<std::int64_t>& types) {
    RETORT_TRY(const std::span<const std::string_view> tokens, file.strings("tokenizer.ggml.tokens"));
    if (tokens.empty()) return fail(ErrorCode::format, "tokenizer.ggml.tokens is empty");
    types.assign(tokens.size(), TokenType::normal);
    if (file.find("tokenizer.ggml.token_type") != nullptr) {
        RETORT_TRY(const GgufArray* const array, file.array("tokenizer.ggml.token_type"));
        RETORT_TRY(types, array->integers());
        if (types.size() != tokens.size()) {
            return fail(ErrorCode::format, "tokenizer.ggml.token_type has {} entries for {} tokens",
                        types.size(), tokens.size());
        }
    }
    std::size_t size = tokens.size();
    while (size > 1 && is_padding(tokens[size - 1], size - 1)) --size;
    types.resize(size);
    spec.tokens.reserve(size);
    for (const std::string_view token : tokens.first(size)) {
        spec.tokens.push_back(is_valid_utf8(token) ? std::string(token) : lossy_utf8(token));
    }
    return {};
}

void add_tokens(TokenizerSpec& spec, const std::vector<std::int64_t>& types) {
    for (std::size_t id = 0; id < spec.tokens.size(); ++id) {
        const bool is_unknown = types[id] == TokenType::unknown && spec.tokens[id] == spec.unknown_token;
        const bool special = types[id] == TokenType::control || is_unknown;
        if (!special && types[id] != TokenType::user_defined) continue;
        if (spec.tokens[id].empty()) continue;
        spec.added_tokens.push_back({static_cast<std::int32_t>(id), spec.tokens[id], special});
    }
    // Added tokens at the end of the ids are none of the model's own vocabulary, as published files have it.
    std::size_t end = spec.tokens.size();
    for (auto token = spec.added_tokens.rbegin(); token != spec.added_tokens.rend(); ++token) {
        if (static_cast<std::size_t>(token->id) + 1 != end) break;
        --end;
    }
    spec.model_vocabulary = static_cast<std::int32_t>(end);
}

Status read_byte_level(const GgufFile& file, TokenizerSpec& spec, bool& adds_bos) {
    RETORT_TRY(const std::string pre, file.string_or("tokenizer.ggml.pre", ""));
    const auto* const found = std::find_if(std::begin(pipelines), std::end(pipelines),
                                           [&](const Pipeline& pipeline) { return pipeline.pre == pre; });
    if (found == std::end(pipelines)) {
        return fail(
            ErrorCode::unsupported,
            "tokenizer.ggml.pre {:?} is not supported (smollm, starcoder, gpt-2, llama-bpe, qwen2, "
            "deepseek-r1-qwen, "
            "qwen35 and tekken are); convert the model from a Hugging Face folder with its tokenizer.json",
            pre);
    }
    adds_bos = found->adds_bos;
    spec.ignore_merges = found->ignore_merges;
    spec.normalizer = normalizer_of(*found);
    spec.pre_tokenizer = pre_tokenizer_of(*found);
    spec.decoder = byte_level(true);
    RETORT_TRY(const std::span<const std::string_view> merges, file.strings("tokenizer.ggml.merges"));
    spec.merges.reserve(merges.size());
    for (const std::string_view merge : merges) {
        const std::size_t space = merge.find(' ', 1);
        if (space == std::string_view::npos || space + 1 == merge.size() || !is_valid_utf8(merge)) {
            return fail(ErrorCode::format, "tokenizer.ggml.merges[{}] is no pair of tokens: {:?}",
                        spec.merges.size(), lossy_utf8(merge));
        }
        spec.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    return {};
}

Status read_sentencepiece(const GgufFile& file, TokenizerSpec& spec) {
    RETORT_TRY(const bool add_prefix, file.boolean_or("tokenizer.ggml.add_space_prefix", true));
    spec.normalizer = spm_normalizer(add_prefix);
    spec.decoder = spm_decoder(add_prefix);
    spec.byte_fallback = true;
    spec.fuse_unknown = true;
    RETORT_TRY(const GgufArray* const array, file.array("tokenizer.ggml.scores"));
    RETORT_TRY(std::vector<double> scores, array->numbers());
    if (scores.size() < spec.tokens.size()) {
        return fail(ErrorCode::format, "tokenizer.ggml.scores has {} entries for {} tokens", scores.size(),
                    spec.tokens.size());
    }
    for (double& score : scores) {
        if (!(score == score)) score = 0;  // NaN has no order
    }
    spec.merges = merges_from_scores(spec.tokens, scores);
    return {};
}

}  // namespace

Result<TokenizerSpec> spec_from_gguf(const GgufFile& file) {
    TokenizerSpec spec;
    std::vector<std::int64_t> types;
    RETORT_TRY(const std::string model, file.string("tokenizer.ggml.model"));
    RETORT_CHECK(read_tokens(file, spec, types));
    RETORT_TRY(spec.special.bos, token_of(file, spec, "tokenizer.ggml.bos_token_id"));
    RETORT_TRY(spec.special.eos, token_of(file, spec, "tokenizer.ggml.eos_token_id"));
    RETORT_TRY(spec.special.unknown, token_of(file, spec, "tokenizer.ggml.unknown_token_id"));
    RETORT_TRY(spec.special.padding, token_of(file, spec, "tokenizer.ggml.padding_token_id"));
    bool adds_bos = model == "llama";
    if (model == "gpt2") {
        RETORT_CHECK(read_byte_level(file, spec, adds_bos));
    } else if (model == "llama") {
        spec.unknown_token = spec.special.unknown;
        RETORT_CHECK(read_sentencepiece(file, spec));
    } else {
        return fail(ErrorCode::unsupported, "tokenizer.ggml.model {:?} is not supported (gpt2 and llama are)",
                    model);
    }
    add_tokens(spec, types);

    RETORT_TRY(adds_bos, file.boolean_or("tokenizer.ggml.add_bos_token", adds_bos));
    RETORT_TRY(const bool adds_eos, file.boolean_or("tokenizer.ggml.add_eos_token", false));
    std::vector<NamedToken> before;
    std::vector<NamedToken> after;
    const auto id_of = [&](std::string_view key) {
        return static_cast<std::int32_t>(*file.integer_or(key, 0));
    };
    if (adds_bos && !spec.special.bos.empty()) {
        before.push_back({spec.special.bos, id_of("tokenizer.ggml.bos_token_id")});
    }
    if (adds_eos && !spec.special.eos.empty()) {
        after.push_back({spec.special.eos, id_of("tokenizer.ggml.eos_token_id")});
    }
    if (!before.empty() || !after.empty()) spec.post_processor = template_processing(before, after);
    return spec;
}

Result<formats::GgufMetadata> spec_to_gguf(const TokenizerSpec& spec, const GgufExport& details) {
    formats::GgufMetadata out;
    const bool sentencepiece = spec.byte_fallback;
    std::string pre = "default";
    bool add_prefix = false;
    if (sentencepiece) {
        const auto is_byte = [](const std::string& token) {
            return token.size() == 6 && token.starts_with("<0x");
        };
        if (std::count_if(spec.tokens.begin(), spec.tokens.end(), is_byte) != 256) {
            return fail(ErrorCode::unsupported,
                        "GGUF cannot express a SentencePiece vocabulary without its 256 byte tokens");
        }
        add_prefix = spec.normalizer == spm_normalizer(true);
        const Json* const type = formats::json_find(spec.pre_tokenizer, "type");
        const bool metaspace = type != nullptr && *type == "Metaspace" && spec.normalizer.is_null();
        if (metaspace) {
            const std::string scheme =
                formats::json_string(spec.pre_tokenizer, "prepend_scheme", "always").value_or("");
            add_prefix = scheme != "never";
        } else if (!spec.pre_tokenizer.is_null() ||
                   (!add_prefix && spec.normalizer != spm_normalizer(false))) {
            return fail(ErrorCode::unsupported,
                        "GGUF cannot express this tokenizer: normalizer {}, pre_tokenizer {}",
                        formats::write_json(spec.normalizer), formats::write_json(spec.pre_tokenizer));
        }
    } else {
        Json sought = spec.pre_tokenizer;
        // Written in many ways that mean the same: trim_offsets never changes an id.
        const auto plain = [](Json json) {
            const auto clean = [](Json& part) {
                if (part.is_object()) part.erase("trim_offsets");
            };
            clean(json);
            if (json.is_object() && json.contains("pretokenizers")) {
                for (Json& part : json["pretokenizers"]) clean(part);
                if (json["pretokenizers"].size() == 1) json = Json(json["pretokenizers"][0]);
            }
            return json;
        };
        const auto* const found =
            std::find_if(std::begin(pipelines), std::end(pipelines), [&](const Pipeline& pipeline) {
                return plain(pre_tokenizer_of(pipeline)) == plain(sought) &&
                       spec.normalizer == normalizer_of(pipeline) &&
                       pipeline.ignore_merges == spec.ignore_merges;
            });
        if (found == std::end(pipelines)) {
            return fail(ErrorCode::unsupported,
                        "no tokenizer.ggml.pre is known for the normalizer {} with the pre_tokenizer {}",
                        formats::write_json(spec.normalizer), formats::write_json(spec.pre_tokenizer));
        }
        pre = found->pre;
    }

    std::vector<std::string> tokens = spec.tokens;
    std::vector<std::int32_t> types(tokens.size(), TokenType::normal);
    for (const AddedToken& token : spec.added_tokens) {
        types[static_cast<std::size_t>(token.id)] =
            token.special ? TokenType::control : TokenType::user_defined;
    }
    for (std::size_t id = 0; id < tokens.size(); ++id) {
        if (tokens[id].empty()) {
            tokens[id] = fmt::format("[PAD{}]", id);
            types[id] = TokenType::unused;
        } else if (sentencepiece && tokens[id] == spec.unknown_token) {
            types[id] = TokenType::unknown;
        } else if (sentencepiece && tokens[id].size() == 6 && tokens[id].starts_with("<0x")) {
            types[id] = TokenType::byte;
        }
    }
    const std::size_t real = tokens.size();
    while (static_cast<std::int64_t>(tokens.size()) < details.vocab_size) {
        tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
        types.push_back(TokenType::unused);
    }

    out.emplace_back("tokenizer.ggml.model", GgufValue::of_string(sentencepiece ? "llama" : "gpt2"));
    out.emplace_back("tokenizer.ggml.pre", GgufValue::of_string(pre));
    if (sentencepiece) {
        // The score of a token is the rank of the merge that makes it, so that merging by score is merging by
        // rank.
        std::unordered_map<std::string, float> score;
        for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
            score.emplace(spec.merges[rank].first + spec.merges[rank].second, -static_cast<float>(rank));
        }
        std::vector<float> scores(tokens.size(), 0.0F);
        for (std::size_t id = 0; id < real; ++id) {
            if (types[id] != TokenType::normal) continue;
            const auto at = score.find(tokens[id]);
            scores[id] = at != score.end() ? at->second : -static_cast<float>(spec.merges.size() + id);
        }
        out.emplace_back("tokenizer.ggml.scores", GgufValue::of_f32s(std::move(scores)));
        out.emplace_back("tokenizer.ggml.add_space_prefix", GgufValue::of_bool(add_prefix));
    } else {
        std::vector<std::string> merges;
        merges.reserve(spec.merges.size());
        for (const auto& [left, right] : spec.merges) merges.push_back(left + " " + right);
        out.emplace_back("tokenizer.ggml.merges", GgufValue::of_strings(std::move(merges)));
    }
    out.emplace_back("tokenizer.ggml.tokens", GgufValue::of_strings(std::move(tokens)));
    out.emplace_back("tokenizer.ggml.token_type", GgufValue::of_i32s(std::move(types)));
    const auto put_id = [&](const char* key, std::int32_t id) {
        if (id >= 0) out.emplace_back(key, GgufValue::of_u32(static_cast<std::uint32_t>(id)));
    };
    put_id("tokenizer.ggml.bos_token_id", details.bos);
    put_id("tokenizer.ggml.eos_token_id", details.eos);
    put_id("tokenizer.ggml.unknown_token_id", details.unknown);
    put_id("tokenizer.ggml.padding_token_id", details.padding);
    out.emplace_back("tokenizer.ggml.add_bos_token", GgufValue::of_bool(details.adds_bos));
    out.emplace_back("tokenizer.ggml.add_eos_token", GgufValue::of_bool(details.adds_eos));
    if (!details.chat_template.empty()) {
        out.emplace_back("tokenizer.chat_template", GgufValue::of_string(std::string(details.chat_template)));
    }
    return out;
}

}  // namespace retort::text
