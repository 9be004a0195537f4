#include "model/adapters.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/file.h"
#include "base/random.h"
#include "formats/json.h"
#include "formats/safetensors_writer.h"
#include "tensor/gemm.h"

namespace retort::model {

namespace {

constexpr std::array<std::string_view, 7> targets = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                     "gate_proj", "up_proj", "down_proj"};
constexpr std::int64_t alignment = 16;  // elements: a cache line

Status check(const LoraOptions& options) {
    if (options.rank < 1)
        return fail(ErrorCode::invalid_argument, "LoRA's rank must be at least 1, not {}", options.rank);
    if (!(options.alpha > 0) || !std::isfinite(options.alpha))
        return fail(ErrorCode::invalid_argument, "LoRA's alpha must be above 0, not {}", options.alpha);
    for (const std::string& target : options.targets) {
        if (std::find(targets.begin(), targets.end(), target) != targets.end()) continue;
        return fail(ErrorCode::invalid_argument,
                    "LoRA target \"{}\" is not a linear layer of this program; they are {}", target,
                    fmt::join(targets, ", "));
    }
    return {};
}

// Which rows of which product each target is.
std::vector<Adapter> adapters_of_layer(const ModelConfig& config, const LayerOffsets& at,
                                       std::int64_t layer) {
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t query = config.query_size();
    const std::int64_t kv = config.kv_size();
    const std::int64_t wide = config.intermediate_size;
    const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
    const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
    return {{attention + "q_proj", at.qkv, 0, query, hidden},
            {attention + "k_proj", at.qkv, query, kv, hidden},
            {attention + "v_proj", at.qkv, query + kv, kv, hidden},
            {attention + "o_proj", at.output, 0, hidden, query},
            {mlp + "gate_proj", at.gate_up, 0, wide, hidden},
            {mlp + "up_proj", at.gate_up, wide, wide, hidden},
            {mlp + "down_proj", at.down, 0, hidden, wide}};
}

std::string_view last_word(std::string_view module) {
    return module.substr(module.rfind('.') + 1);
}

bool before(const Adapter& a, const Adapter& b) {
    return a.product != b.product ? a.product < b.product : a.row < b.row;
}

}  // namespace

std::string lora_text(const LoraOptions& options) {
    if (options.rank == 0) return "none";
    return fmt::format("{}/{} {}", options.rank, options.alpha, fmt::join(options.targets, ","));
}

std::span<const std::string_view> adapter_targets() {
    return targets;
}

std::span<const Adapter> AdapterLayout::of(std::int64_t product) const {
    const auto first = std::partition_point(adapters.begin(), adapters.end(),
                                            [&](const Adapter& one) { return one.product < product; });
    const auto last = std::partition_point(first, adapters.end(),
                                           [&](const Adapter& one) { return one.product == product; });
    return {first, last};
}

Result<AdapterLayout> make_adapter_layout(const ParameterLayout& model, const LoraOptions& options) {
    RETORT_CHECK(check(options));
    AdapterLayout layout;
    layout.rank = options.rank;
    layout.scale = static_cast<float>(options.alpha / static_cast<double>(options.rank));
    const auto take = [&](std::int64_t count) {
        const std::int64_t at = layout.total;
        layout.total += (count + alignment - 1) / alignment * alignment;
        return at;
    };
    for (std::size_t l = 0; l < model.layers.size(); ++l) {
        for (Adapter& adapter :
             adapters_of_layer(model.config, model.layers[l], static_cast<std::int64_t>(l))) {
            const bool wanted =
                options.targets.empty() || std::find(options.targets.begin(), options.targets.end(),
                                                     last_word(adapter.module)) != options.targets.end();
            if (!wanted) continue;
            if (options.rank > std::min(adapter.rows, adapter.cols)) {
                return fail(ErrorCode::invalid_argument,
                            "LoRA's rank {} is more than {} ({} x {}) has; train it whole instead",
                            options.rank, adapter.module, adapter.rows, adapter.cols);
            }
            adapter.a = take(options.rank * adapter.cols);
            adapter.b = take(adapter.rows * options.rank);
            layout.adapters.push_back(std::move(adapter));
        }
    }
    std::sort(layout.adapters.begin(), layout.adapters.end(), before);
    return layout;
}

tensor::Buffer<float> random_adapters(const AdapterLayout& layout, std::uint64_t seed) {
    tensor::Buffer<float> values(layout.total);
    for (std::size_t index = 0; index < layout.adapters.size(); ++index) {
        const Adapter& adapter = layout.adapters[index];
        const double limit = 1.0 / std::sqrt(static_cast<double>(adapter.cols));
        base::RandomStream random(seed, index);
        float* a = values.data() + adapter.a;
        for (std::int64_t i = 0; i < layout.rank * adapter.cols; ++i)
            a[i] = static_cast<float>((2 * random.uniform() - 1) * limit);
    }
    return values;
}

void add_adapter(const AdapterLayout& layout, const Adapter& adapter, const float* values, float* matrix) {
    tensor::gemm(false, false, adapter.rows, adapter.cols, layout.rank, layout.scale, values + adapter.b,
                 layout.rank, values + adapter.a, adapter.cols, 1.0F, matrix, adapter.cols);
}

void merge_adapters(const AdapterLayout& layout, const float* values, Parameters& parameters) {
    for (const Adapter& adapter : layout.adapters) {
        add_adapter(layout, adapter, values,
                    parameters.values.data() + adapter.product + adapter.row * adapter.cols);
    }
}

Status save_adapters(const std::filesystem::path& folder, const AdapterLayout& layout, const float* values,
                     const std::string& base) {
    RETORT_CHECK(base::make_folders(folder));
    std::vector<formats::TensorDescription> descriptions;
    std::vector<std::span<const float>> contents;
    std::vector<std::string> modules;
    for (const Adapter& adapter : layout.adapters) {
        const std::string name = "base_model.model." + adapter.module;
        descriptions.push_back({name + ".lora_A.weight", tensor::DType::f32, {layout.rank, adapter.cols}});
        contents.emplace_back(values + adapter.a, static_cast<std::size_t>(layout.rank * adapter.cols));
        descriptions.push_back({name + ".lora_B.weight", tensor::DType::f32, {adapter.rows, layout.rank}});
        contents.emplace_back(values + adapter.b, static_cast<std::size_t>(adapter.rows * layout.rank));
        const std::string module(last_word(adapter.module));
        if (std::find(modules.begin(), modules.end(), module) == modules.end()) modules.push_back(module);
    }
    RETORT_TRY(auto writer,
               formats::SafetensorsWriter::create(folder / "adapter_model.safetensors", descriptions));
    for (const auto& content : contents) RETORT_CHECK(writer.append(std::as_bytes(content)));
    RETORT_CHECK(writer.commit());
    const formats::Json config = {
        {"peft_type", "LORA"},
        {"task_type", "CAUSAL_LM"},
        {"base_model_name_or_path", base},
        {"r", layout.rank},
        {"lora_alpha", static_cast<double>(layout.scale) * static_cast<double>(layout.rank)},
        {"lora_dropout", 0.0},
        {"target_modules", modules},
        {"bias", "none"},
        {"fan_in_fan_out", false},
        {"inference_mode", true}};
    return base::write_file_atomic(folder / "adapter_config.json", formats::write_json(config, 2) + "\n");
}

}  // namespace retort::model
