// A treap of vmalloc areas by address: expected depth O(log n) whatever the order of addresses, no rebalancing state, no allocation.
#pragma once
#include "vmalloc/vmalloc.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {
/// Well mixed bits of a number (splitmix64): priorities that no order of addresses can make unlucky.
constexpr uint32_t area_priority(uint64_t number) noexcept {
  uint64_t z = number + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
}

inline char* area_end(const vmap_area& area) noexcept { return area.begin + bytes(nr_pages_t(area.nr_pages)); }

inline void insert_area(vmap_area*& root, vmap_area& area) noexcept {
  vmap_area** link = &root;
  while (*link != nullptr && (*link)->priority >= area.priority) link = area.begin < (*link)->begin ? &(*link)->left : &(*link)->right;
  vmap_area** below = &area.left;
  vmap_area** above = &area.right;
  for (vmap_area* rest = *link; rest != nullptr;) {  // split what hung here by the new address
    if (rest->begin < area.begin) {
      *below = rest;
      below = &rest->right;
      rest = rest->right;
    } else {
      *above = rest;
      above = &rest->left;
      rest = rest->left;
    }
  }
  *below = *above = nullptr;
  *link = &area;
}

/// Takes the area that begins at `begin` out. Return: nullptr if there is none.
inline vmap_area* remove_area(vmap_area*& root, const char* begin) noexcept {
  vmap_area** link = &root;
  while (*link != nullptr && (*link)->begin != begin) link = begin < (*link)->begin ? &(*link)->left : &(*link)->right;
  vmap_area* const area = *link;
  if (area == nullptr) return nullptr;
  vmap_area* left = area->left;
  vmap_area* right = area->right;
  while (left != nullptr && right != nullptr) {  // merge the two subtrees in its place
    if (left->priority > right->priority) {
      *link = left;
      link = &left->right;
      left = left->right;
    } else {
      *link = right;
      link = &right->left;
      right = right->left;
    }
  }
  *link = left != nullptr ? left : right;
  area->left = area->right = nullptr;
  return area;
}

/// The area with the lowest end above `address`: the one that holds it, or else the next one. Return: nullptr if there is none.
inline vmap_area* find_area(vmap_area* root, const char* address) noexcept {
  vmap_area* best = nullptr;
  while (root != nullptr) {
    if (area_end(*root) > address) {
      best = root;
      root = root->left;
    } else {
      root = root->right;
    }
  }
  return best;
}

}  // inline namespace
}  // namespace kmem
