#pragma once

// gfp_flags strings of traces: from text to bits and back.
//
// The bits are those of Linux 6.1 (0x1 to 0x800000), which the library uses too. Names that 6.1 does not have, or
// has only in some configurations, get the bits from 0x1000000 up; only the first of those means something to the
// library:
//   0x01000000 __GFP_COLD                 removed in 4.15; the library's own bit
//   0x02000000 __GFP_SKIP_ZERO            6.0 and newer
//   0x04000000 __GFP_SKIP_KASAN_UNPOISON  5.18 to 6.3
//   0x08000000 __GFP_SKIP_KASAN_POISON    5.14 to 6.3; __GFP_SKIP_KASAN of 6.4 and newer is this bit and the one before
//   0x10000000 __GFP_NOLOCKDEP            lockdep kernels
//   0x20000000 __GFP_NO_OBJ_EXT           6.10 and newer
//   0x40000000 __GFP_OTHER_NODE           removed in 4.10
//   0x80000000 __GFP_NOTRACK              removed in 4.15
// A number (0x...) is taken as bits of this table. GFP_ATOMIC always includes __GFP_ATOMIC and GFP_NOWAIT never
// includes __GFP_NOWARN, whatever the traced kernel's own definition was.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kmem::tool::trace {

using gfp_bits = std::uint32_t;

namespace gfp_bit {
inline constexpr gfp_bits dma = 0x1;
inline constexpr gfp_bits highmem = 0x2;
inline constexpr gfp_bits dma32 = 0x4;
inline constexpr gfp_bits movable = 0x8;
inline constexpr gfp_bits reclaimable = 0x10;
inline constexpr gfp_bits high = 0x20;
inline constexpr gfp_bits io = 0x40;
inline constexpr gfp_bits fs = 0x80;
inline constexpr gfp_bits zero = 0x100;
inline constexpr gfp_bits atomic = 0x200;
inline constexpr gfp_bits direct_reclaim = 0x400;
inline constexpr gfp_bits kswapd_reclaim = 0x800;
inline constexpr gfp_bits write = 0x1000;
inline constexpr gfp_bits nowarn = 0x2000;
inline constexpr gfp_bits retry_mayfail = 0x4000;
inline constexpr gfp_bits nofail = 0x8000;
inline constexpr gfp_bits noretry = 0x10000;
inline constexpr gfp_bits memalloc = 0x20000;
inline constexpr gfp_bits comp = 0x40000;
inline constexpr gfp_bits nomemalloc = 0x80000;
inline constexpr gfp_bits hardwall = 0x100000;
inline constexpr gfp_bits thisnode = 0x200000;
inline constexpr gfp_bits account = 0x400000;
inline constexpr gfp_bits zerotags = 0x800000;
inline constexpr gfp_bits cold = 0x1000000;
inline constexpr gfp_bits skip_zero = 0x2000000;
inline constexpr gfp_bits skip_kasan_unpoison = 0x4000000;
inline constexpr gfp_bits skip_kasan_poison = 0x8000000;
inline constexpr gfp_bits nolockdep = 0x10000000;
inline constexpr gfp_bits no_obj_ext = 0x20000000;
inline constexpr gfp_bits other_node = 0x40000000;
inline constexpr gfp_bits notrack = 0x80000000;

inline constexpr gfp_bits reclaim = direct_reclaim | kswapd_reclaim;
}  // namespace gfp_bit

struct gfp_name {
  std::string_view name;
  gfp_bits bits;
  bool written;  // format_gfp uses it; the others are second names, understood only
};

// Every name that is understood; those that are written come in the order in which format_gfp tries them.
std::span<const gfp_name> gfp_names();

struct gfp_result {
  bool ok = false;
  gfp_bits bits = 0;
  std::size_t bad_offset = 0;  // where in the text the part is that is not understood
  std::string_view bad_part;   // that part
};

// "GFP_KERNEL|__GFP_ZERO", "none", "0xcc0", "GFP_NOFS|0x400000". Never throws.
gfp_result parse_gfp(std::string_view text);

// The known names most like `unknown`, best first, at most three, none when nothing is close.
std::vector<std::string_view> near_gfp_names(std::string_view unknown);

// As the kernel writes it: combinations first, then single flags, "none" for 0.
std::string format_gfp(gfp_bits bits);

// The combination that format_gfp would begin with ("GFP_KERNEL" for GFP_KERNEL|__GFP_ZERO), "none" for 0, "other"
// when the set contains no combination.
std::string_view gfp_class(gfp_bits bits);

}  // namespace kmem::tool::trace
