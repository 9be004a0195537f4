#include "train/trainee.h"

#include <algorithm>
#include <cmath>

namespace retort::train {

namespace {

// Pieces of a conversion between two forms of the weights: the memory of one is given back while the other
// grows.
constexpr std::int64_t conversion_piece = std::int64_t{1} << 23U;

std::int64_t vector_elements(const model::ParameterLayout& layout) {
    return layout.total - layout.matrices;
}

// A layer's matrices, which lie end to end.
Range layer_matrices(const model::ParameterLayout& layout, std::size_t layer) {
    const model::LayerOffsets& at = layout.layers[layer];
    return {at.qkv, at.down + layout.config.hidden_size * layout.config.intermediate_size};
}

Range all_layer_matrices(const model::ParameterLayout& layout) {
    if (layout.layers.empty()) return {};
    return {layer_matrices(layout, 0).begin, layer_matrices(layout, layout.layers.size() - 1).end};
}

// Zero, the memory of whole pages given back.
void clear_and_give_back(tensor::Buffer<float>& x, Range range) {
    constexpr std::int64_t page = 4096 / sizeof(float);
    const std::int64_t first = std::min(range.end, (range.begin + page - 1) / page * page);
    const std::int64_t last = std::max(first, range.end / page * page);
    std::fill(x.data() + range.begin, x.data() + first, 0.0F);
    std::fill(x.data() + last, x.data() + range.end, 0.0F);
    x.discard(first, last);
}

constexpr std::uint64_t moments_stream = 0x6d6f6d656e7473;
constexpr std::uint64_t gradients_stream = 0x6772616469656e74;

}  // namespace

Result<std::unique_ptr<Trainee>> Trainee::make(model::Parameters& student, const TraineeOptions& options) {
    const bool narrow_gradients = options.gradients == tensor::DType::bf16;
    if (narrow_gradients && options.lora.rank != 0)
        return fail(ErrorCode::unsupported,
                    "gradients in bf16 are those of the layers' matrices, which adapters leave frozen: leave "
                    "--gradients out with --lora-rank");
    if (narrow_gradients && options.world != nullptr && options.world->size() > 1)
        return fail(
            ErrorCode::unsupported,
            "gradients in bf16 are not summed over {} processes: leave --gradients out, or train in one "
            "process",
            options.world->size());
    std::unique_ptr<Trainee> trainee(new Trainee(student, options));
    if (options.lora.rank != 0) {
        RETORT_TRY(trainee->lora_, model::make_adapter_layout(student.layout, options.lora));
        trainee->adapters_ = model::random_adapters(trainee->lora_, options.seed);
        if (options.bf16) {
            trainee->adapters_bf16_ = tensor::Buffer<std::uint16_t>(trainee->lora_.total);
            tensor::convert_to_bf16(trainee->adapters_.data(), trainee->adapters_bf16_.data(),
                                    trainee->lora_.total);
        }
        trainee->adapter_view_ = {&trainee->lora_, trainee->adapters_.data(), trainee->adapters_bf16_.data()};
    }
    const std::int64_t trained = trainee->has_adapters() ? trainee->lora_.total : student.layout.total;
    trainee->ranges_ = share_out(trained, trainee->world_.size());
    if (options.bf16) {
        const Range matrices = {0, student.layout.matrices};
        trainee->split_student(trainee->has_adapters() ? matrices : matrices.within(trainee->own()));
    }
    trainee->gradients_ = tensor::Buffer<float>(trained);
    if (narrow_gradients) {
        trainee->narrow_range_ = all_layer_matrices(student.layout);
        trainee->narrow_gradients_ = tensor::Buffer<std::uint16_t>(trainee->narrow_range_.size());
    }
    for (Moment* moment : {&trainee->m_, &trainee->v_}) {
        if (options.moments == tensor::DType::bf16) {
            moment->bf16 = tensor::Buffer<std::uint16_t>(trainee->own().size());
        } else {
            moment->f32 = tensor::Buffer<float>(trainee->own().size());
        }
    }
    return trainee;
}

Trainee::Trainee(model::Parameters& student, const TraineeOptions& options)
    : student_(student),
      world_(options.world == nullptr ? alone() : *options.world),
      bf16_(options.bf16),
      moments_type_(options.moments),
      seed_(options.seed) {}

// Low halves that are all zero, as those of weights published in bf16, are never written: their memory is
// never given by the system.
void Trainee::split_student(Range kept_low) {
    const model::ParameterLayout& layout = student_.layout;
    low_range_ = kept_low;
    high_ = tensor::Buffer<std::uint16_t>(layout.matrices);
    low_ = tensor::Buffer<std::int16_t>(kept_low.size());
    vectors_ = tensor::Buffer<float>(vector_elements(layout));
    std::copy_n(student_.values.data() + layout.matrices, vectors_.size(), vectors_.data());
    std::vector<std::int16_t> low(static_cast<std::size_t>(std::min(conversion_piece, layout.matrices)));
    for (std::int64_t at = 0; at < layout.matrices; at += conversion_piece) {
        const Range piece = {at, std::min(at + conversion_piece, layout.matrices)};
        tensor::split_floats(student_.values.data() + at, high_.data() + at, low.data(), piece.size());
        student_.values.discard(piece.begin, piece.end);
        const Range kept = piece.within(kept_low);
        const std::int16_t* from = low.data() + (kept.begin - at);
        if (std::any_of(from, from + kept.size(), [](std::int16_t bits) { return bits != 0; }))
            std::copy_n(from, kept.size(), low_.data() + (kept.begin - kept_low.begin));
    }
    student_.values = tensor::Buffer<float>();
}

model::ParameterView Trainee::frozen_view() const {
    model::ParameterView view;
    view.matrices = student_.layout.matrices;
    if (bf16_) {
        view.bf16 = high_.data();
        view.vectors = vectors_.data();
    } else {
        view.values = student_.values.data();
    }
    return view;
}

model::ParameterView Trainee::view() const {
    model::ParameterView view = frozen_view();
    if (has_adapters()) view.adapters = &adapter_view_;
    return view;
}

// Keys of the step that follows, or is being taken. No other draws of a run are of these seeds.
base::RandomStream Trainee::rounding_keys(std::uint64_t stream) const {
    return base::RandomStream(seed_ ^ stream, static_cast<std::uint64_t>(steps_));
}

model::Transformer::OnLayer Trainee::on_layer() {
    if (narrow_range_.size() == 0) return {};
    return [this](std::size_t layer) { keep_narrow(layer); };
}

void Trainee::keep_narrow(std::size_t layer) {
    const Range range = layer_matrices(layout(), layer);
    base::RandomStream keys = rounding_keys(gradients_stream);
    keys.set_counter(passes_);
    tensor::add_to_bf16(gradients_.data() + range.begin,
                        narrow_gradients_.data() + (range.begin - narrow_range_.begin), range.size(),
                        keys.next_u64(), range.begin);
    clear_and_give_back(gradients_, range);
    if (layer == 0) ++passes_;
}

tensor::GradientView Trainee::gradient_from(std::int64_t begin) {
    if (begin < narrow_range_.begin || begin >= narrow_range_.end) return {gradients_.data() + begin};
    return {nullptr, narrow_gradients_.data() + (begin - narrow_range_.begin)};
}

double Trainee::square_of_gradients(Range range) const {
    const Range narrow = range.within(narrow_range_);
    if (narrow.size() == 0) return tensor::sum_of_squares(gradients_.data() + range.begin, range.size());
    return tensor::sum_of_squares(gradients_.data() + range.begin, narrow.begin - range.begin) +
           tensor::sum_of_squares(narrow_gradients_.data() + (narrow.begin - narrow_range_.begin),
                                  narrow.size()) +
           tensor::sum_of_squares(gradients_.data() + narrow.end, range.end - narrow.end);
}

void Trainee::clear_gradients(Range range) {
    const Range narrow = range.within(narrow_range_);
    if (narrow.size() == 0) {
        std::fill(gradients_.data() + range.begin, gradients_.data() + range.end, 0.0F);
        return;
    }
    clear_gradients({range.begin, narrow.begin});
    std::fill_n(narrow_gradients_.data() + (narrow.begin - narrow_range_.begin), narrow.size(),
                std::uint16_t{0});
    clear_gradients({narrow.end, range.end});
}

// Of elements from `begin` on, for the step that is being taken.
tensor::Moments Trainee::moments_from(std::int64_t begin) {
    const std::int64_t at = begin - own().begin;
    if (moments_type_ == tensor::DType::f32) return {m_.f32.data() + at, v_.f32.data() + at};
    base::RandomStream keys = rounding_keys(moments_stream);
    tensor::Moments moments;
    moments.m_bf16 = m_.bf16.data() + at;
    moments.v_bf16 = v_.bf16.data() + at;
    moments.m_key = keys.next_u64();
    moments.v_key = keys.next_u64();
    moments.first = begin;
    return moments;
}

// Of elements that one rule is for: matrices or vectors.
void Trainee::update(Range part, tensor::AdamwStep step) {
    if (part.size() == 0) return;
    const Range narrow = part.within(narrow_range_);
    if (narrow.size() > 0 && narrow.size() < part.size()) {
        update({part.begin, narrow.begin}, step);
        update(narrow, step);
        update({narrow.end, part.end}, step);
        return;
    }
    const tensor::GradientView gradient = gradient_from(part.begin);
    const tensor::Moments moments = moments_from(part.begin);
    const std::int64_t matrices = student_.layout.matrices;
    if (has_adapters() || !bf16_) {
        tensor::adamw(f32_values() + part.begin, gradient, moments,
                      has_adapters() && bf16_ ? adapters_bf16_.data() + part.begin : nullptr, part.size(),
                      step);
    } else if (part.begin < matrices) {
        tensor::adamw_halves(high_.data() + part.begin, low_.data() + (part.begin - low_range_.begin),
                             gradient, moments, part.size(), step);
    } else {
        tensor::adamw(vectors_.data() + (part.begin - matrices), gradient, moments, nullptr, part.size(),
                      step);
    }
}

std::vector<Range> Trainee::ranges_within(Range part) const {
    std::vector<Range> ranges;
    for (const Range& range : ranges_) {
        const Range common = range.within(part);
        ranges.push_back({common.begin - part.begin, common.end - part.begin});
    }
    return ranges;
}

// What products and norms read is the same on every process again.
void Trainee::share_updated() {
    if (world_.size() == 1) return;
    const model::ParameterLayout& layout = student_.layout;
    if (has_adapters() || !bf16_) {
        world_.share_from_owners(f32_values(), sizeof(float), ranges_);
        if (bf16_) tensor::convert_to_bf16(adapters_.data(), adapters_bf16_.data(), lora_.total);
        return;
    }
    world_.share_from_owners(high_.data(), sizeof(std::uint16_t), ranges_within({0, layout.matrices}));
    world_.share_from_owners(vectors_.data(), sizeof(float), ranges_within({layout.matrices, layout.total}));
}

double Trainee::step(const OptimiserOptions& options, double learning_rate) {
    world_.sum_to_owners(gradients_.data(), ranges_);
    double square = square_of_gradients(own());
    world_.sum({&square, 1});
    const double norm = std::sqrt(square);
    passes_ = 0;
    if (!std::isfinite(norm)) {
        clear_gradients({0, gradients_.size()});
        return norm;
    }
    ++steps_;
    tensor::AdamwStep step;
    step.learning_rate = static_cast<float>(learning_rate);
    step.beta1 = static_cast<float>(options.beta1);
    step.beta2 = static_cast<float>(options.beta2);
    step.epsilon = static_cast<float>(options.epsilon);
    step.step = steps_;
    if (options.clip_norm > 0 && norm > options.clip_norm)
        step.gradient_scale = static_cast<float>(options.clip_norm / norm);
    const std::int64_t matrices = has_adapters() ? elements() : student_.layout.matrices;
    const Range range = own();
    step.weight_decay = static_cast<float>(options.weight_decay);
    update(range.within({0, matrices}), step);
    step.weight_decay = 0;
    update(range.within({matrices, elements()}), step);
    clear_gradients({0, range.begin});
    clear_gradients({range.end, elements()});
    share_updated();
    return norm;
}

model::Weights Trainee::weights() {
    if (!has_adapters()) return model::weights_view(layout(), view());
    const std::int64_t matrices = layout().matrices;
    model::ParameterView merged = frozen_view();
    if (!bf16_) {
        if (merged_.empty()) merged_ = tensor::Buffer<float>(layout().total);
        std::copy_n(student_.values.data(), layout().total, merged_.data());
        for (const model::Adapter& one : lora_.adapters)
            model::add_adapter(lora_, one, adapters_.data(),
                               merged_.data() + one.product + one.row * one.cols);
        merged.values = merged_.data();
        return model::weights_view(layout(), merged);
    }
    if (merged_bf16_.empty()) merged_bf16_ = tensor::Buffer<std::uint16_t>(matrices);
    std::copy_n(high_.data(), matrices, merged_bf16_.data());
    std::vector<float> matrix;
    for (const model::Adapter& one : lora_.adapters) {
        const std::int64_t at = one.product + one.row * one.cols;
        const std::int64_t count = one.rows * one.cols;
        matrix.resize(static_cast<std::size_t>(count));
        tensor::join_floats(high_.data() + at, low_.data() + at, matrix.data(), count);
        model::add_adapter(lora_, one, adapters_.data(), matrix.data());
        tensor::convert_to_bf16(matrix.data(), merged_bf16_.data() + at, count);
    }
    merged.bf16 = merged_bf16_.data();
    return model::weights_view(layout(), merged);
}

void Trainee::give_back() {
    gradients_ = {};
    narrow_gradients_ = {};
    m_ = {};
    v_ = {};
    merged_ = {};
    merged_bf16_ = {};
    if (bf16_) {
        const std::int64_t matrices = layout().matrices;
        student_.values = tensor::Buffer<float>(layout().total);
        for (std::int64_t at = 0; at < matrices; at += piece_elements) {
            const Range piece = {at, std::min(at + piece_elements, matrices)};
            const std::span<float> to(student_.values.data() + at, static_cast<std::size_t>(piece.size()));
            if (has_adapters()) {
                tensor::join_floats(high_.data() + at, low_.data() + at, to.data(), piece.size());
            } else {
                read(Section::values, at, to);
                world_.broadcast_from_first(std::as_writable_bytes(to));
            }
            high_.discard(piece.begin, piece.end);
            if (low_range_.size() == matrices) low_.discard(piece.begin, piece.end);
        }
        std::copy_n(vectors_.data(), vectors_.size(), student_.values.data() + matrices);
    }
    if (has_adapters()) model::merge_adapters(lora_, adapters_.data(), student_);
}

Status Trainee::save_adapters(const std::filesystem::path& folder, const std::string& base) const {
    return model::save_adapters(folder, lora_, adapters_.data(), base);
}

// part lies within own(), or, of values that every process has whole, anywhere.
void Trainee::read_own(Section section, Range part, float* to) const {
    if (section != Section::values) {
        const Moment& from = section == Section::first_moments ? m_ : v_;
        const std::int64_t at = part.begin - own().begin;
        if (moments_type_ == tensor::DType::bf16) {
            tensor::convert_from_bf16(from.bf16.data() + at, to, part.size());
        } else {
            std::copy_n(from.f32.data() + at, part.size(), to);
        }
        return;
    }
    if (has_adapters() || !bf16_) {
        std::copy_n((has_adapters() ? adapters_.data() : student_.values.data()) + part.begin, part.size(),
                    to);
        return;
    }
    const std::int64_t matrices = layout().matrices;
    const Range halves = part.within({0, matrices});
    if (halves.size() > 0)
        tensor::join_floats(high_.data() + halves.begin, low_.data() + (halves.begin - low_range_.begin), to,
                            halves.size());
    const Range rest = part.within({matrices, layout().total});
    if (rest.size() > 0)
        std::copy_n(vectors_.data() + (rest.begin - matrices), rest.size(), to + (rest.begin - part.begin));
}

void Trainee::read(Section section, std::int64_t begin, std::span<float> to) {
    const Range piece = {begin, begin + static_cast<std::int64_t>(to.size())};
    std::vector<float> mine;
    for (int r = 0; r < world_.size(); ++r) {
        const Range part = piece.within(ranges_[static_cast<std::size_t>(r)]);
        if (part.size() == 0) continue;
        const auto count = static_cast<std::size_t>(part.size());
        if (r == world_.rank()) {
            mine.resize(count);
            read_own(section, part, mine.data());
        }
        world_.send_to_first(r, mine, to.subspan(static_cast<std::size_t>(part.begin - begin), count));
    }
}

void Trainee::write(Section section, std::int64_t begin, std::span<const float> from) {
    const Range piece = {begin, begin + static_cast<std::int64_t>(from.size())};
    const auto values_of = [&](Range part) { return from.data() + (part.begin - begin); };
    if (section != Section::values) {
        const Range part = piece.within(own());
        Moment& to = section == Section::first_moments ? m_ : v_;
        const std::int64_t at = part.begin - own().begin;
        if (moments_type_ == tensor::DType::bf16) {
            tensor::convert_to_bf16(values_of(part), to.bf16.data() + at, part.size());
        } else {
            std::copy_n(values_of(part), part.size(), to.f32.data() + at);
        }
        return;
    }
    if (has_adapters() || !bf16_) {
        std::copy(from.begin(), from.end(), f32_values() + begin);
        if (has_adapters() && bf16_)
            tensor::convert_to_bf16(from.data(), adapters_bf16_.data() + begin, piece.size());
        return;
    }
    const std::int64_t matrices = layout().matrices;
    const Range halves = piece.within({0, matrices});
    if (halves.size() > 0) {
        std::vector<std::int16_t> low(static_cast<std::size_t>(halves.size()));
        tensor::split_floats(values_of(halves), high_.data() + halves.begin, low.data(), halves.size());
        const Range kept = halves.within(low_range_);
        if (kept.size() > 0)
            std::copy_n(low.data() + (kept.begin - halves.begin), kept.size(),
                        low_.data() + (kept.begin - low_range_.begin));
    }
    const Range rest = piece.within({matrices, layout().total});
    if (rest.size() > 0) std::copy_n(values_of(rest), rest.size(), vectors_.data() + (rest.begin - matrices));
}

Trainee::Memory Trainee::memory(const model::ModelConfig& config, const TraineeOptions& options) {
    const model::ParameterLayout layout = model::make_layout(config);
    const std::int64_t ranks = options.world == nullptr ? 1 : options.world->size();
    std::int64_t trained = layout.total;
    Memory memory;
    memory.weights = 4 * layout.total;
    if (options.lora.rank != 0) {
        const auto lora = model::make_adapter_layout(layout, options.lora);
        trained = lora ? lora->total : 0;
        memory.weights += (options.bf16 ? 6 : 4) * trained;
    } else if (options.bf16) {
        memory.weights = 2 * layout.matrices + 2 * layout.matrices / ranks + 4 * vector_elements(layout);
    }
    memory.gradients = 4 * trained;
    if (options.gradients == tensor::DType::bf16 && options.lora.rank == 0) {
        const Range narrow = all_layer_matrices(layout);
        memory.gradients += layer_matrices(layout, 0).size() * 4 - narrow.size() * 2;
    }
    memory.moments = (options.moments == tensor::DType::bf16 ? 4 : 8) * trained / ranks;
    return memory;
}

}  // namespace retort::train
