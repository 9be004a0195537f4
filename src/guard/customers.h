// Who pays. Accounts that share a payment are one customer, whatever the number of their keys; what several
// customers have in common is evidence across accounts, what one customer's accounts have is not. Knows no
// link and no score.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "guard/account.h"

namespace retort::guard {

struct Customer {
    std::vector<std::uint32_t> members;  // account numbers, in the order given
    std::uint32_t speaker = 0;           // of these the one with most requests
};

// In the order of their first members; an account whose payment is not known is a customer of its own.
std::vector<Customer> customers_of(std::span<const AccountState> accounts,
                                   std::span<const std::uint32_t> members);

// How many different texts the members asked in this window, together: exact as long as their sketches hold
// all (24 each, 256 together), else an estimate from the smallest hashes.
double distinct_texts_of(std::span<const AccountState> accounts, std::span<const std::uint32_t> members);

}  // namespace retort::guard
