#include "laboratory/baselines.h"

#include <algorithm>
#include <cmath>

#include "stats/distributions.h"

namespace retort::laboratory {

namespace {

constexpr std::size_t kept_prompts = 24;
constexpr std::size_t kept_distances = 100;
constexpr std::size_t fewest_distances = 12;

using guard::PromptSketch;

// Of grams and topic words: 1 − the share that both have.
double distance(const PromptSketch& a, const PromptSketch& b) {
    std::size_t both = 0;
    std::size_t any = 0;
    const auto compare = [&](const std::uint32_t* x, const std::uint32_t* y, std::size_t size) {
        for (std::size_t i = 0; i < size; ++i) {
            if (x[i] == 0) continue;
            ++any;
            both += static_cast<std::size_t>(std::find(y, y + size, x[i]) != y + size);
        }
    };
    for (std::size_t w = 0; w < PromptSketch::windows; ++w)
        compare(a.grams.data() + w * PromptSketch::grams_each, b.grams.data() + w * PromptSketch::grams_each,
                PromptSketch::grams_each);
    compare(a.topic.data(), b.topic.data(), a.topic.size());
    return any == 0 ? 1 : 1 - static_cast<double>(both) / static_cast<double>(any);
}

// Feature hashing: each gram and topic word is a sign in one of the dimensions; of unit length.
BaselineTracker::Embedding embed(const PromptSketch& sketch) {
    BaselineTracker::Embedding out{};
    const auto put = [&](std::uint32_t hash) {
        if (hash != 0) out[hash % BaselineTracker::dimensions] += (hash & 0x80000000U) != 0 ? 1.0F : -1.0F;
    };
    for (const std::uint32_t gram : sketch.grams) put(gram);
    for (const std::uint32_t word : sketch.topic) put(word);
    double length = 0;
    for (const float value : out) length += static_cast<double>(value) * value;
    if (length > 0)
        for (float& value : out) value /= static_cast<float>(std::sqrt(length));
    return out;
}

}  // namespace

std::string_view baseline_name(std::size_t baseline) {
    constexpr std::string_view names[baselines] = {"rate limit", "PRADA", "MMD", "near duplicates"};
    return names[baseline];
}

double shapiro_wilk(std::vector<double> x) {
    const std::size_t n = x.size();
    if (n < 3) return 1;
    std::sort(x.begin(), x.end());
    if (x.back() - x.front() < 1e-12) return 0;
    std::vector<double> m(n);
    double m2 = 0;
    for (std::size_t i = 0; i < n; ++i) {
        m[i] = stats::normal_quantile((static_cast<double>(i) + 1 - 0.375) / (static_cast<double>(n) + 0.25));
        m2 += m[i] * m[i];
    }
    const double u = 1 / std::sqrt(static_cast<double>(n));
    const auto polynomial = [u](double a5, double a4, double a3, double a2, double a1, double a0) {
        return ((((a5 * u + a4) * u + a3) * u + a2) * u + a1) * u + a0;
    };
    std::vector<double> a(n);
    const double root = std::sqrt(m2);
    a[n - 1] = polynomial(-2.706056, 4.434685, -2.071190, -0.147981, 0.221157, m[n - 1] / root);
    double phi = 0;
    std::size_t inner = 1;
    if (n > 5) {
        a[n - 2] = polynomial(-3.582633, 5.682633, -1.752461, -0.293762, 0.042981, m[n - 2] / root);
        phi = (m2 - 2 * m[n - 1] * m[n - 1] - 2 * m[n - 2] * m[n - 2]) /
              (1 - 2 * a[n - 1] * a[n - 1] - 2 * a[n - 2] * a[n - 2]);
        inner = 2;
    } else {
        phi = (m2 - 2 * m[n - 1] * m[n - 1]) / (1 - 2 * a[n - 1] * a[n - 1]);
    }
    for (std::size_t i = inner; i + inner < n; ++i) a[i] = m[i] / std::sqrt(phi);
    for (std::size_t i = 0; i < inner; ++i) a[i] = -a[n - 1 - i];
    double mean = 0;
    for (const double value : x) mean += value / static_cast<double>(n);
    double top = 0;
    double bottom = 0;
    for (std::size_t i = 0; i < n; ++i) {
        top += a[i] * x[i];
        bottom += (x[i] - mean) * (x[i] - mean);
    }
    return top * top / bottom;
}

void BaselineTracker::add(const store::Event& event) {
    const auto sketch = guard::read_sketch(event.sketch);
    Account& account = accounts_[event.account];
    ++account.requests;
    if (!sketch) return;
    double nearest = 1;
    for (const PromptSketch& before : account.recent) nearest = std::min(nearest, distance(*sketch, before));
    if (!account.recent.empty()) {
        if (nearest <= 0.5) ++account.duplicates;
        if (account.distances.size() < kept_distances) {
            account.distances.push_back(static_cast<float>(nearest));
        } else {
            account.distances[account.next_distance++ % kept_distances] = static_cast<float>(nearest);
        }
        const std::size_t count = account.distances.size();
        if (count >= fewest_distances && account.requests % 8 == 0) {
            // More queries are more evidence, as in a test.
            const double w = shapiro_wilk({account.distances.begin(), account.distances.end()});
            account.prada = std::max(account.prada, (1 - w) * std::sqrt(static_cast<double>(count)));
        }
    }
    if (account.recent.size() < kept_prompts) {
        account.recent.push_back(*sketch);
    } else {
        account.recent[account.next++ % kept_prompts] = *sketch;
    }
    const Embedding embedding = embed(*sketch);
    for (std::size_t d = 0; d < dimensions; ++d) {
        account.sum[d] += embedding[d];
        total_[d] += embedding[d];
    }
    ++total_count_;
}

Scores BaselineTracker::scores(const store::ShortHash& id) const {
    const auto found = accounts_.find(id);
    if (found == accounts_.end()) return {};
    const Account& account = found->second;
    double squares = 0;
    for (std::size_t d = 0; d < dimensions; ++d) {
        const double difference = account.sum[d] / account.requests - reference_[d];
        squares += difference * difference;
    }
    // n · MMD² of a linear kernel on unit vectors, less what independent prompts have of it on average.
    const double mmd = std::max(0.0, account.requests * squares - 1);
    return {static_cast<float>(std::log2(1.0 + account.requests)), static_cast<float>(account.prada),
            static_cast<float>(std::log2(1 + mmd)), static_cast<float>(std::log2(1.0 + account.duplicates))};
}

void BaselineTracker::each(const std::function<void(const store::ShortHash&, const Scores&)>& work) const {
    for (const auto& [id, account] : accounts_) work(id, scores(id));
}

void BaselineTracker::end_week() {
    for (std::size_t d = 0; d < dimensions && total_count_ > 0; ++d)
        reference_[d] = static_cast<float>(total_[d] / total_count_);
    accounts_.clear();
}

}  // namespace retort::laboratory
