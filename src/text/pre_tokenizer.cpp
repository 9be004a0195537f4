#include "text/pre_tokenizer.h"

#include "text/normalizer.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

constexpr int max_pre_tokenizers = 16;

Result<SplitBehavior> parse_behavior(const formats::Json& json) {
    RETORT_TRY(const std::string name, formats::json_string(json, "behavior", "Isolated"));
    if (name == "Removed") return SplitBehavior::removed;
    if (name == "Isolated") return SplitBehavior::isolated;
    if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
    if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
    if (name == "Contiguous") return SplitBehavior::contiguous;
    return fail(ErrorCode::unsupported, "tokenizer.json: split behavior {:?} is not supported", name);
}

struct Part {
    std::size_t begin;
    std::size_t end;
    bool match;
};

// Collects matches, with what lies between them, and emits the pieces that a behaviour makes of them.
class Splitter {
  public:
    explicit Splitter(std::string_view text) : text_(text) {}

    void match(std::size_t begin, std::size_t end) {
        if (at_ != begin) parts_.push_back({at_, begin, false});
        parts_.push_back({begin, end, true});
        at_ = end;
    }

    void finish(SplitBehavior behavior, bool invert, std::vector<std::string_view>& out) {
        if (at_ != text_.size()) parts_.push_back({at_, text_.size(), false});
        if (invert) {
            for (Part& part : parts_) part.match = !part.match;
        }
        join(behavior);
        for (const Part& part : parts_) {
            if (part.begin == part.end || (behavior == SplitBehavior::removed && part.match)) continue;
            out.push_back(text_.substr(part.begin, part.end - part.begin));
        }
    }

  private:
    void join(SplitBehavior behavior) {
        std::vector<Part> joined;
        if (behavior == SplitBehavior::contiguous) {
            for (const Part& part : parts_) {
                if (!joined.empty() && joined.back().match == part.match) {
                    joined.back().end = part.end;
                } else {
                    joined.push_back(part);
                }
            }
        } else if (behavior == SplitBehavior::merged_with_previous) {
            bool previous = false;
            for (const Part& part : parts_) {
                if (part.match && !previous && !joined.empty()) {
                    joined.back().end = part.end;
                } else {
                    joined.push_back(part);
                }
                previous = part.match;
            }
        } else if (behavior == SplitBehavior::merged_with_next) {
            bool previous = false;
            for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
                if (part->match && !previous && !joined.empty()) {
                    joined.back().begin = part->begin;
                } else {
                    joined.push_back(*part);
                }
                previous = part->match;
            }
            std::vector<Part>(joined.rbegin(), joined.rend()).swap(joined);
        } else {
            return;
        }
        parts_.swap(joined);
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::vector<Part> parts_;
};

template <typename IsMatch>
void split_characters(std::string_view text, SplitBehavior behavior, std::vector<std::string_view>& out,
                      const IsMatch& is_match) {
    Splitter splitter(text);
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        if (is_match(c.point)) splitter.match(at, at + c.length);
        at += c.length;
    }
    splitter.finish(behavior, false, out);
}

// The usual case of it, without a list in between.
void isolate_digits(std::string_view text, std::vector<std::string_view>& out) {
    const CharacterTable& table = CharacterTable::get();
    std::size_t begin = 0;
    for (std::size_t at = 0; at < text.size();) {
        const auto byte = static_cast<unsigned char>(text[at]);
        Decoded c{byte, 1};
        if (byte < 0x80) {
            if (byte < '0' || byte > '9') {
                ++at;
                continue;
            }
        } else {
            c = decode_valid(text, at);
            if (!table.numeric(c.point)) {
                at += c.length;
                continue;
            }
        }
        if (begin < at) out.push_back(text.substr(begin, at - begin));
        out.push_back(text.substr(at, c.length));
        at += c.length;
        begin = at;
    }
    if (begin < text.size()) out.push_back(text.substr(begin));
}

template <typename OnMatch>
void find_literal(std::string_view text, std::string_view literal, const OnMatch& on_match) {
    if (literal.empty()) return;
    for (std::size_t at = text.find(literal); at != std::string_view::npos;
         at = text.find(literal, at + literal.size())) {
        on_match(at, at + literal.size());
    }
}

}  // namespace

Result<PreTokenizer> PreTokenizer::parse(const formats::Json* json) {
    PreTokenizer pre_tokenizer;
    if (json != nullptr) RETORT_CHECK(pre_tokenizer.add(*json, 0));
    return pre_tokenizer;
}

Status PreTokenizer::add(const formats::Json& json, int depth) {
    RETORT_TRY(const std::string type, formats::json_string(json, "type"));
    if (depth > max_pre_tokenizers)
        return fail(ErrorCode::unsupported, "tokenizer.json: pre-tokenizers nested too deeply");
    if (type == "Sequence") {
        const formats::Json* parts = formats::json_find(json, "pretokenizers");
        if (parts == nullptr || !parts->is_array()) {
            return fail(ErrorCode::format,
                        "tokenizer.json: a pre_tokenizer Sequence without \"pretokenizers\"");
        }
        for (const formats::Json& part : *parts) RETORT_CHECK(add(part, depth + 1));
        return {};
    }
    if (byte_level_) {
        return fail(ErrorCode::unsupported,
                    "tokenizer.json: pre_tokenizer {:?} after ByteLevel is not supported", type);
    }
    if (type == "ByteLevel") {
        RETORT_TRY(const bool prefix, formats::json_boolean(json, "add_prefix_space", true));
        RETORT_TRY(const bool use_regex, formats::json_boolean(json, "use_regex", true));
        steps_.emplace_back(ByteLevel{prefix, use_regex});
        byte_level_ = true;
    } else if (type == "Split") {
        RETORT_TRY(TextPattern pattern, parse_pattern(json));
        RETORT_TRY(const SplitBehavior behavior, parse_behavior(json));
        RETORT_TRY(const bool invert, formats::json_boolean(json, "invert", false));
        Split split{std::move(pattern.literal), {}, {}, behavior, invert};
        if (pattern.is_regex) {
            split.words = find_word_pattern(pattern.regex);
            // Their pieces are all matches, one after the other; only these two behaviours keep them so.
            if (behavior == SplitBehavior::merged_with_previous ||
                behavior == SplitBehavior::merged_with_next || invert ||
                behavior == SplitBehavior::contiguous || behavior == SplitBehavior::removed) {
                split.words.reset();
            }
            if (!split.words) {
                RETORT_TRY(split.regex, Regex::compile(pattern.regex));
            }
        }
        steps_.emplace_back(std::move(split));
    } else if (type == "Digits") {
        RETORT_TRY(const bool individual, formats::json_boolean(json, "individual_digits", false));
        steps_.emplace_back(Digits{individual});
    } else if (type == "Punctuation") {
        RETORT_TRY(const SplitBehavior behavior, parse_behavior(json));
        steps_.emplace_back(Punctuation{behavior});
    } else if (type == "Metaspace") {
        Metaspace step{"\xE2\x96\x81", Metaspace::Prepend::always, true};
        RETORT_TRY(step.replacement, formats::json_string(json, "replacement", step.replacement));
        RETORT_TRY(const bool legacy_prefix, formats::json_boolean(json, "add_prefix_space", true));
        RETORT_TRY(const std::string scheme,
                   formats::json_string(json, "prepend_scheme", legacy_prefix ? "always" : "never"));
        RETORT_TRY(step.split, formats::json_boolean(json, "split", true));
        if (scheme == "first") {
            step.prepend = Metaspace::Prepend::first;
        } else if (scheme == "never") {
            step.prepend = Metaspace::Prepend::never;
        } else if (scheme != "always") {
            return fail(ErrorCode::unsupported,
                        "tokenizer.json: Metaspace prepend_scheme {:?} is not supported", scheme);
        }
        if (step.replacement.empty() || step.replacement.size() > 4) {
            return fail(ErrorCode::format,
                        "tokenizer.json: Metaspace wants one character as its replacement");
        }
        steps_.emplace_back(std::move(step));
    } else {
        return fail(ErrorCode::unsupported,
                    "tokenizer.json: pre_tokenizer {:?} is not supported (ByteLevel, Split, Digits, "
                    "Punctuation, Metaspace "
                    "and Sequence are)",
                    type);
    }
    return {};
}

void PreTokenizer::apply(std::string_view text, bool at_start, PreTokenizerScratch& scratch) const {
    scratch.pieces.clear();
    scratch.texts.clear();
    if (!text.empty()) scratch.pieces.push_back(text);
    for (const Step& step : steps_) apply_step(step, at_start, scratch);
}

void PreTokenizer::apply_step(const Step& step, bool at_start, PreTokenizerScratch& scratch) {
    scratch.next.clear();
    const char* const input_begin = scratch.pieces.empty() ? nullptr : scratch.pieces.front().data();
    for (std::string_view piece : scratch.pieces) {
        if (const auto* split = std::get_if<Split>(&step)) {
            if (split->words) {
                scan_words(*split->words, piece, scratch.next);
                continue;
            }
            Splitter splitter(piece);
            const auto on_match = [&](std::size_t begin, std::size_t end) { splitter.match(begin, end); };
            if (split->regex) {
                split->regex->find_all(piece, on_match);
            } else {
                find_literal(piece, split->literal, on_match);
            }
            splitter.finish(split->behavior, split->invert, scratch.next);
        } else if (const auto* digits = std::get_if<Digits>(&step)) {
            if (digits->individual) {
                isolate_digits(piece, scratch.next);
            } else {
                const CharacterTable& table = CharacterTable::get();
                split_characters(piece, SplitBehavior::contiguous, scratch.next,
                                 [&](char32_t c) { return table.numeric(c); });
            }
        } else if (const auto* marks_step = std::get_if<Punctuation>(&step)) {
            const CharacterTable& table = CharacterTable::get();
            split_characters(piece, marks_step->behavior, scratch.next,
                             [&](char32_t c) { return table.punctuation_mark(c); });
        } else if (const auto* bytes = std::get_if<ByteLevel>(&step)) {
            if (bytes->add_prefix_space && !piece.starts_with(' ')) {
                piece = scratch.texts.emplace_back(" " + std::string(piece));
            }
            if (bytes->use_regex) {
                scan_words(WordPattern::gpt2, piece, scratch.next);
            } else {
                scratch.next.push_back(piece);
            }
        } else if (const auto* metaspace = std::get_if<Metaspace>(&step)) {
            const bool first = at_start && piece.data() == input_begin;
            std::string& text = scratch.texts.emplace_back();
            for (std::size_t at = 0; at < piece.size();) {
                const std::size_t space = std::min(piece.find(' ', at), piece.size());
                text.append(piece.substr(at, space - at));
                if (space < piece.size()) text.append(metaspace->replacement);
                at = space + 1;
            }
            const bool prepend = metaspace->prepend == Metaspace::Prepend::always ||
                                 (metaspace->prepend == Metaspace::Prepend::first && first);
            if (prepend && !text.starts_with(metaspace->replacement)) text.insert(0, metaspace->replacement);
            if (metaspace->split) {
                Splitter splitter(text);
                find_literal(text, metaspace->replacement,
                             [&](std::size_t begin, std::size_t end) { splitter.match(begin, end); });
                splitter.finish(SplitBehavior::merged_with_next, false, scratch.next);
            } else {
                scratch.next.push_back(text);
            }
        }
    }
    scratch.pieces.swap(scratch.next);
}

}  // namespace retort::text
