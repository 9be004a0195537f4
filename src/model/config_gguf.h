// A model's config from the metadata of its GGUF file.
#pragma once

#include "base/result.h"
#include "formats/gguf.h"
#include "model/config.h"

namespace retort::model {

// Architectures llama (Mistral is stored as it), qwen2 and qwen3. A key of the architecture that is not
// understood is refused by name: it might change what the model computes.
Result<ModelConfig> config_from_gguf(const formats::GgufFile& file);

// The metadata that config_from_gguf reads back, general.architecture first.
formats::GgufMetadata config_to_gguf(const ModelConfig& config);

}  // namespace retort::model
