// Who there is: the honest accounts of the laboratory, their plans, rates and what they share.
#include <algorithm>
#include <cmath>

#include "laboratory/draws.h"
#include "laboratory/traffic.h"

namespace retort::laboratory {

namespace {

constexpr std::uint64_t people_stream = 1;

// The share of people of each kind, out of 1000.
constexpr double shares[honest_kinds] = {590, 85, 160, 66, 15, 7, 11, 57, 8, 1};

// Settings that clients have by default, the commonest first.
std::uint64_t some_parameters(base::RandomStream& random) {
    const double u = random.uniform();
    if (u < 0.35) return 0;
    return 1 + static_cast<std::uint64_t>(60 * (u - 0.35) * (u - 0.35) / 0.4225);
}

}  // namespace

void Traffic::make_people() {
    std::uint64_t number = 1;
    double sum = 0;
    for (const double share : shares) sum += share;
    for (std::size_t k = 0; k < honest_kinds; ++k) {
        const auto kind = static_cast<Honest>(k);
        const auto count =
            static_cast<std::size_t>(std::max(2.0, shares[k] / sum * static_cast<double>(options_.people)));
        base::RandomStream draw(options_.seed, people_stream + k);
        std::uint32_t group = 0;
        std::size_t left = 0;
        for (std::size_t i = 0; i < count; ++i, ++number) {
            if (left == 0) {
                ++group;
                left = kind == Honest::app
                           ? static_cast<std::size_t>(std::min(900.0, log_normal(draw, 30, 1.1)))
                       : kind == Honest::company  ? 4 + draw.below(30)
                       : kind == Honest::students ? 20 + draw.below(40)
                       : kind == Honest::bureau   ? 3 + draw.below(9)
                       : kind == Honest::licensed ? 1 + draw.below(4)
                                                  : 1;
                left = std::max<std::size_t>(left, 1);
            }
            --left;
            Group shared(options_.seed ^ 0x1234U, kind, group);
            Person person;
            person.number = number;
            person.group = group;
            person.kind = kind;
            person.parameters = some_parameters(draw);
            person.agent = 1 + draw.below(30);
            person.address = 1'000'000 + number;
            person.payment = 2'000'000 + number;
            person.hour = 14 + 3.5 * draw.normal();
            const double plan = draw.uniform();
            person.plan = plan < 0.6 ? "free" : plan < 0.9 ? "pro" : "business";
            // Half were there before the first day, the others come in time; some leave.
            if (draw.uniform() < 0.5)
                person.first_day =
                    static_cast<std::int32_t>(draw.below(static_cast<std::uint64_t>(options_.days)));
            if (draw.uniform() < 0.2)
                person.last_day = person.first_day + 3 + static_cast<std::int32_t>(draw.below(60));
            const std::uint64_t group_number = (k << 32U) + group;
            switch (kind) {
                case Honest::chat:
                    person.rate = log_normal(draw, 0.3, 0.9);
                    break;
                case Honest::own_tool:
                    person.rate = log_normal(draw, 5, 1);
                    break;
                case Honest::app: {
                    person.rate = log_normal(draw, 0.3, 0.8);
                    person.parameters = 100 + group;
                    person.agent = 100 + group;
                    // Two thirds of the tools appear in these weeks; who uses one comes within days to weeks
                    // of it.
                    const bool is_new = shared.random.below(3) != 0;
                    const auto launch = is_new ? static_cast<std::int32_t>(shared.random.below(
                                                     static_cast<std::uint64_t>(options_.days)))
                                               : -200;
                    const double spread = 3 + static_cast<double>(shared.random.below(40));
                    person.first_day =
                        std::max(person.first_day,
                                 launch + static_cast<std::int32_t>(-std::log(1 - draw.uniform()) * spread));
                    break;
                }
                case Honest::company:
                    person.rate = log_normal(draw, 0.7, 0.6);
                    person.payment = 3'000'000 + group_number;
                    person.address = 3'000'000 + group_number;
                    person.plan = "business";
                    person.parameters = 200 + group;
                    break;
                case Honest::agent:
                    person.rate = log_normal(draw, 0.5, 0.6);
                    break;
                case Honest::batch:
                    person.rate = log_normal(draw, 150, 0.7);
                    break;
                case Honest::harness:
                    person.rate = 0.05 + 0.1 * draw.uniform();
                    person.parameters = 90;
                    person.agent = 90;
                    break;
                case Honest::students: {
                    const auto start =
                        static_cast<std::int32_t>(
                            7 * shared.random.below(static_cast<std::uint64_t>(options_.days / 7 + 6))) -
                        42;
                    person.first_day = start + static_cast<std::int32_t>(draw.below(4));
                    person.last_day = start + 84;
                    person.rate = 0.25 + 0.5 * draw.uniform();
                    person.hour = 18 + draw.normal();
                    if (draw.uniform() < 0.6) person.address = 4'000'000 + group_number;
                    person.parameters = draw.uniform() < 0.8 ? 0 : person.parameters;
                    if (draw.uniform() < 0.8) person.agent = 300 + group;
                    person.plan = "free";
                    break;
                }
                case Honest::bureau:
                    person.rate = log_normal(draw, 25, 0.5);
                    person.payment = person.address = 5'000'000 + group_number;
                    person.parameters = 400 + group;
                    person.agent = 400 + group;
                    person.plan = "business";
                    person.first_day = static_cast<std::int32_t>(shared.random.below(120)) - 60;
                    person.last_day = 1 << 20;
                    break;
                case Honest::licensed:
                    person.rate = log_normal(draw, 250, 0.3);
                    person.payment = person.address = 6'000'000 + group_number;
                    person.parameters = 500 + group;
                    person.agent = 500 + group;
                    person.plan = "licensed";
                    break;
                case Honest::count:
                    break;
            }
            people_.push_back(std::move(person));
        }
    }
}

}  // namespace retort::laboratory
