// Mempools and reservations of the C++ face.
//
// Contexts. As declared. Tests. tests/unit/face_cxx/reserves_test.cpp, tests/fault/reserve_fail_nth_test.cpp
#include <kmem/mempool.hpp>
#include <kmem/reservation.hpp>

#include "face_cxx/face_cxx.hpp"

namespace kmem {
namespace {

mempool* create(unsigned min_nr, const mempool_source& source, gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr ? mempool_create(*m, source, min_nr, gfp) : nullptr;
}

}  // namespace

mempool* mempool_create(unsigned min_nr, void* (*alloc)(gfp_t gfp, void* data) noexcept, void (*free)(void* element, void* data) noexcept,
                        void* data, gfp_t gfp) noexcept {
  mempool_source source;
  source.alloc = alloc;
  source.free = free;
  source.data = data;
  return create(min_nr, source, gfp);
}

mempool* mempool_create_slab_pool(unsigned min_nr, kmem_cache* cache) noexcept {
  mempool_source source;
  source.kind = mempool_kind::slab;
  source.cache = cache;
  return create(min_nr, source, gfp::kernel);
}

mempool* mempool_create_kmalloc_pool(unsigned min_nr, size_t size) noexcept {
  mempool_source source;
  source.kind = mempool_kind::kmalloc;
  source.size = size;
  return create(min_nr, source, gfp::kernel);
}

mempool* mempool_create_page_pool(unsigned min_nr, unsigned order) noexcept {
  mempool_source source;
  source.kind = mempool_kind::pages;
  source.order = order < 63 ? order : 63;  // as hopeless as any order that is too large
  return create(min_nr, source, gfp::kernel);
}

void mempool_destroy(mempool* pool) noexcept {
  if (pool != nullptr) mempool_destroy(*pool);
}
void* mempool_alloc(mempool* pool, gfp_t gfp) noexcept { return mempool_alloc(*pool, gfp); }
void mempool_free(void* element, mempool* pool) noexcept {
  if (element != nullptr) mempool_free(*pool, element);
}
int mempool_resize(mempool* pool, unsigned min_nr) noexcept { return static_cast<int>(mempool_resize(*pool, min_nr)); }

void read_mempool_info(const mempool* pool, mempool_info& result) noexcept {
  mempool_figures figures;
  mempool_read_figures(*pool, figures);
  result = {figures.min_nr, figures.curr_nr, figures.waiting, figures.waits};
}

slab_sheaf* kmem_cache_prefill_sheaf(kmem_cache* cache, gfp_t gfp, unsigned size) noexcept {
  machine* const m = serving();
  return m != nullptr && cache != nullptr ? sheaf_prefill(*m, *cache, gfp, size) : nullptr;
}

void* kmem_cache_alloc_from_sheaf(kmem_cache*, gfp_t gfp, slab_sheaf* sheaf) noexcept { return sheaf_alloc(*sheaf, gfp); }

int kmem_cache_refill_sheaf(kmem_cache* cache, gfp_t gfp, slab_sheaf** sheaf, unsigned size) noexcept {
  if (sheaf == nullptr || *sheaf == nullptr || (*sheaf)->cache != cache) return static_cast<int>(err::inval);
  return static_cast<int>(sheaf_refill(*sheaf, gfp, size));
}

void kmem_cache_return_sheaf(kmem_cache*, gfp_t, slab_sheaf* sheaf) noexcept { sheaf_return(sheaf); }
unsigned kmem_cache_sheaf_size(const slab_sheaf* sheaf) noexcept { return sheaf->nr_objects; }

namespace detail {

slab_sheaf* prefill_kmalloc(size_t size, gfp_t gfp, unsigned n) noexcept {
  machine* const m = serving();
  return m != nullptr ? sheaf_prefill_kmalloc(*m, size, gfp, n) : nullptr;
}

void* take_from(slab_sheaf* sheaf, gfp_t gfp) noexcept { return sheaf_alloc(*sheaf, gfp); }
int refill(slab_sheaf** sheaf, gfp_t gfp, unsigned n) noexcept { return static_cast<int>(sheaf_refill(*sheaf, gfp, n)); }
void give_back(slab_sheaf* sheaf) noexcept { sheaf_return(sheaf); }

}  // namespace detail
}  // namespace kmem
