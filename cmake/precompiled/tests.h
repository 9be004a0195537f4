// As parts.h, for the tests.
#include "parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
