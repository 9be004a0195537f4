// retort bench head: the head and the loss of a step, forward and backward, for each objective beside plain
// cross-entropy. The teacher's projection is a part of its forward pass, and shown apart.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/random.h"
#include "cli/commands.h"
#include "tensor/adamw.h"
#include "tensor/gemm.h"
#include "train/fused_head.h"

namespace retort::cli {

namespace {

struct BenchHeadOptions {
    std::int64_t vocab = 49152;
    std::int64_t hidden = 576;
    std::int64_t tokens = 1024;
    std::int64_t repeats = 3;
    std::string dtype = "auto";
};

double median_seconds(std::int64_t repeats, const std::function<void()>& work) {
    work();
    std::vector<double> seconds;
    for (std::int64_t i = 0; i < repeats; ++i) {
        const double start = base::monotonic_seconds();
        work();
        seconds.push_back(base::monotonic_seconds() - start);
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
}

model::Parameters random_head(const BenchHeadOptions& options, std::uint64_t seed) {
    model::ModelConfig config;
    config.architecture = "llama";
    config.vocab_size = options.vocab;
    config.hidden_size = options.hidden;
    config.intermediate_size = 16;
    config.layer_count = 1;
    config.head_count = config.kv_head_count = 1;
    config.head_dim = 16;
    config.context_length = 16;
    config.tie_embeddings = true;
    return model::random_parameters(config, seed);
}

Status run_bench_head(const BenchHeadOptions& options, const CommonOptions& common) {
    const bool bf16 = options.dtype == "bf16" || (options.dtype == "auto" && tensor::has_fast_bf16());
    const model::Parameters student = random_head(options, 1);
    const model::Parameters teacher = random_head(options, 2);
    const auto rounded = [&](const model::Parameters& parameters) {
        tensor::Buffer<std::uint16_t> values(bf16 ? parameters.layout.total : 0);
        if (bf16) tensor::convert_to_bf16(parameters.values.data(), values.data(), parameters.layout.total);
        return values;
    };
    const auto student_bf16 = rounded(student);
    const auto teacher_bf16 = rounded(teacher);
    base::RandomStream random(3);
    std::vector<float> hidden(static_cast<std::size_t>(options.tokens * options.hidden));
    for (float& x : hidden) x = static_cast<float>(random.normal() * 4);  // logits a few units apart
    std::vector<std::int32_t> targets(static_cast<std::size_t>(options.tokens));
    for (auto& target : targets)
        target = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(options.vocab)));
    const train::HeadInput student_input{
        &student.layout, {student.values.data(), bf16 ? student_bf16.data() : nullptr}, hidden};
    const train::HeadInput teacher_input{
        &teacher.layout, {teacher.values.data(), bf16 ? teacher_bf16.data() : nullptr}, hidden};
    train::FusedHead head(options.vocab, options.hidden, options.hidden, options.tokens);
    std::vector<float> d_hidden(hidden.size());
    tensor::Buffer<float> gradients(student.layout.total);

    const double projection = median_seconds(options.repeats, [&] {
        head.for_each_tile(teacher_input, targets, [](std::int64_t, std::int64_t, float*) {});
    });
    nlohmann::ordered_json rows = nlohmann::json::array();
    double plain = 0;
    for (const auto kind : {train::ObjectiveKind::ce, train::ObjectiveKind::fkl, train::ObjectiveKind::rkl,
                            train::ObjectiveKind::jsd, train::ObjectiveKind::skew_fkl,
                            train::ObjectiveKind::skew_rkl, train::ObjectiveKind::tvd}) {
        train::Objective objective;
        objective.kind = kind;
        const bool live = train::uses_teacher(objective);
        tensor::TokenLossWeights weights = train::loss_weights(objective);
        weights.scale = 1.0F / static_cast<float>(options.tokens);
        const double whole = median_seconds(options.repeats, [&] {
            head.run(student_input, live ? &teacher_input : nullptr, targets, weights, d_hidden.data(),
                     gradients.data());
        });
        const double own = whole - (live ? projection : 0);
        if (!live) plain = own;
        rows.push_back({{"objective", train::objective_name(kind)},
                        {"seconds", own},
                        {"ratio", own / plain},
                        {"ratio_with_projection", whole / plain}});
    }
    if (common.json) {
        fmt::print("{}\n", nlohmann::ordered_json{{"machine", base::cpu_description()},
                                                  {"dtype", bf16 ? "bf16" : "f32"},
                                                  {"vocab", options.vocab},
                                                  {"hidden", options.hidden},
                                                  {"tokens", options.tokens},
                                                  {"teacher_projection_seconds", projection},
                                                  {"objectives", rows}}
                               .dump());
        return {};
    }
    fmt::print("{}\nhead and loss, forward and backward: {} tokens, hidden {}, vocabulary {}, {}\n",
               base::cpu_description(), options.tokens, options.hidden, options.vocab, bf16 ? "bf16" : "f32");
    fmt::print("  teacher's projection, of its forward pass: {:.1f} ms\n", 1e3 * projection);
    for (const auto& row : rows) {
        fmt::print("  {:<9} {:8.1f} ms   {:.2f} x ce   {:.2f} x with the teacher's projection\n",
                   row["objective"].get<std::string>(), 1e3 * row["seconds"].get<double>(),
                   row["ratio"].get<double>(), row["ratio_with_projection"].get<double>());
    }
    return {};
}

}  // namespace

void add_bench_head(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchHeadOptions>();
    CLI::App& command = commands.add_nested(
        bench, "head", "the head and loss of a training step, each objective beside cross-entropy",
        {"retort bench head", "retort bench head --vocab 151936 --hidden 896"},
        [options](const CommonOptions& common) { return run_bench_head(*options, common); });
    command.add_option("--vocab", options->vocab, "tokens of the vocabulary")
        ->check(CLI::Range(2, 1000000))
        ->capture_default_str();
    command.add_option("--hidden", options->hidden, "hidden size of student and teacher")
        ->check(CLI::Range(16, 65536))
        ->capture_default_str();
    command.add_option("--tokens", options->tokens, "trained tokens")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    command.add_option("--repeats", options->repeats, "of which the median is taken")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--dtype", options->dtype, "of products: auto, f32 or bf16")->capture_default_str();
    commands.add_json_option(command);
}

}  // namespace retort::cli
