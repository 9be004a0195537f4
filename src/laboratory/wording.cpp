#include "laboratory/wording.h"

#include <vector>

namespace retort::laboratory {

namespace {

constexpr std::string_view openings[] = {"",
                                         "hi, ",
                                         "hello! ",
                                         "please ",
                                         "could you ",
                                         "can you ",
                                         "I need you to ",
                                         "quick one: ",
                                         "would you mind to ",
                                         "help me to ",
                                         "now "};
constexpr std::string_view verbs[] = {"explain",
                                      "summarise",
                                      "translate into English",
                                      "translate into German",
                                      "translate into French",
                                      "rewrite",
                                      "shorten",
                                      "correct the grammar of",
                                      "say in simple words",
                                      "tell me more about",
                                      "give me an example for",
                                      "find the mistake in",
                                      "make a headline for",
                                      "list the main points of",
                                      "continue",
                                      "comment on",
                                      "describe",
                                      "find a rhyme for",
                                      "make a quiz question of",
                                      "judge the tone of"};
constexpr std::string_view objects[] = {"this",     "the following",    "this text",     "the text below",
                                        "this one", "what stands here", "this paragraph"};
constexpr std::string_view endings[] = {": ",
                                        " - ",
                                        "\n\n",
                                        ". Here it is: ",
                                        ", thanks: ",
                                        " for my notes: ",
                                        " for a ten year old: ",
                                        " in two sentences: ",
                                        " for my boss: "};
constexpr std::string_view follow_ups[] = {"why?",
                                           "make it shorter please",
                                           "and in German?",
                                           "that is not what I meant",
                                           "can you give an example",
                                           "ok and what comes next",
                                           "are you sure about that?",
                                           "thanks, now the other way round",
                                           "put that in a table",
                                           "what do you mean by the second point",
                                           "please continue",
                                           "that fails with an error, what now?",
                                           "use simpler words",
                                           "no, formal tone please",
                                           "where did you get that from?",
                                           "great. and for a beginner?"};

// Each part of a template in several wordings that mean the same.
constexpr std::string_view roles[][6] = {{"You are an expert who reasons carefully about every question.",
                                          "Act as a careful specialist who thinks before each answer.",
                                          "Take the role of a seasoned analyst and work with great care.",
                                          "As a domain expert you examine every problem thoroughly.",
                                          "Imagine you are a meticulous professor preparing model answers.",
                                          "Your role is that of a thorough scholar who leaves nothing out."},
                                         {"You are a senior engineer who reviews statements for correctness.",
                                          "Act as an experienced reviewer who checks what is claimed.",
                                          "Behave like a principal developer auditing a description.",
                                          "As a technical lead you verify each statement that you get.",
                                          "Pretend to be a strict examiner of technical descriptions.",
                                          "Your job is to be the reviewer who finds what is wrong."},
                                         {"You are a gifted teacher who prepares worked solutions.",
                                          "Act as a tutor who writes out complete lessons.",
                                          "Take the part of a school teacher with endless patience.",
                                          "As an educator you produce material that learners can follow.",
                                          "Imagine you write the solutions chapter of a textbook.",
                                          "Your task is that of an instructor who demonstrates methods."}};
constexpr std::string_view tasks[][6] = {
    {"Read the entry and derive step by step what follows from it.",
     "Go through the item and work out its consequences one after another.",
     "Study the given material and reason in steps towards a conclusion.",
     "Consider the passage, then lay out a chain of inferences from it.",
     "Examine what is given and deduce in order all that it implies.",
     "Take the input and think aloud until a conclusion is reached."},
    {"Write a question that the entry answers, then answer it with full reasoning.",
     "Compose a question about the item and solve it with every step shown.",
     "Make up an exam question from the material together with a detailed solution.",
     "Invent a problem based on the passage and give the complete derivation.",
     "Formulate a task out of what is given and resolve it at length.",
     "Pose a puzzle that uses the input and explain its answer in depth."},
    {"Judge whether the entry is right and justify the verdict in detail.",
     "Decide if the item holds and support the decision with arguments.",
     "Assess the truth of the material and defend your assessment fully.",
     "Evaluate the passage for accuracy and motivate each point.",
     "Determine how correct the given text is and say exactly why.",
     "Check the input and back up your finding with thorough reasons."}};
constexpr std::string_view formats[][6] = {
    {"Put the final answer alone on the last line in double brackets.",
     "Finish with the result by itself in double brackets.",
     "The last line holds nothing but the answer between double brackets.",
     "Close with the conclusion in double brackets on its own line.",
     "End by writing the outcome within double brackets.",
     "Your final line is the bracketed answer and nothing else."},
    {"Return a JSON object with the fields rationale and answer.",
     "Reply as JSON that has a rationale and an answer.",
     "Use JSON for the reply, one key for the rationale and one for the answer.",
     "Give back JSON only, holding the rationale first and the answer second.",
     "The reply is JSON made of two members, rationale then answer.",
     "Answer in JSON whose keys are rationale and answer."},
    {"Number every step and mark the conclusion with the word RESULT.",
     "Use numbered steps and write RESULT before the conclusion.",
     "Let steps carry numbers, and begin the conclusion by RESULT.",
     "Steps are to be numbered; the conclusion starts with RESULT.",
     "Give each step its number and announce the conclusion as RESULT.",
     "Write the steps as a numbered list, the conclusion after RESULT."}};

template <std::size_t N>
std::string_view one_of(const std::string_view (&list)[N], base::RandomStream& random) {
    return list[random.below(N)];
}

std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> out;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(' '), text.size());
        if (end > 0) out.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

}  // namespace

std::string habit_phrase(base::RandomStream& random) {
    std::string out(one_of(openings, random));
    (out += one_of(verbs, random)) += ' ';
    out += one_of(objects, random);
    return out += one_of(endings, random);
}

std::string_view follow_up_phrase(base::RandomStream& random) {
    return one_of(follow_ups, random);
}

std::string scaffold_text(std::uint64_t theme, std::uint64_t wording, std::string_view donor) {
    base::RandomStream wanted(71, theme);
    const std::size_t role = wanted.below(std::size(roles));
    const std::size_t task = wanted.below(std::size(tasks));
    const std::size_t format = wanted.below(std::size(formats));
    base::RandomStream said(72 + theme, wording);
    const auto sentence = [&](const std::string_view(&list)[6], std::uint64_t part) {
        const std::uint64_t which = said.below(6);
        base::RandomStream own(73 + theme, part * 6 + which);
        return perturbed(list[which], own, 3, donor);
    };
    std::string parts[3] = {sentence(roles[role], 0), sentence(tasks[task], 1), sentence(formats[format], 2)};
    // The order is part of the wording.
    if (said.below(2) == 1) std::swap(parts[0], parts[1]);
    if (said.below(3) == 2) std::swap(parts[1], parts[2]);
    return parts[0] + " " + parts[1] + " " + parts[2];
}

std::string some_words(std::string_view text, std::size_t from, std::size_t count) {
    const auto words = split(text);
    std::string out;
    for (std::size_t i = from; i < std::min(words.size(), from + count); ++i) {
        if (!out.empty()) out += ' ';
        out += words[i];
    }
    return out;
}

std::string perturbed(std::string_view text, base::RandomStream& random, int changes,
                      std::string_view donor) {
    auto words = split(text);
    const auto others = split(donor);
    for (int i = 0; i < changes && !words.empty(); ++i) {
        const std::size_t at = random.below(words.size());
        if (!others.empty() && random.below(4) != 0) {
            words[at] = others[random.below(others.size())];
        } else {
            words.erase(words.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }
    std::string out;
    for (const std::string_view word : words) {
        if (!out.empty()) out += ' ';
        out += word;
    }
    return out;
}

}  // namespace retort::laboratory
