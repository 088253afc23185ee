// A reference model of object allocation: which pointers are out, from which cache, how large, and what was written into them.
//
// Written from the promises alone: an object that is out overlaps no other one, is aligned, keeps every byte, and is known to its cache.
#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

namespace kmem::testing {

class slab_model {
 public:
  struct object {
    size_t size;        // bytes that were asked for and written
    unsigned cache;     // the caller's number for where it came from
    uint8_t owner;      // the byte it is filled with
  };

  /// A new object. Return: what is wrong with it, or "".
  std::string add(void* p, size_t size, size_t align, unsigned cache) {
    const auto address = reinterpret_cast<uintptr_t>(p);
    if (p == nullptr) return "null was handed out";
    if (address % align != 0) return "misaligned";
    const auto next = objects_.lower_bound(address);
    if (next != objects_.end() && next->first < address + size) return "overlaps the object behind it";
    if (next != objects_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second.size > address) return "overlaps the object before it";
    }
    const object o{size, cache, static_cast<uint8_t>(++last_owner_)};
    std::memset(p, o.owner, size);
    objects_[address] = o;
    return "";
  }
  /// The object is about to be freed. Return: what is wrong with its bytes, or "".
  std::string remove(void* p) {
    const std::string wrong = check(p);
    objects_.erase(reinterpret_cast<uintptr_t>(p));
    return wrong;
  }
  /// The object has moved or changed its size: its first min(old, new) bytes are as they were. Return: what is wrong, or "".
  std::string move(void* from, void* to, size_t size, size_t align) {
    const object old = objects_.at(reinterpret_cast<uintptr_t>(from));
    objects_.erase(reinterpret_cast<uintptr_t>(from));
    const size_t kept = old.size < size ? old.size : size;
    for (size_t i = 0; i < kept; ++i)
      if (static_cast<uint8_t*>(to)[i] != old.owner) return "lost byte " + std::to_string(i) + " on the way";
    return add(to, size, align, old.cache);
  }
  std::string check(const void* p) const {
    const object& o = objects_.at(reinterpret_cast<uintptr_t>(p));
    for (size_t i = 0; i < o.size; ++i)
      if (static_cast<const uint8_t*>(p)[i] != o.owner)
        return "byte " + std::to_string(i) + " of " + std::to_string(o.size) + " has changed";
    return "";
  }
  std::string check_all() const {
    for (const auto& [address, o] : objects_) {
      const std::string wrong = check(reinterpret_cast<const void*>(address));
      if (!wrong.empty()) return wrong;
    }
    return "";
  }

  size_t count(unsigned cache) const {
    size_t n = 0;
    for (const auto& [address, o] : objects_) n += o.cache == cache ? 1 : 0;
    return n;
  }
  bool empty() const { return objects_.empty(); }
  size_t size() const { return objects_.size(); }
  /// The k-th object by address.
  void* nth(size_t k) const { return reinterpret_cast<void*>(std::next(objects_.begin(), static_cast<long>(k))->first); }
  const object& at(const void* p) const { return objects_.at(reinterpret_cast<uintptr_t>(p)); }

 private:
  std::map<uintptr_t, object> objects_;
  unsigned last_owner_ = 0;
};

}  // namespace kmem::testing
