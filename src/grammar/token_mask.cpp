#include "grammar/token_mask.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace retort::grammar {

namespace {

constexpr std::size_t max_known_masks = 2048;
constexpr std::size_t word_bits = 64;

}  // namespace

TokenTree::TokenTree(std::vector<std::string> bytes) : bytes_(std::move(bytes)) {
    std::vector<std::int32_t> order(bytes_.size());
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](std::int32_t id) { return bytes_[static_cast<std::size_t>(id)].empty(); });
    std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        const int compared = bytes_[static_cast<std::size_t>(a)].compare(bytes_[static_cast<std::size_t>(b)]);
        return compared < 0 || (compared == 0 && a < b);
    });
    tokens_ = order;
    std::vector<std::int32_t> path;  // nodes of the prefix at hand
    std::string_view before;
    for (std::size_t i = 0; i < order.size(); ++i) {
        const std::string_view text = bytes_[static_cast<std::size_t>(order[i])];
        const auto common = static_cast<std::size_t>(
            std::mismatch(text.begin(), text.end(), before.begin(), before.end()).first - text.begin());
        while (path.size() > common) {
            nodes_[static_cast<std::size_t>(path.back())].skip = static_cast<std::int32_t>(nodes_.size());
            path.pop_back();
        }
        for (std::size_t depth = common; depth < text.size(); ++depth) {
            path.push_back(static_cast<std::int32_t>(nodes_.size()));
            nodes_.push_back({static_cast<unsigned char>(text[depth]), 0, static_cast<std::int32_t>(i), 0,
                              static_cast<std::int32_t>(depth)});
        }
        ++nodes_[static_cast<std::size_t>(path.back())].token_count;
        before = text;
    }
    for (const std::int32_t node : path) {
        nodes_[static_cast<std::size_t>(node)].skip = static_cast<std::int32_t>(nodes_.size());
    }
}

TokenGrammar::TokenGrammar(Grammar grammar, std::shared_ptr<const TokenTree> tree)
    : automaton_(std::move(grammar)), tree_(std::move(tree)) {}

std::int32_t TokenGrammar::start() {
    return automaton_.start();
}

std::int32_t TokenGrammar::step(std::int32_t state, std::int32_t token) {
    const std::string_view text = tree_->bytes(token);
    if (text.empty()) return Automaton::dead;
    const std::lock_guard lock(mutex_);
    for (const char byte : text) state = automaton_.step(state, static_cast<unsigned char>(byte));
    return state;
}

std::shared_ptr<const TokenGrammar::Bits> TokenGrammar::bits_of(std::int32_t state) {
    const std::lock_guard lock(mutex_);
    if (const auto known = known_.find(state); known != known_.end()) return known->second;
    auto bits = std::make_shared<Bits>((tree_->size() + word_bits - 1) / word_bits);
    const std::span<const TokenTree::Node> nodes = tree_->nodes();
    std::vector<std::int32_t> states{state};  // states[depth]: before the byte at that depth
    for (std::size_t i = 0; i < nodes.size();) {
        const TokenTree::Node& node = nodes[i];
        const auto depth = static_cast<std::size_t>(node.depth);
        const std::int32_t next = automaton_.step(states[depth], node.byte);
        if (next == Automaton::dead) {
            i = static_cast<std::size_t>(node.skip);
            continue;
        }
        states.resize(depth + 1);
        states.push_back(next);
        for (std::int32_t t = 0; t < node.token_count; ++t) {
            const auto token =
                static_cast<std::size_t>(tree_->tokens()[static_cast<std::size_t>(node.first_token + t)]);
            (*bits)[token / word_bits] |= std::uint64_t{1} << (token % word_bits);
        }
        ++i;
    }
    if (known_.size() >= max_known_masks) known_.clear();
    known_.emplace(state, bits);
    return bits;
}

void TokenGrammar::mask(std::int32_t state, std::span<const std::int32_t> end_tokens,
                        std::span<float> logits) {
    constexpr float never = -std::numeric_limits<float>::infinity();
    bool some = false;
    std::shared_ptr<const Bits> bits;
    if (state != Automaton::dead) {
        bits = bits_of(state);
        some = std::any_of(bits->begin(), bits->end(), [](std::uint64_t word) { return word != 0; });
    }
    std::vector<std::pair<std::int32_t, float>> kept;
    if (!some || may_end(state)) {
        for (const std::int32_t token : end_tokens) {
            if (token >= 0 && static_cast<std::size_t>(token) < logits.size()) {
                kept.emplace_back(token, logits[static_cast<std::size_t>(token)]);
            }
        }
    }
    for (std::size_t i = 0; i < logits.size(); ++i) {
        const bool fits =
            some && i / word_bits < bits->size() && ((*bits)[i / word_bits] >> (i % word_bits) & 1U) != 0;
        if (!fits) logits[i] = never;
    }
    for (const auto& [token, logit] : kept) logits[static_cast<std::size_t>(token)] = logit;
}

bool TokenGrammar::may_end(std::int32_t state) {
    const std::lock_guard lock(mutex_);
    return automaton_.accepts(state);
}

bool TokenGrammar::must_end(std::int32_t state) {
    const std::lock_guard lock(mutex_);
    return automaton_.accepts(state) && !automaton_.goes_on(state);
}

}  // namespace retort::grammar
