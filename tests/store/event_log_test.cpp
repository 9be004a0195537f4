#include "store/event_log.h"
#include "base/file.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

namespace retort::store {
namespace {

Event example(int i) {
    Event event;
    event.time_ms = 1'700'000'000'000 + i * 7;
    event.request_id = "req_" + std::to_string(i);
    event.account.fill(static_cast<std::uint8_t>(i));
    event.route = "/v1/chat/completions";
    event.status = i % 2 == 0 ? 200 : 429;
    event.end = "finished";
    event.stream = i % 3 == 0;
    event.logit_bias = true;
    event.prompt_tokens = i * 1000;
    event.cost = -i;
    event.parameters = UINT64_MAX - static_cast<std::uint64_t>(i);
    event.body = i == 2 ? std::string("\0\xff\"x", 4) : "";
    return event;
}

class EventLogTest : public ::testing::Test {
  protected:
    EventLogTest() {
        std::string pattern = "/tmp/retort-events-XXXXXX";
        options_.folder = mkdtemp(pattern.data());
    }
    ~EventLogTest() override { std::filesystem::remove_all(options_.folder); }
    std::vector<std::string> read() {
        std::vector<std::string> ids;
        const Status done = read_events(options_.folder, [&](const Event& event) -> Status {
            ids.push_back(event.request_id);
            return {};
        });
        EXPECT_TRUE(done) << done.error().message;
        return ids;
    }
    EventLogOptions options_;
};

TEST(EventBlock, ComesBackAsItWent) {
    std::vector<Event> events;
    for (int i = 0; i < 50; ++i) events.push_back(example(i));
    const std::string block = write_block(events);
    const auto back = read_block(block);
    ASSERT_TRUE(back) << back.error().message;
    ASSERT_EQ(back->size(), events.size());
    for (std::size_t i = 0; i < events.size(); ++i) {
        EXPECT_EQ(event_json((*back)[i]), event_json(events[i]));
        EXPECT_EQ((*back)[i].body, events[i].body);
    }
    EXPECT_TRUE(read_block(write_block({}))->empty());
    for (std::size_t length = 0; length < block.size(); ++length) {
        EXPECT_FALSE(read_block(std::string_view(block).substr(0, length)));
    }
    std::string newer = block;
    newer[0] = 3;
    EXPECT_EQ(read_block(newer).error().code, ErrorCode::unsupported);
}

// Written before events carried a plan, a payment and a sketch.
TEST(EventBlock, TheFirstVersionIsStillRead) {
    const auto old =
        base::read_file(std::filesystem::path(RETORT_SOURCE_DIR) / "fuzz/corpus/event_block/two.block");
    ASSERT_TRUE(old) << old.error().message;
    ASSERT_EQ((*old)[0], 1);
    const auto events = read_block(*old);
    ASSERT_TRUE(events) << events.error().message;
    ASSERT_EQ(events->size(), 2U);
    for (const Event& event : *events) {
        EXPECT_FALSE(event.request_id.empty());
        EXPECT_TRUE(event.plan.empty() && event.sketch.empty());
    }
}

TEST(EventBlock, ItsJsonIsFlatAndOneLine) {
    const std::string line = event_json(example(2));
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
    const auto json = nlohmann::json::parse(line);
    for (const auto& [name, value] : json.items()) EXPECT_TRUE(value.is_primitive()) << name;
    EXPECT_EQ(json["account"], "02020202020202020202020202020202");
    EXPECT_EQ(json["address"], "");
}

TEST_F(EventLogTest, KeepsOrderOverFilesAndRestarts) {
    options_.file_bytes = 1;  // a file for each block
    options_.block_events = 10;
    for (int part = 0; part < 2; ++part) {
        auto log = EventLog::open(options_);
        ASSERT_TRUE(log) << log.error().message;
        for (int i = 0; i < 30; ++i) {
            (*log)->add(example(part * 30 + i));
            if (i % 10 == 9) {
                ASSERT_TRUE((*log)->flush());
            }
        }
        EXPECT_EQ((*log)->written(), 30U);
    }
    const auto ids = read();
    ASSERT_EQ(ids.size(), 60U);
    for (int i = 0; i < 60; ++i) EXPECT_EQ(ids[static_cast<std::size_t>(i)], "req_" + std::to_string(i));
    EXPECT_GE(event_files(options_.folder)->size(), 6U);
}

// Blocks are compressed by whoever fills them: none may overtake another, be lost or be written twice.
TEST_F(EventLogTest, ManyThreadsFillBlocks) {
    constexpr int threads = 4;
    constexpr int each = 2000;
    options_.block_bytes = 2000;
    options_.wake_bytes = 10'000;
    options_.file_bytes = 100'000;
    auto log = EventLog::open(options_);
    ASSERT_TRUE(log) << log.error().message;
    std::vector<std::thread> adders;
    for (int thread = 0; thread < threads; ++thread) {
        adders.emplace_back([&, thread] {
            for (int i = 0; i < each; ++i) {
                Event event = example(i);
                event.request_id = std::to_string(thread) + ":" + std::to_string(i);
                (*log)->add(event);
            }
        });
    }
    for (std::thread& adder : adders) adder.join();
    ASSERT_TRUE((*log)->flush());
    EXPECT_EQ((*log)->written(), static_cast<std::uint64_t>(threads * each));
    const std::vector<Event> recent = (*log)->recent();
    log->reset();
    const auto ids = read();
    ASSERT_EQ(ids.size(), static_cast<std::size_t>(threads * each));
    std::array<int, threads> next{};
    for (const std::string& id : ids) {
        const auto thread = static_cast<std::size_t>(id[0] - '0');
        EXPECT_EQ(id.substr(2), std::to_string(next[thread]++));
    }
    ASSERT_EQ(recent.size(), 1000U);
    for (std::size_t i = 0; i < recent.size(); ++i) EXPECT_EQ(recent[i].request_id, ids[ids.size() - 1 - i]);
    EXPECT_GT(event_files(options_.folder)->size(), 1U);
}

TEST_F(EventLogTest, TheNewestAreKeptWithoutBodies) {
    auto log = EventLog::open(options_);
    for (int i = 0; i < 4; ++i) (*log)->add(example(i));  // the second has a body
    ASSERT_TRUE((*log)->flush());
    (*log)->add(example(4));
    ASSERT_TRUE((*log)->flush());
    const std::vector<Event> recent = (*log)->recent();
    ASSERT_EQ(recent.size(), 5U);
    for (int i = 0; i < 5; ++i) {
        Event event = example(4 - i);
        event.body.clear();
        EXPECT_EQ(event_json(recent[static_cast<std::size_t>(i)]), event_json(event));
    }
    log->reset();
    EXPECT_EQ(EventLog::open(options_).value()->recent().size(), 5U);
}

TEST_F(EventLogTest, ATornTailIsLeftOut) {
    {
        auto log = EventLog::open(options_);
        (*log)->add(example(1));
        ASSERT_TRUE((*log)->flush());
        (*log)->add(example(2));
    }
    const auto file = event_files(options_.folder)->at(0);
    std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
    EXPECT_EQ(read(), std::vector<std::string>{"req_1"});
}

TEST_F(EventLogTest, OldFilesGo) {
    std::ofstream(options_.folder / "000000000000001-x.events").put('x');
    std::filesystem::last_write_time(options_.folder / "000000000000001-x.events",
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(48));
    options_.retention_seconds = 86'400;
    {
        auto log = EventLog::open(options_);
        (*log)->add(example(1));
    }
    EXPECT_EQ(event_files(options_.folder)->size(), 1U);
    EXPECT_EQ(read().size(), 1U);
}

TEST_F(EventLogTest, ARecordGoesWhenItsTimeIsOver) {
    options_.retention_seconds = 1;
    options_.file_seconds = 0.2;
    options_.retention_poll_seconds = 0.05;
    options_.flush_seconds = 0.02;
    auto log = EventLog::open(options_);
    ASSERT_TRUE(log);
    // A server that is always at work: its records go all the same, in the order in which they came.
    for (int i = 0; i < 40; ++i) {
        (*log)->add(example(i));
        ASSERT_TRUE((*log)->flush());
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    std::vector<std::string> kept = read();
    ASSERT_FALSE(kept.empty());
    EXPECT_NE(kept.front(), "req_0");
    EXPECT_LT(kept.size(), 35U);
    EXPECT_EQ(kept.back(), "req_39");
    // One without work loses the last of them too, and goes on to write where they can be read.
    std::this_thread::sleep_for(std::chrono::milliseconds(1600));
    EXPECT_TRUE(read().empty());
    (*log)->add(example(50));
    ASSERT_TRUE((*log)->flush());
    kept = read();
    ASSERT_EQ(kept.size(), 1U);
    EXPECT_EQ(kept.front(), "req_50");
}

TEST(EventBlock, ItsCsvHasTheColumnsOfItsJson) {
    Event event = example(3);
    event.model = "a,\"b\"\n\xff";
    event.stream = true;
    const auto json = nlohmann::ordered_json::parse(event_json(event));
    std::string names;
    for (const auto& [name, value] : json.items()) names += (names.empty() ? "" : ",") + name;
    EXPECT_EQ(event_csv_header(), names + "\n");
    const std::string line = event_csv(event);
    EXPECT_NE(line.find(",\"a,\"\"b\"\"\n\xef\xbf\xbd\","), std::string::npos) << line;
    EXPECT_NE(line.find(",true,"), std::string::npos);
    EXPECT_TRUE(line.starts_with(std::to_string(event.time_ms) + ","));
}

TEST_F(EventLogTest, AFullQueueDropsAndCounts) {
    options_.max_waiting = 5;
    options_.flush_seconds = 100;
    auto log = EventLog::open(options_);
    for (int i = 0; i < 8; ++i) (*log)->add(example(i));
    EXPECT_EQ((*log)->dropped(), 3U);
    log->reset();
    EXPECT_EQ(read().size(), 5U);
}

}  // namespace
}  // namespace retort::store
