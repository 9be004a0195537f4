// part: guard
// A sketch's bytes, and sketching of any text: what is read is written again the same; nothing is read past
// the text.
#include <cstdlib>
#include <string_view>

#include "guard/sketch.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (const auto sketch = guard::read_sketch(bytes)) {
        if (guard::write_sketch(*sketch) != bytes) std::abort();
    }
    guard::PromptView view;
    view.system = bytes.substr(0, size / 2);
    view.user = bytes;
    const guard::SketchKey key{1, 2};
    const guard::PromptSketch made = guard::sketch_prompt(key, view);
    if (guard::read_sketch(guard::write_sketch(made)) != made) std::abort();
    for (const guard::WindowGrams& window : {guard::head_grams(key, bytes), guard::tail_grams(key, bytes)}) {
        for (const guard::WordSpan& word : window.words) {
            if (word.begin + word.size > size) std::abort();
        }
    }
    return 0;
}
