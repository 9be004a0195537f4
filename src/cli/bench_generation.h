// What the benchmarks of generation share: a model in a decoder of its own (no sampling, no requests), random
// tokens, and the machine's limits measured in the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/commands.h"
#include "generate/decoder.h"
#include "generate/engine.h"

namespace retort::cli {

struct MachineLimit {
    double gemm_f32 = 0;   // flop/s
    double gemm_bf16 = 0;  // 0 without bf16 hardware
    double read = 0;       // bytes/s

    [[nodiscard]] double gemm() const { return gemm_bf16 > 0 ? gemm_bf16 : gemm_f32; }
};

Result<MachineLimit> measure_limit();

struct BenchModelOptions {
    std::string path;
    tensor::DType cache_type = generate::EngineOptions{}.cache_type;
    int activation_bits = generate::EngineOptions{}.activation_bits;
};

// A model that runs `sequences` random sequences of at most `capacity` tokens.
class BenchModel {
  public:
    static Result<BenchModel> load(const BenchModelOptions& options, std::int64_t sequences,
                                   std::int64_t capacity, std::int64_t max_step_tokens);

    // Random tokens of sequences first … first+count−1 at position `start`, `tokens` of each, in one step;
    // logits of the last of each if `logits`.
    void step(std::int64_t first, std::int64_t count, std::int64_t start, std::int64_t tokens, bool logits);

    [[nodiscard]] const std::string& name() const { return name_; }
    // The formats of the matrices, the most bytes first: "q4_1, f16".
    [[nodiscard]] const std::string& formats() const { return formats_; }
    // Of the matrices that a token passes, as the file stores them (an untied embedding is not among them).
    [[nodiscard]] double weight_bytes() const { return weight_bytes_; }
    [[nodiscard]] double cache_bytes_per_token() const { return cache_bytes_per_token_; }
    // Products of `tokens` new tokens after `start` earlier ones, with `logit_rows` of logits.
    [[nodiscard]] double flops(std::int64_t start, std::int64_t tokens, std::int64_t logit_rows) const;
    [[nodiscard]] bool plain() const { return plain_; }  // no matrix is block-quantised

  private:
    BenchModel() = default;
    std::string name_;
    std::string formats_;
    double weight_bytes_ = 0;
    double cache_bytes_per_token_ = 0;
    bool plain_ = true;
    std::int64_t pages_a_sequence_ = 0;
    std::unique_ptr<generate::Decoder> decoder_;
    std::vector<std::int32_t> tokens_;
    std::vector<std::vector<std::int32_t>> pages_;
};

// Of whatever `work` reports; it runs once before, uncounted.
struct Timing {
    double best = 0;
    double median = 0;
};
Result<Timing> time_repeats(int repeats, const std::function<double()>& work);

// Options that these benchmarks have in common, in the order of their pages: the model first, what is the
// benchmark's own next, then these.
void add_bench_model(CLI::App& app, BenchModelOptions& model);
void add_bench_count(CLI::App& app, const char* name, std::int64_t& count, const char* meaning);
void end_bench_options(Commands& commands, CLI::App& app, int& repeats);

// Machine, model and limits, as every benchmark's JSON begins.
nlohmann::json bench_json(const BenchModel& model, const MachineLimit& limit);
void print_bench_head(const BenchModel& model, const MachineLimit& limit);

// A result that the GEMM rate bounds: `tokens` in `timing`, at `flops` a run. own: the benchmark's name and
// settings; what: the same in words.
void report_share_of_gemm(const BenchModel& model, const MachineLimit& limit, bool as_json,
                          const nlohmann::json& own, const std::string& what, double tokens,
                          const Timing& timing, double flops);

}  // namespace retort::cli
