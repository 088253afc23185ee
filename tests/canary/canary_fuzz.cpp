// Fails on its first input, on purpose: fuzzing under which it passes would not notice a crash.
#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t*, size_t) { __builtin_trap(); }
