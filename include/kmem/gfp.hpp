// GFP flags: what one allocation may do. Values are those of Linux 6.1.
#pragma once
#include <stdint.h>

namespace kmem {

/// A set of GFP flags. Combine with |, test with the predicates below.
enum class gfp_t : uint32_t {};

constexpr gfp_t operator|(gfp_t a, gfp_t b) noexcept { return gfp_t(static_cast<uint32_t>(a) | static_cast<uint32_t>(b)); }
constexpr gfp_t operator&(gfp_t a, gfp_t b) noexcept { return gfp_t(static_cast<uint32_t>(a) & static_cast<uint32_t>(b)); }
constexpr gfp_t operator~(gfp_t a) noexcept { return gfp_t(~static_cast<uint32_t>(a)); }
constexpr gfp_t& operator|=(gfp_t& a, gfp_t b) noexcept { return a = a | b; }
constexpr gfp_t& operator&=(gfp_t& a, gfp_t b) noexcept { return a = a & b; }

namespace gfp {

// One bit each (the kernel's names with a double underscore).
inline constexpr gfp_t none{0};
inline constexpr gfp_t dma{0x1};               // __GFP_DMA: a page frame below 16 MiB
inline constexpr gfp_t highmem_bit{0x2};       // __GFP_HIGHMEM: high memory will do
inline constexpr gfp_t dma32{0x4};             // __GFP_DMA32: a page frame below 4 GiB
inline constexpr gfp_t movable{0x8};           // __GFP_MOVABLE: the page can be moved or dropped
inline constexpr gfp_t reclaimable{0x10};      // __GFP_RECLAIMABLE: a shrinker can free it
inline constexpr gfp_t high{0x20};             // __GFP_HIGH: may use the emergency reserve
inline constexpr gfp_t io{0x40};               // __GFP_IO: reclaim may start I/O
inline constexpr gfp_t fs{0x80};               // __GFP_FS: reclaim may call into file systems
inline constexpr gfp_t zero{0x100};            // __GFP_ZERO: cleared memory
inline constexpr gfp_t atomic_bit{0x200};      // __GFP_ATOMIC: the caller cannot wait and has high priority
inline constexpr gfp_t direct_reclaim{0x400};  // __GFP_DIRECT_RECLAIM: the caller may block and reclaim
inline constexpr gfp_t kswapd_reclaim{0x800};  // __GFP_KSWAPD_RECLAIM: may wake background reclaim
inline constexpr gfp_t write{0x1000};          // __GFP_WRITE: the page will be dirtied
inline constexpr gfp_t nowarn{0x2000};         // __GFP_NOWARN: no failure report
inline constexpr gfp_t retry_mayfail{0x4000};  // __GFP_RETRY_MAYFAIL: try hard, may fail
inline constexpr gfp_t nofail{0x8000};         // __GFP_NOFAIL: never fail
inline constexpr gfp_t noretry{0x10000};       // __GFP_NORETRY: give up after one pass
inline constexpr gfp_t memalloc{0x20000};      // __GFP_MEMALLOC: all reserves, for whoever frees memory
inline constexpr gfp_t comp{0x40000};          // __GFP_COMP: one compound page
inline constexpr gfp_t nomemalloc{0x80000};    // __GFP_NOMEMALLOC: no reserves, whatever else says so
inline constexpr gfp_t hardwall{0x100000};     // __GFP_HARDWALL: only the nodes of the caller's cpuset
inline constexpr gfp_t thisnode{0x200000};     // __GFP_THISNODE: no other node
inline constexpr gfp_t account{0x400000};      // __GFP_ACCOUNT: charged to the caller's tenant
inline constexpr gfp_t zerotags{0x800000};     // __GFP_ZEROTAGS
inline constexpr gfp_t cold{0x1000000};        // __GFP_COLD: a cache-cold page (a bit of our own; removed from the kernel in 4.15)

inline constexpr gfp_t repeat = retry_mayfail;  // __GFP_REPEAT, the older name
inline constexpr gfp_t reclaim = direct_reclaim | kswapd_reclaim;

// Combinations: who should use them.
inline constexpr gfp_t atomic = high | atomic_bit | kswapd_reclaim;  // GFP_ATOMIC: interrupts, tasklets, timers; never sleeps
inline constexpr gfp_t kernel = reclaim | io | fs;                   // GFP_KERNEL: on behalf of a process; may sleep
inline constexpr gfp_t kernel_account = kernel | account;            // GFP_KERNEL_ACCOUNT
inline constexpr gfp_t nowait = kswapd_reclaim;                      // GFP_NOWAIT: no waiting, no reserve
inline constexpr gfp_t noio = reclaim;                               // GFP_NOIO: may sleep, starts no I/O
inline constexpr gfp_t nofs = reclaim | io;                          // GFP_NOFS: may sleep, calls no file system
inline constexpr gfp_t user = reclaim | io | fs | hardwall;          // GFP_USER: pages for user regions
inline constexpr gfp_t highuser = user | highmem_bit;                // GFP_HIGHUSER: from high memory where there is some
inline constexpr gfp_t highuser_movable = highuser | movable;        // GFP_HIGHUSER_MOVABLE

inline constexpr gfp_t zone_bits = dma | highmem_bit | dma32 | movable;
inline constexpr gfp_t known_bits{0x1ffffff};

}  // namespace gfp

constexpr bool has(gfp_t mask, gfp_t any_of) noexcept { return (mask & any_of) != gfp::none; }
/// May the caller sleep (the kernel's gfpflags_allow_blocking)?
constexpr bool may_block(gfp_t mask) noexcept { return has(mask, gfp::direct_reclaim); }
constexpr bool may_io(gfp_t mask) noexcept { return has(mask, gfp::io); }
constexpr bool may_fs(gfp_t mask) noexcept { return has(mask, gfp::fs); }
/// May it dip into the emergency reserve?
constexpr bool may_use_reserve(gfp_t mask) noexcept { return has(mask, gfp::high | gfp::memalloc) && !has(mask, gfp::nomemalloc); }
constexpr bool may_fail(gfp_t mask) noexcept { return !has(mask, gfp::nofail); }

}  // namespace kmem
