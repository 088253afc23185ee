// The kernel's upper-case names as C++ constants, for sources that use them: `kmem::names::GFP_KERNEL`.
//
// In the kernel's headers these names are macros, which would replace the words here; so this header and the kernel face do not mix.
// The names with two leading underscores are reserved in C++ and are left out: GFP_IO_BIT is the kernel's bit IO.
#pragma once

#if defined(GFP_KERNEL) || defined(GFP_ATOMIC) || defined(GFP_NOWAIT) || defined(GFP_NOIO) || defined(GFP_NOFS)
#error "kmem/gfp_names.hpp cannot be used together with the kernel face (linux/gfp.h): there GFP_KERNEL and the like are macros"
#endif

#include <kmem/gfp.hpp>

namespace kmem::names {

inline constexpr gfp_t GFP_ATOMIC = gfp::atomic;
inline constexpr gfp_t GFP_KERNEL = gfp::kernel;
inline constexpr gfp_t GFP_KERNEL_ACCOUNT = gfp::kernel_account;
inline constexpr gfp_t GFP_NOWAIT = gfp::nowait;
inline constexpr gfp_t GFP_NOIO = gfp::noio;
inline constexpr gfp_t GFP_NOFS = gfp::nofs;
inline constexpr gfp_t GFP_USER = gfp::user;
inline constexpr gfp_t GFP_DMA = gfp::dma;
inline constexpr gfp_t GFP_DMA32 = gfp::dma32;
inline constexpr gfp_t GFP_HIGHUSER = gfp::highuser;
inline constexpr gfp_t GFP_HIGHUSER_MOVABLE = gfp::highuser_movable;

inline constexpr gfp_t GFP_DMA_BIT = gfp::dma;
inline constexpr gfp_t GFP_HIGHMEM_BIT = gfp::highmem_bit;
inline constexpr gfp_t GFP_DMA32_BIT = gfp::dma32;
inline constexpr gfp_t GFP_MOVABLE_BIT = gfp::movable;
inline constexpr gfp_t GFP_RECLAIMABLE_BIT = gfp::reclaimable;
inline constexpr gfp_t GFP_HIGH_BIT = gfp::high;
inline constexpr gfp_t GFP_IO_BIT = gfp::io;
inline constexpr gfp_t GFP_FS_BIT = gfp::fs;
inline constexpr gfp_t GFP_ZERO_BIT = gfp::zero;
inline constexpr gfp_t GFP_ATOMIC_BIT = gfp::atomic_bit;
inline constexpr gfp_t GFP_DIRECT_RECLAIM_BIT = gfp::direct_reclaim;
inline constexpr gfp_t GFP_KSWAPD_RECLAIM_BIT = gfp::kswapd_reclaim;
inline constexpr gfp_t GFP_WRITE_BIT = gfp::write;
inline constexpr gfp_t GFP_NOWARN_BIT = gfp::nowarn;
inline constexpr gfp_t GFP_RETRY_MAYFAIL_BIT = gfp::retry_mayfail;
inline constexpr gfp_t GFP_REPEAT_BIT = gfp::repeat;
inline constexpr gfp_t GFP_NOFAIL_BIT = gfp::nofail;
inline constexpr gfp_t GFP_NORETRY_BIT = gfp::noretry;
inline constexpr gfp_t GFP_MEMALLOC_BIT = gfp::memalloc;
inline constexpr gfp_t GFP_COMP_BIT = gfp::comp;
inline constexpr gfp_t GFP_NOMEMALLOC_BIT = gfp::nomemalloc;
inline constexpr gfp_t GFP_HARDWALL_BIT = gfp::hardwall;
inline constexpr gfp_t GFP_THISNODE_BIT = gfp::thisnode;
inline constexpr gfp_t GFP_ACCOUNT_BIT = gfp::account;
inline constexpr gfp_t GFP_ZEROTAGS_BIT = gfp::zerotags;
inline constexpr gfp_t GFP_COLD_BIT = gfp::cold;

}  // namespace kmem::names
