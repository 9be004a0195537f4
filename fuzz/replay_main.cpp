// Runs a fuzz target over every file of the folders named on the command line, and over truncations and
// single-byte corruptions of each, so that the corpus is a regression test in builds without libFuzzer.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {
void run(const std::vector<std::uint8_t>& bytes) {
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

void run_with_damage(const std::vector<std::uint8_t>& bytes) {
    run(bytes);
    constexpr std::size_t cuts = 64;
    for (std::size_t i = 0; i < cuts && !bytes.empty(); ++i) {
        run({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() * i / cuts)});
    }
    std::uint64_t state = 0x9e3779b97f4a7c15U + bytes.size();
    std::vector<std::uint8_t> damaged = bytes;
    for (int i = 0; i < 256 && !bytes.empty(); ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const std::size_t at = (state >> 17U) % bytes.size();
        damaged[at] = static_cast<std::uint8_t>(state >> 56U);
        run(damaged);
        if (i % 4 == 3) damaged = bytes;
    }
}
}  // namespace

int main(int argc, char** argv) {
    std::size_t files = 0;
    for (int i = 1; i < argc; ++i) {
        if (!std::filesystem::is_directory(argv[i])) continue;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
            if (!entry.is_regular_file()) continue;
            std::ifstream in(entry.path(), std::ios::binary);
            run_with_damage({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
            ++files;
        }
    }
    std::printf("replayed %zu corpus files\n", files);
    return files > 0 ? 0 : 1;  // an empty corpus tests nothing
}
