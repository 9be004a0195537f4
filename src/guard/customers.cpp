#include "guard/customers.h"

#include <algorithm>
#include <unordered_map>

namespace retort::guard {

std::vector<Customer> customers_of(std::span<const AccountState> accounts,
                                   std::span<const std::uint32_t> members) {
    std::vector<Customer> out;
    std::unordered_map<std::uint64_t, std::size_t> places;
    for (const std::uint32_t i : members) {
        const std::uint64_t payment = accounts[i].payment;
        std::size_t place = out.size();
        if (payment != 0) place = places.try_emplace(payment, out.size()).first->second;
        if (place == out.size()) out.push_back({{}, i});
        Customer& customer = out[place];
        customer.members.push_back(i);
        if (accounts[i].window.requests > accounts[customer.speaker].window.requests) customer.speaker = i;
    }
    return out;
}

double distinct_texts_of(std::span<const AccountState> accounts, std::span<const std::uint32_t> members) {
    SmallestHashes<256> pool;
    std::uint32_t cut = UINT32_MAX;
    double sum = 0;
    double kept = 0;
    for (const std::uint32_t i : members) {
        const auto& values = accounts[i].window.pool.values;
        for (const std::uint32_t text : values) {
            if (text == 0) break;
            pool.add(text);
            ++kept;
        }
        // Above the largest that a full sketch keeps, its account's hashes are missing.
        if (values.back() != 0) cut = std::min(cut, values.back());
        sum += distinct_texts(accounts[i].window);
    }
    const bool full = pool.values.back() != 0;
    if (cut == UINT32_MAX && !full) return pool.distinct();
    const auto end = std::find(pool.values.begin(), pool.values.end(), 0U);
    const auto below = std::lower_bound(pool.values.begin(), end, cut) - pool.values.begin();
    constexpr std::ptrdiff_t enough = 4;
    if (full && below >= enough) {
        const double estimate = static_cast<double>(below) * 4294967296.0 / cut;
        return std::min(sum, std::max(pool.distinct(), estimate));
    }
    // Few who ask much each: of all their texts, as many are shared as of those that were kept.
    return kept > 0 ? sum * pool.distinct() / kept : 0;
}

}  // namespace retort::guard
