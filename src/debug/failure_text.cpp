// A failure record as text, in the kernel's form, with what a reader of this library needs besides: the step of the chain and the budget.
//
// Contexts. Any: it reads only the record. What writes the code addresses is the caller's choice.
// Tests.    tests/unit/debug/failure_text_test.cpp
#include "debug/debug.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
namespace {

void kilobytes(text_writer& out, const char* name, uint64_t pages) noexcept { out.str(name).dec(pages << (page_shift - 10)).str("kB"); }

}  // namespace

void write_raw_pc(text_writer& out, const void* pc) noexcept { out.str("0x").hex(reinterpret_cast<uintptr_t>(pc), 16); }

size_t write_failure(const alloc_failure& f, char* buffer, size_t capacity, pc_writer write_pc) noexcept {
  char mask[256];
  format_gfp(f.gfp, mask, sizeof mask);
  text_writer out(buffer, capacity);
  out.str(f.comm)
      .str(": page allocation failure: order:")
      .dec(f.order)
      .str(", mode:0x")
      .hex(static_cast<uint32_t>(f.gfp))
      .ch('(')
      .str(mask);
  out.str("), nodemask=(null),cpuset=/,mems_allowed=0\n");
  out.str("request: ").dec(f.bytes).str(" bytes");
  if (f.cache[0] != '\0') out.str(" for cache ").str(f.cache);
  out.str(", last step: ").str(chain_step_name(f.reached)).str(", preempt_count: ").hex(f.preempt_count).ch('\n');
  out.str("Call Trace:\n <TASK>\n");
  for (unsigned i = 0; i < f.nr_pcs; ++i) {
    out.str("  ");
    write_pc(out, f.pcs[i]);
    out.ch('\n');
  }
  out.str(" </TASK>\nMem-Info:\n");
  kilobytes(out, "budget:", f.limit);
  kilobytes(out, " metadata:", f.metadata);
  out.str("\nNode 0 ").str(zone_name(static_cast<zone_idx>(f.zone)));
  kilobytes(out, " free:", f.free);
  kilobytes(out, " managed:", f.managed);
  kilobytes(out, " charged:", f.charged);
  kilobytes(out, " reserve:", f.reserve);
  kilobytes(out, " free_pcp:", f.in_cpu_lists);
  kilobytes(out, " transit:", f.in_transit);
  out.ch('\n');
  return out.length();
}

}  // inline namespace
}  // namespace kmem
