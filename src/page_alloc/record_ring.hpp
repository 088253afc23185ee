// Records that are read without a lock: each is kept as words that are written and read one by one, and a number says when all of them
// belong together.
//
// Ordering. pairs: failure_record - a sequence lock: number 0, the words, the number, each released after the one before; a reader
//           acquires the number, the words and the number again, and has a record only if both numbers are the one it asked for.
#pragma once
#include "base/base.hpp"

namespace kmem {
KMEM_BUILD_NAMESPACE {

/// Record is trivially copyable, and its first member is its number.
template <class Record>
struct record_slot {
  static constexpr size_t nr_words = (sizeof(Record) + 7) / 8;
  atomic<uint64_t> sequence{0};  // of the record; 0: none, or being written
  atomic<uint64_t> words[nr_words];

  void store(const Record& record) noexcept {
    uint64_t copy[nr_words] = {};
    __builtin_memcpy(copy, &record, sizeof record);
    sequence.store_relaxed(0);
    for (size_t i = 0; i < nr_words; ++i) words[i].store_release(copy[i]);  // pairs: failure_record
    sequence.store_release(record.sequence);                                // pairs: failure_record
  }
  /// Return: false if another record, or none, is there.
  bool load(uint64_t wanted, Record& result) const noexcept {
    if (sequence.load_acquire() != wanted) return false;  // pairs: failure_record
    uint64_t copy[nr_words];
    for (size_t i = 0; i < nr_words; ++i) copy[i] = words[i].load_acquire();  // pairs: failure_record
    Record record;
    __builtin_memcpy(&record, copy, sizeof record);
    if (sequence.load_acquire() != wanted || record.sequence != wanted) return false;  // pairs: failure_record
    result = record;
    return true;
  }
};

}  // inline namespace
}  // namespace kmem
