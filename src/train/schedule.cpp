#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace retort::train {

double learning_rate(const Schedule& schedule, std::int64_t step) {
    if (step < schedule.warmup_steps) {
        return schedule.peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps);
    }
    const double span =
        static_cast<double>(std::max<std::int64_t>(1, schedule.total_steps - schedule.warmup_steps));
    const double share = std::clamp(static_cast<double>(step - schedule.warmup_steps) / span, 0.0, 1.0);
    const double floor = schedule.final_share;
    switch (schedule.kind) {
        case ScheduleKind::constant:
            return schedule.peak;
        case ScheduleKind::cosine:
            return schedule.peak * (floor + (1.0 - floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * share)));
        case ScheduleKind::wsd: {
            constexpr double decay_from = 0.8;
            const double decayed = std::max(0.0, (share - decay_from) / (1.0 - decay_from));
            return schedule.peak * (1.0 - (1.0 - floor) * decayed);
        }
    }
    return schedule.peak;
}

Result<ScheduleKind> schedule_from_name(std::string_view name) {
    for (const ScheduleKind kind : {ScheduleKind::constant, ScheduleKind::cosine, ScheduleKind::wsd}) {
        if (schedule_name(kind) == name) return kind;
    }
    return fail(ErrorCode::invalid_argument, "schedule \"{}\" is not known; use constant, cosine or wsd",
                name);
}

std::string_view schedule_name(ScheduleKind kind) {
    switch (kind) {
        case ScheduleKind::constant:
            return "constant";
        case ScheduleKind::cosine:
            return "cosine";
        case ScheduleKind::wsd:
            return "wsd";
    }
    return "unknown";
}

}  // namespace retort::train
