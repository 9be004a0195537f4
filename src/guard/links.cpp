#include "guard/links.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <numeric>
#include <set>
#include <thread>
#include <utility>

namespace retort::guard {

namespace {

class Sets {
  public:
    explicit Sets(std::size_t size) : parent_(size) { std::iota(parent_.begin(), parent_.end(), 0U); }
    std::uint32_t find(std::uint32_t i) {
        while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
        return i;
    }
    [[nodiscard]] std::size_t size() const { return parent_.size(); }
    void join(std::uint32_t a, std::uint32_t b) {
        a = find(a);
        b = find(b);
        if (a != b) parent_[std::max(a, b)] = std::min(a, b);
    }

  private:
    std::vector<std::uint32_t> parent_;
};

// A token of an account: the token above, then the account, then whether it repeats it.
using Posting = std::uint64_t;
Posting posting(std::uint32_t token, std::uint32_t account, bool repeated) {
    return (std::uint64_t{token} << 32U) | (std::uint64_t{account} << 1U) | (repeated ? 1U : 0U);
}
std::uint32_t token_of(Posting each) {
    return static_cast<std::uint32_t>(each >> 32U);
}
std::uint32_t account_of(Posting each) {
    return static_cast<std::uint32_t>(each) >> 1U;
}

// By token; accounts are in order already. Counting sort in three passes: ten times std::sort for millions.
void sort_by_token(std::vector<Posting>& postings) {
    constexpr std::size_t radix = std::size_t{1} << 11U;
    if (postings.size() < radix) {
        std::sort(postings.begin(), postings.end());
        return;
    }
    std::vector<Posting> other(postings.size());
    for (const unsigned shift : {32U, 43U, 54U}) {
        std::vector<std::size_t> at(radix + 1, 0);
        for (const Posting each : postings) ++at[(each >> shift) % radix + 1];
        std::partial_sum(at.begin(), at.end(), at.begin());
        for (const Posting each : postings) other[at[(each >> shift) % radix]++] = each;
        postings.swap(other);
    }
}

std::uint16_t smallest_count(const GramTable& table) {
    return *std::min_element(table.counts.begin(), table.counts.end());
}

// What has crept in under space-saving's smallest count proves no repetition.
bool is_repeated(const GramTable& table, std::size_t i, std::uint16_t smallest) {
    return table.counts[i] >= 2 && table.counts[i] > smallest;
}

// Ascending.
std::vector<std::uint32_t> repeated_grams(const WindowStats& window) {
    std::vector<std::uint32_t> out;
    const std::uint16_t smallest = smallest_count(window.grams);
    for (std::size_t i = 0; i < GramTable::size; ++i)
        if (is_repeated(window.grams, i, smallest)) out.push_back(window.grams.grams[i]);
    std::sort(out.begin(), out.end());
    return out;
}

// Apart from grams and texts.
std::uint32_t trait_token(std::uint64_t value, std::uint64_t kind) {
    std::uint64_t sum = (value + kind) * 0x9e3779b97f4a7c15U;
    sum = (sum ^ (sum >> 29U)) * 0xbf58476d1ce4e5b9U;
    const auto token = static_cast<std::uint32_t>(sum >> 32U);
    return token == 0 ? 1 : token;
}

// At most two.
struct TraitTokens {
    std::array<std::uint32_t, 2> values{};
    std::size_t count = 0;
    [[nodiscard]] std::span<const std::uint32_t> list() const { return {values.data(), count}; }
};

TraitTokens trait_tokens(const AccountState& account) {
    TraitTokens out;
    // A majority of one is no habit.
    if (account.window.parameters_lead >= 2)
        out.values[out.count++] = trait_token(account.window.parameters * 31 + account.client, 1);
    if (account.address != 0) out.values[out.count++] = trait_token(account.address, 2);
    return out;
}

// Grams that it has repeated, and its traits: what two accounts are enough for. Ascending.
std::vector<std::uint32_t> repeated_tokens(const AccountState& account) {
    std::vector<std::uint32_t> out = repeated_grams(account.window);
    const TraitTokens traits = trait_tokens(account);
    out.insert(out.end(), traits.list().begin(), traits.list().end());
    std::sort(out.begin(), out.end());
    return out;
}

// The repeated ones, and all others that may link it. Ascending and distinct.
std::vector<std::uint32_t> with_others(std::vector<std::uint32_t> out, const AccountState& account) {
    const WindowStats& window = account.window;
    for (const std::uint32_t gram : window.sample.values)
        if (gram != 0) out.push_back(gram);
    for (const std::uint32_t text : window.pool.values)
        if (text != 0) out.push_back(text_token(text));
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

// So common that it weighs nothing.
bool is_common(const PastUse& past, std::uint32_t token) {
    constexpr std::uint32_t common = 64;
    return past.of(token) >= common;
}

bool may_link(const AccountState& account, const PastUse& past, const TokenCounts& counts,
              const LinkOptions& options) {
    const WindowStats& window = account.window;
    if (options.traits) {
        const TraitTokens traits = trait_tokens(account);
        for (const std::uint32_t trait : traits.list())
            if (counts.may_link(trait) && !is_common(past, trait)) return true;
    }
    for (std::size_t i = 0; i < GramTable::size; ++i)
        if (window.grams.counts[i] >= 2 && counts.may_link(window.grams.grams[i])) return true;
    for (const std::uint32_t gram : window.sample.values)
        if (gram != 0 && counts.may_link(gram)) return true;
    for (const std::uint32_t text : window.pool.values)
        if (text != 0 && counts.may_link(text_token(text))) return true;
    return false;
}

// What may link the accounts from `begin` to before `end`.
std::vector<Posting> postings_of(std::span<const AccountState> accounts, std::size_t begin, std::size_t end,
                                 const PastUse& past, const TokenCounts& counts, const LinkOptions& options) {
    std::vector<Posting> out;
    for (std::size_t i = begin; i < end; ++i) {
        const AccountState& account = accounts[i];
        if (account.window.requests < options.min_requests || !may_link(account, past, counts, options))
            continue;
        const std::vector<std::uint32_t> repeated = repeated_tokens(account);
        const TraitTokens traits = trait_tokens(account);
        for (const std::uint32_t token : with_others(repeated, account)) {
            if (!options.traits &&
                std::find(traits.list().begin(), traits.list().end(), token) != traits.list().end())
                continue;
            if (!counts.may_link(token) || is_common(past, token)) continue;
            out.push_back(posting(token, static_cast<std::uint32_t>(i),
                                  std::binary_search(repeated.begin(), repeated.end(), token)));
        }
    }
    return out;
}

// By account; of many on two cores.
std::vector<Posting> postings_of(std::span<const AccountState> accounts, const PastUse& past,
                                 const TokenCounts& counts, const LinkOptions& options) {
    constexpr std::size_t worth_a_thread = 100'000;
    if (accounts.size() < worth_a_thread)
        return postings_of(accounts, 0, accounts.size(), past, counts, options);
    const std::size_t middle = accounts.size() / 2;
    std::vector<Posting> second;
    std::thread other(
        [&] { second = postings_of(accounts, middle, accounts.size(), past, counts, options); });
    std::vector<Posting> out = postings_of(accounts, 0, middle, past, counts, options);
    other.join();
    out.insert(out.end(), second.begin(), second.end());
    return out;
}

// Joins who pay together: the first with a payment stands for all.
class Payers {
  public:
    explicit Payers(std::size_t accounts) : places_(std::bit_ceil(2 * accounts + 2)) {}
    std::uint32_t first(std::uint64_t payment, std::uint32_t account) {
        for (std::size_t i = payment * 0x9e3779b97f4a7c15U;; ++i) {
            auto& [key, value] = places_[i & (places_.size() - 1)];
            if (key == payment) return value;
            if (key != 0) continue;
            key = payment;
            return value = account;
        }
    }

  private:
    std::vector<std::pair<std::uint64_t, std::uint32_t>> places_;
};

// The kept tokens of each account, ascending, one list behind the other.
struct TokenLists {
    std::vector<std::uint32_t> begin;
    std::vector<std::uint32_t> tokens;
    [[nodiscard]] std::span<const std::uint32_t> of(std::uint32_t account) const {
        return std::span(tokens).subspan(begin[account], begin[account + 1] - begin[account]);
    }
};

TokenLists lists_of(std::span<const Posting> postings, std::size_t accounts) {
    TokenLists out;
    out.begin.assign(accounts + 1, 0);
    for (const Posting each : postings) ++out.begin[account_of(each) + 1];
    std::partial_sum(out.begin.begin(), out.begin.end(), out.begin.begin());
    out.tokens.resize(postings.size());
    std::vector<std::uint32_t> at(out.begin.begin(), out.begin.end() - 1);
    for (const Posting each : postings) out.tokens[at[account_of(each)]++] = token_of(each);
    return out;
}

double shared_weight(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b,
                     const PastUse& past) {
    double sum = 0;
    for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        if (a[i] < b[j]) {
            ++i;
        } else if (b[j] < a[i]) {
            ++j;
        } else {
            sum += weight_of(past, a[i]);
            ++i;
            ++j;
        }
    }
    return sum;
}

std::size_t end_of_token(std::span<const Posting> postings, std::size_t begin) {
    std::size_t end = begin;
    while (end < postings.size() && token_of(postings[end]) == token_of(postings[begin])) ++end;
    return end;
}

// Two who read the same article share its words. What links them is what two of them repeat, or several ask.
void keep_shared(std::vector<Posting>& postings, std::size_t several) {
    std::size_t kept = 0;
    for (std::size_t begin = 0; begin < postings.size();) {
        const std::size_t end = end_of_token(postings, begin);
        std::size_t repeating = 0;
        for (std::size_t i = begin; i < end; ++i) repeating += postings[i] & 1U;
        if (repeating >= 2 || end - begin >= several)
            for (std::size_t i = begin; i < end; ++i) postings[kept++] = postings[i];
        begin = end;
    }
    postings.resize(kept);
}

struct Link {
    std::uint32_t a;
    std::uint32_t b;  // above a
    float weight;
};

// Of a token's many accounts each meets its neighbours in the list and the first few, not every other: a
// chain of likes is enough for a connected part. Each pair once, the heaviest first.
std::vector<Link> links_of(std::span<const Posting> postings, const TokenLists& tokens, const PastUse& past,
                           double least) {
    constexpr std::size_t neighbours = 3;
    constexpr std::size_t hubs = 2;
    std::vector<std::uint64_t> pairs;
    const auto meet = [&](Posting one, Posting other) {
        const std::uint32_t a = account_of(one);
        const std::uint32_t b = account_of(other);
        pairs.push_back(std::uint64_t{std::min(a, b)} << 32U | std::max(a, b));
    };
    for (std::size_t begin = 0; begin < postings.size();) {
        const std::size_t end = end_of_token(postings, begin);
        for (std::size_t i = begin; i < end; ++i) {
            for (std::size_t j = i + 1; j < std::min(end, i + 1 + neighbours); ++j)
                meet(postings[i], postings[j]);
            for (std::size_t j = begin; j < std::min(i, begin + hubs); ++j) meet(postings[i], postings[j]);
        }
        begin = end;
    }
    std::sort(pairs.begin(), pairs.end());
    pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
    std::vector<Link> out;
    for (const std::uint64_t pair : pairs) {
        const auto a = static_cast<std::uint32_t>(pair >> 32U);
        const auto b = static_cast<std::uint32_t>(pair);
        const double weight = shared_weight(tokens.of(a), tokens.of(b), past);
        if (weight >= least) out.push_back({a, b, static_cast<float>(weight)});
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const Link& x, const Link& y) { return x.weight > y.weight; });
    return out;
}

// An account joins a group by one link, but two groups join only where `bond` accounts of each have links
// across: among thousands of accounts one that shares two rare words with a stranger is chance, and would tie
// a company to a campaign. The heaviest links come first, so that groups are whole when chance comes.
void join_linked(std::vector<Link> links, std::size_t bond, Sets& sets) {
    std::vector<std::uint32_t> sizes(sets.size(), 0);
    for (std::uint32_t i = 0; i < sets.size(); ++i) ++sizes[sets.find(i)];
    const auto join = [&](std::uint32_t a, std::uint32_t b) {
        const std::uint32_t both = sizes[a] + sizes[b];
        sets.join(a, b);
        sizes[sets.find(a)] = both;
    };
    std::size_t kept = 0;
    for (const Link& link : links) {
        const std::uint32_t a = sets.find(link.a);
        const std::uint32_t b = sets.find(link.b);
        if (a == b) continue;
        if (std::min(sizes[a], sizes[b]) < bond) {
            join(a, b);
        } else {
            links[kept++] = link;
        }
    }
    links.resize(kept);
    for (bool joined = true; joined;) {
        joined = false;
        // Pairs that have no account in common, the heaviest first: one account that is like many is one.
        struct Pairs {
            std::set<std::uint32_t> taken;
            std::size_t count = 0;
        };
        std::map<std::pair<std::uint32_t, std::uint32_t>, Pairs> across;
        for (const Link& link : links) {
            const std::uint32_t a = sets.find(link.a);
            const std::uint32_t b = sets.find(link.b);
            if (a == b) continue;
            Pairs& pairs = across[{std::min(a, b), std::max(a, b)}];
            if (pairs.taken.contains(link.a) || pairs.taken.contains(link.b)) continue;
            pairs.taken.insert({link.a, link.b});
            ++pairs.count;
        }
        for (const auto& [groups, pairs] : across) {
            const std::uint32_t a = sets.find(groups.first);
            const std::uint32_t b = sets.find(groups.second);
            if (a == b || pairs.count < bond) continue;
            join(a, b);
            joined = true;
        }
    }
}

}  // namespace

double weight_of(const PastUse& past, std::uint32_t token) {
    return 1.0 / (1.0 + past.of(token));
}

std::uint32_t text_token(std::uint32_t pool_hash) {
    // Apart from grams.
    const std::uint32_t token = pool_hash * 0x9e3779b1U ^ 0x5bd1e995U;
    return token == 0 ? 1 : token;
}

std::vector<std::uint32_t> link_tokens(const AccountState& account) {
    return with_others(repeated_tokens(account), account);
}

void TokenCounts::clear() {
    if (slots_.empty()) {
        slots_.resize(first_slots);
        shift_ = 64 - static_cast<unsigned>(std::countr_zero(first_slots));
        hot_.resize(first_slots / 64);
    }
    std::fill(slots_.begin(), slots_.end(), Slot{});
    std::fill(hot_.begin(), hot_.end(), 0);
    used_ = 0;
}

void TokenCounts::count(std::uint32_t token, std::uint32_t number, bool repeated) {
    const std::size_t i = index(token);
    Slot& slot = slots_[i];
    if (slot.holder != number + 1) {
        if (slot.holders == 0) ++used_;
        slot.holder = number + 1;
        if (slot.holders < 7) ++slot.holders;
    }
    if (repeated && slot.repeater != number + 1) {
        slot.repeater = number + 1;
        if (slot.repeaters < 3) ++slot.repeaters;
    }
    if (slot.repeaters >= 2 || slot.holders >= std::min(several_, 7U))
        hot_[i / 64] |= std::uint64_t{1} << (i % 64);
}

void TokenCounts::add(const PromptSketch& sketch, const AccountState& account, std::uint32_t number) {
    const WindowStats& window = account.window;
    const TraitTokens traits = trait_tokens(account);
    for (const std::uint32_t trait : traits.list()) count(trait, number, true);
    const std::uint32_t last = window.sample.values.back();
    for (const std::uint32_t gram : sketch.grams) {
        if (gram == PromptSketch::no_gram) continue;
        bool repeated = false;
        for (std::size_t i = 0; i < GramTable::size; ++i)
            repeated = repeated || (window.grams.grams[i] == gram && window.grams.counts[i] >= 2);
        if (repeated || last == 0 || gram <= last) count(gram, number, repeated);
    }
    const auto text = static_cast<std::uint32_t>(sketch.content >> 32U);
    count(text_token(text == 0 ? 1 : text), number, false);
}

void TokenCounts::rebuild(std::span<const AccountState> accounts) {
    if (is_crowded()) {
        const std::size_t size = slots_.size() * 4 > most_slots ? most_slots : slots_.size() * 4;
        slots_ = {};
        slots_.resize(size);
        hot_.assign(size / 64, 0);
        shift_ = 64 - static_cast<unsigned>(std::countr_zero(size));
    }
    clear();
    for (std::uint32_t number = 0; number < accounts.size(); ++number) {
        const AccountState& account = accounts[number];
        if (account.window.requests == 0) continue;
        const std::vector<std::uint32_t> repeated = repeated_tokens(account);
        for (const std::uint32_t token : with_others(repeated, account))
            count(token, number, std::binary_search(repeated.begin(), repeated.end(), token));
    }
    if (is_crowded()) rebuild(accounts);
}

std::vector<std::vector<std::uint32_t>> connected_accounts(std::span<const AccountState> accounts,
                                                           const PastUse& past, const TokenCounts& counts,
                                                           const LinkOptions& options) {
    Sets sets(accounts.size());
    Payers payers(accounts.size());
    std::vector<Posting> postings = postings_of(accounts, past, counts, options);
    for (std::uint32_t i = 0; i < accounts.size(); ++i) {
        if (accounts[i].window.requests >= options.min_requests && accounts[i].payment != 0)
            sets.join(payers.first(accounts[i].payment, i), i);
    }
    sort_by_token(postings);
    keep_shared(postings, options.several);
    const TokenLists tokens = lists_of(postings, accounts.size());
    join_linked(links_of(postings, tokens, past, options.weight), options.bond, sets);
    std::vector<std::uint32_t> sizes(accounts.size(), 0);
    for (std::uint32_t i = 0; i < accounts.size(); ++i)
        if (accounts[i].window.requests >= options.min_requests) ++sizes[sets.find(i)];
    // The smallest of a part is its root, and comes first.
    std::vector<std::uint32_t> part(accounts.size(), 0);
    std::vector<std::vector<std::uint32_t>> out;
    for (std::uint32_t i = 0; i < accounts.size(); ++i) {
        const std::uint32_t root = sets.find(i);
        if (sizes[root] < 2 || accounts[i].window.requests < options.min_requests) continue;
        if (part[root] == 0) {
            out.emplace_back().reserve(sizes[root]);
            part[root] = static_cast<std::uint32_t>(out.size());
        }
        out[part[root] - 1].push_back(i);
    }
    return out;
}

}  // namespace retort::guard
