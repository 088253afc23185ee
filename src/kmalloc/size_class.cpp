// The proofs of the size-class tables, at compile time: every size, every class.
//
// What for. A wrong entry would hand out objects that are too small. What is proven: the lookup finds the smallest class for each of
// 32768
//          sizes; waste above 112 bytes is at most 12.5 %; each power of two is a class and naturally aligned; each slab's order is the
//          one the rule gives; the index of each object comes out of the multiplication.
// Kernel.  kmalloc there has powers of two, 96 and 192: up to half of an object is lost.
// Tests.   tests/unit/kmalloc/size_class_test.cpp
#include "kmalloc/size_class.hpp"

#include "slab/slab.hpp"

namespace kmem {
namespace {

consteval bool classes_ascend() {
  for (unsigned i = 1; i < nr_size_classes; ++i)
    if (size_classes[i].size <= size_classes[i - 1].size) return false;
  return size_classes[0].size == 8 && size_classes[nr_size_classes - 1].size == size_class_max;
}

/// Stepping through the classes beside the sizes keeps the proof linear.
consteval bool lookup_is_exact() {
  unsigned expected = 1;
  for (size_t size = 1; size <= size_class_max; ++size) {
    while (size_of_class(expected) < size) ++expected;
    if (size_class_of(size) != expected) return false;
  }
  return size_class_of(0) == 0;
}

consteval bool waste_is_bounded() {
  for (unsigned i = 1; i < nr_size_classes; ++i) {
    const size_t least = size_classes[i - 1].size + 1u, size = size_classes[i].size;
    if (least > 112 && (size - least) * 8 > size) return false;
  }
  return true;
}

consteval bool powers_of_two_are_classes() {
  for (size_t size = 8; size <= size_class_max; size *= 2) {
    const unsigned number = size_class_of(size);
    // Naturally aligned: the slab is, and it holds whole objects.
    if (size_of_class(number) != size || (page_size << size_classes[number - 1].slab_order) % size != 0) return false;
  }
  return true;
}

consteval bool steps_are_as_promised() {
  for (size_t size = 16; size <= 512; size += 16)
    if (size_of_class(size_class_of(size)) != size) return false;
  for (size_t size = 544; size <= 1024; size += 32)
    if (size_of_class(size_class_of(size)) != size) return false;
  for (const size_class& c : size_classes)
    if (c.size > 8 && c.size % 16 != 0) return false;
  return true;
}

consteval bool orders_follow_the_rule() {
  for (const size_class& c : size_classes) {
    const size_t nr_objects = (page_size << c.slab_order) / c.size;
    if (choose_slab_order(c.size) != c.slab_order || nr_objects < 4 || nr_objects > slab_objects_max) return false;
  }
  return true;
}

consteval bool magic_is_exact() {
  for (const size_class& c : size_classes) {
    const uint64_t magic = index_magic(c.size);
    for (uint64_t i = 0; i < (page_size << c.slab_order) / c.size; ++i)
      if ((i * c.size * magic) >> 32 != i) return false;
  }
  return true;
}

static_assert(classes_ascend());
static_assert(lookup_is_exact());
static_assert(waste_is_bounded());
static_assert(powers_of_two_are_classes());
static_assert(steps_are_as_promised());
static_assert(orders_follow_the_rule());
static_assert(magic_is_exact());
static_assert(nr_size_classes < first_cache_id);

}  // namespace
}  // namespace kmem
