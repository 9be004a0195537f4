// Included before Highway by every kernel file: which instruction sets are compiled. The baseline (SSE2),
// AVX2 and AVX-512; the sets between them would cost compile time and serve no machine that matters here.
#pragma once

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#endif
