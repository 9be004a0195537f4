// Generation's forward pass against transformers' logits and the training forward pass; and the promise that
// what runs beside a token, before it or with it in a step, does not change its logits.
#include "generate/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "formats/safetensors.h"
#include "model/parameters.h"
#include "model/transformer.h"
#include "tensor/dispatch.h"
#include "tensor/gemm.h"
#include "tiny_model.h"

namespace retort::generate {
namespace {

using tensor::DType;

// Runs `tokens` in steps of at most `chunk`, all logits.
std::vector<float> logits_of(const model::Weights& weights, std::span<const std::int32_t> tokens,
                             std::size_t chunk) {
    const auto count = static_cast<std::int64_t>(tokens.size());
    const std::int64_t page_count = (count + tensor::kv_page_tokens - 1) / tensor::kv_page_tokens;
    std::vector<std::int32_t> pages(static_cast<std::size_t>(page_count));
    std::iota(pages.rbegin(), pages.rend(), 0);
    Decoder decoder(weights, page_count, count, static_cast<std::int64_t>(chunk));
    std::vector<float> all;
    for (std::size_t at = 0; at < tokens.size(); at += chunk) {
        const auto part = tokens.subspan(at, std::min(chunk, tokens.size() - at));
        const Segment segment{part, static_cast<std::int64_t>(at), pages,
                              static_cast<std::int64_t>(part.size())};
        const auto logits = decoder.step({&segment, 1});
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
    EXPECT_EQ(a.size(), b.size());
    double worst = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    return worst;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

template <typename T>
std::vector<T> golden_values(const formats::SafetensorsFile& file, const std::string& name) {
    const auto* tensor = file.find(name);
    if (tensor == nullptr) return {};
    std::vector<T> values(tensor->data.size() / sizeof(T));
    std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
    return values;
}

class GoldenShapes : public ::testing::TestWithParam<const char*> {};

// Logits are below 10 in size; two f32 implementations of two layers of width 32 differ by some tens of
// roundings of 6e-8·10 each. A hundred times what that comes to is still far below any fault.
TEST_P(GoldenShapes, logits_are_those_of_transformers_at_once_in_chunks_and_token_by_token) {
    const std::string folder = std::string(RETORT_TEST_DATA) + "/model/" + GetParam();
    const auto weights = model::load_weights(folder);
    ASSERT_TRUE(weights) << weights.error().message;
    const auto golden = formats::SafetensorsFile::open(folder + "/golden.safetensors");
    ASSERT_TRUE(golden) << golden.error().message;
    for (const std::string sequence : {"0", "1"}) {
        const auto tokens = golden_values<std::int32_t>(*golden, "input_ids." + sequence);
        const auto expected = golden_values<float>(*golden, "logits." + sequence);
        ASSERT_FALSE(tokens.empty());
        for (const std::size_t chunk : {tokens.size(), std::size_t{7}, std::size_t{1}}) {
            EXPECT_LE(largest_difference(logits_of(*weights, tokens, chunk), expected), 1e-4)
                << GetParam() << ", sequence " << sequence << ", chunks of " << chunk;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, GoldenShapes,
                         ::testing::Values("llama3", "llama_linear", "llama_yarn", "mistral", "smollm2",
                                           "qwen2.5", "qwen3", "qwen3_yarn"),
                         [](const auto& suite) {
                             std::string name = suite.param;
                             std::replace(name.begin(), name.end(), '.', '_');
                             return name;
                         });

class TinyShapes : public ::testing::TestWithParam<const char*> {};

TEST_P(TinyShapes, logits_are_those_of_the_training_forward_pass) {
    const model::Weights weights = test::tiny_weights(GetParam(), DType::f32);
    const auto tokens = test::random_tokens(75, weights.config.vocab_size, 2);
    const model::Parameters parameters = model::parameters_from(weights);
    std::vector<std::int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<std::int32_t> starts = {0, 75};
    model::Transformer transformer(parameters.layout, 75, {.training = false});
    const auto hidden = transformer.forward({parameters.values.data(), nullptr}, {tokens, positions, starts});
    const std::int64_t vocab = weights.config.vocab_size;
    const std::int64_t width = weights.config.hidden_size;
    std::vector<float> expected(static_cast<std::size_t>(75 * vocab));
    tensor::gemm_reference(false, true, 75, vocab, width, 1.0F, hidden.data(), width,
                           parameters.values.data() + parameters.layout.head, width, 0.0F, expected.data(),
                           vocab);
    const auto logits = logits_of(weights, tokens, 75);
    double size = 0;
    for (const float logit : expected) size = std::max(size, std::abs(static_cast<double>(logit)));
    // Each logit passes some 4·layers sums of up to 96 terms in either implementation: 1000 roundings of the
    // largest.
    EXPECT_LE(largest_difference(logits, expected), 1000 * 5.96e-8 * size);
}

TEST_P(TinyShapes, a_token_has_the_same_bits_however_its_sequence_is_cut_into_steps) {
    // Quantised weights, and 16-bit ones where the machine has bf16 products: any step. Plain ones otherwise:
    // up to tensor::linear_exact_tokens tokens a step. In a qwen3 shape rows of the output matrix do not fill
    // a block and are f16.
    const bool pairs = tensor::kernel_isa() >= base::Isa::avx512_bf16;
    for (const DType dtype : {DType::q4_1, DType::q8_0, DType::f32, DType::bf16, DType::f16}) {
        const model::Weights weights = test::tiny_weights(GetParam(), dtype);
        const auto tokens = test::random_tokens(70, weights.config.vocab_size, 3);
        const auto one_by_one = logits_of(weights, tokens, 1);
        EXPECT_TRUE(same_bits(logits_of(weights, tokens, 13), one_by_one)) << tensor::dtype_info(dtype).name;
        EXPECT_TRUE(same_bits(logits_of(weights, tokens, tensor::linear_exact_tokens), one_by_one));
        const bool fills = weights.config.query_size() % 32 == 0 && weights.config.head_dim == 16;
        if (dtype != DType::f32 && (pairs || (tensor::is_quantised(dtype) && fills))) {
            EXPECT_TRUE(same_bits(logits_of(weights, tokens, 70), one_by_one))
                << tensor::dtype_info(dtype).name;
        }
    }
}

TEST_P(TinyShapes, sequences_in_one_step_do_not_see_each_other) {
    const model::Weights weights = test::tiny_weights(GetParam(), DType::q4_0);
    const std::int64_t vocab = weights.config.vocab_size;
    const std::vector<std::int32_t> sequences[] = {test::random_tokens(9, vocab, 4),
                                                   test::random_tokens(1, vocab, 5),
                                                   test::random_tokens(20, vocab, 6)};
    const std::vector<std::int32_t> pages[] = {{4}, {1}, {2, 0}};
    Decoder decoder(weights, 5, 64, 30);
    std::vector<Segment> segments;
    for (std::size_t i = 0; i < 3; ++i) segments.push_back({sequences[i], 0, pages[i], i == 0 ? 3 : 1});
    const auto logits = decoder.step(segments);
    ASSERT_EQ(logits.size(), static_cast<std::size_t>(5 * vocab));
    std::size_t row = 0;
    for (std::size_t i = 0; i < 3; ++i) {
        const auto alone = logits_of(weights, sequences[i], 32);
        const std::size_t wanted = i == 0 ? 3 : 1;
        const auto width = static_cast<std::size_t>(vocab);
        EXPECT_TRUE(
            same_bits(logits.subspan(row * width, wanted * width), std::span(alone).last(wanted * width)))
            << i;
        row += wanted;
    }
}

// KL of the model with its weights used directly to the same model dequantised: 16-bit activations are off by
// 2⁻¹⁶ of a run's largest at most. Issue 3 allows 1e-4; what is seen is about 1e-9.
TEST_P(TinyShapes, quantised_weights_used_directly_give_the_dequantised_models_distribution) {
    for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1}) {
        const model::Weights weights = test::tiny_weights(GetParam(), dtype);
        const model::Weights reference = model::dequantised(weights);
        const auto tokens = test::random_tokens(60, weights.config.vocab_size, 7);
        const auto direct = logits_of(weights, tokens, 60);
        const auto exact = logits_of(reference, tokens, 60);
        const auto vocab = static_cast<std::size_t>(weights.config.vocab_size);
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            double p_total = 0;
            double q_total = 0;
            for (std::size_t i = 0; i < vocab; ++i) {
                p_total += std::exp(static_cast<double>(exact[t * vocab + i]));
                q_total += std::exp(static_cast<double>(direct[t * vocab + i]));
            }
            double kl = 0;
            for (std::size_t i = 0; i < vocab; ++i) {
                const double log_p = static_cast<double>(exact[t * vocab + i]) - std::log(p_total);
                const double log_q = static_cast<double>(direct[t * vocab + i]) - std::log(q_total);
                kl += std::exp(log_p) * (log_p - log_q);
            }
            ASSERT_LE(kl, 1e-6) << tensor::dtype_info(dtype).name << " token " << t;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, TinyShapes, ::testing::Values("llama", "qwen2", "qwen3"));

TEST(Decoder, a_copied_page_stands_in_for_the_first) {
    const model::Weights weights = test::tiny_weights("llama", DType::f32);
    const auto tokens = test::random_tokens(12, weights.config.vocab_size, 8);
    Decoder decoder(weights, 3, 64, 16);
    const std::vector<std::int32_t> first = {0};
    const std::vector<std::int32_t> second = {2};
    const Segment beginning{std::span(tokens).first(11), 0, first, 0};
    EXPECT_TRUE(decoder.step({&beginning, 1}).empty());
    decoder.copy_page(0, 2);
    const Segment a{std::span(tokens).last(1), 11, first, 1};
    const auto logits = decoder.step({&a, 1});
    const std::vector<float> expected(logits.begin(), logits.end());
    const Segment b{std::span(tokens).last(1), 11, second, 1};
    EXPECT_TRUE(same_bits(decoder.step({&b, 1}), expected));
}

}  // namespace
}  // namespace retort::generate
