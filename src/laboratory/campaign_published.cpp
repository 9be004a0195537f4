// Attackers after published ways of making training data, written when the detectors were frozen: nothing
// here was looked at for their design.
#include "laboratory/campaign_published.h"

#include "laboratory/draws.h"
#include "laboratory/wording.h"

namespace retort::laboratory {

namespace {

std::string headword(std::string_view entry) {
    return some_words(entry, 0, 2);
}

// Chan et al. 2024 (arXiv:2406.20094): one task, asked as it would arise for somebody who is described anew
// each time.
std::string persona_prompt(const PromptLibrary& library, std::uint64_t theme, std::string_view slot,
                           base::RandomStream& random) {
    constexpr std::string_view tasks[] = {
        "Create a challenging reasoning problem that this person would come across in daily work.",
        "Write an instruction that this person is likely to give to an assistant.",
        "Compose an informative article that this person would want to read.",
        "Design a tool that helps this person, with its inputs and outputs."};
    constexpr std::string_view people[] = {"a retired",     "a young",       "a newly trained",
                                           "an overworked", "a self-taught", "a travelling",
                                           "a sceptical",   "a part-time"};
    std::string out = "Persona: " + std::string(people[random.below(std::size(people))]) + " ";
    out += some_words(pick(library.passages, random), random.below(4), 3 + random.below(5));
    out += " who cares about " + std::string(some_words(slot, 0, 6 + random.below(8))) + ".\n\n";
    out += tasks[theme % std::size(tasks)];
    return out += "\nNote: answer at length, and do not begin with a greeting.";
}

// Xu et al. 2023 (arXiv:2304.12244): seeds are rewritten harder, generation by generation, and every
// generation's prompt is asked too.
std::string evolved_prompt(const PromptLibrary& library, std::uint64_t lineage, std::uint64_t generation,
                           bool rewrites, std::string_view seed) {
    constexpr std::string_view methods[] = {"adding one more constraint", "asking for deeper knowledge",
                                            "replacing general notions by specific ones",
                                            "requiring several steps of reasoning",
                                            "making the input more complicated"};
    std::string prompt(seed);
    for (std::uint64_t g = 0; g < generation; ++g) {
        base::RandomStream step(lineage, g);
        prompt += " Moreover, take into account that " +
                  some_words(pick(library.passages, step), step.below(6), 8 + step.below(8)) + ".";
    }
    if (!rewrites) return prompt;
    base::RandomStream step(lineage, 1000 + generation);
    return "Rewrite the given prompt into a more demanding version by " +
           std::string(methods[step.below(std::size(methods))]) +
           "; it must stay reasonable and grow by ten to twenty words only.\n\nGiven: " + prompt;
}

// Li et al. 2024 (arXiv:2402.13064): a tree of subjects, sessions and concepts, asked leaf by leaf.
std::string curriculum_prompt(std::string_view slot, base::RandomStream& random) {
    constexpr std::string_view forms[] = {
        "What are the key concepts of {}?",       "Plan a lesson about {}.",
        "Five exercises on {}, please.",          "Solve a typical problem about {}.",
        "Which misconceptions exist about {}?",   "Explain {} to an undergraduate.",
        "What must one know before learning {}?", "Write an exam question about {} with its solution.",
        "How does {} relate to its neighbours?",  "Name the subtopics of {}.",
        "Derive the main result concerning {}.",  "Give a worked example of {}."};
    const std::string_view form = forms[random.below(std::size(forms))];
    const std::size_t at = form.find("{}");
    return std::string(form.substr(0, at)) + headword(slot) + std::string(form.substr(at + 2));
}

// A benchmark's items, put into other words as a translation there and back does: words change, order stays.
std::string translated_prompt(const PromptLibrary& library, std::uint64_t theme, base::RandomStream& random,
                              std::string_view slot) {
    base::RandomStream benchmark(1, theme);
    const std::string form(pick(library.templates, benchmark));
    std::string filled;
    std::size_t at = 0;
    for (std::size_t hole = form.find("{}"); hole != std::string::npos; hole = form.find("{}", at)) {
        filled += form.substr(at, hole - at);
        filled += slot;
        at = hole + 2;
    }
    filled += form.substr(at);
    if (at == 0) (filled += ' ') += slot;
    // One word in six comes back as another.
    const auto words = static_cast<int>(1 + filled.size() / 36);
    return perturbed(filled, random, words, pick(library.passages, random));
}

// A question, and in the same conversation what makes the answer a lesson.
std::string dialogue_prompt(const PromptLibrary& library, base::RandomStream& random, bool follows,
                            std::string_view slot) {
    constexpr std::string_view more[] = {
        "Show every step of that.",      "And if the opposite held?",
        "Now argue against it.",         "Which step is the weakest, and why?",
        "Do the same for another case.", "Summarise the method in general terms."};
    if (follows)
        return std::string(more[random.below(std::size(more))]) + " " + some_words(slot, 0, random.below(8));
    return random.below(2) == 0 ? std::string(pick(library.questions, random))
                                : habit_phrase(random) + std::string(slot);
}

}  // namespace

PublishedPrompt published_prompt(const PromptLibrary& library, Attack family, std::uint64_t theme,
                                 std::string_view slot, const std::vector<std::string_view>& pool,
                                 std::size_t from, base::RandomStream& random) {
    switch (family) {
        case Attack::persona:
            return {persona_prompt(library, theme, slot, random), false};
        case Attack::evolved: {
            // Four generations of each seed; who asks which of them is left to the script.
            const std::uint64_t lineage = random.below(100'000);
            const std::uint64_t generation = random.below(4);
            return {evolved_prompt(library, theme * 1'000'003 + lineage, generation, random.below(2) == 0,
                                   pool[(from + lineage) % pool.size()]),
                    false};
        }
        case Attack::curriculum:
            return {curriculum_prompt(slot, random), false};
        case Attack::translated:
            return {translated_prompt(library, theme, random, slot), false};
        case Attack::dialogue: {
            const bool follows = random.uniform() < 0.7;
            return {dialogue_prompt(library, random, follows, slot), follows};
        }
        default:
            return {};
    }
}

}  // namespace retort::laboratory
