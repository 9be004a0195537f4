#include "grammar/grammar.h"

#include <algorithm>
#include <string>
#include <utility>

namespace retort::grammar {

namespace {

using Kind = Grammar::Kind;
constexpr std::size_t max_nodes = 200'000;
constexpr std::size_t max_rules = 10'000;

}  // namespace

ByteSet byte_range(unsigned char low, unsigned char high) {
    ByteSet set;
    for (unsigned byte = low; byte <= high; ++byte) set.set(byte);
    return set;
}

ByteSet bytes_of(std::string_view bytes) {
    ByteSet set;
    for (const char byte : bytes) set.set(static_cast<unsigned char>(byte));
    return set;
}

GrammarBuilder::GrammarBuilder() {
    grammar_.rules.push_back(-1);
}

std::int32_t GrammarBuilder::add(Kind kind, std::int32_t value) {
    if (grammar_.nodes.size() >= max_nodes) {
        too_large_ = true;  // finish() says so; until then nothing grows
        return 0;
    }
    grammar_.nodes.push_back({kind, false, value, -1, -1});
    return static_cast<std::int32_t>(grammar_.nodes.size()) - 1;
}

Fragment GrammarBuilder::nothing() {
    const std::int32_t node = add(Kind::split);
    return {node, node};
}

Fragment GrammarBuilder::bytes(const ByteSet& set) {
    const auto known = std::find(grammar_.sets.begin(), grammar_.sets.end(), set);
    const auto index = static_cast<std::int32_t>(known - grammar_.sets.begin());
    if (known == grammar_.sets.end()) grammar_.sets.push_back(set);
    const Fragment out{add(Kind::bytes, index), add(Kind::split)};
    grammar_.nodes[static_cast<std::size_t>(out.start)].next = out.end;
    return out;
}

Fragment GrammarBuilder::literal(std::string_view text) {
    std::vector<Fragment> parts;
    for (const char byte : text) parts.push_back(bytes(bytes_of({&byte, 1})));
    return sequence(parts);
}

Fragment GrammarBuilder::sequence(const std::vector<Fragment>& parts) {
    Fragment out = nothing();
    for (const Fragment& part : parts) {
        grammar_.nodes[static_cast<std::size_t>(out.end)].next = part.start;
        out.end = part.end;
    }
    return out;
}

Fragment GrammarBuilder::choice(const std::vector<Fragment>& parts) {
    const std::int32_t end = add(Kind::split);
    std::int32_t start = -1;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        grammar_.nodes[static_cast<std::size_t>(part->end)].next = end;
        if (start < 0) {
            start = part->start;
            continue;
        }
        const std::int32_t split = add(Kind::split);
        grammar_.nodes[static_cast<std::size_t>(split)].next = part->start;
        grammar_.nodes[static_cast<std::size_t>(split)].other = start;
        start = split;
    }
    // Of no parts: a way in that leads nowhere.
    return {start < 0 ? add(Kind::split) : start, end};
}

Fragment GrammarBuilder::optional(Fragment part) {
    return choice({part, nothing()});
}

Fragment GrammarBuilder::star(Fragment part) {
    const Fragment out{add(Kind::split), add(Kind::split)};
    grammar_.nodes[static_cast<std::size_t>(out.start)].next = part.start;
    grammar_.nodes[static_cast<std::size_t>(out.start)].other = out.end;
    grammar_.nodes[static_cast<std::size_t>(part.end)].next = out.start;
    return out;
}

Fragment GrammarBuilder::repeat(const std::function<Fragment()>& make, std::int64_t min, std::int64_t max) {
    std::vector<Fragment> parts;
    for (std::int64_t i = 0; i < min && !too_large_; ++i) parts.push_back(make());
    if (max < 0) {
        parts.push_back(star(make()));
        return sequence(parts);
    }
    // Each further one may be the last: all ends meet in one.
    const Fragment head = sequence(parts);
    const std::int32_t end = add(Kind::split);
    std::int32_t at = head.end;
    for (std::int64_t i = min; i < max && !too_large_; ++i) {
        const std::int32_t split = add(Kind::split);
        const Fragment part = make();
        grammar_.nodes[static_cast<std::size_t>(at)].next = split;
        grammar_.nodes[static_cast<std::size_t>(split)].next = part.start;
        grammar_.nodes[static_cast<std::size_t>(split)].other = end;
        at = part.end;
    }
    grammar_.nodes[static_cast<std::size_t>(at)].next = end;
    return {head.start, end};
}

Fragment GrammarBuilder::text_through(std::string_view mark) {
    return text_automaton(mark, true);
}

Fragment GrammarBuilder::text_without(std::string_view mark) {
    return text_automaton(mark, false);
}

// Knuth, Morris and Pratt's automaton: state k has seen the first k bytes of the mark.
Fragment GrammarBuilder::text_automaton(std::string_view mark, bool through) {
    const std::size_t count = mark.size();
    const std::int32_t end = add(Kind::split);
    std::vector<std::int32_t> states;
    for (std::size_t k = 0; k < count; ++k) states.push_back(add(Kind::split));
    for (std::size_t k = 0; k < count; ++k) {
        std::vector<ByteSet> to(count + 1);
        for (int byte = 0; byte < 256; ++byte) {
            std::string seen(mark.substr(0, k));
            seen += static_cast<char>(byte);
            std::size_t length = seen.size();
            while (length > 0 && !seen.ends_with(mark.substr(0, length))) --length;
            to[length].set(static_cast<std::size_t>(byte));
        }
        std::int32_t at = states[k];
        for (std::size_t target = 0; target <= count; ++target) {
            if (to[target].none() || (target == count && !through)) continue;
            const Fragment part = bytes(to[target]);
            const std::int32_t split = add(Kind::split);
            grammar_.nodes[static_cast<std::size_t>(at)].next = part.start;
            grammar_.nodes[static_cast<std::size_t>(at)].other = split;
            grammar_.nodes[static_cast<std::size_t>(part.end)].next = target == count ? end : states[target];
            at = split;
        }
        if (!through) grammar_.nodes[static_cast<std::size_t>(at)].next = end;
    }
    return {states.front(), end};
}

std::int32_t GrammarBuilder::new_rule() {
    if (grammar_.rules.size() >= max_rules) {
        too_large_ = true;
        return 0;
    }
    grammar_.rules.push_back(-1);
    return static_cast<std::int32_t>(grammar_.rules.size()) - 1;
}

void GrammarBuilder::define(std::int32_t rule, Fragment body) {
    grammar_.nodes[static_cast<std::size_t>(body.end)].next = add(Kind::end);
    grammar_.rules[static_cast<std::size_t>(rule)] = body.start;
}

Fragment GrammarBuilder::call(std::int32_t rule) {
    const Fragment out{add(Kind::call, rule), add(Kind::split)};
    grammar_.nodes[static_cast<std::size_t>(out.start)].next = out.end;
    return out;
}

// From the ends backwards: a node is looked at again when one that it depends on has become useful.
void GrammarBuilder::mark_useful() {
    std::vector<Grammar::Node>& nodes = grammar_.nodes;
    std::vector<std::vector<std::int32_t>> waiting(nodes.size());  // those that depend on a node
    const auto depends = [&](std::size_t node, std::int32_t on) {
        if (on >= 0) waiting[static_cast<std::size_t>(on)].push_back(static_cast<std::int32_t>(node));
    };
    std::vector<std::int32_t> todo;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        depends(i, nodes[i].next);
        depends(i, nodes[i].other);
        if (nodes[i].kind == Kind::call) depends(i, grammar_.rules[static_cast<std::size_t>(nodes[i].value)]);
        if (nodes[i].kind == Kind::end) todo.push_back(static_cast<std::int32_t>(i));
    }
    const auto is_useful = [&](std::int32_t node) {
        return node >= 0 && nodes[static_cast<std::size_t>(node)].useful;
    };
    while (!todo.empty()) {
        const std::int32_t at = todo.back();
        todo.pop_back();
        Grammar::Node& node = nodes[static_cast<std::size_t>(at)];
        if (node.useful) continue;
        switch (node.kind) {
            case Kind::end:
                node.useful = true;
                break;
            case Kind::split:
                node.useful = is_useful(node.next) || is_useful(node.other);
                break;
            case Kind::bytes:
                node.useful =
                    is_useful(node.next) && grammar_.sets[static_cast<std::size_t>(node.value)].any();
                break;
            case Kind::call:
                node.useful =
                    is_useful(node.next) && is_useful(grammar_.rules[static_cast<std::size_t>(node.value)]);
                break;
        }
        if (!node.useful) continue;
        const std::vector<std::int32_t>& next = waiting[static_cast<std::size_t>(at)];
        todo.insert(todo.end(), next.begin(), next.end());
    }
}

bool GrammarBuilder::is_left_recursive() const {
    const std::size_t count = grammar_.rules.size();
    std::vector<bool> empty(count, false);  // rules that accept the empty text
    std::vector<std::vector<std::int32_t>> first(count);
    std::vector<std::int32_t> seen_in(grammar_.nodes.size(), 0);  // the last round that came by
    std::int32_t round = 0;
    // What a rule can reach without reading a byte: the rules it calls there, and whether its own end.
    const auto explore = [&](std::size_t rule) {
        std::vector<std::int32_t> calls;
        bool reaches_end = false;
        std::vector<std::int32_t> todo{grammar_.rules[rule]};
        ++round;
        while (!todo.empty()) {
            const std::int32_t at = todo.back();
            todo.pop_back();
            if (at < 0 || std::exchange(seen_in[static_cast<std::size_t>(at)], round) == round) continue;
            const Grammar::Node& node = grammar_.nodes[static_cast<std::size_t>(at)];
            if (!node.useful) continue;
            if (node.kind == Kind::end) reaches_end = true;
            if (node.kind == Kind::split) todo.insert(todo.end(), {node.next, node.other});
            if (node.kind == Kind::call) {
                calls.push_back(node.value);
                if (empty[static_cast<std::size_t>(node.value)]) todo.push_back(node.next);
            }
        }
        first[rule] = std::move(calls);
        return reaches_end;
    };
    bool changed = true;
    while (changed) {
        changed = false;
        for (std::size_t rule = 0; rule < count; ++rule) {
            const bool now = explore(rule);
            changed = changed || now != empty[rule];
            empty[rule] = now;
        }
    }
    std::vector<int> state(count, 0);  // 1: on the way, 2: done
    const std::function<bool(std::size_t)> finds_cycle = [&](std::size_t rule) {
        if (state[rule] != 0) return state[rule] == 1;
        state[rule] = 1;
        for (const std::int32_t called : first[rule]) {
            if (finds_cycle(static_cast<std::size_t>(called))) return true;
        }
        state[rule] = 2;
        return false;
    };
    for (std::size_t rule = 0; rule < count; ++rule) {
        if (finds_cycle(rule)) return true;
    }
    return false;
}

Result<Grammar> GrammarBuilder::finish(Fragment root) {
    define(0, root);
    if (too_large_) return fail(ErrorCode::unsupported, "the grammar comes to more than {} nodes", max_nodes);
    mark_useful();
    if (!grammar_.nodes[static_cast<std::size_t>(grammar_.rules[0])].useful) {
        return fail(ErrorCode::invalid_argument, "no text of finite length fits");
    }
    if (is_left_recursive()) {
        return fail(ErrorCode::unsupported, "it refers to itself with nothing in between");
    }
    return std::move(grammar_);
}

}  // namespace retort::grammar
