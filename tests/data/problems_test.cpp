// Problems made from a seed: their answers against an evaluation of the question by another route, and the
// split.
#include <gtest/gtest.h>

#include <set>

#include "data/problems.h"
#include "data/verify.h"

namespace retort::data {
namespace {

std::vector<Problem> problems(std::int64_t count, ProblemSplit split, std::vector<std::string> kinds = {},
                              std::uint64_t seed = 1) {
    ProblemOptions options;
    options.count = count;
    options.split = split;
    options.kinds = std::move(kinds);
    options.seed = seed;
    const auto made = make_problems(options);
    EXPECT_TRUE(made) << made.error().message;
    return *made;
}

// + − * with the usual precedence, over digits: "12*2+9*6+12".
std::int64_t evaluate(const std::string& text) {
    std::int64_t sum = 0;
    std::int64_t product = 0;
    std::int64_t sign = 1;
    bool times = false;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t used = 0;
        const std::int64_t number = std::stoll(text.substr(i), &used);
        product = times ? product * number : number;
        i += used;
        times = i < text.size() && text[i] == '*';
        if (!times) {
            sum += sign * product;
            if (i < text.size()) sign = text[i] == '-' ? -1 : 1;
        }
        ++i;
    }
    return sum + (times ? sign * product : 0);
}

std::string between(const std::string& text, const std::string& before, const std::string& after) {
    const std::size_t begin = text.find(before) + before.size();
    return text.substr(begin, text.find(after, begin) - begin);
}

TEST(Problems, answers_are_right) {
    for (const Problem& problem : problems(400, ProblemSplit::train, {"chain", "products"})) {
        EXPECT_EQ(std::to_string(evaluate(between(problem.question, "What is ", "?"))), problem.answer)
            << problem.question;
    }
    for (const Problem& problem : problems(200, ProblemSplit::train, {"comparison"})) {
        const auto a = evaluate(between(problem.question, "larger, ", " or "));
        const auto b = evaluate(between(problem.question, " or ", "?"));
        EXPECT_EQ(std::to_string(std::max(a, b)), problem.answer) << problem.question;
    }
    for (const Problem& problem : problems(200, ProblemSplit::train, {"base"})) {
        const bool writes = problem.question.starts_with("Write");
        const std::string number = writes ? between(problem.question, "Write ", " in") : problem.answer;
        const std::string digits = writes ? problem.answer : between(problem.question, "number is ", " in");
        const int base = std::stoi(problem.question.substr(problem.question.find("base ") + 5));
        EXPECT_EQ(std::stoi(digits, nullptr, base), std::stoi(number)) << problem.question;
    }
    for (const Problem& problem : problems(200, ProblemSplit::train, {"digits"})) {
        std::int64_t sum = 0;
        for (const char digit : between(problem.question, "digits of ", "?")) sum += digit - '0';
        EXPECT_EQ(std::to_string(sum), problem.answer) << problem.question;
    }
}

TEST(Problems, every_line_of_the_reasoning_holds_and_the_last_gives_the_answer) {
    for (const Problem& problem :
         problems(600, ProblemSplit::train, {"chain", "products", "story", "digits"})) {
        std::string last;
        for (std::size_t begin = 0; begin < problem.reasoning.size();) {
            const std::size_t end = std::min(problem.reasoning.find('\n', begin), problem.reasoning.size());
            const std::string line = problem.reasoning.substr(begin, end - begin);
            begin = end + 1;
            last = line.substr(line.find('=') + 1);
            const std::string left = line.substr(0, line.find('='));
            if (const std::size_t slash = left.find('/'); slash != std::string::npos) {
                EXPECT_EQ(std::stoll(last) * std::stoll(left.substr(slash + 1)), std::stoll(left)) << line;
            } else {
                EXPECT_EQ(evaluate(left), std::stoll(last)) << line;
            }
        }
        EXPECT_EQ(last, problem.answer) << problem.question;
    }
}

TEST(Problems, seed_decides_and_questions_differ) {
    const auto a = problems(500, ProblemSplit::train);
    const auto b = problems(500, ProblemSplit::train);
    const auto c = problems(500, ProblemSplit::train, {}, 2);
    std::set<std::string> questions;
    std::set<std::string> kinds;
    std::size_t same = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].question, b[i].question);
        EXPECT_EQ(a[i].reasoning, b[i].reasoning);
        same += a[i].question == c[i].question ? 1 : 0;
        questions.insert(a[i].question);
        kinds.insert(a[i].kind);
    }
    EXPECT_EQ(questions.size(), a.size());
    EXPECT_EQ(kinds.size(), problem_kinds().size());
    EXPECT_LT(same, 5U);
}

TEST(Problems, no_calculation_is_on_both_sides) {
    std::set<std::string> trained;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        for (const Problem& problem : problems(3000, ProblemSplit::train, {}, seed))
            trained.insert(problem.key);
    }
    const auto held_out = problems(1500, ProblemSplit::held_out, {}, 9);
    for (const Problem& problem : held_out) {
        EXPECT_FALSE(trained.contains(problem.key)) << problem.question;
        EXPECT_EQ(split_of_problem(problem.key), ProblemSplit::held_out);
    }
}

TEST(Problems, too_many_and_unknown_are_errors) {
    ProblemOptions options;
    options.kinds = {"base"};
    options.count = 1000000;
    EXPECT_NE(make_problems(options).error().message.find("hardly more than"), std::string::npos);
    options.kinds = {"bases"};
    EXPECT_NE(make_problems(options).error().message.find("there are chain,"), std::string::npos);
}

TEST(Problems, worked_records_are_sealed_and_pass_the_verifier) {
    const auto verifier = Verifier::from_spec({{"type", "numeric"}, {"expected", "{answer}"}}).value();
    for (const Problem& problem : problems(50, ProblemSplit::train)) {
        const Record record = worked_record(problem);
        EXPECT_TRUE(check_seal(record));
        EXPECT_EQ(parse_record(write_record(record)).value(), record);
        EXPECT_TRUE(verifier.check(record.content, record.metadata)->passed);
        Record wrong = record;
        wrong.content = std::to_string(std::stoll(record.content) + 1);
        EXPECT_FALSE(verifier.check(wrong.content, wrong.metadata)->passed);
    }
}

}  // namespace
}  // namespace retort::data
