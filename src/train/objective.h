// Which loss a student is trained on (docs/objectives.md), and what it sums to. The losses themselves are
// tensor/token_loss.h; the head that they follow is train/fused_head.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/token_loss.h"

namespace retort::train {

enum class ObjectiveKind : std::uint8_t { ce, fkl, rkl, jsd, skew_fkl, skew_rkl, tvd };

struct Objective {
    ObjectiveKind kind = ObjectiveKind::ce;
    double temperature = 1.0;  // of both sides; the divergence is multiplied by T²
    double ce_mix = 0.0;       // loss = (1 − mix)·divergence + mix·ce
    double beta = 0.5;         // of jsd, in [0,1]: 0 is fkl, 1 is rkl
    double alpha = 0.1;        // of the skewed, in [0,1)
};

Result<ObjectiveKind> objective_from_name(std::string_view name);
std::string_view objective_name(ObjectiveKind kind);
// Every name that objective_from_name takes, "ce, fkl, …".
std::string objective_names();
// With the parameters that shape it: "jsd(0.5)", "fkl T=2 ce-mix=0.3". Equal texts mean equal losses.
std::string objective_text(const Objective& objective);
// Parameters outside their ranges, and those that the kind does not have, are named.
Status check_objective(const Objective& objective);
inline bool uses_teacher(const Objective& objective) {
    return objective.kind != ObjectiveKind::ce;
}
tensor::TokenLossWeights loss_weights(const Objective& objective);

// Sums over trained tokens; divide by tokens.
struct LossSums {
    double ce = 0;
    double divergence = 0;
    std::int64_t agreements = 0;  // argmax p = argmax q; counted with a teacher
    std::int64_t tokens = 0;

    void operator+=(const LossSums& other);
    [[nodiscard]] double value(const Objective& objective) const;
};

}  // namespace retort::train
