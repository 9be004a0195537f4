#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>

#include "base/hash.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer_spec.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

// Buffers and the cache of words of one encode() at a time.
struct Scratch {
    PreTokenizerScratch pre_tokenizer;
    BpeScratch bpe;
    std::vector<AddedTokenPart> raw_parts;
    std::vector<AddedTokenPart> normalized_parts;
    std::string valid;
    std::string normalized;
};

const formats::Json* component(const formats::Json& json) {
    return json.is_null() ? nullptr : &json;
}

}  // namespace

class Tokenizer::Implementation {
  public:
    TokenizerSpec spec;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    PostProcessor post_processor;
    Decoder decoder;
    Bpe bpe;
    AddedTokenMatcher raw_matcher;         // tokens looked for before normalisation
    AddedTokenMatcher normalized_matcher;  // and after it
    std::vector<bool> special;
    std::string token_bytes;                  // of all tokens, one after the other
    std::vector<std::uint32_t> token_offset;  // vocab_size + 1
    std::int32_t bos = -1, eos = -1, unknown = -1, padding = -1;

    // Made on first use: it takes longer than everything else that loading does.
    const std::string& hash() const {
        std::call_once(hash_once_, [this] {
            const auto json = spec_to_json(spec);
            // A vocabulary that JSON cannot hold (two tokens of one text) still has an identity.
            hash_ = base::sha256_hex(json ? *json : token_bytes);
        });
        return hash_;
    }

    // Scratch space is lent to one call at a time; as many exist as calls were ever under way at once.
    class Loan {
      public:
        explicit Loan(const Implementation& owner) : owner_(owner) {
            const std::lock_guard lock(owner.mutex_);
            if (!owner.idle_.empty()) {
                scratch_ = std::move(owner.idle_.back());
                owner.idle_.pop_back();
            }
            if (!scratch_) scratch_ = std::make_unique<Scratch>();
        }
        ~Loan() {
            const std::lock_guard lock(owner_.mutex_);
            owner_.idle_.push_back(std::move(scratch_));
        }
        Loan(const Loan&) = delete;
        Loan& operator=(const Loan&) = delete;
        Scratch& operator*() const { return *scratch_; }

      private:
        const Implementation& owner_;
        std::unique_ptr<Scratch> scratch_;
    };

    void encode_text(std::string_view text, bool at_start, Scratch& scratch,
                     std::vector<std::int32_t>& ids) const {
        pre_tokenizer.apply(text, at_start, scratch.pre_tokenizer);
        for (const std::string_view word : scratch.pre_tokenizer.pieces) bpe.encode(word, ids, scratch.bpe);
    }

  private:
    mutable std::once_flag hash_once_;
    mutable std::string hash_;
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

Tokenizer::Tokenizer(std::shared_ptr<const Implementation> implementation)
    : implementation_(std::move(implementation)) {}

Result<Tokenizer> Tokenizer::from_json(std::string_view tokenizer_json,
                                       std::string_view tokenizer_config_json) {
    RETORT_TRY(TokenizerSpec spec, spec_from_json(tokenizer_json, tokenizer_config_json));
    return build(std::move(spec));
}

Result<Tokenizer> Tokenizer::from_gguf(const formats::GgufFile& file) {
    auto spec = spec_from_gguf(file);
    if (!spec) return fail_from(std::move(spec.error()), file.name());
    auto tokenizer = build(std::move(*spec));
    if (!tokenizer) return fail_from(std::move(tokenizer.error()), file.name());
    return tokenizer;
}

Result<Tokenizer> Tokenizer::build(TokenizerSpec spec) {
    auto made = std::make_shared<Implementation>();
    RETORT_TRY(made->normalizer, Normalizer::parse(component(spec.normalizer)));
    RETORT_TRY(made->pre_tokenizer, PreTokenizer::parse(component(spec.pre_tokenizer)));
    RETORT_TRY(made->post_processor, PostProcessor::parse(component(spec.post_processor)));
    RETORT_TRY(made->decoder, Decoder::parse(component(spec.decoder)));

    const std::vector<std::string_view> tokens(spec.tokens.begin(), spec.tokens.end());
    const std::vector<std::pair<std::string_view, std::string_view>> merges(spec.merges.begin(),
                                                                            spec.merges.end());
    BpeOptions options;
    options.byte_level = made->pre_tokenizer.byte_level();
    options.byte_fallback = spec.byte_fallback;
    options.fuse_unknown = spec.fuse_unknown;
    options.ignore_merges = spec.ignore_merges;
    if (!spec.unknown_token.empty()) {
        const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), spec.unknown_token);
        if (found == spec.tokens.end()) {
            return fail(ErrorCode::format, "the unknown token {:?} is not in the vocabulary",
                        spec.unknown_token);
        }
        options.unknown = static_cast<std::int32_t>(found - spec.tokens.begin());
    }
    // The model's alphabet leaves out what only the list of added tokens has.
    std::vector<std::string_view> model_tokens = tokens;
    for (const AddedToken& token : spec.added_tokens) {
        if (token.id >= spec.model_vocabulary) model_tokens[static_cast<std::size_t>(token.id)] = {};
    }
    RETORT_TRY(made->bpe, Bpe::build(model_tokens, merges, options));

    std::vector<std::string> raw_patterns;
    std::vector<std::string> normalized_patterns;
    std::string buffer;
    made->special.assign(tokens.size(), false);
    for (const AddedToken& token : spec.added_tokens) {
        raw_patterns.emplace_back(token.normalized ? "" : token.content);
        normalized_patterns.emplace_back(token.normalized ? made->normalizer.apply(token.content, buffer)
                                                          : "");
        if (token.special) made->special[static_cast<std::size_t>(token.id)] = true;
    }
    made->raw_matcher.build(spec.added_tokens, raw_patterns);
    made->normalized_matcher.build(spec.added_tokens, normalized_patterns);

    made->token_offset.reserve(tokens.size() + 1);
    made->token_offset.push_back(0);
    for (const std::string_view token : tokens) {
        made->token_bytes += made->decoder.bytes(token);
        made->token_offset.push_back(static_cast<std::uint32_t>(made->token_bytes.size()));
    }

    for (const std::int32_t id : made->post_processor.before) {
        if (static_cast<std::size_t>(id) >= tokens.size()) {
            return fail(ErrorCode::format, "post_processor: token id {} is not in the vocabulary of {}", id,
                        tokens.size());
        }
    }
    for (const std::int32_t id : made->post_processor.after) {
        if (static_cast<std::size_t>(id) >= tokens.size()) {
            return fail(ErrorCode::format, "post_processor: token id {} is not in the vocabulary of {}", id,
                        tokens.size());
        }
    }
    const auto find_id = [&](const std::string& text) -> std::int32_t {
        if (text.empty()) return -1;
        for (const AddedToken& token : spec.added_tokens) {
            if (token.content == text) return token.id;
        }
        return made->bpe.find(text);
    };
    made->bos = find_id(spec.special.bos);
    made->eos = find_id(spec.special.eos);
    made->unknown = find_id(spec.special.unknown);
    made->padding = find_id(spec.special.padding);
    made->spec = std::move(spec);
    return Tokenizer(std::move(made));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
    const Implementation& self = *implementation_;
    const Implementation::Loan loan(self);
    Scratch& scratch = *loan;
    std::vector<std::int32_t> ids;
    ids.reserve(text.size() / 3 + 8);
    if (options.add_special_tokens) ids = self.post_processor.before;
    if (!is_valid_utf8(text)) {
        scratch.valid.clear();
        append_lossy_utf8(scratch.valid, text);
        text = scratch.valid;
    }
    scratch.raw_parts.clear();
    self.raw_matcher.split(text, options.parse_special, scratch.raw_parts);
    for (const AddedTokenPart& raw : scratch.raw_parts) {
        if (raw.id >= 0) {
            ids.push_back(raw.id);
            continue;
        }
        const std::string_view normalized = self.normalizer.apply(raw.text, scratch.normalized);
        const bool at_start = raw.text.data() == text.data();
        if (self.normalized_matcher.empty()) {
            self.encode_text(normalized, at_start, scratch, ids);
            continue;
        }
        scratch.normalized_parts.clear();
        self.normalized_matcher.split(normalized, options.parse_special, scratch.normalized_parts);
        for (const AddedTokenPart& part : scratch.normalized_parts) {
            if (part.id >= 0) {
                ids.push_back(part.id);
            } else {
                self.encode_text(part.text, at_start && part.text.data() == normalized.data(), scratch, ids);
            }
        }
    }
    if (options.add_special_tokens) {
        ids.insert(ids.end(), self.post_processor.after.begin(), self.post_processor.after.end());
    }
    return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
    const Implementation& self = *implementation_;
    const auto wanted = [&](std::int32_t id) {
        return id >= 0 && id < vocab_size() && !(skip_special && self.special[static_cast<std::size_t>(id)]);
    };
    if (self.decoder.byte_level()) {
        std::string bytes;
        for (const std::int32_t id : ids) {
            if (wanted(id)) bytes.append(token_bytes(id));
        }
        return lossy_utf8(bytes);
    }
    std::vector<std::string> tokens;
    for (const std::int32_t id : ids) {
        if (wanted(id)) tokens.emplace_back(token_text(id));
    }
    return self.decoder.decode(std::move(tokens));
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
    if (id < 0 || id >= vocab_size()) return {};
    const Implementation& self = *implementation_;
    const auto at = static_cast<std::size_t>(id);
    return std::string_view(self.token_bytes)
        .substr(self.token_offset[at], self.token_offset[at + 1] - self.token_offset[at]);
}

std::string_view Tokenizer::token_text(std::int32_t id) const {
    if (id < 0 || id >= vocab_size()) return {};
    return implementation_->spec.tokens[static_cast<std::size_t>(id)];
}

std::int32_t Tokenizer::token_to_id(std::string_view token_text) const {
    for (const AddedToken& token : implementation_->spec.added_tokens) {
        if (token.content == token_text) return token.id;
    }
    return implementation_->bpe.find(token_text);
}

bool Tokenizer::is_special(std::int32_t id) const {
    return id >= 0 && id < vocab_size() && implementation_->special[static_cast<std::size_t>(id)];
}

bool Tokenizer::strips_leading_space() const {
    return implementation_->decoder.strips_leading_space();
}

std::string Tokenizer::broken_text(std::size_t bytes) const {
    std::string out;
    const std::size_t count = implementation_->decoder.byte_fallback() ? bytes : 1;
    for (std::size_t i = 0; i < count; ++i) append_utf8(out, 0xFFFD);
    return out;
}

std::int32_t Tokenizer::vocab_size() const {
    return static_cast<std::int32_t>(implementation_->spec.tokens.size());
}

std::int32_t Tokenizer::bos_id() const {
    return implementation_->bos;
}
std::int32_t Tokenizer::eos_id() const {
    return implementation_->eos;
}

bool Tokenizer::adds_bos() const {
    const auto& before = implementation_->post_processor.before;
    return !before.empty() && before.front() == implementation_->bos;
}

const SpecialTokenText& Tokenizer::special_tokens() const {
    return implementation_->spec.special;
}
std::span<const AddedToken> Tokenizer::added_tokens() const {
    return implementation_->spec.added_tokens;
}
const std::string& Tokenizer::hash() const {
    return implementation_->hash();
}

Result<std::string> Tokenizer::to_tokenizer_json() const {
    return spec_to_json(implementation_->spec);
}

std::string Tokenizer::to_tokenizer_config_json(std::string_view chat_template) const {
    return spec_to_config_json(implementation_->spec, chat_template);
}

Result<formats::GgufMetadata> Tokenizer::to_gguf(std::int64_t vocab_size,
                                                 std::string_view chat_template) const {
    const Implementation& self = *implementation_;
    GgufExport details;
    details.vocab_size = vocab_size;
    details.chat_template = chat_template;
    details.bos = self.bos;
    details.eos = self.eos;
    details.unknown = self.unknown >= 0 ? self.unknown : token_to_id(self.spec.unknown_token);
    details.padding = self.padding;
    details.adds_bos = adds_bos();
    details.adds_eos = !self.post_processor.after.empty() && self.post_processor.after.back() == self.eos;
    return spec_to_gguf(self.spec, details);
}

}  // namespace retort::text
