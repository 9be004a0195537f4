#include "data/logit_draw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "tensor/token_loss_kernels.h"

namespace retort::data {

namespace {

constexpr std::int64_t block = 256;

// In double, by four running sums.
double sum_of(const float* values, std::int64_t count) {
    std::array<double, 4> sums = {0, 0, 0, 0};
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (std::size_t j = 0; j < sums.size(); ++j)
            sums[j] += static_cast<double>(values[i + static_cast<std::int64_t>(j)]);
    }
    for (; i < count; ++i) sums[0] += static_cast<double>(values[i]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The index that `mass` falls on within a block; rounding never leads to one of probability 0.
std::int64_t locate(const float* values, std::int64_t count, double mass) {
    std::int64_t last = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        if (values[i] <= 0.0F) continue;
        last = i;
        mass -= static_cast<double>(values[i]);
        if (mass < 0) break;
    }
    return last;
}

}  // namespace

base::RandomStream draw_stream(std::uint64_t seed, std::string_view record_id, std::int64_t token) {
    return base::RandomStream(seed, base::xxh3_64(record_id, static_cast<std::uint64_t>(token)));
}

void draw_samples(float* logits, std::int64_t vocab, double temperature, std::int64_t draws,
                  base::RandomStream& random, TokenEntries& entries) {
    const float top = tensor::row::largest(logits, vocab);
    const tensor::row::EntropySums sums =
        tensor::row::entropy_exponentials(logits, vocab, top, static_cast<float>(1.0 / temperature));
    thread_local std::vector<double> blocks;
    blocks.clear();
    double total = 0;
    for (std::int64_t at = 0; at < vocab; at += block) {
        blocks.push_back(sum_of(logits + at, std::min(block, vocab - at)));
        total += blocks.back();
    }
    // One from each of N equal shares of the mass: in expectation an id gets N·p, as from independent draws,
    // and its count strays from that only by the shares that it has a part of.
    std::vector<double> points(static_cast<std::size_t>(draws));
    for (std::size_t i = 0; i < points.size(); ++i)
        points[i] = (static_cast<double>(i) + random.uniform()) / static_cast<double>(draws) * total;
    std::vector<std::pair<std::int32_t, std::int32_t>> counts;  // (−count, id)
    std::size_t b = 0;
    double before = 0;
    for (const double point : points) {
        while (b + 1 < blocks.size() && point >= before + blocks[b]) before += blocks[b++];
        const auto at = static_cast<std::int64_t>(b) * block;
        const auto id =
            static_cast<std::int32_t>(at + locate(logits + at, std::min(block, vocab - at), point - before));
        if (!counts.empty() && counts.back().second == id) {
            --counts.back().first;
        } else {
            counts.emplace_back(-1, id);
        }
    }
    std::sort(counts.begin(), counts.end());
    for (const auto& [count, id] : counts) {
        entries.ids.push_back(id);
        entries.values.push_back(static_cast<float>(-count) / static_cast<float>(draws));
    }
    entries.starts.push_back(static_cast<std::int64_t>(entries.ids.size()));
    entries.tails.push_back(0.0F);
    entries.entropies.push_back(static_cast<float>(std::log(sums.sum) - sums.gap / sums.sum));
}

void keep_largest(float* logits, std::int64_t vocab, double temperature, std::int64_t count,
                  TokenEntries& entries) {
    const float top = tensor::row::largest(logits, vocab);
    tensor::row::exponentials(logits, vocab, top, static_cast<float>(1.0 / temperature), logits);
    using Entry = std::pair<float, std::int32_t>;
    const auto larger = [](const Entry& a, const Entry& b) {
        return a.first != b.first ? a.first > b.first : a.second < b.second;
    };
    std::vector<Entry> heap;  // the smallest of the kept in front
    for (std::int64_t i = 0; i < vocab; ++i) {
        if (static_cast<std::int64_t>(heap.size()) < count) {
            heap.emplace_back(logits[i], static_cast<std::int32_t>(i));
            std::push_heap(heap.begin(), heap.end(), larger);
        } else if (logits[i] > heap.front().first) {
            std::pop_heap(heap.begin(), heap.end(), larger);
            heap.back() = {logits[i], static_cast<std::int32_t>(i)};
            std::push_heap(heap.begin(), heap.end(), larger);
        }
    }
    std::sort(heap.begin(), heap.end(), larger);
    double kept = 0;
    for (const auto& [value, id] : heap) {
        kept += static_cast<double>(value);
        logits[id] = 0.0F;
    }
    const double rest = sum_of(logits, vocab);
    const double total = kept + rest;
    for (const auto& [value, id] : heap) {
        entries.ids.push_back(id);
        entries.values.push_back(static_cast<float>(static_cast<double>(value) / total));
    }
    entries.starts.push_back(static_cast<std::int64_t>(entries.ids.size()));
    entries.tails.push_back(static_cast<float>(rest / total));
    entries.entropies.push_back(0.0F);
}

}  // namespace retort::data
