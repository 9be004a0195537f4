#include "train/model_files.h"

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/save.h"

namespace retort::train {

Status save_model_folder(const std::filesystem::path& folder, const model::Parameters& parameters,
                         const text::TextModel& text, tensor::DType dtype) {
    RETORT_CHECK(text::write_text_files(text, folder));
    nlohmann::ordered_json generation = {{"eos_token_id", text.end_of_turn_tokens}};
    if (text.tokenizer.bos_id() >= 0) generation["bos_token_id"] = text.tokenizer.bos_id();
    RETORT_CHECK(base::write_file_atomic(folder / "generation_config.json", generation.dump(2) + "\n"));
    const auto tensors = model::named_tensors(parameters);
    model::FolderOptions options;
    options.dtype = dtype;
    return model::save_safetensors_folder(folder, parameters.layout.config, tensors, options);
}

Status save_model_gguf(const std::filesystem::path& path, const model::Parameters& parameters,
                       const text::TextModel& text, tensor::DType dtype, const std::string& name,
                       const std::string& licence) {
    model::GgufOptions options;
    options.dtype = dtype;
    options.name = name;
    options.licence = licence;
    RETORT_TRY(options.tokenizer,
               text.tokenizer.to_gguf(parameters.layout.config.vocab_size, text.chat_template.source()));
    const auto tensors = model::named_tensors(parameters);
    return model::save_gguf(path, parameters.layout.config, tensors, options);
}

}  // namespace retort::train
