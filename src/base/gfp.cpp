// The names of GFP masks, and the proof that the tables in base/gfp.hpp are what the rules say.
//
// A mask is written as the names whose bits it contains, larger combinations first, each bit named once; what remains is written
// as a number. GFP_DMA and GFP_DMA32 are combinations of one bit each. __GFP_COLD is a bit of our own and has its name at the end.
// Context: any. Tests: tests/unit/base/gfp_test.cpp, against what a real kernel prints for the same masks.
#include "base/gfp.hpp"

#include "base/text.hpp"

namespace kmem {
namespace {

struct gfp_name {
  gfp_t bits;
  const char* name;
};

inline constexpr gfp_t transhuge_light = (gfp::highuser_movable | gfp::comp | gfp::nomemalloc | gfp::nowarn) & ~gfp::reclaim;
inline constexpr gfp_t transhuge = transhuge_light | gfp::direct_reclaim;

constexpr gfp_name names[] = {
    {transhuge, "GFP_TRANSHUGE"},
    {transhuge_light, "GFP_TRANSHUGE_LIGHT"},
    {gfp::highuser_movable, "GFP_HIGHUSER_MOVABLE"},
    {gfp::highuser, "GFP_HIGHUSER"},
    {gfp::user, "GFP_USER"},
    {gfp::kernel_account, "GFP_KERNEL_ACCOUNT"},
    {gfp::kernel, "GFP_KERNEL"},
    {gfp::nofs, "GFP_NOFS"},
    {gfp::atomic, "GFP_ATOMIC"},
    {gfp::noio, "GFP_NOIO"},
    {gfp::nowait, "GFP_NOWAIT"},
    {gfp::dma, "GFP_DMA"},
    {gfp::highmem_bit, "__GFP_HIGHMEM"},
    {gfp::dma32, "GFP_DMA32"},
    {gfp::high, "__GFP_HIGH"},
    {gfp::atomic_bit, "__GFP_ATOMIC"},
    {gfp::io, "__GFP_IO"},
    {gfp::fs, "__GFP_FS"},
    {gfp::nowarn, "__GFP_NOWARN"},
    {gfp::retry_mayfail, "__GFP_RETRY_MAYFAIL"},
    {gfp::nofail, "__GFP_NOFAIL"},
    {gfp::noretry, "__GFP_NORETRY"},
    {gfp::comp, "__GFP_COMP"},
    {gfp::zero, "__GFP_ZERO"},
    {gfp::nomemalloc, "__GFP_NOMEMALLOC"},
    {gfp::memalloc, "__GFP_MEMALLOC"},
    {gfp::hardwall, "__GFP_HARDWALL"},
    {gfp::thisnode, "__GFP_THISNODE"},
    {gfp::reclaimable, "__GFP_RECLAIMABLE"},
    {gfp::movable, "__GFP_MOVABLE"},
    {gfp::account, "__GFP_ACCOUNT"},
    {gfp::write, "__GFP_WRITE"},
    {gfp::direct_reclaim, "__GFP_DIRECT_RECLAIM"},
    {gfp::zerotags, "__GFP_ZEROTAGS"},
    {gfp::cold, "__GFP_COLD"},
};

/// Every known bit must have a name of its own somewhere, or a mask would be printed as a number.
consteval bool every_bit_is_named() {
  for (uint32_t bit = 1; bit != 0; bit <<= 1) {
    bool named = false;
    for (const gfp_name& entry : names) named = named || entry.bits == gfp_t{bit};
    if (named != has(gfp::known_bits, gfp_t{bit})) return false;
  }
  return true;
}
static_assert(every_bit_is_named());

/// A name must come before any other name whose bits it contains, or it would never be printed.
consteval bool combinations_come_first() {
  for (const gfp_name* later = names; later != std::end(names); ++later)
    for (const gfp_name* earlier = names; earlier != later; ++earlier)
      if ((later->bits & earlier->bits) == earlier->bits) return false;
  return true;
}
static_assert(combinations_come_first());

/// The zone table against the plain definition: the lowest zone named; MOVABLE lifts HIGHMEM to the movable zone and nothing else.
consteval bool zone_table_is_right() {
  for (uint32_t raw = 0; raw < 32; ++raw) {
    const gfp_t mask{raw};
    const bool dma = (raw & 1) != 0, highmem = (raw & 2) != 0, dma32 = (raw & 4) != 0, movable = (raw & 8) != 0;
    zone_idx wanted = zone_idx::normal;
    if (highmem && movable) wanted = zone_idx::movable;
    if (highmem && !movable) wanted = zone_idx::highmem;
    if (dma32) wanted = zone_idx::dma32;
    if (dma) wanted = zone_idx::dma;
    if (gfp_zone(mask) != wanted || gfp_zone(mask | gfp::kernel) != wanted) return false;
    if (gfp_zone_is_bad(mask) != (int{dma} + int{highmem} + int{dma32} > 1)) return false;
    const bool reclaimable = (raw & 16) != 0;
    const migratetype mobility = movable == reclaimable ? migratetype::unmovable
                                 : movable              ? migratetype::movable
                                                        : migratetype::reclaimable;
    if (gfp_migratetype(mask) != mobility) return false;
  }
  return true;
}
static_assert(zone_table_is_right());

}  // namespace

size_t format_gfp(gfp_t gfp, char* buffer, size_t capacity) noexcept {
  text_writer out(buffer, capacity);
  if (gfp == gfp::none) return out.str("none").length();
  gfp_t rest = gfp;
  for (const gfp_name& entry : names) {
    if ((rest & entry.bits) != entry.bits) continue;
    rest &= ~entry.bits;
    if (out.length() != 0) out.ch('|');
    out.str(entry.name);
  }
  if (rest != gfp::none) {
    if (out.length() != 0) out.ch('|');
    out.str("0x").hex(static_cast<uint32_t>(rest));
  }
  return out.length();
}

}  // namespace kmem
