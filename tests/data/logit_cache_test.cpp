// The logit cache: what is written is read, a kill loses nothing, damage and other data are refused; draws
// are unbiased, in the gradient that they give.
#include "data/logit_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/file.h"
#include "data/bit_stream.h"
#include "data/logit_draw.h"
#include "tensor/token_loss_sparse.h"

namespace retort::data {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_cache_" + name);
    fs::remove_all(path);
    return path;
}

std::vector<float> random_logits(std::int64_t vocab, std::uint64_t seed, double deviation) {
    base::RandomStream random(seed);
    std::vector<float> logits(static_cast<std::size_t>(vocab));
    for (float& x : logits) x = static_cast<float>(random.normal() * deviation);
    return logits;
}

CacheHeader header_of(CacheEncoding encoding, std::int64_t vocab) {
    CacheHeader header;
    header.encoding = encoding;
    header.count = encoding == CacheEncoding::samples ? 85 : 16;
    header.vocab_size = vocab;
    header.teacher = "a teacher";
    header.teacher_sha256 = "aa";
    header.tokenizer_sha256 = "bb";
    return header;
}

Example example_of(int number, std::size_t length) {
    Example example;
    example.record_id = "record" + std::to_string(number);
    for (std::size_t i = 0; i < length; ++i) {
        example.tokens.push_back(static_cast<std::int32_t>(7 * i) + number);
        example.trained.push_back(i > 2 ? 1 : 0);
    }
    return example;
}

TokenEntries entries_of(const CacheHeader& header, const Example& example) {
    TokenEntries entries;
    for (std::int64_t t = 0; t < trained_targets(example); ++t) {
        auto logits = random_logits(header.vocab_size, static_cast<std::uint64_t>(t) + 1, 4.0);
        if (header.encoding == CacheEncoding::top_k) {
            keep_largest(logits.data(), header.vocab_size, header.temperature, header.count, entries);
        } else {
            base::RandomStream random = draw_stream(header.seed, example.record_id, t);
            draw_samples(logits.data(), header.vocab_size, header.temperature, header.count, random, entries);
        }
    }
    return entries;
}

void write_cache(const fs::path& folder, const CacheHeader& header, int from, int to, bool finish) {
    auto writer = LogitCacheWriter::open(folder, header);
    ASSERT_TRUE(writer) << writer.error().message;
    EXPECT_EQ(writer->records(), from);
    for (int i = 0; i < to; ++i) {
        const Example example = example_of(i, 9);
        EXPECT_EQ(writer->has(example), i < from);
        if (i < from) continue;
        const auto written = writer->append(example, entries_of(header, example));
        ASSERT_TRUE(written) << written.error().message;
    }
    if (!finish) return;
    const auto summary = writer->finish();
    ASSERT_TRUE(summary) << summary.error().message;
    EXPECT_TRUE(summary->complete);
    EXPECT_EQ(summary->records, to);
    EXPECT_EQ(summary->tokens, 6 * to);
}

TEST(LogitCache, gives_back_what_was_written) {
    for (const CacheEncoding encoding : {CacheEncoding::samples, CacheEncoding::top_k}) {
        for (const std::int64_t vocab : {300, 49152, 151936}) {
            const CacheHeader header = header_of(encoding, vocab);
            const Example example = example_of(1, vocab > 1000 ? 5 : 12);
            const TokenEntries entries = entries_of(header, example);
            TokenEntries back;
            const auto decoded =
                decode_entries(header, encode_entries(header, entries), entries.tokens(), back);
            ASSERT_TRUE(decoded) << decoded.error().message;
            EXPECT_EQ(back.starts, entries.starts);
            EXPECT_EQ(back.ids, entries.ids);
            ASSERT_EQ(back.values.size(), entries.values.size());
            for (std::size_t i = 0; i < back.values.size(); ++i) {
                // Counts are exact; a code of −log2 p in steps of 1/2048 is half a step off at most.
                const double allowed = encoding == CacheEncoding::samples ? 1e-7 : 1.8e-4;
                EXPECT_NEAR(back.values[i] / entries.values[i], 1.0, allowed);
            }
            for (std::size_t t = 0; t < back.tails.size(); ++t) {
                EXPECT_NEAR(back.tails[t], entries.tails[t], 1.8e-4 * entries.tails[t] + 1e-9);
                // Half a step of log(vocab) / 4,095.
                const double step = std::log(static_cast<double>(vocab)) / 4095;
                EXPECT_NEAR(back.entropies[t], entries.entropies[t],
                            encoding == CacheEncoding::samples ? step / 2 + 1e-6 : 0);
            }
        }
    }
}

TEST(LogitCache, a_killed_run_goes_on_to_the_same_bytes) {
    const CacheHeader header = header_of(CacheEncoding::samples, 300);
    const fs::path whole = scratch("whole");
    write_cache(whole, header, 0, 6, true);
    const auto expected = base::read_file(whole / "logits.journal");
    ASSERT_TRUE(expected);
    const fs::path cut = scratch("cut");
    for (const std::size_t kept : {std::size_t{3}, expected->size() / 3, expected->size() / 2,
                                   expected->size() - 5, expected->size()}) {
        fs::remove_all(cut);
        fs::create_directories(cut);
        ASSERT_TRUE(base::write_file_atomic(cut / "logits.journal", expected->substr(0, kept)));
        EXPECT_EQ(LogitCache::open(cut).has_value(), kept == expected->size());
        {
            auto writer = LogitCacheWriter::open(cut, header);
            ASSERT_TRUE(writer) << writer.error().message;
            EXPECT_FALSE(LogitCacheWriter::open(cut, header));  // a second writer
            for (int i = 0; i < 6; ++i) {
                const Example example = example_of(i, 9);
                if (!writer->has(example)) {
                    ASSERT_TRUE(writer->append(example, entries_of(header, example)));
                }
            }
            ASSERT_TRUE(writer->finish());
        }
        EXPECT_EQ(base::read_file(cut / "logits.journal").value(), *expected) << kept;
    }
}

TEST(LogitCache, has_all_64_bits_of_its_seed) {
    CacheHeader header = header_of(CacheEncoding::samples, 300);
    header.seed = ~std::uint64_t{0};
    const fs::path folder = scratch("seed");
    write_cache(folder, header, 0, 2, true);
    const auto cache = LogitCache::open(folder);
    ASSERT_TRUE(cache) << cache.error().message;
    EXPECT_EQ(cache->header(), header);
}

TEST(LogitCache, other_settings_other_data_and_damage_are_refused) {
    const CacheHeader header = header_of(CacheEncoding::top_k, 300);
    const fs::path folder = scratch("refused");
    write_cache(folder, header, 0, 3, true);
    CacheHeader other = header;
    other.teacher_sha256 = "cc";
    EXPECT_FALSE(LogitCacheWriter::open(folder, other));
    EXPECT_FALSE(LogitCacheWriter::open(folder, header)->append(example_of(9, 9), {}));  // complete

    const auto cache = LogitCache::open(folder);
    ASSERT_TRUE(cache) << cache.error().message;
    EXPECT_EQ(cache->header(), header);
    EXPECT_TRUE(cache->find(example_of(2, 9)));
    EXPECT_FALSE(cache->find(example_of(4, 9)));
    Example changed = example_of(2, 9);
    changed.tokens[4] += 1;
    EXPECT_FALSE(cache->find(changed));
    changed = example_of(2, 9);
    changed.trained[2] = 1;
    EXPECT_FALSE(cache->find(changed));

    const std::string bytes = base::read_file(folder / "logits.journal").value();
    ASSERT_TRUE(LogitCache::parse(std::as_bytes(std::span(bytes)), false));
    for (std::size_t at = 8; at < bytes.size(); at += 13) {
        std::string copy = bytes;
        copy[at] = static_cast<char>(copy[at] ^ 0x10);
        EXPECT_FALSE(LogitCache::parse(std::as_bytes(std::span(copy)), false)) << at;
    }
}

TEST(LogitCache, entries_that_make_no_sense_are_refused) {
    const CacheHeader samples = header_of(CacheEncoding::samples, 300);
    const Example example = example_of(0, 5);
    const std::string good = encode_entries(samples, entries_of(samples, example));
    TokenEntries out;
    ASSERT_TRUE(decode_entries(samples, good, 2, out));
    out = {};
    EXPECT_FALSE(decode_entries(samples, good, 1, out));
    out = {};
    EXPECT_FALSE(decode_entries(samples, good, 3, out));
    CacheHeader small = samples;
    small.vocab_size = 5;
    out = {};
    EXPECT_FALSE(decode_entries(small, good, 2, out));
    out = {};
    EXPECT_FALSE(decode_entries(samples, std::string_view(good).substr(0, good.size() - 1), 2, out));
    std::string filled = good;
    filled.back() = static_cast<char>(filled.back() | 0x80);  // in the zeros that fill the last byte
    out = {};
    EXPECT_FALSE(decode_entries(samples, filled, 2, out));

    CacheHeader top = header_of(CacheEncoding::top_k, 300);
    const auto refused = [&](const CacheHeader& header, std::string_view bytes, std::string_view why) {
        out = {};
        const Status status = decode_entries(header, bytes, 1, out);
        ASSERT_FALSE(status) << why;
        EXPECT_NE(status.error().message.find(why), std::string::npos) << status.error().message;
    };
    using namespace std::string_view_literals;
    refused(top, "\x02\x07\x00\x07\x00\x00\x10\x00\x10\xff\xff"sv, "comes twice");
    refused(top, "\x01\x2c\x01\x00\x10\xff\xff"sv, "outside the vocabulary");
    refused(top, "\x02\x07\x00\x08\x00\x00\x00\x00\x00\xff\xff"sv, "more than 1");
    refused(top, "\x11\x07\x00"sv, "more ids than are kept");

    // Draws, N = 4 of 300 ids: entropy 0, then as the page of the format has it.
    CacheHeader four = samples;
    four.count = 4;
    const auto drawn = [](std::uint32_t ids_less_one, auto... parts) {
        BitWriter bits;
        bits.fixed(0, 12);
        bits.fixed(ids_less_one, 2);
        (parts(bits), ...);
        return bits.take();
    };
    const auto gap = [](std::uint32_t value, int width) {
        return [=](BitWriter& bits) { bits.rice(value, width); };
    };
    const auto count = [](std::uint32_t value) { return [=](BitWriter& bits) { bits.gamma(value); }; };
    // From 0, two to come: min(0 + 25, 600) / 2 = 12, so 3 bits; from 6, one to come: 31, so 4.
    const std::string two = drawn(1, gap(5, 3), count(3), gap(9, 4));
    out = {};
    ASSERT_TRUE(decode_entries(four, two, 1, out));
    EXPECT_EQ(out.ids, (std::vector<std::int32_t>{5, 15}));
    EXPECT_EQ(out.values, (std::vector<float>{0.75F, 0.25F}));
    EXPECT_EQ(encode_entries(four, out), two);
    // From 0, three to come: 25 / 3 = 8, so 3 bits; from 1: 26 / 2 = 13, 3 bits; from 290: 20, 4 bits. Behind
    // the first there is one draw for each, and no count.
    const std::string three = drawn(2, gap(0, 3), count(2), gap(288, 3), gap(5, 4));
    out = {};
    ASSERT_TRUE(decode_entries(four, three, 1, out));
    EXPECT_EQ(out.ids, (std::vector<std::int32_t>{0, 289, 295}));
    EXPECT_EQ(out.values, (std::vector<float>{0.5F, 0.25F, 0.25F}));
    EXPECT_EQ(encode_entries(four, out), three);
    refused(four, drawn(1, gap(5, 3), count(4), gap(9, 4)), "do not add up to 4");
    refused(four, drawn(1, gap(5, 3), count(3), gap(294, 4)), "outside the vocabulary");
    refused(four, drawn(1, gap(299, 3), count(3), gap(0, 0)), "outside the vocabulary");
    four.count = 3;
    refused(four, drawn(3), "more ids than draws");
}

TEST(BitStream, gives_back_what_was_written_in_as_many_bits_as_it_says) {
    for (std::uint32_t value = 1; value < 70000; value += 1 + value / 5) {
        BitWriter bits;
        bits.gamma(value);
        bits.rice(value, 11);
        bits.fixed(value, 17);
        const auto width = static_cast<std::size_t>(std::bit_width(value));
        const std::string bytes = bits.take();
        EXPECT_EQ(bytes.size(), ((2 * width - 1) + (value / 2048 + 1 + 11) + 17 + 7) / 8);
        BitReader back(bytes);
        EXPECT_EQ(back.gamma(), value);
        EXPECT_EQ(back.rice(11), value);
        EXPECT_EQ(back.fixed(17), value);
        EXPECT_TRUE(back.at_end());
        EXPECT_FALSE(back.ran_out());
        (void)back.fixed(8);
        EXPECT_TRUE(back.ran_out());
    }
    BitReader wide(std::string_view("\0\0\0\0\0", 5));  // no number of 31 bits begins so
    EXPECT_EQ(wide.gamma(), 0U);
    EXPECT_TRUE(wide.ran_out());
}

TEST(LogitDraw, keeps_the_largest_and_the_mass_of_the_rest) {
    const std::int64_t vocab = 1000;
    const auto logits = random_logits(vocab, 3, 3.0);
    auto scratch_row = logits;
    TokenEntries entries;
    keep_largest(scratch_row.data(), vocab, 2.0, 8, entries);
    ASSERT_EQ(entries.ids.size(), 8U);
    std::vector<double> p(logits.begin(), logits.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x / 2);
    double kept = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        const double want = p[static_cast<std::size_t>(entries.ids[i])] / sum;
        EXPECT_NEAR(entries.values[i] / want, 1, 1e-5);
        if (i > 0) {
            EXPECT_GE(entries.values[i - 1], entries.values[i]);
        }
        kept += want;
    }
    EXPECT_NEAR(entries.tails[0], 1 - kept, 1e-6);
    const double least = static_cast<double>(entries.values[7]) * sum * (1 + 1e-6);
    EXPECT_EQ(std::count_if(p.begin(), p.end(), [&](double x) { return x >= least * (1 - 1e-5); }), 8);
}

// What a tail bucket hides, of distributions that are known whole, is below the bound that a cache reports,
// and not by much where the tail is nearly even.
TEST(LogitCache, bounds_what_its_tails_hide) {
    for (const double deviation : {0.05, 1.0, 4.0}) {
        const std::int64_t vocab = 300;
        CacheHeader header = header_of(CacheEncoding::top_k, vocab);
        const fs::path folder = scratch("tail");
        double hidden = 0;
        {
            auto writer = LogitCacheWriter::open(folder, header);
            ASSERT_TRUE(writer) << writer.error().message;
            const Example example = example_of(1, 23);
            TokenEntries entries;
            const std::int64_t tokens = trained_targets(example);
            for (std::int64_t t = 0; t < tokens; ++t) {
                auto logits = random_logits(vocab, static_cast<std::uint64_t>(t) + 1, deviation);
                std::vector<double> p(logits.begin(), logits.end());
                keep_largest(logits.data(), vocab, 1.0, header.count, entries);
                double sum = 0;
                for (double& x : p) sum += x = std::exp(x);
                std::sort(p.begin(), p.end());
                double mass = 0;
                const auto others = static_cast<std::size_t>(vocab - header.count);
                for (std::size_t i = 0; i < others; ++i) mass += p[i] / sum;
                for (std::size_t i = 0; i < others; ++i) {
                    const double x = p[i] / sum;
                    hidden +=
                        x * std::log(x * static_cast<double>(others) / mass) / static_cast<double>(tokens);
                }
            }
            ASSERT_TRUE(writer->append(example, entries));
            ASSERT_TRUE(writer->finish());
        }
        const auto cache = LogitCache::open(folder);
        ASSERT_TRUE(cache) << cache.error().message;
        EXPECT_GT(cache->summary().tail_kl_bound, hidden);
        if (deviation < 0.1) {
            EXPECT_LT(cache->summary().tail_kl_bound, hidden + 0.2);
        }
    }
}

// 10,000 caches of one token, N = 50: the mean gradient is that of the whole distribution. There is a draw in
// each of 50 shares of the mass, taken in order of id, so that of a block of ids only the draws at its two
// ends are left to chance, and its variance is known. Of 20 blocks' z-values none passes 4.2 by chance (p =
// 5e-4 for all). The ends that have a share to themselves are independent, and the squares of their z-values
// add up to a chi-square (within its 0.1 and 99.9 %).
TEST(LogitDraw, gradients_are_unbiased) {
    const std::int64_t vocab = 200;
    constexpr int caches = 10000;
    constexpr int blocks = 20;
    const auto teacher = random_logits(vocab, 3, 2.0);
    const auto student = random_logits(vocab, 4, 2.0);
    CacheHeader header = header_of(CacheEncoding::samples, vocab);
    header.count = 50;
    std::vector<double> mean(static_cast<std::size_t>(vocab));
    double value = 0;
    for (int c = 0; c < caches; ++c) {
        auto logits = teacher;
        base::RandomStream random = draw_stream(1, "record", c);
        TokenEntries drawn;
        draw_samples(logits.data(), vocab, 1.0, header.count, random, drawn);
        TokenEntries entries;  // as they come back from a file
        ASSERT_TRUE(decode_entries(header, encode_entries(header, drawn), 1, entries));
        auto gradient = student;
        tensor::TokenLoss loss;
        const std::int32_t target = 0;
        tensor::sparse_token_loss(gradient.data(),
                                  {entries.starts.data(), entries.ids.data(), entries.values.data(), true,
                                   entries.entropies.data(), nullptr, 1.0F},
                                  &target, 1, vocab, {.ce = 0, .divergence = 1}, &loss);
        value += loss.divergence / caches;
        for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += static_cast<double>(gradient[i]) / caches;
    }
    tensor::TokenLoss dense;
    std::vector<double> expected(mean.size());
    dense = tensor::token_loss_reference(student.data(), teacher.data(), 0, vocab, {.ce = 0, .divergence = 1},
                                         expected.data());
    std::vector<double> p(teacher.begin(), teacher.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x);
    double largest = 0;
    double chi_square = 0;
    double degrees = 0;
    double independent = 0;  // the sum of squares if the draws knew nothing of shares
    double left = 0;         // mass before the block, in shares
    double gap_before = 0;
    double last_share = -1;
    for (std::size_t b = 0; b < blocks; ++b) {
        double gap = 0;
        double mass = 0;
        for (std::size_t i = b * 10; i < b * 10 + 10; ++i) {
            gap += mean[i] - expected[i];
            mass += p[i] / sum;
        }
        const double right = b + 1 == blocks ? 50.0 : left + 50 * mass;
        const auto end_variance = [](double at) { return (at - std::floor(at)) * (1 - at + std::floor(at)); };
        const bool in_one_share = std::floor(left) == std::floor(right);
        const double variance =
            in_one_share ? (right - left) * (1 - right + left) : end_variance(left) + end_variance(right);
        const double z = 50 * gap / std::sqrt(variance / caches);
        EXPECT_LT(std::abs(z), 4.2) << "block " << b;
        largest = std::max(largest, std::abs(z));
        independent += gap * gap / (mass / (50.0 * caches));
        gap_before += gap;
        if (b + 1 < blocks && std::floor(right) != last_share) {
            chi_square += std::pow(50 * gap_before, 2) / (end_variance(right) / caches);
            ++degrees;
        }
        last_share = std::floor(right);
        left = right;
    }
    const auto quantile = [&](double normal) {  // Wilson and Hilferty's
        return degrees * std::pow(1 - 2 / (9 * degrees) + normal * std::sqrt(2 / (9 * degrees)), 3);
    };
    EXPECT_GE(degrees, 10);
    EXPECT_GT(chi_square, quantile(-3.09));
    EXPECT_LT(chi_square, quantile(3.09));
    // Independent draws have 19 on average; below 5.4 in one case of a thousand.
    EXPECT_LT(independent, 5.4);
    RecordProperty("degrees", std::to_string(degrees));
    RecordProperty("independent_draws_would_have_19", std::to_string(independent));
    RecordProperty("largest_z", std::to_string(largest));
    RecordProperty("chi_square", std::to_string(chi_square));
    // The value's deviation over draws is about that of log q, 2 nats, over √(50·10,000); f16 rounds H at
    // 1e-3.
    EXPECT_NEAR(value, dense.divergence, 5 * 2 / std::sqrt(50.0 * caches) + 2e-3);
}

}  // namespace
}  // namespace retort::data
