#include "laboratory/unseen_prompts.h"

#include <algorithm>
#include <vector>

#include "laboratory/draws.h"
#include "laboratory/wording.h"

namespace retort::laboratory {

namespace {

// Parts of Theme::drawn(), apart from one another.
constexpr std::uint64_t rubric_part = std::uint64_t{1} << 40U;
constexpr std::uint64_t task_part = std::uint64_t{2} << 40U;
constexpr std::uint64_t key_part = std::uint64_t{3} << 40U;
constexpr std::uint64_t question_part = std::uint64_t{4} << 40U;
constexpr std::uint64_t goal_part = std::uint64_t{5} << 40U;

template <std::size_t N>
std::string_view chosen(const std::string_view (&list)[N], base::RandomStream& random) {
    return list[random.below(N)];
}

// What somebody may ask for, as it stands or around a text.
std::string plain_task(const Theme& theme, base::RandomStream& random) {
    const PromptLibrary& library = theme.library();
    if (random.uniform() < 0.3) return std::string(pick(library.questions, random));
    std::string out = habit_phrase(random);
    if (random.below(2) == 0) return out += theme.entry(random);
    return out += some_words(pick(library.passages, random), 0, 12 + random.below(20));
}

std::string candidate_answer(const PromptLibrary& library, base::RandomStream& random) {
    std::string out = some_words(pick(library.passages, random), 0, 20 + random.below(50));
    if (random.below(2) == 0) (out += ' ') += some_words(pick(library.entries, random), 0, 30);
    return out;
}

}  // namespace

Theme::Theme(const PromptLibrary& library, std::uint64_t seed, std::uint64_t number)
    : library_(&library), seed_(mixed(seed ^ 0x5eedU, number)), number_(number) {
    from_ = (number * 7919) % library.entries.size();
    base::RandomStream words = drawn(0);
    donor_ = pick(library.passages, words);
}

base::RandomStream Theme::drawn(std::uint64_t part) const {
    return base::RandomStream(seed_, part);
}

std::string_view Theme::entry(base::RandomStream& random) const {
    const auto& entries = library_->entries;
    return entries[(from_ + random.below(std::max<std::size_t>(1, entries.size() / 4))) % entries.size()];
}

std::string Theme::said(std::string_view sentence, std::uint64_t voice) const {
    base::RandomStream own(mixed(seed_, voice), sentence.size());
    return perturbed(sentence, own, 2, donor_);
}

// The teacher as a reward model: rubric-based grading (Anthropic 2026, "Detecting and preventing distillation
// attacks"), with a rubric an area as Prometheus has them (Kim et al. 2023, arXiv:2310.08491) and up to four
// candidates as UltraFeedback (Cui et al. 2023, arXiv:2310.01377).
Asked rubric_prompt(const Theme& theme, base::RandomStream& random) {
    constexpr std::string_view intros[] = {
        "You are an impartial judge of answers that assistants have written.",
        "You mark answers against a rubric, as an examiner does.",
        "Score each response strictly by the rubric below; your taste does not count.",
        "Act as a careful evaluator who reads the task first and the response after it."};
    constexpr std::string_view criteria[] = {
        "Correctness: every statement agrees with what is known, and none contradicts another.",
        "Completeness: each part of the task has been dealt with.",
        "Reasoning: the steps follow from one another, and none is missing.",
        "Clarity: a reader from outside the field can follow.",
        "Honesty: what is uncertain is said to be so.",
        "Brevity: nothing is said twice and nothing is beside the point.",
        "Format: the answer has the form that was asked for.",
        "Safety: nobody would come to harm by following it.",
        "Tone: the register suits whoever asked.",
        "Evidence: claims come with what supports them.",
        "Usefulness: the reader could act on it without asking again.",
        "Originality: the answer does more than repeat the task."};
    constexpr std::string_view outputs[] = {
        "For each criterion give a sentence of reasons and a score from 1 to 5; end with Overall and a "
        "number.",
        "Return JSON with a rationale and a score from 1 to 10 for each criterion.",
        "Explain first, then write the scores in the order of the criteria, separated by commas.",
        "Discuss what tells the responses apart, then rank them by their letters."};
    constexpr std::uint64_t areas = 24;
    const std::uint64_t area = random.below(areas);
    base::RandomStream rubric = theme.drawn(rubric_part + area);
    base::RandomStream campaign = theme.drawn(rubric_part + areas);
    Asked out;
    out.system = theme.said(chosen(intros, campaign), 0) + "\n\nRubric:";
    std::vector<std::string_view> left(std::begin(criteria), std::end(criteria));
    for (int i = 1; i <= 4; ++i) {
        const auto at = static_cast<std::ptrdiff_t>(rubric.below(left.size()));
        out.system += "\n" + std::to_string(i) + ". " + theme.said(left[static_cast<std::size_t>(at)], area);
        left.erase(left.begin() + at);
    }
    out.system += "\n\n" + theme.said(chosen(outputs, campaign), 1);

    out.user = "### Task\n" + plain_task(theme, random);
    const std::uint64_t candidates = 1 + random.below(4);
    std::string response;
    for (std::uint64_t i = 0; i < candidates; ++i) {
        // Two samples of one student are often alike.
        response = i > 0 && random.below(2) == 0
                       ? perturbed(response, random, 8, pick(theme.library().passages, random))
                       : candidate_answer(theme.library(), random);
        out.user += "\n\n### Response " + std::string(1, static_cast<char>('A' + i)) + "\n" + response;
    }
    return out;
}

// The reasoning behind a completed answer, written out (Anthropic 2026), in the language of the question
// (Google Threat Intelligence Group 2026, "AI Threat Tracker": coercion of reasoning traces).
std::string trace_prompt(const Theme& theme, base::RandomStream& random) {
    constexpr std::string_view asks[] = {
        "Imagine the internal reasoning that led to this answer and write it out step by step.",
        "Articulate the line of thought behind the finished answer, one step after the other.",
        "Reconstruct how the answer was arrived at, and leave out no intermediate thought.",
        "Write down the thinking that must have come before this answer.",
        "Put into words, in order, every consideration that produces this answer.",
        "Tell how somebody would think on the way from the question to this answer."};
    constexpr std::string_view manners[] = {"Think in the language of the question.",
                                            "Include the dead ends and how they were noticed.",
                                            "Write in the first person and in the present tense.",
                                            "Do not refer to the answer before it has been reached.",
                                            "Check each step before going on to the next.",
                                            "Mark the place at which the answer becomes certain."};
    constexpr std::string_view labels[][2] = {{"Question: ", "Answer: "},
                                              {"Prompt:\n", "Completed response:\n"},
                                              {"User: ", "Assistant: "},
                                              {"Problem: ", "Final answer: "},
                                              {"", ""}};
    constexpr std::uint64_t voices = 8;
    const auto& label = labels[random.below(std::size(labels))];
    const std::string item = std::string(label[0]) + plain_task(theme, random) + "\n\n" +
                             std::string(label[1]) + candidate_answer(theme.library(), random);
    const std::string_view ask = chosen(asks, random);
    std::string wish = theme.said(ask, random.below(voices));
    const std::string_view manner = chosen(manners, random);
    (wish += ' ') += theme.said(manner, random.below(voices));
    return random.below(2) == 0 ? wish + "\n\n" + item : item + "\n\n" + wish;
}

// Self-Instruct (Wang et al. 2022, arXiv:2212.10560) as Alpaca (Taori et al. 2023) and Unnatural Instructions
// (Honovich et al. 2022, arXiv:2212.09689) ask: demonstrations out of a pool that grows, and the next is
// wanted.
std::string bootstrap_prompt(const Theme& theme, std::uint64_t made, base::RandomStream& random) {
    constexpr std::string_view heads[] = {
        "Come up with a series of tasks that people may give to an assistant:",
        "Below are examples of instructions. Continue the list with others, and answer each.",
        "Write further tasks in the manner of these, none of which may repeat another.",
        "Here are instructions with their inputs. Add more, of other kinds and other lengths."};
    constexpr std::uint64_t by_hand = 175;
    base::RandomStream campaign = theme.drawn(task_part - 1);
    const std::uint64_t shown = 3 + campaign.below(6);
    const std::string_view head = chosen(heads, random);
    std::string out = theme.said(head, 0) + "\n";
    for (std::uint64_t i = 1; i <= shown; ++i) {
        const bool own = made > 0 && i * 4 > shown * 3;
        base::RandomStream task =
            theme.drawn(task_part + (own ? by_hand + random.below(made) : random.below(by_hand)));
        out += "\nTask " + std::to_string(i) + ": " + plain_task(theme, task);
    }
    return out += "\nTask " + std::to_string(shown + 1) + ":";
}

// Instructions out of documents (Köksal et al. 2023, arXiv:2304.08460; Li et al. 2023, arXiv:2308.06259), and
// in the same conversation the document rewritten as an answer (Nguyen et al. 2024, arXiv:2408.04614). Each
// key speaks as one small tool.
Asked backtranslated_prompt(const Theme& theme, std::uint32_t key, bool rewrites,
                            base::RandomStream& random) {
    constexpr std::string_view asks[] = {
        "What would somebody have asked to be given this text as the answer?",
        "Write the request to which this text is the best possible reply.",
        "Which instruction was this written for? Give only the instruction.",
        "Guess the assignment behind the following, as its author may have received it.",
        "For our archive, note the question that this document answers.",
        "Suggest a brief from which a writer would have produced this.",
        "Name the task in one sentence such that this is its solution.",
        "If this stood in a help forum as an answer, how would the question read?"};
    constexpr std::string_view more[] = {
        "Now answer that request yourself and keep to the facts of the text.",
        "Rewrite the text as a good answer to it.",
        "Good. Write the reply anew, in better order and without what is beside the point.",
        "And how would you have answered, knowing only what the document says?"};
    constexpr std::string_view roles[] = {
        "You help the editors of an archive with their records.", "You catalogue documents for a library.",
        "You write briefs for the authors of a newsroom.", "You prepare material for a course in writing."};
    base::RandomStream own = theme.drawn(key_part + key);
    const std::string ask = theme.said(chosen(asks, own), key);
    const std::string again = theme.said(chosen(more, own), key);
    Asked out;
    const std::string role = theme.said(chosen(roles, own), key);
    if (own.below(3) == 0) out.system = role;
    const bool before = own.below(2) == 0;
    if (rewrites) {
        out.user = again;
        return out;
    }
    const std::uint64_t pieces = 1 + random.below(3);
    std::string document;
    for (std::uint64_t i = 0; i < pieces; ++i) {
        if (i > 0) document += "\n";
        document += pick(theme.library().passages, random);
    }
    out.user = before ? ask + "\n\n" + document : document + "\n\n" + ask;
    return out;
}

// One question, many answers at a temperature: self-consistency (Wang et al. 2022, arXiv:2203.11171),
// rejection sampling (Yuan et al. 2023, arXiv:2308.01825), sixteen answers a question (Guha et al. 2025,
// arXiv:2506.04178). Every copy is the same to the letter.
std::string resampled_prompt(const Theme& theme, std::uint64_t question) {
    constexpr std::string_view forms[] = {"Which term is defined here?",
                                          "Name what is described:", "What is the word for the following?",
                                          "Find the term that fits this definition:"};
    base::RandomStream random = theme.drawn(question_part + question);
    std::string out;
    if (random.below(2) == 0) {
        const std::vector<std::string_view>& bank = theme.library().questions;
        out = pick(bank, random);
        // What can be answered in three words teaches no reasoning.
        for (int tries = 0; out.size() < 40 && tries < 8; ++tries) out = pick(bank, random);
    } else {
        const std::string_view form = chosen(forms, random);
        out = theme.said(form, 0) + " " + some_words(theme.entry(random), 2, 60);
    }
    const double manner = random.uniform();
    if (manner < 0.6) {
        // What the makers of open reasoning models recommend (DeepSeek-AI 2025, arXiv:2501.12948).
        out += "\nPlease reason step by step, and put your final answer within \\boxed{}.";
    } else if (manner < 0.8) {
        out += "\n" + theme.said("Think it through before you answer, and end with the answer alone.", 0);
    }
    return out;
}

// Goals for an agent out of snippets (OSS-Instruct, Wei et al. 2023, arXiv:2312.02120; SWE-smith, Yang et al.
// 2025, arXiv:2504.21798; Toucan, Xu et al. 2025, arXiv:2510.01179).
std::string agent_goal(const Theme& theme, std::uint64_t task) {
    constexpr std::string_view goals[] = {
        "A test fails since the last change to what is shown below. Find out why and repair it.",
        "Add an option to the part below and cover it by a test.",
        "Write a small tool around the following and print what it finds as a table.",
        "Use the tools to collect what is known about the following and file a report.",
        "Move the part below from the old interface to the new one without a change of behaviour.",
        "A user reports a defect in the following. Reproduce it and propose a patch."};
    constexpr std::string_view limits[] = {
        "Do not touch the configuration.",      "Keep the public names as they are.",
        "The network cannot be reached.",       "Stop when every test passes.",
        "Write down what you changed and why.", "At most three files may change."};
    constexpr std::uint64_t voices = 8;
    base::RandomStream random = theme.drawn(goal_part + task);
    const std::string_view goal = chosen(goals, random);
    std::string out = "Goal: " + theme.said(goal, random.below(voices));
    const std::string_view limit = chosen(limits, random);
    if (random.below(3) != 0) (out += ' ') += theme.said(limit, random.below(voices));
    return (out += "\n\n") += theme.entry(random);
}

}  // namespace retort::laboratory
