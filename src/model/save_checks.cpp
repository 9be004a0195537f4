#include "model/save_checks.h"

#include <map>
#include <string_view>

#include "model/tensor_names.h"

namespace retort::model {

Result<std::vector<const NamedTensor*>> tensors_to_write(const ModelConfig& config,
                                                         std::span<const NamedTensor> tensors) {
    std::map<std::string_view, const NamedTensor*> given;
    for (const NamedTensor& tensor : tensors) {
        if (!given.emplace(tensor.name, &tensor).second) {
            return fail(ErrorCode::invalid_argument, "tensor {} is given twice", tensor.name);
        }
    }
    std::vector<const NamedTensor*> result;
    const auto take = [&](const std::string& name, const TensorShape& shape) -> Status {
        const auto found = given.find(name);
        if (found == given.end()) return fail(ErrorCode::invalid_argument, "tensor {} is missing", name);
        const NamedTensor& tensor = *found->second;
        std::vector<std::int64_t> expected = {shape.rows};
        if (!shape.is_vector()) expected.push_back(shape.cols);
        if (tensor.shape != expected || static_cast<std::int64_t>(tensor.values.size()) != shape.elements()) {
            return fail(ErrorCode::invalid_argument, "tensor {} is ({}), not the ({}) that the config says",
                        name, fmt::join(tensor.shape, ", "), fmt::join(expected, ", "));
        }
        result.push_back(&tensor);
        given.erase(found);
        return {};
    };
    const auto take_model = [&](ModelTensor tensor) {
        return take(tensor_name(TensorNaming::hugging_face, tensor), tensor_shape(config, tensor));
    };
    RETORT_CHECK(take_model(ModelTensor::embedding));
    for (std::int64_t layer = 0; layer < config.layer_count; ++layer) {
        for (std::size_t i = 0; i < layer_tensor_kinds; ++i) {
            const auto kind = static_cast<LayerTensor>(i);
            if (!has_tensor(config, kind)) continue;
            RETORT_CHECK(
                take(tensor_name(TensorNaming::hugging_face, kind, layer), tensor_shape(config, kind)));
        }
    }
    RETORT_CHECK(take_model(ModelTensor::final_norm));
    if (config.tie_embeddings) {
        given.erase(std::string_view("lm_head.weight"));
    } else {
        RETORT_CHECK(take_model(ModelTensor::head));
    }
    if (!given.empty()) {
        return fail(ErrorCode::invalid_argument, "tensor {} has no place in a {} model of {} layers",
                    given.begin()->first, config.architecture, config.layer_count);
    }
    return result;
}

}  // namespace retort::model
