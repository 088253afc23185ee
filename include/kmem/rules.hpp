// The allocator's rules as data: its parameters, and which flags permit which step of an allocation. For help texts and tables.
#pragma once
#include <kmem/kmem.hpp>

namespace kmem {

/// One parameter of init() and KMEM_CMDLINE.
struct parameter_rule {
  const char* name = "";           // as in name=value
  const char* values = "";         // what may be given, with its unit
  const char* default_value = "";  // as it could be given, or in words
  const char* example = "";        // a value that is accepted
  const char* help = "";           // one line
};
/// The index-th parameter. Context: any. Return: false past the last one.
KMEM_EXPORT bool read_parameter_rule(unsigned index, parameter_rule& result) noexcept;

/// Would init() understand these parameters? `error` receives what is wrong, NUL-terminated and cut. Context: any. Return: whether it
/// would.
KMEM_EXPORT bool check_parameters(const char* cmdline, char* error, size_t error_capacity) noexcept;

/// One step of the chain that an allocation goes through before it returns nullptr.
struct chain_step_rule {
  const char* name = "";   // as in allocation_failure::step
  const char* about = "";  // what is done, one line
  bool permitted = false;  // by the mask
};
/// The index-th step, with the answer for `gfp` and 2^order pages; scopes of the thread are not applied. Context: any.
/// Return: false past the last one.
KMEM_EXPORT bool read_chain_step_rule(unsigned index, gfp_t gfp, unsigned order, chain_step_rule& result) noexcept;

/// The zone that `gfp` asks for, from which an allocation may fall back to lower ones: "DMA", "DMA32", "Normal", "HighMem" or "Movable".
/// Context: any.
[[nodiscard]] KMEM_EXPORT const char* highest_zone(gfp_t gfp) noexcept;

/// Passes over the steps that may block, while there is progress. Context: any. Return: 0 for as many as it takes.
[[nodiscard]] KMEM_EXPORT unsigned chain_passes(gfp_t gfp, unsigned order) noexcept;

}  // namespace kmem
