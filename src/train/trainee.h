// The student while it is trained: its weights in the form that training keeps them in, their gradients, and
// the optimiser's state. Three forms, of which the loops around it see nothing: f32 weights; bf16 weights
// beside the 16 bits each that make them f32 again; or either of these frozen, with low-rank adapters that
// are trained in its place. With several processes each keeps the optimiser's state of its own range of the
// weights (ZeRO stage 1, Rajbhandari et al. 2020).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "model/adapters.h"
#include "model/parameters.h"
#include "model/transformer.h"
#include "tensor/adamw.h"
#include "tensor/buffer.h"
#include "tensor/dtype.h"
#include "train/communicator.h"
#include "train/optimiser.h"

namespace retort::train {

struct TraineeOptions {
    bool bf16 = false;              // products run in it
    model::LoraOptions lora;        // rank 0: all weights are trained
    std::uint64_t seed = 1;         // of the adapters' first numbers, and of the moments' rounding
    Communicator* world = nullptr;  // null: this process alone
    tensor::DType moments = tensor::DType::f32;    // or bf16
    tensor::DType gradients = tensor::DType::f32;  // or bf16 for the layers' matrices
};

class Trainee {
  public:
    // In bf16 student.values are taken: empty until give_back(). The student must outlive the trainee.
    static Result<std::unique_ptr<Trainee>> make(model::Parameters& student, const TraineeOptions& options);

    [[nodiscard]] const model::ParameterLayout& layout() const { return student_.layout; }
    [[nodiscard]] const model::AdapterLayout* adapters() const { return has_adapters() ? &lora_ : nullptr; }
    [[nodiscard]] std::int64_t adapter_rank() const { return has_adapters() ? lora_.rank : 0; }
    [[nodiscard]] model::ParameterView view() const;
    [[nodiscard]] model::ParameterView frozen_view()
        const;  // without the adapters: the start, where there are some

    // What backward adds to, in the order of the layout or of the adapters; zero between steps. It has to be
    // given on_layer() too.
    [[nodiscard]] float* gradients() { return gradients_.data(); }
    // What backward calls between its layers: empty, or what takes a layer's gradients away into bf16.
    [[nodiscard]] model::Transformer::OnLayer on_layer();
    // The same for the head, which adapters leave frozen: null then.
    [[nodiscard]] float* head_gradients() { return has_adapters() ? nullptr : gradients_.data(); }

    // Sums the gradients of all processes, clips, and updates the weights. Returns the gradient's norm before
    // clipping; when that is not finite nothing is changed but the gradients, which are cleared, and the step
    // does not count.
    double step(const OptimiserOptions& options, double learning_rate);
    [[nodiscard]] std::int64_t steps() const { return steps_; }

    // For the generation engine, adapters merged. Valid until the next call or step.
    model::Weights weights();

    // student.values are the trained weights, adapters merged; the trainee is of no more use. On all
    // processes.
    void give_back();
    Status save_adapters(const std::filesystem::path& folder, const std::string& base) const;

    // What a checkpoint holds: three sections of elements() each, in pieces.
    enum class Section : std::uint8_t { values, first_moments, second_moments };
    static constexpr std::array<Section, 3> sections = {Section::values, Section::first_moments,
                                                        Section::second_moments};
    [[nodiscard]] std::int64_t elements() const { return gradients_.size(); }
    // f32, or bf16 where every number of a section is one.
    [[nodiscard]] tensor::DType section_type(Section section) const {
        return section == Section::values ? tensor::DType::f32 : moments_type_;
    }
    // All processes take part; the first gets the piece. At most piece_elements at a time.
    void read(Section section, std::int64_t begin, std::span<float> to);
    void write(Section section, std::int64_t begin, std::span<const float> from);  // each its own part
    void set_steps(std::int64_t steps) { steps_ = steps; }                         // after the last write()
    static constexpr std::int64_t piece_elements = std::int64_t{1} << 20U;

    [[nodiscard]] Communicator& world() { return world_; }

    struct Memory {
        std::int64_t weights = 0;  // as products read them, and what makes them f32
        std::int64_t gradients = 0;
        std::int64_t moments = 0;
    };
    static Memory memory(const model::ModelConfig& config, const TraineeOptions& options);

  private:
    Trainee(model::Parameters& student, const TraineeOptions& options);
    [[nodiscard]] bool has_adapters() const { return !lora_.adapters.empty(); }
    [[nodiscard]] Range own() const { return ranges_[static_cast<std::size_t>(world_.rank())]; }
    [[nodiscard]] std::vector<Range> ranges_within(Range part) const;
    void split_student(Range kept_low);
    void update(Range part, tensor::AdamwStep step);
    void keep_narrow(std::size_t layer);
    void clear_gradients(Range range);
    [[nodiscard]] double square_of_gradients(Range range) const;
    [[nodiscard]] tensor::GradientView gradient_from(std::int64_t begin);
    [[nodiscard]] base::RandomStream rounding_keys(std::uint64_t stream) const;
    [[nodiscard]] tensor::Moments moments_from(std::int64_t begin);
    void share_updated();
    void read_own(Section section, Range part, float* to) const;
    [[nodiscard]] float* f32_values() { return has_adapters() ? adapters_.data() : student_.values.data(); }

    model::Parameters& student_;
    Communicator& world_;
    bool bf16_;
    tensor::DType moments_type_;
    std::uint64_t seed_;
    model::AdapterLayout lora_;
    model::AdapterView adapter_view_;
    std::vector<Range> ranges_;  // a rank each, of what is trained
    std::int64_t steps_ = 0;     // taken

    // The model in bf16: matrices [0, layout.matrices) as halves, the low ones of low_range_ alone.
    tensor::Buffer<std::uint16_t> high_;
    tensor::Buffer<std::int16_t> low_;
    Range low_range_;
    tensor::Buffer<float> vectors_;

    tensor::Buffer<float> adapters_;
    tensor::Buffer<std::uint16_t> adapters_bf16_;
    tensor::Buffer<float> merged_;  // for weights(), made at its first call
    tensor::Buffer<std::uint16_t> merged_bf16_;

    // Of all that is trained. Where those of the layers' matrices are kept in bf16, this has the memory of
    // one layer's at a time.
    tensor::Buffer<float> gradients_;
    Range narrow_range_;  // empty where all are f32
    tensor::Buffer<std::uint16_t> narrow_gradients_;
    std::uint64_t passes_ = 0;  // of backward since the last step
    // Of own(), either in f32 or in bf16.
    struct Moment {
        tensor::Buffer<float> f32;
        tensor::Buffer<std::uint16_t> bf16;
    };
    Moment m_;
    Moment v_;
};

}  // namespace retort::train
