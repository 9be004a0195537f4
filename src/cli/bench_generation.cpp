#include "cli/bench_generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "base/random.h"
#include "cli/loaded_model.h"
#include "cli/model_path.h"
#include "model/weights.h"
#include "tensor/gemm.h"
#include "tensor/linear.h"
#include "tensor/machine_rate.h"

namespace retort::cli {

namespace {

std::int64_t matrix_bytes(const tensor::MatrixView& matrix) {
    return matrix.rows * matrix.row_bytes();
}

}  // namespace

Result<MachineLimit> measure_limit() {
    MachineLimit limit;
    RETORT_TRY(limit.gemm_f32, tensor::gemm_rate({}, false, 0.6));
    if (tensor::has_fast_bf16()) {
        RETORT_TRY(limit.gemm_bf16, tensor::gemm_rate({}, true, 0.6));
    }
    RETORT_TRY(limit.read, tensor::memory_read_rate(std::int64_t{512} << 20U, 4));
    return limit;
}

Result<BenchModel> BenchModel::load(const BenchModelOptions& options, std::int64_t sequences,
                                    std::int64_t capacity, std::int64_t max_step_tokens) {
    BenchModel bench;
    RETORT_TRY(const auto path, resolve_model(options.path));
    RETORT_TRY(model::Weights weights, model::load_weights(path));
    if (capacity > weights.config.context_length) {
        return fail(ErrorCode::invalid_argument, "{} tokens a sequence: the model was made for at most {}",
                    capacity, weights.config.context_length);
    }
    bench.name_ = model_display_name(path);
    std::map<std::string, std::int64_t> formats;
    const auto count = [&](const tensor::MatrixView& matrix) {
        formats[std::string(tensor::dtype_info(matrix.dtype).name)] += matrix_bytes(matrix);
        bench.plain_ = bench.plain_ && !tensor::is_quantised(matrix.dtype);
        bench.weight_bytes_ += static_cast<double>(matrix_bytes(matrix));
    };
    count(weights.head);
    for (const model::LayerWeights& layer : weights.layers) {
        for (const auto* matrix :
             {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down}) {
            count(*matrix);
        }
    }
    std::vector<std::pair<std::int64_t, std::string>> order;
    order.reserve(formats.size());
    for (const auto& [name, bytes] : formats) order.emplace_back(-bytes, name);
    std::sort(order.begin(), order.end());
    for (const auto& [bytes, name] : order) bench.formats_ += (bench.formats_.empty() ? "" : ", ") + name;

    bench.pages_a_sequence_ = (capacity + tensor::kv_page_tokens - 1) / tensor::kv_page_tokens;
    std::int32_t page = 0;
    for (std::int64_t s = 0; s < sequences; ++s) {
        bench.pages_.emplace_back();
        for (std::int64_t i = 0; i < bench.pages_a_sequence_; ++i) bench.pages_.back().push_back(page++);
    }
    bench.cache_bytes_per_token_ =
        static_cast<double>(generate::Decoder::page_bytes(weights.config, options.cache_type)) /
        static_cast<double>(tensor::kv_page_tokens);
    base::RandomStream random(1);
    const auto vocab = static_cast<std::uint64_t>(weights.config.vocab_size);
    for (std::int64_t i = 0; i < std::max<std::int64_t>(max_step_tokens, 4096); ++i) {
        bench.tokens_.push_back(static_cast<std::int32_t>(random.below(vocab)));
    }
    tensor::set_activation_bits(options.activation_bits);
    bench.decoder_ = std::make_unique<generate::Decoder>(std::move(weights), page, capacity, max_step_tokens,
                                                         options.cache_type);
    return bench;
}

void BenchModel::step(std::int64_t first, std::int64_t count, std::int64_t start, std::int64_t tokens,
                      bool logits) {
    std::vector<generate::Segment> segments;
    for (std::int64_t s = first; s < first + count; ++s) {
        const std::size_t at = static_cast<std::size_t>(
            (start + s * 37) % (static_cast<std::int64_t>(tokens_.size()) - tokens + 1));
        segments.push_back({std::span(tokens_).subspan(at, static_cast<std::size_t>(tokens)), start,
                            pages_[static_cast<std::size_t>(s)], logits ? 1 : 0});
    }
    decoder_->step(segments);
}

double BenchModel::flops(std::int64_t start, std::int64_t tokens, std::int64_t logit_rows) const {
    const model::ModelConfig& c = decoder_->config();
    const auto layer = static_cast<double>(c.hidden_size * (2 * c.query_size() + 2 * c.kv_size()) +
                                           3 * c.hidden_size * c.intermediate_size);
    const auto n = static_cast<double>(tokens);
    const double seen = n * static_cast<double>(start) + n * (n + 1) / 2;  // pairs of query and key
    return 2 * n * layer * static_cast<double>(c.layer_count) +
           4 * seen * static_cast<double>(c.query_size() * c.layer_count) +
           2 * static_cast<double>(logit_rows * c.hidden_size * c.vocab_size);
}

Result<Timing> time_repeats(int repeats, const std::function<double()>& work) {
    work();
    std::vector<double> seconds;
    for (int i = 0; i < repeats; ++i) {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "interrupted");
        seconds.push_back(work());
    }
    std::sort(seconds.begin(), seconds.end());
    return Timing{seconds.front(), seconds[seconds.size() / 2]};
}

nlohmann::json bench_json(const BenchModel& model, const MachineLimit& limit) {
    return {{"machine", base::cpu_description()},
            {"isa", base::isa_name(base::active_isa())},
            {"threads", base::thread_count()},
            {"model", model.name()},
            {"formats", model.formats()},
            {"weight_bytes", model.weight_bytes()},
            {"limit", {{"gemm_f32", limit.gemm_f32}, {"gemm_bf16", limit.gemm_bf16}, {"read", limit.read}}}};
}

void print_bench_head(const BenchModel& model, const MachineLimit& limit) {
    fmt::print("{}; {} threads, {}\n", base::cpu_description(), base::thread_count(),
               base::isa_name(base::active_isa()));
    fmt::print("limit: GEMM {:.0f} GFLOP/s f32", limit.gemm_f32 * 1e-9);
    if (limit.gemm_bf16 > 0) fmt::print(", {:.0f} bf16", limit.gemm_bf16 * 1e-9);
    fmt::print("; memory read {:.1f} GB/s\n", limit.read * 1e-9);
    fmt::print("{}: {}, {:.1f} MB of matrices a token\n", model.name(), model.formats(),
               model.weight_bytes() * 1e-6);
}

void add_bench_model(CLI::App& app, BenchModelOptions& model) {
    app.add_option("model", model.path, "a GGUF file, a Hugging Face folder, or a name under models/")
        ->required();
    add_cache_type_option(app, model.cache_type);
    add_activations_option(app, model.activation_bits);
}

void add_bench_count(CLI::App& app, const char* name, std::int64_t& count, const char* meaning) {
    app.add_option(name, count, meaning)->check(CLI::PositiveNumber)->capture_default_str();
}

void end_bench_options(Commands& commands, CLI::App& app, int& repeats) {
    app.add_option("--repeats", repeats, "the best counts")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    commands.add_json_option(app);
}

void report_share_of_gemm(const BenchModel& model, const MachineLimit& limit, bool as_json,
                          const nlohmann::json& own, const std::string& what, double tokens,
                          const Timing& timing, double flops) {
    const double rate = flops / timing.best;
    if (as_json) {
        nlohmann::json json = bench_json(model, limit);
        json.update(own);
        json.update({{"tokens_per_second", tokens / timing.best},
                     {"tokens_per_second_median", tokens / timing.median},
                     {"flops_per_second", rate},
                     {"share_of_gemm_f32", rate / limit.gemm_f32}});
        if (limit.gemm_bf16 > 0) json["share_of_gemm_bf16"] = rate / limit.gemm_bf16;
        fmt::print("{}\n", json.dump());
        return;
    }
    print_bench_head(model, limit);
    fmt::print("{}: {:.1f} tokens/s, {:.1f} GFLOP/s: {:.0f} % of f32 GEMM", what, tokens / timing.best,
               rate * 1e-9, 100 * rate / limit.gemm_f32);
    if (limit.gemm_bf16 > 0) fmt::print(", {:.0f} % of bf16", 100 * rate / limit.gemm_bf16);
    fmt::print("\n");
}

}  // namespace retort::cli
