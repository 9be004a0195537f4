#include "stats/multiplicity.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace retort::stats {

namespace {

std::vector<std::size_t> ascending(std::span<const double> p) {
    std::vector<std::size_t> order(p.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
    return order;
}

}  // namespace

std::vector<double> adjust_bonferroni(std::span<const double> p) {
    std::vector<double> out;
    for (const double value : p) out.push_back(std::min(1.0, value * static_cast<double>(p.size())));
    return out;
}

std::vector<double> adjust_holm(std::span<const double> p) {
    std::vector<double> out(p.size());
    double largest = 0;
    std::size_t left = p.size();
    for (const std::size_t i : ascending(p)) {
        largest = std::max(largest, std::min(1.0, p[i] * static_cast<double>(left--)));
        out[i] = largest;
    }
    return out;
}

std::vector<double> adjust_benjamini_hochberg(std::span<const double> p) {
    std::vector<double> out(p.size());
    const std::vector<std::size_t> order = ascending(p);
    double smallest = 1;
    for (std::size_t rank = order.size(); rank > 0; --rank) {
        const std::size_t i = order[rank - 1];
        smallest = std::min(smallest, p[i] * static_cast<double>(p.size()) / static_cast<double>(rank));
        out[i] = smallest;
    }
    return out;
}

}  // namespace retort::stats
