// Learning rate against step.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace retort::train {

enum class ScheduleKind { constant, cosine, wsd };  // wsd: warm-up, stable, linear decay over the last fifth

struct Schedule {
    ScheduleKind kind = ScheduleKind::cosine;
    double peak = 1e-4;
    std::int64_t warmup_steps = 0;
    std::int64_t total_steps = 1;
    double final_share = 0.1;  // of peak, at the end
};

// step counts from 0. Warm-up is linear and ends at the peak after warmup_steps.
double learning_rate(const Schedule& schedule, std::int64_t step);

Result<ScheduleKind> schedule_from_name(std::string_view name);
std::string_view schedule_name(ScheduleKind kind);

}  // namespace retort::train
