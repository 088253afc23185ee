// Any bytes as a trace: decompression, lines, events, requests.

#include <cstddef>
#include <cstdint>

#include "fuzz/trace_check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kmem::tool::trace::check_any_trace({data, size});
  return 0;
}
