// What `serve --protected` adds to a token: screen::SpanGuard alone, fed a text in pieces of four bytes
// (about a token of English), in processor time of its thread. Texts: as they are; and a work's own words,
// cut after every N by a word that no work has, so that passages begin and end all the time.
//   cd build/release && g++ -std=c++20 -O2 -DFMT_SHARED -DSPDLOG_FMT_EXTERNAL -DSPDLOG_COMPILED_LIB
//   -DSPDLOG_SHARED_LIB
//     -Iparts/screen -Iparts/base -Iparts/formats ../../bench/screen/guard_alone.cpp libretort_screen.a
//     libretort_formats.a libretort_base.a -lfmt -lspdlog -lutf8proc -lxxhash -lcrypto -lsodium -lzip -lzstd
//     -lz -lxml2 -lpoppler-cpp -lcmark -lsimdjson -fopenmp -o guard_alone
//   guard_alone INDEX TEXT... [--cut N TEXT...]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "screen/span_guard.h"

static double thread_seconds() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

int main(int argc, char** argv) {
    using namespace retort;
    auto opened = screen::Index::open(argv[1], false);
    if (!opened) return std::puts(opened.error().message.c_str()), 1;
    const auto index = std::make_shared<const screen::Index>(std::move(*opened));
    std::printf("%llu works, %llu words, %.0f MB of index\n", (unsigned long long)index->works(),
                (unsigned long long)index->words(), 1e-6 * static_cast<double>(index->size_bytes()));
    std::size_t cut = 0;
    for (int i = 2; i < argc; ++i) {
        if (std::strcmp(argv[i], "--cut") == 0) {
            cut = static_cast<std::size_t>(std::atoi(argv[++i]));
            continue;
        }
        auto text = base::read_file(argv[i]);
        if (!text) return std::puts(text.error().message.c_str()), 1;
        if (cut > 0) {
            std::string with;
            std::size_t words = 0;
            for (const char c : *text) {
                with += c;
                if (c == ' ' && ++words % cut == 0) with += "qzx" + std::to_string(words) + " ";
            }
            *text = std::move(with);
        }
        // Answers of 1,000 bytes, each with a guard of its own, which lets everything pass.
        std::vector<double> micros;
        std::size_t pieces = 0;
        double total = 0;
        for (std::size_t at = 0; at + 1000 <= text->size() && at < 4000000; at += 1000) {
            screen::SpanGuard guard(index, {0, 0});
            const double start = thread_seconds();
            for (std::size_t p = 0; p < 1000; p += 4)
                (void)guard.push(std::string_view(*text).substr(at + p, 4));
            (void)guard.finish();
            const double took = thread_seconds() - start;
            total += took;
            pieces += 250;
            micros.push_back(1e6 * took / 250);
        }
        std::sort(micros.begin(), micros.end());
        std::printf(
            "%s%s: %.2f µs a piece of 4 bytes (median of answers %.2f, 99th percentile %.2f), %zu pieces\n",
            argv[i], cut > 0 ? " (cut)" : "", 1e6 * total / static_cast<double>(pieces),
            micros[micros.size() / 2], micros[micros.size() * 99 / 100], pieces);
    }
    return 0;
}
