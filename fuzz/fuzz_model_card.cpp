// part: data
// A model card: what is parsed is written and parsed again as the same card.
#include <cstdlib>

#include "data/model_card.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const auto card = data::parse_model_card({reinterpret_cast<const char*>(data), size});
    if (!card) return 0;
    const auto again = data::parse_model_card(data::model_card_json(*card));
    if (!again || !(*again == *card)) std::abort();
    (void)data::model_card_markdown(*card);
    return 0;
}
