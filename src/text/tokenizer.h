// Text to token ids and back: byte-level BPE (GPT-2, SmolLM2, Llama 3, Qwen, …) and SentencePiece-style BPE
// with byte fallback (Llama 2, Mistral), with the ids of the `tokenizers` library. What it reads is in
// docs/formats/tokenizer.md. Knows nothing of models.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "text/added_tokens.h"

namespace retort::text {

struct TokenizerSpec;

struct EncodeOptions {
    bool add_special_tokens = true;  // what the model's own post-processor adds, such as BOS
    bool parse_special = true;  // false: "<|im_end|>" in the text is plain characters, as users' text must be
};

struct SpecialTokenText {
    std::string bos, eos, unknown, padding;  // empty when the tokenizer has none
};

// Immutable and cheap to copy; every function may be called from several threads at once.
class Tokenizer {
  public:
    // A component that this program lacks is refused by name. `tokenizer_config_json` may be empty.
    static Result<Tokenizer> from_json(std::string_view tokenizer_json,
                                       std::string_view tokenizer_config_json = {});
    static Result<Tokenizer> from_gguf(const formats::GgufFile& file);

    // Bytes that are no UTF-8 count as U+FFFD, one for each maximal ill-formed part, as Python's
    // bytes.decode(errors="replace") makes them.
    [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
    // Valid UTF-8; ids outside the vocabulary are left out.
    [[nodiscard]] std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

    // The bytes that a token stands for in the middle of a text; empty outside the vocabulary.
    [[nodiscard]] std::string_view token_bytes(std::int32_t id) const;
    // The token as tokenizer.json writes it ("Ġthe"), and back (-1 when there is none).
    [[nodiscard]] std::string_view token_text(std::int32_t id) const;
    [[nodiscard]] std::int32_t token_to_id(std::string_view token_text) const;
    [[nodiscard]] bool is_special(std::int32_t id) const;
    // The decoder drops a space at the beginning of a text (SentencePiece style).
    [[nodiscard]] bool strips_leading_space() const;
    // What decode() writes for `bytes` bytes of one ill-formed part: one U+FFFD, or (byte fallback) one a
    // byte.
    [[nodiscard]] std::string broken_text(std::size_t bytes) const;
    // 0 … vocab_size() − 1 are the ids in use; a model's padded rows are none of them.
    [[nodiscard]] std::int32_t vocab_size() const;

    [[nodiscard]] std::int32_t bos_id() const;  // -1 when there is none
    [[nodiscard]] std::int32_t eos_id() const;
    [[nodiscard]] bool adds_bos() const;  // encode() with add_special_tokens begins with bos_id()
    [[nodiscard]] const SpecialTokenText& special_tokens() const;
    [[nodiscard]] std::span<const AddedToken> added_tokens() const;

    // SHA-256 (hex) of to_tokenizer_json(): equal hashes give equal ids.
    [[nodiscard]] const std::string& hash() const;

    // A Hugging Face folder's files, whatever this was read from.
    [[nodiscard]] Result<std::string> to_tokenizer_json() const;
    [[nodiscard]] std::string to_tokenizer_config_json(std::string_view chat_template = {}) const;
    // The tokenizer.* keys of a GGUF file, the vocabulary padded to `vocab_size` rows. Fails, naming the
    // component, for a pipeline that no known tokenizer.ggml.pre stands for.
    [[nodiscard]] Result<formats::GgufMetadata> to_gguf(std::int64_t vocab_size = 0,
                                                        std::string_view chat_template = {}) const;

  private:
    class Implementation;
    static Result<Tokenizer> build(TokenizerSpec spec);
    explicit Tokenizer(std::shared_ptr<const Implementation> implementation);
    std::shared_ptr<const Implementation> implementation_;
};

}  // namespace retort::text
