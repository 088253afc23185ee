// The C subset: each function is its C++ counterpart under another name.
//
// Handles are the same pointers. Function pointers of C differ from those of C++ only in `noexcept` and in the name of the mask's type,
// which no calling convention sees.
// Contexts. As the counterparts. Tests. tests/unit/face_cxx/c_api_test.cpp, tests/programs/examples.sh (as C)
#include <kmem/kmem.h>
#include <kmem/mempool.hpp>
#include <kmem/reclaim.hpp>
#include <kmem/reservation.hpp>
#include <kmem/wait.hpp>

#include "face_cxx/face_cxx.hpp"

namespace {

kmem::gfp_t mask(kmem_gfp_t gfp) noexcept { return kmem::gfp_t(gfp); }
kmem::kmem_cache* cxx(kmem_cache_t* cache) noexcept { return reinterpret_cast<kmem::kmem_cache*>(cache); }
kmem::page* cxx(kmem_page_t* page) noexcept { return reinterpret_cast<kmem::page*>(page); }
const kmem::page* cxx(const kmem_page_t* page) noexcept { return reinterpret_cast<const kmem::page*>(page); }
kmem::mempool* cxx(kmem_mempool_t* pool) noexcept { return reinterpret_cast<kmem::mempool*>(pool); }
kmem::slab_sheaf* cxx(kmem_sheaf_t* sheaf) noexcept { return reinterpret_cast<kmem::slab_sheaf*>(sheaf); }
kmem_mempool_t* c(kmem::mempool* pool) noexcept { return reinterpret_cast<kmem_mempool_t*>(pool); }
kmem::mempool_info info_of(const kmem_mempool_t* pool) noexcept {
  kmem::mempool_info info;
  kmem::read_mempool_info(reinterpret_cast<const kmem::mempool*>(pool), info);
  return info;
}
kmem_page_t* c(kmem::page* page) noexcept { return reinterpret_cast<kmem_page_t*>(page); }

kmem::detail::wait_storage& cxx(kmem_wait_scope* scope) noexcept {
  static_assert(sizeof(kmem_wait_scope) == sizeof(kmem::detail::wait_storage));
  return *reinterpret_cast<kmem::detail::wait_storage*>(scope);
}

static_assert(KMEM_GFP_ATOMIC == static_cast<uint32_t>(kmem::gfp::atomic) && KMEM_GFP_KERNEL == static_cast<uint32_t>(kmem::gfp::kernel) &&
              KMEM_GFP_KERNEL_ACCOUNT == static_cast<uint32_t>(kmem::gfp::kernel_account) &&
              KMEM_GFP_NOWAIT == static_cast<uint32_t>(kmem::gfp::nowait) && KMEM_GFP_NOIO == static_cast<uint32_t>(kmem::gfp::noio) &&
              KMEM_GFP_NOFS == static_cast<uint32_t>(kmem::gfp::nofs) && KMEM_GFP_USER == static_cast<uint32_t>(kmem::gfp::user) &&
              KMEM_GFP_HIGHUSER == static_cast<uint32_t>(kmem::gfp::highuser) &&
              KMEM_GFP_HIGHUSER_MOVABLE == static_cast<uint32_t>(kmem::gfp::highuser_movable));
static_assert((KMEM_GFP_DMA_BIT | KMEM_GFP_HIGHMEM_BIT | KMEM_GFP_DMA32_BIT | KMEM_GFP_MOVABLE_BIT | KMEM_GFP_RECLAIMABLE_BIT |
               KMEM_GFP_HIGH_BIT | KMEM_GFP_IO_BIT | KMEM_GFP_FS_BIT | KMEM_GFP_ZERO_BIT | KMEM_GFP_ATOMIC_BIT |
               KMEM_GFP_DIRECT_RECLAIM_BIT | KMEM_GFP_KSWAPD_RECLAIM_BIT | KMEM_GFP_WRITE_BIT | KMEM_GFP_NOWARN_BIT | KMEM_GFP_REPEAT_BIT |
               KMEM_GFP_NOFAIL_BIT | KMEM_GFP_NORETRY_BIT | KMEM_GFP_MEMALLOC_BIT | KMEM_GFP_COMP_BIT | KMEM_GFP_NOMEMALLOC_BIT |
               KMEM_GFP_HARDWALL_BIT | KMEM_GFP_THISNODE_BIT | KMEM_GFP_ACCOUNT_BIT | KMEM_GFP_ZEROTAGS_BIT | KMEM_GFP_COLD_BIT) ==
              static_cast<uint32_t>(kmem::gfp::known_bits));

}  // namespace

extern "C" {

bool kmem_init(const char* cmdline, char* error, size_t error_capacity) { return kmem::init(cmdline, error, error_capacity); }

void* kmem_kmalloc(size_t size, kmem_gfp_t gfp) { return kmem::kmalloc(size, mask(gfp)); }
void* kmem_kmalloc_aligned(size_t size, size_t align, kmem_gfp_t gfp) { return kmem::kmalloc_aligned(size, align, mask(gfp)); }
void* kmem_kzalloc(size_t size, kmem_gfp_t gfp) { return kmem::kzalloc(size, mask(gfp)); }
void* kmem_kmalloc_array(size_t n, size_t size, kmem_gfp_t gfp) { return kmem::kmalloc_array(n, size, mask(gfp)); }
void* kmem_kcalloc(size_t n, size_t size, kmem_gfp_t gfp) { return kmem::kcalloc(n, size, mask(gfp)); }
void* kmem_krealloc(const void* old, size_t size, kmem_gfp_t gfp) { return kmem::krealloc(old, size, mask(gfp)); }
void* kmem_krealloc_array(const void* old, size_t n, size_t size, kmem_gfp_t gfp) { return kmem::krealloc_array(old, n, size, mask(gfp)); }
void kmem_kfree(const void* p) { kmem::kfree(p); }
void kmem_kfree_sensitive(const void* p) { kmem::kfree_sensitive(p); }
size_t kmem_ksize(const void* p) { return kmem::ksize(p); }
size_t kmem_kmalloc_size_roundup(size_t size) { return kmem::real::kmalloc_size_roundup(size); }
void* kmem_kmemdup(const void* source, size_t size, kmem_gfp_t gfp) { return kmem::kmemdup(source, size, mask(gfp)); }
char* kmem_kstrdup(const char* text, kmem_gfp_t gfp) { return kmem::kstrdup(text, mask(gfp)); }
char* kmem_kstrndup(const char* text, size_t max, kmem_gfp_t gfp) { return kmem::kstrndup(text, max, mask(gfp)); }

kmem_cache_t* kmem_cache_create(const char* name, size_t size, size_t align, uint32_t flags, void (*constructor)(void* object)) {
  return reinterpret_cast<kmem_cache_t*>(
      kmem::kmem_cache_create(name, size, align, kmem::cache_flags(flags), reinterpret_cast<void (*)(void*) noexcept>(constructor)));
}
void kmem_cache_destroy(kmem_cache_t* cache) { kmem::kmem_cache_destroy(cxx(cache)); }
void* kmem_cache_alloc(kmem_cache_t* cache, kmem_gfp_t gfp) { return kmem::kmem_cache_alloc(cxx(cache), mask(gfp)); }
void* kmem_cache_zalloc(kmem_cache_t* cache, kmem_gfp_t gfp) { return kmem::kmem_cache_zalloc(cxx(cache), mask(gfp)); }
void kmem_cache_free(kmem_cache_t* cache, void* object) { kmem::kmem_cache_free(cxx(cache), object); }
size_t kmem_cache_alloc_bulk(kmem_cache_t* cache, kmem_gfp_t gfp, size_t n, void** objects) {
  return kmem::kmem_cache_alloc_bulk(cxx(cache), mask(gfp), n, objects);
}
void kmem_cache_free_bulk(kmem_cache_t* cache, size_t n, void** objects) { kmem::kmem_cache_free_bulk(cxx(cache), n, objects); }
uint64_t kmem_cache_shrink(kmem_cache_t* cache) { return kmem::kmem_cache_shrink(cxx(cache)); }
size_t kmem_cache_size(const kmem_cache_t* cache) { return kmem::kmem_cache_size(cxx(const_cast<kmem_cache_t*>(cache))); }

kmem_page_t* kmem_alloc_pages(kmem_gfp_t gfp, unsigned order) { return c(kmem::alloc_pages(mask(gfp), order)); }
void kmem_free_pages(kmem_page_t* page, unsigned order) { kmem::free_pages(cxx(page), order); }
unsigned kmem_alloc_pages_bulk(kmem_gfp_t gfp, unsigned n, kmem_page_t** pages) {
  return kmem::alloc_pages_bulk(mask(gfp), n, reinterpret_cast<kmem::page**>(pages));
}
// The core has a get_page of the same type in its inline namespace, so the pointers name the one of the API.
void kmem_get_page(kmem_page_t* page) { kmem::real::get_page(kmem::compound_head(kmem::owner(), cxx(page))); }
void kmem_put_page(kmem_page_t* page) { kmem::put_page(cxx(page)); }
unsigned kmem_page_count(kmem_page_t* page) { return kmem::page_count(cxx(page)); }
void kmem_split_page(kmem_page_t* page, unsigned order) { kmem::split_page(cxx(page), order); }
void* kmem_page_address(const kmem_page_t* page) { return kmem::page_address(cxx(page)); }
kmem_page_t* kmem_virt_to_page(const void* address) { return c(kmem::virt_to_page(address)); }
uint64_t kmem_page_to_pfn(const kmem_page_t* page) { return kmem::page_to_pfn(cxx(page)); }
kmem_page_t* kmem_pfn_to_page(uint64_t pfn) { return c(kmem::pfn_to_page(pfn)); }
const char* kmem_page_zone(const kmem_page_t* page) { return kmem::page_zone(cxx(page)); }
void* kmem_get_free_pages(kmem_gfp_t gfp, unsigned order) { return kmem::get_free_pages(mask(gfp), order); }
void* kmem_get_zeroed_page(kmem_gfp_t gfp) { return kmem::get_zeroed_page(mask(gfp)); }
void kmem_free_pages_at(void* address, unsigned order) { kmem::free_pages_at(address, order); }
void* kmem_alloc_pages_exact(size_t size, kmem_gfp_t gfp) { return kmem::alloc_pages_exact(size, mask(gfp)); }
void kmem_free_pages_exact(void* address, size_t size) { kmem::free_pages_exact(address, size); }

void* kmem_vmalloc(size_t size) { return kmem::vmalloc(size); }
void* kmem_vzalloc(size_t size) { return kmem::vzalloc(size); }
void kmem_vfree(const void* p) { kmem::vfree(p); }
bool kmem_is_vmalloc_addr(const void* p) { return kmem::is_vmalloc_addr(p); }
void* kmem_kvmalloc(size_t size, kmem_gfp_t gfp) { return kmem::kvmalloc(size, mask(gfp)); }
void* kmem_kvzalloc(size_t size, kmem_gfp_t gfp) { return kmem::kvzalloc(size, mask(gfp)); }
void* kmem_kvmalloc_array(size_t n, size_t size, kmem_gfp_t gfp) { return kmem::kvmalloc_array(n, size, mask(gfp)); }
void* kmem_kvcalloc(size_t n, size_t size, kmem_gfp_t gfp) { return kmem::kvcalloc(n, size, mask(gfp)); }
void* kmem_kvrealloc(const void* old, size_t size, kmem_gfp_t gfp) { return kmem::kvrealloc(old, size, mask(gfp)); }
void kmem_kvfree(const void* p) { kmem::kvfree(p); }
size_t kmem_kvsize(const void* p) { return kmem::kvsize(p); }

void kmem_preempt_disable(void) { kmem::preempt_count_add(kmem::preempt_unit); }
void kmem_preempt_enable(void) { kmem::preempt_count_sub(kmem::preempt_unit); }
void kmem_local_bh_disable(void) { kmem::preempt_count_add(kmem::softirq_disable_unit); }
void kmem_local_bh_enable(void) { kmem::preempt_count_sub(kmem::softirq_disable_unit); }
void kmem_hardirq_enter(void) { kmem::preempt_count_add(kmem::hardirq_unit); }
void kmem_hardirq_exit(void) { kmem::preempt_count_sub(kmem::hardirq_unit); }
bool kmem_in_atomic(void) { return kmem::in_atomic(); }
bool kmem_in_interrupt(void) { return kmem::in_interrupt(); }
static_assert(KMEM_CONTEXT_REPORT == static_cast<int>(kmem::context_policy::report) &&
              KMEM_CONTEXT_COUNT == static_cast<int>(kmem::context_policy::count) &&
              KMEM_CONTEXT_ABORT == static_cast<int>(kmem::context_policy::abort));
void kmem_set_context_policy(kmem_context_policy policy) { kmem::set_context_policy(static_cast<kmem::context_policy>(policy)); }
uint64_t kmem_context_violations(void) { return kmem::context_violations(); }
void kmem_might_sleep(const char* file, int line) { kmem::might_sleep(file, line); }
uint32_t kmem_memalloc_noio_save(void) { return kmem::memalloc_save(kmem::scope_noio); }
void kmem_memalloc_noio_restore(uint32_t saved) { kmem::memalloc_restore(kmem::scope_noio, saved); }
uint32_t kmem_memalloc_nofs_save(void) { return kmem::memalloc_save(kmem::scope_nofs); }
void kmem_memalloc_nofs_restore(uint32_t saved) { kmem::memalloc_restore(kmem::scope_nofs, saved); }

int kmem_register_reclaim(uint64_t (*reclaim)(void* context, kmem_gfp_t gfp, uint64_t nr_pages), void* context, kmem_gfp_t needs) {
  kmem::reclaim_callback callback;
  callback.context = context;
  callback.reclaim = reinterpret_cast<uint64_t (*)(void*, kmem::gfp_t, uint64_t) noexcept>(reclaim);
  callback.needs = mask(needs);
  return kmem::register_reclaim(callback);
}
void kmem_unregister_reclaim(int number) { kmem::unregister_reclaim(number); }

void kmem_set_reclaim_checker(bool on) { kmem::set_reclaim_checker(on); }
bool kmem_reclaim_checker(void) { return kmem::reclaim_checker(); }
static void enter(kmem_work_region* region, kmem::detail::region_kind kind) noexcept {
  static_assert(sizeof(kmem_work_region) == sizeof(kmem::detail::region) && alignof(kmem_work_region) == alignof(kmem::detail::region));
  kmem::detail::enter_work(*new (region) kmem::detail::region, kind);
}
void kmem_fs_work_enter(kmem_work_region* region) { enter(region, kmem::detail::region_kind::fs_work); }
void kmem_io_work_enter(kmem_work_region* region) { enter(region, kmem::detail::region_kind::io_work); }
void kmem_work_leave(kmem_work_region* region) { kmem::detail::leave_work(*reinterpret_cast<kmem::detail::region*>(region)); }

// The structs of both faces are one: they differ in what the compiler knows of the functions only.
static_assert(sizeof(kmem_shrinker) == sizeof(kmem::shrinker) && sizeof(kmem_shrink_control) == sizeof(kmem::shrink_control) &&
              sizeof(kmem_oom_notifier) == sizeof(kmem::oom_notifier));
static_assert(offsetof(kmem_shrinker, seeks) == offsetof(kmem::shrinker, seeks) &&
              offsetof(kmem_shrinker, needs) == offsetof(kmem::shrinker, needs) &&
              offsetof(kmem_shrinker, name) == offsetof(kmem::shrinker, name) &&
              offsetof(kmem_shrink_control, nr_to_scan) == offsetof(kmem::shrink_control, nr_to_scan) &&
              offsetof(kmem_oom_notifier, library_state) == offsetof(kmem::oom_notifier, running));
int kmem_register_shrinker(kmem_shrinker* shrinker) { return kmem::register_shrinker(*reinterpret_cast<kmem::shrinker*>(shrinker)); }
void kmem_unregister_shrinker(kmem_shrinker* shrinker) { kmem::unregister_shrinker(*reinterpret_cast<kmem::shrinker*>(shrinker)); }
int kmem_register_oom_notifier(kmem_oom_notifier* notifier) {
  return kmem::register_oom_notifier(*reinterpret_cast<kmem::oom_notifier*>(notifier));
}
void kmem_unregister_oom_notifier(kmem_oom_notifier* notifier) {
  kmem::unregister_oom_notifier(*reinterpret_cast<kmem::oom_notifier*>(notifier));
}

kmem_mempool_t* kmem_mempool_create(unsigned min_nr, kmem_mempool_alloc_t* alloc, kmem_mempool_free_t* free, void* pool_data) {
  return c(kmem::mempool_create(min_nr, reinterpret_cast<void* (*)(kmem::gfp_t, void*) noexcept>(alloc),
                                reinterpret_cast<void (*)(void*, void*) noexcept>(free), pool_data));
}
kmem_mempool_t* kmem_mempool_create_slab_pool(unsigned min_nr, kmem_cache_t* cache) {
  return c(kmem::mempool_create_slab_pool(min_nr, cxx(cache)));
}
kmem_mempool_t* kmem_mempool_create_kmalloc_pool(unsigned min_nr, size_t size) {
  return c(kmem::mempool_create_kmalloc_pool(min_nr, size));
}
kmem_mempool_t* kmem_mempool_create_page_pool(unsigned min_nr, unsigned order) { return c(kmem::mempool_create_page_pool(min_nr, order)); }
void kmem_mempool_destroy(kmem_mempool_t* pool) { kmem::mempool_destroy(cxx(pool)); }
void* kmem_mempool_alloc(kmem_mempool_t* pool, kmem_gfp_t gfp) { return kmem::mempool_alloc(cxx(pool), mask(gfp)); }
void kmem_mempool_free(void* element, kmem_mempool_t* pool) { kmem::mempool_free(element, cxx(pool)); }
int kmem_mempool_resize(kmem_mempool_t* pool, unsigned min_nr) { return kmem::mempool_resize(cxx(pool), min_nr); }
unsigned kmem_mempool_min_nr(const kmem_mempool_t* pool) { return info_of(pool).min_nr; }
unsigned kmem_mempool_curr_nr(const kmem_mempool_t* pool) { return info_of(pool).curr_nr; }

kmem_sheaf_t* kmem_cache_prefill_sheaf(kmem_cache_t* cache, kmem_gfp_t gfp, unsigned size) {
  return reinterpret_cast<kmem_sheaf_t*>(kmem::kmem_cache_prefill_sheaf(cxx(cache), mask(gfp), size));
}
void* kmem_cache_alloc_from_sheaf(kmem_cache_t* cache, kmem_gfp_t gfp, kmem_sheaf_t* sheaf) {
  return kmem::kmem_cache_alloc_from_sheaf(cxx(cache), mask(gfp), cxx(sheaf));
}
int kmem_cache_refill_sheaf(kmem_cache_t* cache, kmem_gfp_t gfp, kmem_sheaf_t** sheaf, unsigned size) {
  return kmem::kmem_cache_refill_sheaf(cxx(cache), mask(gfp), reinterpret_cast<kmem::slab_sheaf**>(sheaf), size);
}
void kmem_cache_return_sheaf(kmem_cache_t* cache, kmem_gfp_t gfp, kmem_sheaf_t* sheaf) {
  kmem::kmem_cache_return_sheaf(cxx(cache), mask(gfp), cxx(sheaf));
}
unsigned kmem_cache_sheaf_size(const kmem_sheaf_t* sheaf) { return kmem::kmem_cache_sheaf_size(cxx(const_cast<kmem_sheaf_t*>(sheaf))); }
void kmem_wait_enter(kmem_wait_scope* scope, uint64_t deadline_ns, bool interruptible) {
  kmem::detail::wait_enter(cxx(scope), deadline_ns, interruptible);
}
void kmem_wait_leave(kmem_wait_scope* scope) { kmem::detail::wait_leave(cxx(scope)); }
void kmem_wait_stop(kmem_wait_scope* scope) { kmem::detail::wait_stop(cxx(scope)); }
int kmem_wait_error(void) { return kmem::wait_error(); }

uint64_t kmem_remaining_bytes(void) { return kmem::remaining_bytes(); }

}  // extern "C"
