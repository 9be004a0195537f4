// What in a text looks like a person's own: addresses of mail, numbers of telephones, of cards (Luhn) and of
// accounts (IBAN). By their form alone: knows no model and no policy.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace retort::release {

// Each as it stands in the text.
std::vector<std::string> personal_data_in(std::string_view text);

}  // namespace retort::release
