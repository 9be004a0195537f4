#include "evaluate/token_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evaluate/token_metrics.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace retort::evaluate::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The largest logit; +∞ where any is NaN, so that one comparison finds both faults.
float LargestOrInvalid(const float* logits, std::int64_t count) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto top = hn::Set(d, -infinity);
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        const auto x = hn::LoadU(d, logits + i);
        top = hn::Max(top, hn::IfThenElse(hn::IsNaN(x), hn::Set(d, infinity), x));
    }
    float result = hn::GetLane(hn::MaxOfLanes(d, top));
    for (; i < count; ++i) result = std::max(result, std::isnan(logits[i]) ? infinity : logits[i]);
    return result;
}

// Σ exp(x − top)
template <class D>
double ExponentialSumBy(D d, const float* logits, std::int64_t begin, std::int64_t end, double top) {
    const hn::Rebind<float, D> narrow;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto sum = hn::Zero(d);
    for (std::int64_t i = begin; i < end; i += lanes) {
        const auto x = hn::PromoteTo(d, hn::LoadU(narrow, logits + i));
        sum = hn::Add(sum, hn::Exp(d, hn::Sub(x, hn::Set(d, top))));
    }
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

double ExponentialSum(const float* logits, std::int64_t count, double top) {
    const hn::ScalableTag<double> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const std::int64_t whole = count / lanes * lanes;
    return ExponentialSumBy(d, logits, 0, whole, top) +
           ExponentialSumBy(hn::CappedTag<double, 1>(), logits, whole, count, top);
}

// sums = Σ e, Σ e·(t − s), Σ e·t with e = exp(t − top); where e is 0 so are the others, whatever t and s.
template <class D>
void TeacherSumsBy(D d, const float* teacher, const float* student, std::int64_t begin, std::int64_t end,
                   double top, double* sums) {
    const hn::Rebind<float, D> narrow;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto sum = hn::Zero(d);
    auto gap = hn::Zero(d);
    auto weighted = hn::Zero(d);
    for (std::int64_t i = begin; i < end; i += lanes) {
        const auto t = hn::PromoteTo(d, hn::LoadU(narrow, teacher + i));
        const auto s = hn::PromoteTo(d, hn::LoadU(narrow, student + i));
        const auto e = hn::Exp(d, hn::Sub(t, hn::Set(d, top)));
        const auto positive = hn::Gt(e, hn::Zero(d));
        sum = hn::Add(sum, e);
        gap = hn::Add(gap, hn::IfThenElseZero(positive, hn::Mul(e, hn::Sub(t, s))));
        weighted = hn::Add(weighted, hn::IfThenElseZero(positive, hn::Mul(e, t)));
    }
    sums[0] += hn::GetLane(hn::SumOfLanes(d, sum));
    sums[1] += hn::GetLane(hn::SumOfLanes(d, gap));
    sums[2] += hn::GetLane(hn::SumOfLanes(d, weighted));
}

void TeacherSums(const float* teacher, const float* student, std::int64_t count, double top, double* sums) {
    const hn::ScalableTag<double> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const std::int64_t whole = count / lanes * lanes;
    std::fill_n(sums, 3, 0.0);
    TeacherSumsBy(d, teacher, student, 0, whole, top, sums);
    TeacherSumsBy(hn::CappedTag<double, 1>(), teacher, student, whole, count, top, sums);
}

}  // namespace retort::evaluate::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::evaluate {

HWY_EXPORT(LargestOrInvalid);
HWY_EXPORT(ExponentialSum);
HWY_EXPORT(TeacherSums);

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// What running sums are multiplied by when the maximum rises; 0 when there was none yet.
double rescale(double old_top, double new_top) {
    return old_top == -infinity ? 0 : std::exp(old_top - new_top);
}

}  // namespace

void TokenMetrics::start(std::span<const std::int32_t> targets) {
    has_teacher_ = false;
    rows_.assign(targets.size(), Row{});
    for (std::size_t i = 0; i < targets.size(); ++i) {
        rows_[i].target = targets[i];
        rows_[i].student.top = rows_[i].teacher.top = -infinity;
    }
}

void TokenMetrics::merge(Row& row, std::int64_t first_token, std::int64_t count, const float* student,
                         const float* teacher) {
    const std::int64_t target = row.target - first_token;
    if (target >= 0 && target < count) {
        row.target_seen = true;
        row.student.target_logit = static_cast<double>(student[target]);
        if (teacher != nullptr) row.teacher.target_logit = static_cast<double>(teacher[target]);
    }
    const float student_top = HWY_DYNAMIC_DISPATCH(LargestOrInvalid)(student, count);
    const float teacher_top =
        teacher == nullptr ? 0.0F : HWY_DYNAMIC_DISPATCH(LargestOrInvalid)(teacher, count);
    row.student.invalid |= std::isinf(student_top) && student_top > 0;
    row.teacher.invalid |= std::isinf(teacher_top) && teacher_top > 0;
    if (row.student.invalid || row.teacher.invalid) return;

    // A chunk may lower nothing: its sums are taken against the maximum of all that came so far.
    const auto raise = [&](RunningSoftmax& side, float top, const float* logits) {
        const double wide = static_cast<double>(top);
        if (wide <= side.top) return 1.0;
        const double factor = rescale(side.top, wide);
        side.top = wide;
        side.sum *= factor;
        side.choice =
            static_cast<std::int32_t>(first_token + (std::find(logits, logits + count, top) - logits));
        return factor;
    };
    raise(row.student, student_top, student);
    if (row.student.top > -infinity) {
        row.student.sum += HWY_DYNAMIC_DISPATCH(ExponentialSum)(student, count, row.student.top);
    }
    if (teacher == nullptr) return;
    const double factor = raise(row.teacher, teacher_top, teacher);
    if (row.teacher.top == -infinity) return;
    double sums[3];
    HWY_DYNAMIC_DISPATCH(TeacherSums)(teacher, student, count, row.teacher.top, sums);
    row.teacher.sum += sums[0];
    // A gap of +∞ (the student rules out what the teacher does not) stays so, even scaled by 0.
    row.gap = (std::isinf(row.gap) ? row.gap : row.gap * factor) + sums[1];
    row.teacher_logit = row.teacher_logit * factor + sums[2];
}

void TokenMetrics::add_chunk(std::int64_t first_token, std::int64_t count, const float* student,
                             const float* teacher) {
    has_teacher_ = teacher != nullptr;
    const std::int64_t grain = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(count, 1));
    const auto rows = static_cast<std::int64_t>(rows_.size());
    base::parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            merge(rows_[static_cast<std::size_t>(r)], first_token, count, student + r * count,
                  teacher == nullptr ? nullptr : teacher + r * count);
        }
    });
}

Status TokenMetrics::finish(std::vector<TokenScore>& scores) const {
    scores.clear();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
        const Row& row = rows_[i];
        // A row stops being summed at its first fault, which may be the other side's.
        const bool teacher_fault =
            row.teacher.invalid || (has_teacher_ && row.teacher.sum == 0 && row.student.sum != 0);
        const bool student_fault = !teacher_fault && (row.student.invalid || row.student.sum == 0);
        if (student_fault || teacher_fault) {
            return fail(ErrorCode::format,
                        "the {}'s logits at scored position {} hold NaN or infinity; its weights are damaged "
                        "or its training diverged",
                        student_fault ? "student" : "teacher", i);
        }
        if (!row.target_seen) {
            return fail(ErrorCode::invalid_argument,
                        "target token {} at scored position {} is outside the vocabulary that was scored",
                        row.target, i);
        }
        TokenScore& score = scores.emplace_back();
        const double student_log_sum = row.student.top + std::log(row.student.sum);
        score.student_nll = student_log_sum - row.student.target_logit;
        score.student_confidence = 1 / row.student.sum;  // the first choice's term is exp(0)
        score.student_choice = row.student.choice;
        if (!has_teacher_) continue;
        const double teacher_log_sum = row.teacher.top + std::log(row.teacher.sum);
        score.teacher_nll = teacher_log_sum - row.teacher.target_logit;
        score.teacher_confidence = 1 / row.teacher.sum;
        score.teacher_choice = row.teacher.choice;
        // Both are ≥ 0; rounding alone can take them just below.
        score.kl = std::max(0.0, row.gap / row.teacher.sum - teacher_log_sum + student_log_sum);
        score.teacher_entropy = std::max(0.0, teacher_log_sum - row.teacher_logit / row.teacher.sum);
    }
    return {};
}

}  // namespace retort::evaluate
#endif  // HWY_ONCE
