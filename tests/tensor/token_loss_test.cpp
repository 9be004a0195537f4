// The token losses against their definitions in double precision, on each instruction set; the definitions
// against finite differences of themselves.
#include "tensor/token_loss.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "tensor/dispatch.h"
#include "tensor/token_loss_policy.h"
#include "tensor/token_loss_sparse.h"

namespace retort::tensor {
namespace {

constexpr double epsilon = 5.96e-8;  // half an ulp of 1 in f32
constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<float> random_vector(std::int64_t count, std::uint64_t seed, double deviation) {
    base::RandomStream random(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(random.normal() * deviation);
    return values;
}

std::vector<std::int32_t> some_targets(std::int64_t rows, std::int64_t vocab) {
    std::vector<std::int32_t> targets;
    for (std::int64_t r = 0; r < rows; ++r) targets.push_back(static_cast<std::int32_t>(r * 31 % vocab));
    return targets;
}

const std::array every_divergence = {
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::fkl},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::rkl},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::jsd, .parameter = 0.0F},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::jsd, .parameter = 0.1F},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::jsd, .parameter = 0.5F},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::jsd, .parameter = 1.0F},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::skew_fkl, .parameter = 0.1F},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::skew_rkl, .parameter = 0.1F},
    TokenLossWeights{.ce = 0, .divergence = 1, .kind = Divergence::tvd},
};

double norm(const std::vector<double>& x) {
    double sum = 0;
    for (const double value : x) sum += value * value;
    return std::sqrt(sum);
}

double distance(const float* got, const std::vector<double>& want) {
    double sum = 0;
    for (std::size_t i = 0; i < want.size(); ++i) sum += std::pow(static_cast<double>(got[i]) - want[i], 2);
    return std::sqrt(sum);
}

double widest(const std::vector<float>& logits) {
    double top = 0;
    for (const float x : logits)
        if (std::isfinite(x)) top = std::max(top, std::abs(static_cast<double>(x)));
    return 2 * top;
}

class EachIsa : public ::testing::TestWithParam<base::Isa> {
  protected:
    void SetUp() override { limit_isa(GetParam()); }
    void TearDown() override { limit_isa(base::active_isa()); }
};

struct Logits {
    std::vector<float> student;
    std::vector<float> teacher;
};

void expect_reference(const Logits& logits, std::int64_t rows, const TokenLossWeights& weights) {
    const auto vocab = static_cast<std::int64_t>(logits.student.size()) / rows;
    const auto targets = some_targets(rows, vocab);
    auto gradient = logits.student;
    auto scratch = logits.teacher;
    std::vector<TokenLoss> losses(static_cast<std::size_t>(rows));
    token_loss(gradient.data(), weights.divergence == 0 ? nullptr : scratch.data(), targets.data(), rows,
               vocab, weights, losses.data());
    // With logits a spread s apart, (x − top)/T is rounded at ε·s/T: so are log-probabilities, the slope of
    // rkl, which is a difference of two, and q itself, relatively. Exponentials carry 2 ulp, sums 4,096
    // floats in 4 lanes or more: about √1,024 roundings. Of these is made what is allowed.
    const double t = static_cast<double>(weights.temperature);
    const double spread = std::max(widest(logits.student), widest(logits.teacher)) / t;
    const double allowed = epsilon * (64 + 4 * spread);
    for (std::int64_t r = 0; r < rows; ++r) {
        std::vector<double> expected(static_cast<std::size_t>(vocab));
        const TokenLoss loss =
            token_loss_reference(logits.student.data() + r * vocab, logits.teacher.data() + r * vocab,
                                 targets[static_cast<std::size_t>(r)], vocab, weights, expected.data());
        for (double& x : expected) x *= static_cast<double>(weights.scale);
        const TokenLoss& got = losses[static_cast<std::size_t>(r)];
        EXPECT_NEAR(got.ce, loss.ce, allowed * t * (1 + std::abs(loss.ce)));
        EXPECT_NEAR(got.divergence, loss.divergence, t * t * allowed + 64 * epsilon * loss.divergence);
        if (weights.divergence != 0) {
            EXPECT_EQ(got.agrees, loss.agrees);
        }
        EXPECT_LE(distance(gradient.data() + r * vocab, expected),
                  allowed * (norm(expected) + t * static_cast<double>(weights.scale)))
            << "kind " << static_cast<int>(weights.kind) << " parameter " << weights.parameter
            << " temperature " << weights.temperature << " vocab " << vocab << " row " << r;
    }
}

TEST_P(EachIsa, losses_are_those_of_the_dense_reference) {
    for (const std::int64_t vocab : {2, 17, 107, 4096 + 33}) {
        const std::int64_t rows = vocab > 1000 ? 1 : 3;
        // As far apart as a fresh, a trained, and an absurd model's.
        for (const double deviation : {0.3, 6.0, 300.0}) {
            const Logits logits{random_vector(rows * vocab, 1, deviation),
                                random_vector(rows * vocab, 2, deviation)};
            expect_reference(logits, rows, {.scale = 0.25F});
            for (TokenLossWeights weights : every_divergence) {
                weights.scale = 0.25F;
                for (const float temperature : {1.0F, 2.5F}) {
                    weights.temperature = temperature;
                    weights.ce = 0;
                    weights.divergence = 1;
                    expect_reference(logits, rows, weights);
                    weights.ce = 0.3F;
                    weights.divergence = 0.7F;
                    expect_reference(logits, rows, weights);
                }
            }
        }
    }
}

TEST_P(EachIsa, forbidden_tokens_and_ties_are_exact) {
    const std::int64_t vocab = 61;
    Logits logits{random_vector(vocab, 3, 4.0), random_vector(vocab, 4, 4.0)};
    for (const std::size_t forbidden : {5U, 31U, 60U}) {
        logits.student[forbidden] = -infinity;
        logits.teacher[forbidden] = -infinity;
    }
    for (std::size_t i = 40; i < 50; ++i) logits.student[i] = logits.teacher[i] = 1.5F;  // ties within a row
    for (const TokenLossWeights& weights : every_divergence) expect_reference(logits, 1, weights);
    // Forbidden to one side only, where the loss stays finite.
    logits.teacher[7] = -infinity;
    for (const Divergence kind :
         {Divergence::fkl, Divergence::jsd, Divergence::skew_fkl, Divergence::skew_rkl, Divergence::tvd}) {
        expect_reference(logits, 1, {.ce = 0.5F, .divergence = 1, .kind = kind, .parameter = 0.25F});
    }
    logits.teacher[7] = 0.0F;
    logits.student[9] = -infinity;
    for (const Divergence kind :
         {Divergence::rkl, Divergence::jsd, Divergence::skew_fkl, Divergence::skew_rkl, Divergence::tvd}) {
        expect_reference(logits, 1, {.ce = 0.5F, .divergence = 1, .kind = kind, .parameter = 0.25F});
    }
}

TEST_P(EachIsa, equal_sides_have_no_loss_and_no_gradient) {
    for (const std::int64_t vocab : {5, 1000}) {
        const auto logits = random_vector(vocab, 5, 5.0);
        for (const TokenLossWeights& weights : every_divergence) {
            auto gradient = logits;
            auto scratch = logits;
            TokenLoss loss;
            const std::int32_t target = 2;
            token_loss(gradient.data(), scratch.data(), &target, 1, vocab, weights, &loss);
            EXPECT_NEAR(loss.divergence, 0, 64 * epsilon);
            EXPECT_TRUE(loss.agrees);
            for (const float g : gradient) EXPECT_NEAR(g, 0, 64 * epsilon);
        }
    }
}

TEST_P(EachIsa, a_logit_that_is_no_number_is_seen) {
    for (const std::size_t at : {std::size_t{0}, std::size_t{20}, std::size_t{36}}) {
        for (const bool teachers : {false, true}) {
            Logits logits{random_vector(37, 6, 3.0), random_vector(37, 7, 3.0)};
            (teachers ? logits.teacher : logits.student)[at] = std::nanf("");
            TokenLoss loss;
            const std::int32_t target = 3;
            token_loss(logits.student.data(), logits.teacher.data(), &target, 1, 37, every_divergence[0],
                       &loss);
            EXPECT_TRUE(std::isnan(loss.divergence));
            EXPECT_TRUE(std::isnan(logits.student[1]));
        }
    }
}

TEST(TokenLossReference, gradient_is_the_slope_of_the_loss) {
    const std::int64_t vocab = 23;
    const auto student = random_vector(vocab, 1, 2.0);
    const auto teacher = random_vector(vocab, 2, 2.0);
    for (TokenLossWeights weights : every_divergence) {
        weights.ce = 0.4F;
        weights.divergence = 0.6F;
        weights.temperature = 2;
        std::vector<double> gradient(static_cast<std::size_t>(vocab));
        std::vector<double> unused(gradient.size());
        token_loss_reference(student.data(), teacher.data(), 3, vocab, weights, gradient.data());
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            const auto value_at = [&](float shift) {
                auto moved = student;
                moved[i] += shift;
                const TokenLoss loss =
                    token_loss_reference(moved.data(), teacher.data(), 3, vocab, weights, unused.data());
                return static_cast<double>(weights.ce) * loss.ce +
                       static_cast<double>(weights.divergence) * loss.divergence;
            };
            // A logit moved by h is rounded; the step taken is the difference of the two.
            constexpr float h = 1.0F / 1024;
            const double step = static_cast<double>(student[i] + h) - static_cast<double>(student[i] - h);
            EXPECT_NEAR((value_at(h) - value_at(-h)) / step, gradient[i], 2e-6)
                << static_cast<int>(weights.kind);
        }
    }
}

// A teacher's row as its largest k and the rest.
struct Kept {
    std::vector<std::int64_t> starts;
    std::vector<std::int32_t> ids;
    std::vector<float> values;
    std::vector<float> tails;
    std::vector<float> entropies;

    [[nodiscard]] SparseTargets targets(bool sampled, float temperature = 1.0F) const {
        return {starts.data(),    ids.data(),   values.data(), sampled,
                entropies.data(), tails.data(), temperature};
    }
};

std::vector<double> probabilities(const float* logits, std::int64_t vocab, double temperature) {
    std::vector<double> p(logits, logits + vocab);
    const double top = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp((x - top) / temperature);
    for (double& x : p) x /= sum;
    return p;
}

Kept keep(const std::vector<float>& teacher, std::int64_t rows, std::size_t count, double temperature = 1) {
    const auto vocab = static_cast<std::int64_t>(teacher.size()) / rows;
    Kept kept;
    kept.starts = {0};
    for (std::int64_t r = 0; r < rows; ++r) {
        const auto p = probabilities(teacher.data() + r * vocab, vocab, temperature);
        std::vector<std::int32_t> order(p.size());
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
            return p[static_cast<std::size_t>(a)] > p[static_cast<std::size_t>(b)];
        });
        double tail = 0;
        double entropy = 0;
        for (std::size_t i = 0; i < p.size(); ++i) {
            const double x = p[static_cast<std::size_t>(order[i])];
            entropy -= x > 0 ? x * std::log(x) : 0;
            if (i >= count) {
                tail += x;
                continue;
            }
            kept.ids.push_back(order[i]);
            kept.values.push_back(static_cast<float>(x));
        }
        kept.tails.push_back(static_cast<float>(tail));
        kept.entropies.push_back(static_cast<float>(entropy));
        kept.starts.push_back(static_cast<std::int64_t>(kept.ids.size()));
    }
    return kept;
}

TEST_P(EachIsa, sparse_losses_are_those_of_their_reference) {
    for (const std::int64_t vocab : {9, 107, 4096 + 33}) {
        const std::int64_t rows = 3;
        const auto student = random_vector(rows * vocab, 1, 5.0);
        const auto teacher = random_vector(rows * vocab, 2, 5.0);
        const auto targets = some_targets(rows, vocab);
        for (TokenLossWeights weights : every_divergence) {
            for (const bool sampled : {false, true}) {
                if (sampled && weights.kind != Divergence::fkl) continue;
                for (const float temperature : {1.0F, 2.0F}) {
                    for (const float made_at : {1.0F, temperature}) {
                        if (sampled && made_at != temperature) continue;
                        weights.ce = 0.25F;
                        weights.temperature = temperature;
                        weights.scale = 0.5F;
                        const Kept kept = keep(teacher, rows, 7, static_cast<double>(made_at));
                        auto gradient = student;
                        std::vector<TokenLoss> losses(static_cast<std::size_t>(rows));
                        sparse_token_loss(gradient.data(), kept.targets(sampled, made_at), targets.data(),
                                          rows, vocab, weights, losses.data());
                        for (std::int64_t r = 0; r < rows; ++r) {
                            SparseTargets one = kept.targets(sampled, made_at);
                            one.starts += r;
                            one.tails += r;
                            one.entropies += r;
                            std::vector<double> expected(static_cast<std::size_t>(vocab));
                            const TokenLoss loss = sparse_token_loss_reference(
                                student.data() + r * vocab, one, targets[static_cast<std::size_t>(r)], vocab,
                                weights, expected.data());
                            for (double& x : expected) x *= 0.5;
                            const TokenLoss& got = losses[static_cast<std::size_t>(r)];
                            const double t = static_cast<double>(temperature);
                            const double allowed = epsilon * (64 + 4 * widest(student));
                            EXPECT_NEAR(got.ce, loss.ce, allowed * (1 + loss.ce));
                            EXPECT_NEAR(got.divergence, loss.divergence,
                                        allowed * t * t * (1 + std::abs(loss.divergence)));
                            EXPECT_LE(distance(gradient.data() + r * vocab, expected),
                                      allowed * t * (1 + norm(expected)))
                                << static_cast<int>(weights.kind) << (sampled ? " sampled" : " top-k")
                                << " T " << temperature << " made at " << made_at << " vocab " << vocab;
                        }
                    }
                }
            }
        }
    }
}

TEST_P(EachIsa, a_row_without_entries_teaches_the_written_token) {
    for (const std::int64_t vocab : {9, 4096 + 33}) {
        const std::int64_t rows = 2;
        const auto student = random_vector(rows * vocab, 1, 5.0);
        const auto targets = some_targets(rows, vocab);
        const std::vector<std::int64_t> starts = {0, 0, 0};
        const std::vector<float> tails = {1.0F, 1.0F};
        for (TokenLossWeights weights : every_divergence) {
            for (const float temperature : {1.0F, 2.0F}) {
                weights.ce = 0.25F;
                weights.divergence = 0.75F;
                weights.temperature = temperature;
                auto gradient = student;
                std::vector<TokenLoss> losses(static_cast<std::size_t>(rows));
                sparse_token_loss(gradient.data(),
                                  {starts.data(), nullptr, nullptr, false, nullptr, tails.data()},
                                  targets.data(), rows, vocab, weights, losses.data());
                auto plain = student;
                std::vector<TokenLoss> wanted(static_cast<std::size_t>(rows));
                token_loss(plain.data(), nullptr, targets.data(), rows, vocab, TokenLossWeights{},
                           wanted.data());
                for (std::size_t r = 0; r < wanted.size(); ++r) {
                    EXPECT_GT(wanted[r].ce, 0.01);
                    EXPECT_NEAR(losses[r].ce, wanted[r].ce, 1e-6 * wanted[r].ce);
                    EXPECT_EQ(losses[r].divergence, losses[r].ce);
                }
                for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(gradient[i], plain[i], 1e-6);
            }
        }
    }
}

TEST(SparseTokenLoss, reference_gradient_is_the_slope_of_the_loss) {
    const std::int64_t vocab = 19;
    const auto student = random_vector(vocab, 1, 2.0);
    const Kept kept = keep(random_vector(vocab, 2, 2.0), 1, 4);
    for (TokenLossWeights weights : every_divergence) {
        for (const bool sampled : {false, true}) {
            if (sampled && weights.kind != Divergence::fkl) continue;
            for (const float temperature : {1.0F, 2.0F}) {
                weights.ce = 0.3F;
                weights.temperature = temperature;
                const SparseTargets targets = kept.targets(sampled);
                std::vector<double> gradient(static_cast<std::size_t>(vocab));
                std::vector<double> unused(gradient.size());
                sparse_token_loss_reference(student.data(), targets, 5, vocab, weights, gradient.data());
                for (std::size_t i = 0; i < gradient.size(); ++i) {
                    const auto value_at = [&](float shift) {
                        auto moved = student;
                        moved[i] += shift;
                        const TokenLoss loss = sparse_token_loss_reference(moved.data(), targets, 5, vocab,
                                                                           weights, unused.data());
                        return static_cast<double>(weights.ce) * loss.ce + loss.divergence;
                    };
                    constexpr float h = 1.0F / 1024;
                    const double step =
                        static_cast<double>(student[i] + h) - static_cast<double>(student[i] - h);
                    EXPECT_NEAR((value_at(h) - value_at(-h)) / step, gradient[i], 5e-6)
                        << static_cast<int>(weights.kind) << " sampled " << sampled << " T " << temperature;
                }
            }
        }
    }
}

// With every id kept, both encodings are the dense loss; and as the sampled one is linear in the counts,
// whose expectation is p, it is unbiased in value and gradient.
TEST(SparseTokenLoss, with_every_id_kept_is_the_dense_loss) {
    const std::int64_t vocab = 40;
    const auto student = random_vector(vocab, 1, 3.0);
    const auto teacher = random_vector(vocab, 2, 3.0);
    for (TokenLossWeights weights : every_divergence) {
        for (const float temperature : {1.0F, 2.0F}) {
            weights.temperature = temperature;
            std::vector<double> dense(static_cast<std::size_t>(vocab));
            const TokenLoss want =
                token_loss_reference(student.data(), teacher.data(), 5, vocab, weights, dense.data());
            const Kept kept = keep(teacher, 1, 40, static_cast<double>(temperature));
            for (const bool sampled : {false, true}) {
                if (sampled && effective_kind(weights) != Divergence::fkl) continue;
                auto gradient = student;
                TokenLoss got;
                const std::int32_t target = 5;
                sparse_token_loss(gradient.data(), kept.targets(sampled, temperature), &target, 1, vocab,
                                  weights, &got);
                EXPECT_NEAR(got.divergence, want.divergence, 1e-5);
                EXPECT_LE(distance(gradient.data(), dense), 1e-5);
                EXPECT_EQ(got.agrees, want.agrees);
            }
        }
    }
}

TEST_P(EachIsa, policy_losses_follow_their_formula) {
    for (const std::int64_t vocab : {2, 33, 4097}) {
        const auto student = random_vector(vocab * 4, 1, 3.0);
        const auto targets = some_targets(4, vocab);
        for (const PolicyWeights& weights :
             {PolicyWeights{}, PolicyWeights{.clip_low = 0.2F, .clip_high = 0.28F, .scale = 0.5F},
              PolicyWeights{.clip_low = 0.2F, .clip_high = 0.2F, .kl = 0.1F, .temperature = 0.7F}}) {
            const double t = static_cast<double>(weights.temperature);
            std::vector<PolicyToken> tokens;
            std::vector<double> logprobs;
            for (std::int64_t r = 0; r < 4; ++r) {
                const auto q = probabilities(student.data() + r * vocab, vocab, t);
                const double logprob =
                    std::log(q[static_cast<std::size_t>(targets[static_cast<std::size_t>(r)])]);
                logprobs.push_back(logprob);
                // Ratios of e^0.5, e^−0.5 with advantages of both signs: clipped and not.
                tokens.push_back({.advantage = r < 2 ? 1.5F : -0.5F,
                                  .old_logprob = static_cast<float>(logprob + (r % 2 == 0 ? 0.5 : -0.5)),
                                  .reference_logprob = static_cast<float>(logprob + 0.3),
                                  .weight = 0.5F});
            }
            auto gradient = student;
            std::vector<PolicyLoss> losses(4);
            policy_loss(gradient.data(), targets.data(), tokens.data(), 4, vocab, weights, losses.data());
            int clipped = 0;
            for (std::size_t r = 0; r < 4; ++r) {
                const PolicyLoss& got = losses[r];
                const double ratio = std::exp(logprobs[r] - static_cast<double>(tokens[r].old_logprob));
                const double advantage = static_cast<double>(tokens[r].advantage);
                const double limited = std::min(std::max(ratio, 1 - static_cast<double>(weights.clip_low)),
                                                1 + static_cast<double>(weights.clip_high));
                const double d = static_cast<double>(tokens[r].reference_logprob) - logprobs[r];
                const double kl = std::exp(d) - d - 1;
                const double want =
                    -std::min(ratio * advantage, limited * advantage) + static_cast<double>(weights.kl) * kl;
                const double allowed = 200 * epsilon;
                EXPECT_NEAR(got.logprob, logprobs[r], allowed * (1 + std::abs(logprobs[r])));
                EXPECT_NEAR(got.loss, 0.5 * want, allowed * 10);
                clipped += got.clipped ? 1 : 0;
                // Slope of the loss in log q(y), by differences; then of log q(y) in the logits.
                constexpr double h = 1e-6;
                const double slope = (policy_term(logprobs[r] + h, tokens[r], weights).loss -
                                      policy_term(logprobs[r] - h, tokens[r], weights).loss) /
                                     (2 * h);
                const auto row = static_cast<std::int64_t>(r) * vocab;
                const auto q = probabilities(student.data() + row, vocab, t);
                std::vector<double> expected(q.size());
                double entropy = 0;
                for (std::size_t i = 0; i < q.size(); ++i) {
                    const double indicator = static_cast<std::int32_t>(i) == targets[r] ? 1 : 0;
                    expected[i] = slope * 0.5 * static_cast<double>(weights.scale) * (indicator - q[i]) / t;
                    entropy -= q[i] > 0 ? q[i] * std::log(q[i]) : 0;
                }
                EXPECT_NEAR(got.entropy, entropy, allowed * (1 + entropy));
                EXPECT_LE(distance(gradient.data() + row, expected), 1e-5 * (1 + norm(expected)));
            }
            // A > 0 above its limit and A < 0 below it; the other two keep their gradient.
            EXPECT_EQ(clipped, std::isfinite(weights.clip_low) ? 2 : 0);
        }
    }
}

// The point of opd: with the samples' own policy, its gradient's expectation is that of KL(q‖p).
TEST(PolicyLoss, opd_is_reverse_kl_in_expectation) {
    const std::int64_t vocab = 11;
    const auto student = random_vector(vocab, 1, 2.0);
    const auto teacher = random_vector(vocab, 2, 2.0);
    const auto q = probabilities(student.data(), vocab, 1);
    const auto p = probabilities(teacher.data(), vocab, 1);
    std::vector<double> mean(static_cast<std::size_t>(vocab));
    for (std::size_t y = 0; y < q.size(); ++y) {
        auto gradient = student;
        PolicyLoss loss;
        const auto target = static_cast<std::int32_t>(y);
        PolicyToken token;
        token.old_logprob = static_cast<float>(std::log(q[y]));
        token.advantage = opd_advantage(token.old_logprob, static_cast<float>(std::log(p[y])));
        policy_loss(gradient.data(), &target, &token, 1, vocab, {}, &loss);
        for (std::size_t i = 0; i < q.size(); ++i) mean[i] += q[y] * static_cast<double>(gradient[i]);
    }
    auto rkl = student;
    auto scratch = teacher;
    const std::int32_t target = 0;
    TokenLoss loss;
    token_loss(rkl.data(), scratch.data(), &target, 1, vocab,
               {.ce = 0, .divergence = 1, .kind = Divergence::rkl}, &loss);
    EXPECT_LE(distance(rkl.data(), mean), 1e-5);
}

TEST_P(EachIsa, token_logprobs_leave_the_logits) {
    const auto logits = random_vector(3 * 50, 1, 3.0);
    const auto targets = some_targets(3, 50);
    std::vector<float> logprobs(3);
    token_logprobs(logits.data(), targets.data(), 3, 50, 0.5F, logprobs.data());
    for (std::size_t r = 0; r < 3; ++r) {
        const auto q = probabilities(logits.data() + r * 50, 50, 0.5);
        EXPECT_NEAR(logprobs[r], std::log(q[static_cast<std::size_t>(targets[r])]), 1e-5);
    }
}

INSTANTIATE_TEST_SUITE_P(Isas, EachIsa,
                         ::testing::Values(base::Isa::scalar, base::Isa::avx2, base::Isa::avx512));

}  // namespace
}  // namespace retort::tensor
