#include "train/objective.h"

#include <array>
#include <utility>

namespace retort::train {

namespace {

constexpr std::array<std::pair<ObjectiveKind, std::string_view>, 7> names = {{
    {ObjectiveKind::ce, "ce"},
    {ObjectiveKind::fkl, "fkl"},
    {ObjectiveKind::rkl, "rkl"},
    {ObjectiveKind::jsd, "jsd"},
    {ObjectiveKind::skew_fkl, "skew-fkl"},
    {ObjectiveKind::skew_rkl, "skew-rkl"},
    {ObjectiveKind::tvd, "tvd"},
}};

bool is_skewed(ObjectiveKind kind) {
    return kind == ObjectiveKind::skew_fkl || kind == ObjectiveKind::skew_rkl;
}

tensor::Divergence divergence_of(ObjectiveKind kind) {
    switch (kind) {
        case ObjectiveKind::rkl:
            return tensor::Divergence::rkl;
        case ObjectiveKind::jsd:
            return tensor::Divergence::jsd;
        case ObjectiveKind::skew_fkl:
            return tensor::Divergence::skew_fkl;
        case ObjectiveKind::skew_rkl:
            return tensor::Divergence::skew_rkl;
        case ObjectiveKind::tvd:
            return tensor::Divergence::tvd;
        case ObjectiveKind::ce:
        case ObjectiveKind::fkl:
            break;
    }
    return tensor::Divergence::fkl;
}

}  // namespace

Result<ObjectiveKind> objective_from_name(std::string_view name) {
    for (const auto& [kind, known] : names) {
        if (known == name) return kind;
    }
    return fail(ErrorCode::invalid_argument, "objective \"{}\" is not known; use one of {}", name,
                objective_names());
}

std::string_view objective_name(ObjectiveKind kind) {
    for (const auto& [known, name] : names) {
        if (known == kind) return name;
    }
    return "ce";
}

std::string objective_names() {
    std::string text;
    for (const auto& [kind, name] : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
}

std::string objective_text(const Objective& objective) {
    std::string text(objective_name(objective.kind));
    if (objective.kind == ObjectiveKind::jsd) text += fmt::format("({:g})", objective.beta);
    if (is_skewed(objective.kind)) text += fmt::format("({:g})", objective.alpha);
    if (!uses_teacher(objective)) return text;
    if (objective.temperature != 1.0) text += fmt::format(" T={:g}", objective.temperature);
    if (objective.ce_mix != 0.0) text += fmt::format(" ce-mix={:g}", objective.ce_mix);
    return text;
}

Status check_objective(const Objective& objective) {
    const auto outside = [](std::string_view what, double value, std::string_view range) {
        return fail(ErrorCode::invalid_argument, "{} is {:g}; it must be {}", what, value, range);
    };
    // Written so that NaN is refused too.
    if (!(objective.temperature > 0 && objective.temperature <= 1000))
        return outside("temperature", objective.temperature, "above 0, and at most 1000");
    if (!(objective.ce_mix >= 0 && objective.ce_mix <= 1))
        return outside("ce-mix", objective.ce_mix, "from 0 to 1");
    if (!(objective.beta >= 0 && objective.beta <= 1)) return outside("beta", objective.beta, "from 0 to 1");
    if (!(objective.alpha >= 0 && objective.alpha < 1))
        return outside("alpha", objective.alpha, "from 0 to below 1");
    return {};
}

tensor::TokenLossWeights loss_weights(const Objective& objective) {
    tensor::TokenLossWeights weights;
    if (!uses_teacher(objective)) return weights;
    weights.ce = static_cast<float>(objective.ce_mix);
    weights.divergence = static_cast<float>(1.0 - objective.ce_mix);
    weights.kind = divergence_of(objective.kind);
    weights.parameter = static_cast<float>(is_skewed(objective.kind) ? objective.alpha : objective.beta);
    weights.temperature = static_cast<float>(objective.temperature);
    return weights;
}

void LossSums::operator+=(const LossSums& other) {
    ce += other.ce;
    divergence += other.divergence;
    agreements += other.agreements;
    tokens += other.tokens;
}

double LossSums::value(const Objective& objective) const {
    if (tokens == 0) return 0;
    const tensor::TokenLossWeights weights = loss_weights(objective);
    return (static_cast<double>(weights.ce) * ce + static_cast<double>(weights.divergence) * divergence) /
           static_cast<double>(tokens);
}

}  // namespace retort::train
