#include "screen/spans.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "base/file.h"
#include "base/random.h"
#include "screen/index.h"
#include "screen/screen.h"
#include "screen/span_guard.h"

namespace retort::screen {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_screen_" + name);
    fs::remove_all(path);
    return path;
}

// Words "w0" to "w{vocabulary-1}".
std::string random_text(base::RandomStream& random, std::size_t words, std::size_t vocabulary) {
    std::string text;
    for (std::size_t i = 0; i < words; ++i) {
        text += "w" + std::to_string(random.below(vocabulary));
        text += random.below(7) == 0 ? ". " : " ";
    }
    return text;
}

Index make_index(const std::string& name, const std::vector<std::string>& works, std::size_t per_part = 0) {
    const fs::path folder = scratch(name);
    for (std::size_t i = 0; i < works.size();) {
        auto builder = IndexBuilder::create({.output = folder, .add = i > 0});
        EXPECT_TRUE(builder) << builder.error().message;
        const std::size_t end = per_part == 0 ? works.size() : std::min(works.size(), i + per_part);
        for (; i < end; ++i) {
            const std::string title = "work" + std::to_string(i);
            EXPECT_TRUE(builder->add({title, "text", title, works[i]}));
        }
        EXPECT_TRUE(builder->commit());
    }
    auto index = Index::open(folder);
    EXPECT_TRUE(index) << index.error().message;
    return std::move(*index);
}

using Range = std::pair<std::size_t, std::size_t>;

// What is to be found, the slow way.
std::vector<Range> expected_spans(const std::vector<std::string>& works, const Query& query,
                                  const SpanLimits& limits) {
    std::vector<std::vector<Word>> texts;
    for (const std::string& work : works) {
        Words words;
        EXPECT_TRUE(split_words(work, words));
        texts.push_back(words.ids);
    }
    std::vector<Range> found;
    const auto& ids = query.words.ids;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        std::size_t longest = 0;
        for (const auto& text : texts) {
            for (std::size_t p = 0; p < text.size(); ++p) {
                std::size_t length = 0;
                while (p + length < text.size() && i + length < ids.size() &&
                       text[p + length] == ids[i + length])
                    ++length;
                longest = std::max(longest, length);
            }
        }
        if (longest < gram_words) continue;
        const std::size_t end = i + longest;
        if (!found.empty() && end <= found.back().second) continue;
        found.emplace_back(i, end);
    }
    std::erase_if(found,
                  [&](const Range& range) { return !query.reaches(range.first, range.second, limits); });
    return found;
}

TEST(Spans, AreThoseOfTheSlowWay) {
    base::RandomStream random(11);
    std::size_t seen = 0;
    for (int round = 0; round < 60; ++round) {
        const std::size_t vocabulary = round % 3 == 0 ? 2 : round % 3 == 1 ? 5 : 1000;
        std::vector<std::string> works;
        for (std::size_t i = 0; i < 1 + random.below(4); ++i) {
            works.push_back(random_text(random, random.below(300), vocabulary));
            // A passage repeated in another work.
            if (random.below(2) == 0) works.push_back(works.back().substr(0, works.back().size() / 2));
        }
        std::string text = random_text(random, random.below(60), vocabulary);
        for (int piece = 0; piece < 4; ++piece) {
            const std::string& work = works[random.below(works.size())];
            if (!work.empty()) {
                const std::size_t at = random.below(work.size());
                text += " " + work.substr(at, random.below(400)) + " ";
            }
            text += random_text(random, random.below(20), vocabulary);
        }
        const SpanLimits limits{.words = random.below(3) == 0 ? 0 : 8 + random.below(30),
                                .characters = 1 + random.below(120)};
        auto query = Query::make(text);
        ASSERT_TRUE(query);
        const Index index = make_index("oracle", works, random.below(3));
        std::vector<Range> found;
        for (const Span& span : verbatim_spans(index.parts, *query, limits)) {
            found.emplace_back(span.begin, span.end);
            const Part& part = index.parts[span.part];
            for (std::size_t i = span.begin; i < span.end; ++i) {
                ASSERT_EQ(part.words[span.place + i - span.begin], query->words.ids[i]);
            }
            ASSERT_NE(part.work_at(span.place), nullptr);
        }
        const std::vector<Range> expected = expected_spans(works, *query, limits);
        ASSERT_EQ(found, expected) << "round " << round << " words " << limits.words << " characters "
                                   << limits.characters;
        seen += found.size();

        // What is covered, by the same measure.
        std::vector<bool> covered(query->words.size());
        for (const Part& part : index.parts) mark_covered(part, *query, covered);
        std::vector<bool> wanted(query->words.size());
        for (const auto& [begin, end] : expected_spans(works, *query, {.words = 8, .characters = 0})) {
            for (std::size_t i = begin; i < end; ++i) wanted[i] = true;
        }
        ASSERT_EQ(covered, wanted) << "round " << round;
    }
    EXPECT_GT(seen, 50U);
}

TEST(Spans, LongAndOftenRepeated) {
    // Longer than what is sorted, in many copies with different ends.
    base::RandomStream random(5);
    const std::string passage = random_text(random, 400, 1000);
    std::vector<std::string> works;
    for (int i = 0; i < 40; ++i)
        works.push_back("start" + std::to_string(i) + " " + passage + " end" + std::to_string(i));
    const Index index = make_index("copies", works);
    auto query = Query::make("start17 " + passage + " end17");
    ASSERT_TRUE(query);
    const auto spans = verbatim_spans(index.parts, *query, {});
    ASSERT_EQ(spans.size(), 1U);
    EXPECT_EQ(spans[0].begin, 0U);
    EXPECT_EQ(spans[0].end, 402U);
    EXPECT_EQ(index.parts[0].work_at(spans[0].place)->name, "work17");
}

TEST(Spans, NearVerbatimWithOneWordInTenChanged) {
    base::RandomStream random(23);
    std::vector<std::string> work_words;
    std::string work;
    for (int i = 0; i < 5000; ++i) {
        work_words.push_back("w" + std::to_string(random.below(800)));
        work += work_words.back() + " ";
    }
    const Index index = make_index("near", {work});
    for (int round = 0; round < 300; ++round) {
        const std::size_t length = 50 + random.below(150);
        const std::size_t at = random.below(5000 - length);
        std::vector<std::string> words(work_words.begin() + static_cast<std::ptrdiff_t>(at),
                                       work_words.begin() + static_cast<std::ptrdiff_t>(at + length));
        std::set<std::size_t> changed;
        while (changed.size() < length / 10) changed.insert(random.below(length));
        std::string text;
        for (std::size_t i = 0; i < 40; ++i) text += "n" + std::to_string(random.below(800)) + " ";
        for (std::size_t i = 0; i < length; ++i) {
            if (!changed.contains(i)) {
                text += words[i] + " ";
                continue;
            }
            const std::size_t how = random.below(3);
            if (how == 0) text += "other ";
            if (how == 1) text += words[i] + " more ";
        }
        for (std::size_t i = 0; i < 40; ++i) text += "n" + std::to_string(random.below(800)) + " ";
        auto query = Query::make(text);
        ASSERT_TRUE(query);
        const auto spans = near_spans(index.parts[0], *query, {.words = 25, .identity = 0.75});
        ASSERT_EQ(spans.size(), 1U) << "round " << round;
        // Most of it, and nothing of what surrounds it but a word or two.
        EXPECT_LE(spans[0].begin, 40U + 30);
        EXPECT_GE(spans[0].begin, 40U - 3);
        EXPECT_GE(spans[0].end - spans[0].begin, length * 6 / 10);
        EXPECT_GE(spans[0].place + 12, at);
        EXPECT_LE(spans[0].place_end, at + length + 12);
    }
    auto clean = Query::make(random_text(random, 4000, 100000));
    ASSERT_TRUE(clean);
    EXPECT_TRUE(near_spans(index.parts[0], *clean, {}).empty());
}

TEST(Screen, OffsetsAndWorksAreTold) {
    const std::string work =
        "Preface.\n\nIt was the best of times, it was the worst of times, it was the age of wisdom.";
    const Index index = make_index("told", {"another work of some words that has nothing in common", work});
    auto screen = Screen::open(index.folder, {}, {.verbatim = {.words = 10, .characters = 0}});
    ASSERT_TRUE(screen);
    const std::string text = "He wrote: «IT WAS THE BEST OF TIMES; it was the worst\nof times» — and more.";
    const auto report = screen->check(text);
    ASSERT_TRUE(report);
    ASSERT_EQ(report->findings.size(), 1U);
    const Finding& finding = report->findings[0];
    EXPECT_EQ(finding.words, 12U);
    EXPECT_EQ(finding.work, "work1");
    EXPECT_EQ(text.substr(finding.begin, finding.end - finding.begin),
              "IT WAS THE BEST OF TIMES; it was the worst\nof times");
    EXPECT_EQ(work.substr(finding.work_begin, finding.work_end - finding.work_begin),
              "It was the best of times, it was the worst of times, ");
    EXPECT_TRUE(report->exceeds);
}

TEST(Screen, WhatEverybodyMayRepeatDoesNotCount) {
    base::RandomStream random(3);
    const std::string quotation = random_text(random, 60, 5000);
    const std::string own = random_text(random, 60, 5000);
    const Index index = make_index("protected", {own + " " + quotation + " tail of the work"});
    const Index everybodys = make_index("public", {quotation});
    auto screen = Screen::open(index.folder, everybodys.folder, {});
    ASSERT_TRUE(screen);
    EXPECT_FALSE(screen->check("x " + quotation + " y")->exceeds);
    EXPECT_TRUE(screen->check("x " + own + " y")->exceeds);
    EXPECT_TRUE(screen->check("x " + own + " " + quotation + " y")->exceeds);
    // A rest that is too short by itself.
    EXPECT_FALSE(screen->check("x " + quotation + " tail of the work")->exceeds);
    auto alone = Screen::open(index.folder, {}, {});
    ASSERT_TRUE(alone);
    EXPECT_TRUE(alone->check("x " + quotation + " y")->exceeds);
}

TEST(Index, PartsAreAddedAndKnownWorksPassedOver) {
    const Index first = make_index("added", {"one two three four five six seven eight nine ten"});
    auto builder = IndexBuilder::create({.output = first.folder});
    EXPECT_FALSE(builder);  // there is one
    builder = IndexBuilder::create({.output = first.folder, .add = true});
    ASSERT_TRUE(builder);
    EXPECT_TRUE(builder->knows("work0"));
    ASSERT_TRUE(builder->add(
        {"b", "text", "b", "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"}));
    ASSERT_TRUE(builder->commit());
    auto both = Index::open(first.folder);
    ASSERT_TRUE(both);
    EXPECT_EQ(both->parts.size(), 2U);
    EXPECT_EQ(both->works(), 2U);
    EXPECT_EQ(both->words(), 18U);
    EXPECT_NE(both->id, first.id);
}

TEST(Index, MemoryBoundMakesParts) {
    base::RandomStream random(3);
    const fs::path folder = scratch("bound");
    auto builder = IndexBuilder::create({.output = folder, .memory_bytes = 1000 * build_bytes_per_word});
    ASSERT_TRUE(builder);
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(builder->add({"w", "text", std::to_string(i), random_text(random, 400, 50)}));
    }
    EXPECT_FALSE(builder->add({"w", "text", "big", random_text(random, 1001, 50)}));
    ASSERT_TRUE(builder->commit());
    EXPECT_EQ(Index::open(folder)->parts.size(), 3U);
}

TEST(Index, PartsMergedAreTheIndexMadeAtOnce) {
    base::RandomStream random(17);
    std::vector<std::string> works;
    for (std::size_t i = 0; i < 9; ++i) works.push_back(random_text(random, 150 + 97 * i, i < 4 ? 3 : 60));
    works[0] = random_text(random, 100, 5);
    works[1] = random_text(random, 27, 5);  // its end is at place 128, which has a mark of its own
    works[3] = "";                          // a work without a word
    works[6] = works[1] + works[2];         // the same words again, across the border of two parts
    works[5].insert(100, 4000, '.');        // a step too long for a byte
    const Index whole = make_index("merged_whole", works);
    ASSERT_EQ(whole.parts.size(), 1U);
    const std::string wanted = *base::read_file(whole.folder / "part-00001.rts");
    for (const std::size_t per_part : {1U, 2U, 4U}) {
        for (const std::uint64_t memory :
             {std::uint64_t{1} << 30U, std::uint64_t{16} * 700, std::uint64_t{16} * 64}) {
            const Index parts = make_index("merged", works, per_part);
            ASSERT_GT(parts.parts.size(), 1U);
            auto merged = merge_index(parts.folder, memory);
            ASSERT_TRUE(merged) << merged.error().message;
            EXPECT_EQ(*merged, parts.parts.size());
            auto one = Index::open(parts.folder);
            ASSERT_TRUE(one) << one.error().message;
            ASSERT_EQ(one->parts.size(), 1U);
            EXPECT_EQ(*base::read_file(one->parts[0].file.path()), wanted) << per_part << " " << memory;
            // Nothing else is left, and more can be added and merged again.
            EXPECT_EQ(std::distance(fs::directory_iterator(parts.folder), fs::directory_iterator{}), 2);
            EXPECT_EQ(*merge_index(parts.folder, memory), 1U);
        }
    }
}

TEST(Index, EveryDamagedByteIsFound) {
    base::RandomStream random(31);
    const Index index = make_index("damage", {random_text(random, 60, 50)});
    const fs::path path = index.folder / "part-00001.rts";
    const std::string bytes = *base::read_file(path);
    std::size_t missed = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        std::string damaged = bytes;
        damaged[i] = static_cast<char>(damaged[i] ^ (1 << random.below(8)));
        ASSERT_TRUE(base::write_file_atomic(path, std::string_view(damaged)));
        if (Index::open(index.folder)) ++missed;
    }
    // Only the zeros between sections.
    EXPECT_LE(missed, 8U * 63);
    ASSERT_TRUE(base::write_file_atomic(path, std::string_view(bytes).substr(0, bytes.size() - 1)));
    EXPECT_FALSE(Index::open(index.folder));
}

// Longest passage of `text` in the works, in words, and characters of the widest.
std::pair<std::size_t, std::size_t> longest_of(const Index& index, const std::string& text) {
    auto query = Query::make(text);
    std::size_t words = 0;
    std::size_t characters = 0;
    for (const Span& span : verbatim_spans(index.parts, *query, {.words = 8, .characters = 0})) {
        words = std::max(words, span.end - span.begin);
        characters = std::max(characters, span_characters(text, query->words, span.begin, span.end));
    }
    return {words, characters};
}

TEST(SpanGuard, NoMoreThanThePassageAllowedLeaves) {
    base::RandomStream random(47);
    std::size_t cut = 0;
    for (int round = 0; round < 60; ++round) {
        const std::size_t vocabulary = round % 2 == 0 ? 2000 : 3;
        const std::string work = random_text(random, 400, vocabulary);
        auto index = std::make_shared<const Index>(
            make_index("guard", {work, random_text(random, 300, vocabulary)}, round % 3));
        const GuardLimits limits{.words = 8 + random.below(40),
                                 .characters = random.below(2) * (40 + random.below(200))};
        std::string answer = random_text(random, random.below(50), 100000);
        const std::size_t at = random.below(work.size());
        answer += work.substr(at, random.below(500));
        answer += " " + random_text(random, random.below(50), 100000);
        SpanGuard guard(index, limits);
        std::string sent;
        std::size_t unsent_most = 0;
        for (std::size_t i = 0; i < answer.size();) {
            const std::size_t piece = 1 + random.below(9);
            sent += guard.push(answer.substr(i, piece));
            i += piece;
            if (!guard.blocked())
                unsent_most = std::max(unsent_most, std::min(i, answer.size()) - sent.size());
        }
        sent += guard.finish();
        EXPECT_EQ(answer.substr(0, sent.size()), sent);
        const auto [words, characters] = longest_of(*index, sent);
        EXPECT_LE(words, limits.words);
        EXPECT_LE(characters, limits.characters > 0 ? limits.characters : characters);
        const auto [all_words, all_characters] = longest_of(*index, answer);
        const bool exceeds =
            all_words > limits.words || (limits.characters > 0 && all_characters > limits.characters);
        EXPECT_EQ(guard.blocked(), exceeds);
        EXPECT_EQ(sent == answer, !exceeds);
        // An unfinished word and a piece: nothing more is held back.
        EXPECT_LE(unsent_most, 20U);
        cut += exceeds ? 1 : 0;
    }
    EXPECT_GT(cut, 15U);
    EXPECT_LT(cut, 57U);
}

TEST(SpanGuard, APassageThatGoesOnElsewhereIsFollowedThere) {
    // Two places say the same twelve words: whichever is followed, one of the two answers leaves it at the
    // limit.
    const std::string same = "one two three four five six seven eight nine ten eleven twelve ";
    const auto index = std::make_shared<const Index>(
        make_index("switch", {same + "red and then nothing of it", same + "blue and then nothing of it"}));
    for (const char* next : {"red", "blue"}) {
        SpanGuard guard(index, {.words = 12, .characters = 0});
        std::string sent = guard.push(same + next + " and then nothing of it");
        sent += guard.finish();
        EXPECT_TRUE(guard.blocked()) << next;
        EXPECT_EQ(sent, same.substr(0, same.size() - 1)) << next;
    }
}

TEST(SpanGuard, WhatLeavesEndsWithWholeCharacters) {
    SpanGuard guard(std::make_shared<const Index>(make_index("whole", {"a b c d e f g h i j"})), {});
    const std::vector<std::string> characters = {"a", "\uFFFD",     "\u00e9", "\u2014",
                                                 " ", "\U0001F600", "\u79c1"};
    base::RandomStream random(5);
    for (int i = 0; i < 2000; ++i) {
        const std::string out = guard.push(characters[random.below(characters.size())]);
        if (!out.empty()) {
            ASSERT_NE(static_cast<unsigned char>(out[0]) & 0xC0U, 0x80U) << i;
        }
    }
}

TEST(SpanGuard, HalfCharactersAreNoWords) {
    const Index index = make_index("half", {"un deux trois quatre cinq six sept huit neuf dix été hiver"});
    SpanGuard guard(std::make_shared<const Index>(make_index("half2", {"a b c d e f g h i j"})), {});
    const std::string text = "voilà l'été — “déjà vu” 私は猫 naïve";
    std::string sent;
    for (const char c : text) sent += guard.push(std::string(1, c));
    sent += guard.finish();
    EXPECT_EQ(sent, text);
    EXPECT_FALSE(guard.blocked());
}

}  // namespace
}  // namespace retort::screen
