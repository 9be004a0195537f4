#include "data/problems.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "base/hash.h"
#include "base/random.h"

namespace retort::data {

namespace {

using base::RandomStream;

// Uniform in [least, most].
std::int64_t between(RandomStream& random, std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(most - least + 1)));
}

template <std::size_t N>
std::string pick(RandomStream& random, const std::array<std::string_view, N>& words) {
    return std::string(words[random.below(N)]);
}

// Steps of a calculation, and its value so far.
class Work {
  public:
    std::int64_t step(std::int64_t a, char sign, std::int64_t b) {
        const std::int64_t value = sign == '+' ? a + b : sign == '-' ? a - b : sign == '*' ? a * b : a / b;
        note(fmt::format("{}{}{}={}", a, sign, b, value));
        return value;
    }
    void note(const std::string& line) { text_ += (text_.empty() ? "" : "\n") + line; }
    [[nodiscard]] const std::string& text() const { return text_; }

  private:
    std::string text_;
};

Problem finished(std::string kind, std::string question, const Work& work, std::int64_t answer) {
    Problem problem;
    problem.key = kind + ":" + work.text();
    problem.kind = std::move(kind);
    problem.question = std::move(question);
    problem.reasoning = work.text();
    problem.answer = std::to_string(answer);
    return problem;
}

constexpr std::int64_t largest_total = 199;

// 3 to 5 numbers added and taken away, from left to right or with what is taken away last.
Problem make_chain(RandomStream& random) {
    const std::int64_t terms = between(random, 3, 5);
    std::vector<std::int64_t> numbers = {between(random, 10, 99)};
    std::vector<char> signs = {'+'};
    std::int64_t total = numbers.front();
    while (static_cast<std::int64_t>(numbers.size()) < terms) {
        const std::int64_t number = between(random, 2, 49);
        const bool minus = total + number > largest_total || (total >= number && random.below(2) == 0);
        numbers.push_back(number);
        signs.push_back(minus ? '-' : '+');
        total += minus ? -number : number;
    }
    std::string expression = std::to_string(numbers.front());
    for (std::size_t i = 1; i < numbers.size(); ++i) expression += fmt::format("{}{}", signs[i], numbers[i]);
    Work work;
    total = numbers.front();
    for (std::size_t i = 1; i < numbers.size(); ++i) total = work.step(total, signs[i], numbers[i]);
    Problem problem = finished("chain", fmt::format("What is {}?", expression), work, total);
    if (random.below(4) == 0) {
        Work other;
        total = numbers.front();
        for (const char sign : {'+', '-'}) {
            for (std::size_t i = 1; i < numbers.size(); ++i)
                if (signs[i] == sign) total = other.step(total, sign, numbers[i]);
        }
        problem.reasoning = other.text();
    }
    return problem;
}

Problem make_products(RandomStream& random) {
    const std::int64_t a = between(random, 2, 12);
    const std::int64_t b = between(random, 2, 9);
    const std::int64_t c = between(random, 2, 12);
    const std::int64_t d = between(random, 2, 9);
    const bool minus = a * b >= c * d && random.below(2) == 0;
    const std::int64_t e = between(random, 2, 20);
    Work work;
    const std::int64_t first = work.step(a, '*', b);
    const std::int64_t second = work.step(c, '*', d);
    const std::int64_t sum = work.step(first, minus ? '-' : '+', second);
    const std::int64_t total = work.step(sum, '+', e);
    return finished("products", fmt::format("What is {}*{}{}{}*{}+{}?", a, b, minus ? '-' : '+', c, d, e),
                    work, total);
}

constexpr std::array<std::string_view, 8> names = {"Anna", "Ben",   "Clara", "David",
                                                   "Emma", "Felix", "Greta", "Hugo"};
constexpr std::array<std::string_view, 8> things = {"apples", "books",   "coins",    "eggs",
                                                    "pens",   "marbles", "stickers", "stamps"};

Problem story_bags(RandomStream& random) {
    const std::string name = pick(random, names);
    const std::string thing = pick(random, things);
    const std::int64_t had = between(random, 5, 60);
    const std::int64_t bags = between(random, 2, 9);
    const std::int64_t each = between(random, 2, 12);
    const std::int64_t given = between(random, 2, std::min<std::int64_t>(49, had + bags * each));
    Work work;
    const std::int64_t bought = work.step(bags, '*', each);
    const std::int64_t together = work.step(had, '+', bought);
    const std::int64_t left = work.step(together, '-', given);
    return finished(
        "story",
        fmt::format("{} has {} {}, buys {} bags of {} {} and gives {} away. How many {} are left?", name, had,
                    thing, bags, each, thing, given, thing),
        work, left);
}

Problem story_boxes(RandomStream& random) {
    const std::string name = pick(random, names);
    const std::string thing = pick(random, things);
    const std::int64_t each = between(random, 2, 12);
    const std::int64_t boxes = between(random, 2, 9);
    const std::int64_t over = between(random, 2, 40);
    Work work;
    const std::int64_t boxed = work.step(boxes, '*', each);
    const std::int64_t all = work.step(boxed, '+', over);
    return finished(
        "story",
        fmt::format("{} fills {} boxes with {} {} each and has {} {} left over. How many {} are there?", name,
                    boxes, each, thing, over, thing, thing),
        work, all);
}

Problem story_purse(RandomStream& random) {
    const std::string name = pick(random, names);
    const std::string other = pick(random, names);
    const std::int64_t had = between(random, 20, 99);
    const std::int64_t spent = between(random, 2, std::min<std::int64_t>(49, had));
    const std::int64_t given = between(random, 2, 49);
    const std::int64_t again = between(random, 2, std::min<std::int64_t>(49, had - spent + given));
    Work work;
    const std::int64_t rest = work.step(had, '-', spent);
    const std::int64_t more = work.step(rest, '+', given);
    const std::int64_t left = work.step(more, '-', again);
    return finished(
        "story",
        fmt::format("{} has {} coins and spends {}. {} then gives {} coins to {}, who spends {}. How "
                    "many coins does {} have?",
                    name, had, spent, other, given, name, again, name),
        work, left);
}

Problem story_bus(RandomStream& random) {
    const std::int64_t seats = between(random, 40, 90);
    const std::int64_t on = between(random, 10, 39);
    const std::int64_t off = between(random, 2, on);
    const std::int64_t later = between(random, 2, std::min<std::int64_t>(49, seats - on + off));
    Work work;
    const std::int64_t first = work.step(seats, '-', on);
    const std::int64_t second = work.step(first, '+', off);
    const std::int64_t free = work.step(second, '-', later);
    return finished(
        "story",
        fmt::format("A bus has {} seats. {} people get on, {} get off and {} more get on. How many "
                    "seats are free?",
                    seats, on, off, later),
        work, free);
}

Problem story_shares(RandomStream& random) {
    const std::string name = pick(random, names);
    const std::string thing = pick(random, things);
    const std::int64_t friends = between(random, 2, 9);
    const std::int64_t share = between(random, 2, 12);
    const std::int64_t had = between(random, 2, 49);
    Work work;
    const std::int64_t each = work.step(friends * share, '/', friends);
    const std::int64_t all = work.step(had, '+', each);
    return finished(
        "story",
        fmt::format("{} friends share {} {} equally. {} had {} {} before. How many {} does {} have?", friends,
                    friends * share, thing, name, had, thing, thing, name),
        work, all);
}

Problem make_story(RandomStream& random) {
    constexpr std::array makers = {story_bags, story_boxes, story_purse, story_bus, story_shares};
    return makers[random.below(makers.size())](random);
}

Problem make_comparison(RandomStream& random) {
    for (;;) {
        const std::int64_t a = between(random, 10, 99);
        const std::int64_t b = between(random, 2, 49);
        const bool minus = a >= b && random.below(2) == 0;
        const std::int64_t c = between(random, 2, 12);
        const std::int64_t d = between(random, 2, 9);
        const std::int64_t left_value = minus ? a - b : a + b;
        if (left_value == c * d) continue;
        const std::string left = fmt::format("{}{}{}", a, minus ? '-' : '+', b);
        const std::string right = fmt::format("{}*{}", c, d);
        const bool turned = random.below(2) == 0;
        Work work;
        if (turned) work.step(c, '*', d);
        work.step(a, minus ? '-' : '+', b);
        if (!turned) work.step(c, '*', d);
        work.note(fmt::format("{}>{}", std::max(left_value, c * d), std::min(left_value, c * d)));
        Problem problem = finished(
            "comparison",
            fmt::format("Which number is larger, {} or {}?", turned ? right : left, turned ? left : right),
            work, std::max(left_value, c * d));
        problem.key = fmt::format("comparison:{},{}", left, right);
        return problem;
    }
}

std::string digits_in_base(std::int64_t number, std::int64_t base) {
    std::string digits;
    for (; number > 0; number /= base) digits.insert(digits.begin(), static_cast<char>('0' + number % base));
    return digits;
}

Problem make_base(RandomStream& random) {
    const std::int64_t base = between(random, 2, 9);
    const std::int64_t number = between(random, base, base < 4 ? 99 : largest_total);
    const std::string digits = digits_in_base(number, base);
    Work work;
    Problem problem;
    if (random.below(2) == 0) {
        for (std::int64_t rest = number; rest > 0; rest /= base)
            work.note(fmt::format("{}/{}={} r {}", rest, base, rest / base, rest % base));
        problem = finished("base", fmt::format("Write {} in base {}.", number, base), work, 0);
        problem.answer = digits;
    } else {
        std::int64_t value = digits.front() - '0';
        for (std::size_t i = 1; i < digits.size(); ++i) {
            const std::int64_t next = value * base + (digits[i] - '0');
            work.note(fmt::format("{}*{}+{}={}", value, base, digits[i], next));
            value = next;
        }
        problem = finished("base", fmt::format("Which number is {} in base {}?", digits, base), work, value);
    }
    problem.key = fmt::format("base:{},{}", number, base);  // both directions on the same side of the split
    return problem;
}

Problem make_digits(RandomStream& random) {
    const std::int64_t count = between(random, 3, 6);
    std::string digits(1, static_cast<char>('1' + random.below(9)));
    while (static_cast<std::int64_t>(digits.size()) < count)
        digits.push_back(static_cast<char>('0' + random.below(10)));
    Work work;
    std::int64_t sum = digits.front() - '0';
    for (std::size_t i = 1; i < digits.size(); ++i) sum = work.step(sum, '+', digits[i] - '0');
    return finished("digits", fmt::format("What is the sum of the digits of {}?", digits), work, sum);
}

struct ProblemKind {
    std::string_view name;
    Problem (*make)(RandomStream&);
};
constexpr std::array<ProblemKind, 6> kinds = {{{"chain", make_chain},
                                               {"products", make_products},
                                               {"story", make_story},
                                               {"comparison", make_comparison},
                                               {"base", make_base},
                                               {"digits", make_digits}}};

Result<std::vector<const ProblemKind*>> chosen_kinds(const std::vector<std::string>& wanted) {
    std::vector<const ProblemKind*> chosen;
    for (const std::string& name : wanted.empty() ? problem_kinds() : wanted) {
        const auto found = std::find_if(kinds.begin(), kinds.end(),
                                        [&](const ProblemKind& kind) { return kind.name == name; });
        if (found == kinds.end()) {
            return fail(ErrorCode::invalid_argument, "problems of kind \"{}\" are not known; there are {}",
                        name, fmt::join(problem_kinds(), ", "));
        }
        chosen.push_back(&*found);
    }
    return chosen;
}

}  // namespace

const std::vector<std::string>& problem_kinds() {
    static const std::vector<std::string> list = [] {
        std::vector<std::string> all;
        all.reserve(std::size(kinds));
        for (const ProblemKind& kind : kinds) all.emplace_back(kind.name);
        return all;
    }();
    return list;
}

ProblemSplit split_of_problem(std::string_view key) {
    constexpr std::uint64_t held_out_one_in = 10;
    return base::xxh3_64(key) % held_out_one_in == 0 ? ProblemSplit::held_out : ProblemSplit::train;
}

Result<std::vector<Problem>> make_problems(const ProblemOptions& options) {
    if (options.count < 1)
        return fail(ErrorCode::invalid_argument, "{} problems cannot be made", options.count);
    RETORT_TRY(const std::vector<const ProblemKind*> chosen, chosen_kinds(options.kinds));
    std::vector<Problem> problems;
    std::unordered_set<std::string> asked;
    // Kinds with few problems run dry long before the others; when all have, one in many draws is new.
    constexpr std::uint64_t draws_for_one = 2000;
    std::uint64_t last_new = 0;
    for (std::uint64_t draw = 0; static_cast<std::int64_t>(problems.size()) < options.count; ++draw) {
        if (draw - last_new > draws_for_one) {
            return fail(
                ErrorCode::invalid_argument,
                "there are hardly more than {} different problems of these kinds; ask for fewer than {}",
                problems.size(), options.count);
        }
        RandomStream random(options.seed, draw);
        Problem problem = chosen[random.below(chosen.size())]->make(random);
        if (split_of_problem(problem.key) != options.split || !asked.insert(problem.question).second)
            continue;
        last_new = draw;
        problems.push_back(std::move(problem));
    }
    return problems;
}

std::string problem_prompt_line(const Problem& problem) {
    return formats::write_json(
        {{"prompt", problem.question}, {"metadata", {{"answer", problem.answer}, {"kind", problem.kind}}}});
}

Record worked_record(const Problem& problem) {
    Record record;
    record.request.messages = {{.role = "user", .content = problem.question, .reasoning = ""}};
    record.request.model = "worked";
    record.prompt_id =
        base::sha256_hex(formats::write_json(messages_to_json(record.request.messages))).substr(0, 16);
    record.content = problem.answer;
    record.reasoning = problem.reasoning;
    record.finish_reason = "stop";
    record.metadata = {{"answer", problem.answer}, {"kind", problem.kind}};
    seal(record);
    return record;
}

}  // namespace retort::data
