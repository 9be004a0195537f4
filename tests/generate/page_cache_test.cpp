// Pages: a random life of many sequences, checked against what each page must hold.
#include "generate/page_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/random.h"

namespace retort::generate {
namespace {

using Tokens = std::vector<std::int32_t>;
constexpr std::size_t page_tokens = tensor::kv_page_tokens;

// What the decoder would have written: for each page and position, the whole beginning that the keys and
// values there depend on.
class Contents {
  public:
    void write(const std::vector<std::int32_t>& pages, const Tokens& tokens, std::size_t from,
               std::size_t to) {
        for (std::size_t i = from; i < to; ++i) {
            at(pages[i / page_tokens])[i % page_tokens] =
                Tokens(tokens.begin(), tokens.begin() + static_cast<long>(i) + 1);
        }
    }
    void copy(std::int32_t from, std::int32_t to) { at(to) = at(from); }
    bool holds(const std::vector<std::int32_t>& pages, const Tokens& tokens, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            const Tokens beginning(tokens.begin(), tokens.begin() + static_cast<long>(i) + 1);
            if (at(pages[i / page_tokens])[i % page_tokens] != beginning) return false;
        }
        return true;
    }

  private:
    std::vector<Tokens>& at(std::int32_t page) {
        auto& slots = pages_[page];
        slots.resize(page_tokens);
        return slots;
    }
    std::map<std::int32_t, std::vector<Tokens>> pages_;
};

struct Sequence {
    Tokens tokens;
    std::size_t computed = 0;
    std::size_t published = 0;
    std::vector<std::int32_t> pages;
};

class Life {
  public:
    Life(std::int64_t page_count, std::uint64_t seed) : cache_(page_count), random_(seed) {}

    Sequence start(Tokens tokens) {
        Sequence sequence;
        sequence.tokens = std::move(tokens);
        const std::int64_t promised = cache_.match_length(sequence.tokens);
        PageCache::Match match = cache_.match(sequence.tokens);
        EXPECT_EQ(match.tokens(), promised);
        sequence.computed = static_cast<std::size_t>(match.tokens());
        sequence.published = match.pages.size();
        sequence.pages = match.pages;
        if (match.partial_tokens > 0) {
            sequence.pages.push_back(cache_.allocate());
            contents_.copy(match.partial_page, sequence.pages.back());
        }
        EXPECT_TRUE(contents_.holds(sequence.pages, sequence.tokens, sequence.computed))
            << "a wrong page was shared";
        return sequence;
    }

    void compute(Sequence& sequence, std::size_t count) {
        const std::size_t end = std::min(sequence.tokens.size(), sequence.computed + count);
        while (sequence.pages.size() * page_tokens < end) sequence.pages.push_back(cache_.allocate());
        contents_.write(sequence.pages, sequence.tokens, sequence.computed, end);
        sequence.computed = end;
        for (; (sequence.published + 1) * page_tokens <= end; ++sequence.published) {
            cache_.publish(sequence.pages, sequence.published,
                           std::span(sequence.tokens).subspan(sequence.published * page_tokens, page_tokens));
        }
        EXPECT_TRUE(contents_.holds(sequence.pages, sequence.tokens, sequence.computed));
    }

    void finish(Sequence& sequence) {
        const std::size_t known = sequence.published * page_tokens;
        cache_.release(sequence.pages, std::span(sequence.tokens).subspan(known, sequence.computed - known));
    }

    PageCache& cache() { return cache_; }
    base::RandomStream& random() { return random_; }

  private:
    PageCache cache_;
    Contents contents_;
    base::RandomStream random_;
};

TEST(PageCache, shares_whole_pages_and_copies_the_beginning_of_one) {
    Life life(20, 1);
    Tokens tokens(40);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i);
    Sequence first = life.start(tokens);
    EXPECT_EQ(first.computed, 0U);
    life.compute(first, 40);
    Sequence second = life.start(tokens);  // while the first runs: its whole pages
    EXPECT_EQ(second.computed, 32U);
    EXPECT_EQ(second.pages[0], first.pages[0]);
    EXPECT_EQ(life.cache().held_pages(), 3);
    life.finish(first);
    life.finish(second);
    EXPECT_EQ(life.cache().held_pages(), 0);
    Sequence third = life.start(tokens);  // and afterwards all of it
    EXPECT_EQ(third.computed, 40U);
    life.finish(third);
    tokens[20] = 1000;
    Sequence fourth = life.start(tokens);  // a different answer after 20 tokens
    EXPECT_EQ(fourth.computed, 20U);
    life.finish(fourth);
}

TEST(PageCache, two_that_computed_the_same_keep_one) {
    Life life(20, 2);
    const Tokens tokens(33, 7);
    Sequence a = life.start(tokens);
    Sequence b = life.start(tokens);
    life.compute(a, 33);
    life.compute(b, 33);
    EXPECT_EQ(a.pages[0], b.pages[0]);
    EXPECT_EQ(a.pages[1], b.pages[1]);
    EXPECT_NE(a.pages[2], b.pages[2]);
    EXPECT_EQ(life.cache().held_pages(), 4);
    life.finish(a);
    life.finish(b);
    EXPECT_EQ(life.cache().held_pages(), 0);
}

TEST(PageCache, gives_up_the_longest_unused_first) {
    Life life(4, 3);
    const auto run_one = [&](std::int32_t token) {
        Sequence sequence = life.start(Tokens(16, token));
        life.compute(sequence, 16);
        life.finish(sequence);
    };
    for (const std::int32_t token : {1, 2, 3, 4}) run_one(token);
    run_one(1);  // used again
    run_one(5);  // takes the place of 2
    EXPECT_EQ(life.cache().match_length(Tokens(16, 2)), 0);
    for (const std::int32_t token : {1, 3, 4, 5}) EXPECT_EQ(life.cache().match_length(Tokens(16, token)), 16);
}

TEST(PageCache, a_long_life_shares_only_what_is_right_and_loses_no_page) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
        constexpr std::int64_t page_count = 24;
        Life life(page_count, seed);
        std::vector<Sequence> running;
        std::vector<std::size_t> need;  // pages each may come to
        for (int event = 0; event < 3000; ++event) {
            const auto choice = life.random().below(10);
            if (choice < 3) {
                // Two letters only: beginnings in common are the rule.
                Tokens tokens(1 + life.random().below(90));
                for (auto& token : tokens) token = static_cast<std::int32_t>(life.random().below(20) == 0);
                const std::size_t pages = (tokens.size() + page_tokens - 1) / page_tokens;
                std::size_t promised = pages;
                for (const std::size_t other : need) promised += other;
                if (promised > static_cast<std::size_t>(page_count)) continue;
                running.push_back(life.start(std::move(tokens)));
                need.push_back(pages);
            } else if (!running.empty()) {
                const std::size_t which = life.random().below(running.size());
                if (choice < 8) {
                    life.compute(running[which], 1 + life.random().below(30));
                } else {
                    life.finish(running[which]);
                    running.erase(running.begin() + static_cast<long>(which));
                    need.erase(need.begin() + static_cast<long>(which));
                }
            }
            ASSERT_LE(life.cache().held_pages(), page_count);
        }
        for (Sequence& sequence : running) life.finish(sequence);
        EXPECT_EQ(life.cache().held_pages(), 0);
        // Every page can be had again.
        std::vector<std::int32_t> all;
        for (std::int64_t i = 0; i < page_count; ++i) all.push_back(life.cache().allocate());
        std::sort(all.begin(), all.end());
        EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
    }
}

}  // namespace
}  // namespace retort::generate
