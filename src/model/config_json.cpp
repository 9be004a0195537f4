// Hugging Face config.json, in the spellings of transformers 4 and 5.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "formats/json.h"
#include "model/config.h"

namespace retort::model {

namespace {

using formats::Json;
using formats::json_boolean;
using formats::json_find;
using formats::json_integer;
using formats::json_number;
using formats::json_string;

struct Family {
    std::string_view architecture;  // ours
    std::string_view class_name;    // Hugging Face's
    bool qkv_bias;
    bool qk_norm;
};

constexpr Family families[] = {
    {"llama", "LlamaForCausalLM", false, false},
    {"mistral", "MistralForCausalLM", false, false},
    {"qwen2", "Qwen2ForCausalLM", true, false},
    {"qwen3", "Qwen3ForCausalLM", false, true},
};

Result<const Family*> find_family(const Json& json) {
    std::string named;
    if (const Json* list = json_find(json, "architectures");
        list != nullptr && list->is_array() && !list->empty()) {
        if (!(*list)[0].is_string()) return fail(ErrorCode::format, "architectures is no list of names");
        named = (*list)[0].get<std::string>();
        for (const Family& family : families) {
            if (family.class_name == named) return &family;
        }
    } else {
        RETORT_TRY(named, json_string(json, "model_type"));
        for (const Family& family : families) {
            if (family.architecture == named) return &family;
        }
    }
    return fail(
        ErrorCode::unsupported,
        "architecture {} is not one that runs here (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, "
        "Qwen3ForCausalLM); ask it over an API instead",
        named);
}

Status refuse_unless_false(const Json& json, std::string_view key) {
    RETORT_TRY(const bool value, json_boolean(json, key, false));
    if (value) return fail(ErrorCode::unsupported, "{} true is not supported", key);
    return {};
}

// A window that is as long as the context changes nothing; a shorter one would.
Status check_sliding_window(const Json& json, const ModelConfig& config) {
    bool uses_window = false;
    std::int64_t window = 0;
    if (config.architecture == "mistral") {
        // The class's own default when the key is absent; null says none.
        RETORT_TRY(window, json_integer(json, "sliding_window", json.contains("sliding_window") ? 0 : 4096));
        uses_window = window > 0;
    } else if (config.architecture != "llama") {
        RETORT_TRY(const bool switched_on, json_boolean(json, "use_sliding_window", false));
        RETORT_TRY(window, json_integer(json, "sliding_window", 4096));
        uses_window = switched_on && json.contains("sliding_window") && !json["sliding_window"].is_null();
        const Json* types = json_find(json, "layer_types");
        if (types == nullptr) {
            RETORT_TRY(const std::int64_t first, json_integer(json, "max_window_layers", 28));
            uses_window = uses_window && first < config.layer_count;
        } else {
            if (!types->is_array()) return fail(ErrorCode::format, "layer_types is no list");
            bool any = false;
            for (const Json& type : *types) {
                if (type != "full_attention" && type != "sliding_attention") {
                    return fail(ErrorCode::unsupported,
                                "layer_types has {}; full_attention is what runs here",
                                formats::write_json(type));
                }
                any = any || type == "sliding_attention";
            }
            uses_window = uses_window && any;
        }
    }
    if (uses_window && window < config.context_length) {
        return fail(
            ErrorCode::unsupported,
            "a sliding window of {} acts within the context of {}; set max_position_embeddings to {} in a "
            "copy of config.json to use the model within its window",
            window, config.context_length, window);
    }
    return {};
}

Result<double> yarn_attention_factor(const Json& rope, double factor) {
    RETORT_TRY(const double given, json_number(rope, "attention_factor", 0.0));
    if (given != 0.0) return given;
    RETORT_TRY(const double mscale, json_number(rope, "mscale", 0.0));
    RETORT_TRY(const double mscale_all_dim, json_number(rope, "mscale_all_dim", 0.0));
    if (mscale == 0.0 || mscale_all_dim == 0.0 || factor <= 1.0) return 0.0;
    return (0.1 * mscale * std::log(factor) + 1.0) / (0.1 * mscale_all_dim * std::log(factor) + 1.0);
}

Status refuse_other_keys(const Json& rope, std::string_view type,
                         std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : rope.items()) {
        if (key == "type" || key == "rope_type" || key == "rope_theta" || key == "partial_rotary_factor")
            continue;
        if (value.is_null() || std::find(known.begin(), known.end(), key) != known.end()) continue;
        return fail(ErrorCode::unsupported, "rope scaling {} has {}, which is not understood", type, key);
    }
    return {};
}

Status read_rope(const Json& json, ModelConfig& config) {
    Rope& rope = config.rope;
    static const Json nothing = Json::object();
    const Json* found =
        json_find(json, "rope_scaling");  // transformers 4; wins where both stand, as it does there
    if (found == nullptr) found = json_find(json, "rope_parameters");
    const Json& scaling = found == nullptr ? nothing : *found;
    if (!scaling.is_object()) return fail(ErrorCode::format, "rope_scaling is no object");

    RETORT_TRY(const double outer_theta, json_number(json, "rope_theta", 10000.0));
    RETORT_TRY(rope.theta, json_number(scaling, "rope_theta", outer_theta));
    for (const Json* holder : {&json, &scaling}) {
        RETORT_TRY(const double part, json_number(*holder, "partial_rotary_factor", 1.0));
        if (part != 1.0)
            return fail(ErrorCode::unsupported, "partial_rotary_factor {} is not supported", part);
    }
    RETORT_CHECK(refuse_unless_false(json, "rope_interleaved"));

    RETORT_TRY(const std::string old_type, json_string(scaling, "type", "default"));
    RETORT_TRY(const std::string type, json_string(scaling, "rope_type", old_type));
    if (type == "default") return refuse_other_keys(scaling, type, {});
    if (type == "linear") {
        RETORT_CHECK(refuse_other_keys(scaling, type, {"factor"}));
        rope.scaling = RopeScaling::linear;
        RETORT_TRY(rope.factor, json_number(scaling, "factor"));
        return {};
    }
    // Where the object does not say: the config's own member, then the context.
    RETORT_TRY(const std::int64_t outer_original,
               json_integer(json, "original_max_position_embeddings", config.context_length));
    RETORT_TRY(rope.original_context,
               json_integer(scaling, "original_max_position_embeddings", outer_original));
    if (json_find(json, "original_max_position_embeddings") != nullptr)
        rope.original_context = outer_original;
    if (type == "llama3") {
        RETORT_CHECK(refuse_other_keys(
            scaling, type,
            {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}));
        rope.scaling = RopeScaling::llama3;
        RETORT_TRY(rope.factor, json_number(scaling, "factor"));
        RETORT_TRY(rope.low_freq_factor, json_number(scaling, "low_freq_factor"));
        RETORT_TRY(rope.high_freq_factor, json_number(scaling, "high_freq_factor"));
        return {};
    }
    if (type == "yarn") {
        RETORT_CHECK(refuse_other_keys(scaling, type,
                                       {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale",
                                        "mscale_all_dim", "truncate", "original_max_position_embeddings"}));
        rope.scaling = RopeScaling::yarn;
        const double implied = static_cast<double>(config.context_length) /
                               static_cast<double>(std::max<std::int64_t>(rope.original_context, 1));
        RETORT_TRY(rope.factor, json_number(scaling, "factor", implied));
        RETORT_TRY(const double fast, json_number(scaling, "beta_fast", 32.0));
        RETORT_TRY(const double slow, json_number(scaling, "beta_slow", 1.0));
        rope.beta_fast = fast == 0.0 ? 32.0 : fast;
        rope.beta_slow = slow == 0.0 ? 1.0 : slow;
        RETORT_TRY(rope.truncate, json_boolean(scaling, "truncate", true));
        RETORT_TRY(rope.attention_factor, yarn_attention_factor(scaling, rope.factor));
        return {};
    }
    return fail(ErrorCode::unsupported,
                "rope type {} is not supported (default, linear, llama3 and yarn are)", type);
}

Status read_token_ids(const Json& json, ModelConfig& config) {
    const auto first_of = [&](std::string_view key, std::vector<std::int64_t>& ids) -> Status {
        const Json* value = json_find(json, key);
        if (value == nullptr) return {};
        if (value->is_array()) {
            for (const Json& id : *value) {
                if (!id.is_number_integer())
                    return fail(ErrorCode::format, "{} is no list of token ids", key);
                ids.push_back(id.get<std::int64_t>());
            }
            return {};
        }
        RETORT_TRY(const std::int64_t id, json_integer(json, key));
        ids.push_back(id);
        return {};
    };
    std::vector<std::int64_t> bos;
    RETORT_CHECK(first_of("bos_token_id", bos));
    RETORT_CHECK(first_of("eos_token_id", config.eos_token_ids));
    if (!bos.empty()) config.bos_token_id = bos.front();
    return {};
}

Status check_unsupported(const Json& json, const Family& family) {
    RETORT_TRY(const std::string activation, json_string(json, "hidden_act", "silu"));
    if (activation != "silu" && activation != "swish") {
        return fail(ErrorCode::unsupported, "hidden_act {} is not supported (silu is)", activation);
    }
    // Qwen2 has its query, key and value biases without saying so; a flag there would mean something else.
    RETORT_CHECK(refuse_unless_false(json, "attention_bias"));
    RETORT_CHECK(refuse_unless_false(json, "mlp_bias"));
    if (const Json* quantised = json_find(json, "quantization_config")) {
        const auto method = json_string(*quantised, "quant_method", "of an unnamed kind");
        return fail(ErrorCode::unsupported,
                    "the weights are quantised ({}); use the unquantised {} or a GGUF file",
                    method.value_or("of an unnamed kind"), family.class_name);
    }
    return {};
}

// The shortest decimal that reads back as the same float: 1e-05, not 9.999999747378752e-06.
double shortest(float value) {
    return std::strtod(fmt::format("{}", value).c_str(), nullptr);
}

Json rope_scaling_json(const Rope& rope) {
    switch (rope.scaling) {
        case RopeScaling::none:
            return nullptr;
        case RopeScaling::linear:
            return {{"rope_type", "linear"}, {"factor", rope.factor}};
        case RopeScaling::llama3:
            return {{"rope_type", "llama3"},
                    {"factor", rope.factor},
                    {"low_freq_factor", rope.low_freq_factor},
                    {"high_freq_factor", rope.high_freq_factor},
                    {"original_max_position_embeddings", rope.original_context}};
        case RopeScaling::yarn:
            break;
    }
    Json json = {{"rope_type", "yarn"},
                 {"factor", rope.factor},
                 {"beta_fast", rope.beta_fast},
                 {"beta_slow", rope.beta_slow},
                 {"original_max_position_embeddings", rope.original_context}};
    if (rope.attention_factor > 0.0) json["attention_factor"] = rope.attention_factor;
    if (!rope.truncate) json["truncate"] = false;
    return json;
}

}  // namespace

Result<ModelConfig> config_from_json(std::string_view text) {
    RETORT_TRY(const Json json, formats::parse_json(text, "config.json", {.bytes = std::size_t{16} << 20U}));
    if (!json.is_object()) return fail(ErrorCode::format, "config.json holds no object");
    RETORT_TRY(const Family* family, find_family(json));
    RETORT_CHECK(check_unsupported(json, *family));

    ModelConfig config;
    config.architecture = family->architecture;
    config.qkv_bias = family->qkv_bias;
    config.qk_norm = family->qk_norm;
    RETORT_TRY(config.vocab_size, json_integer(json, "vocab_size"));
    RETORT_TRY(config.hidden_size, json_integer(json, "hidden_size"));
    RETORT_TRY(config.intermediate_size, json_integer(json, "intermediate_size"));
    RETORT_TRY(config.layer_count, json_integer(json, "num_hidden_layers"));
    RETORT_TRY(config.head_count, json_integer(json, "num_attention_heads"));
    RETORT_TRY(config.context_length, json_integer(json, "max_position_embeddings"));
    if (config.architecture == "llama" || json.contains("num_key_value_heads")) {
        RETORT_TRY(config.kv_head_count, json_integer(json, "num_key_value_heads", config.head_count));
    } else {
        return fail(ErrorCode::format, "config.json: num_key_value_heads is missing");
    }
    if (config.head_count < 1)
        return fail(ErrorCode::format, "config.json: num_attention_heads is {}", config.head_count);
    if (json_find(json, "head_dim") == nullptr && config.architecture != "qwen3" &&
        config.hidden_size % config.head_count != 0) {
        return fail(ErrorCode::format, "config.json: hidden_size {} is no multiple of {} attention heads",
                    config.hidden_size, config.head_count);
    }
    RETORT_TRY(config.head_dim,
               json_integer(json, "head_dim",
                            config.architecture == "qwen3" ? 128 : config.hidden_size / config.head_count));
    RETORT_TRY(const double epsilon, json_number(json, "rms_norm_eps", 1e-6));
    config.rms_norm_eps = static_cast<float>(epsilon);
    RETORT_TRY(config.tie_embeddings, json_boolean(json, "tie_word_embeddings", false));
    RETORT_CHECK(read_token_ids(json, config));
    RETORT_CHECK(read_rope(json, config));
    RETORT_CHECK(check_sliding_window(json, config));
    RETORT_CHECK(validate(config));
    return config;
}

std::string config_to_json(const ModelConfig& config, std::string_view torch_dtype) {
    nlohmann::ordered_json json;
    for (const Family& family : families) {
        if (family.architecture == config.architecture) json["architectures"] = {family.class_name};
    }
    json["model_type"] = config.architecture;
    json["vocab_size"] = config.vocab_size;
    json["hidden_size"] = config.hidden_size;
    json["intermediate_size"] = config.intermediate_size;
    json["num_hidden_layers"] = config.layer_count;
    json["num_attention_heads"] = config.head_count;
    json["num_key_value_heads"] = config.kv_head_count;
    json["head_dim"] = config.head_dim;
    json["hidden_act"] = "silu";
    json["max_position_embeddings"] = config.context_length;
    json["rms_norm_eps"] = shortest(config.rms_norm_eps);
    json["rope_theta"] = config.rope.theta;
    json["rope_scaling"] = rope_scaling_json(config.rope);
    json["tie_word_embeddings"] = config.tie_embeddings;
    if (config.architecture == "mistral") {
        json["sliding_window"] = nullptr;
    } else if (config.architecture != "llama") {
        json["use_sliding_window"] = false;
    }
    if (config.architecture == "llama") json["mlp_bias"] = false;
    if (config.architecture == "llama" || config.architecture == "qwen3") json["attention_bias"] = false;
    json["attention_dropout"] = 0.0;
    json["initializer_range"] = 0.02;
    if (config.bos_token_id >= 0) json["bos_token_id"] = config.bos_token_id;
    if (config.eos_token_ids.size() == 1) {
        json["eos_token_id"] = config.eos_token_ids.front();
    } else if (!config.eos_token_ids.empty()) {
        json["eos_token_id"] = config.eos_token_ids;
    }
    json["torch_dtype"] = torch_dtype;
    json["use_cache"] = true;
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace retort::model
