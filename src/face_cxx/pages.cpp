// Pages of the C++ face: by descriptor and by address.
//
// Contexts. As declared. Tests. tests/unit/face_cxx/pages_test.cpp, tests/fault/api_fail_nth_test.cpp
#include "face_cxx/face_cxx.hpp"

namespace kmem {

static_assert(page_bytes == page_size);

page* alloc_pages(gfp_t gfp, unsigned order) noexcept {
  machine* const m = serving();
  // An order that no type holds is as hopeless as MAX_ORDER, and refused in the same words.
  return m != nullptr ? alloc_pages(*m, gfp, order_t(order < 63 ? order : 63)) : nullptr;
}

void free_pages(page* p, unsigned order) noexcept {
  machine* const m = serving();
  if (p != nullptr && m != nullptr) free_pages(*m, p, order_t(order));
}

unsigned alloc_pages_bulk(gfp_t gfp, unsigned n, page** pages) noexcept {
  machine* const m = serving();
  return m != nullptr ? alloc_pages_bulk(*m, gfp, n, pages) : 0;
}

void get_page(page* p) noexcept { real::get_page(compound_head(owner(), p)); }
void put_page(page* p) noexcept {
  machine* const m = serving();
  if (m != nullptr) put_page(*m, compound_head(*m, p));
}
unsigned page_count(page* p) noexcept { return compound_head(owner(), p)->refcount.load_relaxed(); }
void split_page(page* p, unsigned order) noexcept { split_page(owner(), p, order_t(order)); }

void* page_address(const page* p) noexcept { return owner().address_of(owner().pfn_of(p)); }

page* virt_to_page(const void* address) noexcept {
  if (!is_serving() || !owner().contains(address) || !owner().is_open(owner().pfn_of(address))) return nullptr;
  return &owner().page_of(owner().pfn_of(address));
}

uint64_t page_to_pfn(const page* p) noexcept { return owner().pfn_of(p).raw(); }

page* pfn_to_page(uint64_t pfn) noexcept {
  if (!is_serving() || pfn == 0 || pfn >= owner().span_pages || !owner().is_open(pfn_t(static_cast<uint32_t>(pfn)))) return nullptr;
  return &owner().page_of(pfn_t(static_cast<uint32_t>(pfn)));
}

const char* page_zone(const page* p) noexcept { return zone_name(page_zone_idx(owner(), p)); }

void* get_free_pages(gfp_t gfp, unsigned order) noexcept {
  machine* const m = serving();
  return m != nullptr ? get_free_pages(*m, gfp, order_t(order < 63 ? order : 63)) : nullptr;
}

void* get_zeroed_page(gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr ? get_zeroed_page(*m, gfp) : nullptr;
}

void free_pages_at(void* address, unsigned order) noexcept {
  machine* const m = serving();
  if (address != nullptr && m != nullptr) free_pages_at(*m, address, order_t(order));
}

void* alloc_pages_exact(size_t size, gfp_t gfp) noexcept {
  machine* const m = serving();
  return m != nullptr ? alloc_pages_exact(*m, size, gfp) : nullptr;
}

void free_pages_exact(void* address, size_t size) noexcept {
  machine* const m = serving();
  if (address != nullptr && m != nullptr) free_pages_exact(*m, address, size);
}

}  // namespace kmem
