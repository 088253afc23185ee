#pragma once

// The caches of a replay: those of the trace, made anew in the library, and kmalloc's size classes. Both are rows of
// one table: planned caches first, then the size classes that the trace uses, in the order of their first use.
//
// A cache whose name the trace tells gets slabs of its own: the traced kernel had merged its caches before it named
// them. Caches known by their call site only may share slabs with others of their shape.

#include <cstddef>
#include <cstdint>
#include <kmem/kmem.hpp>
#include <string>
#include <vector>

#include "plan.hpp"
#include "report/result.hpp"

namespace kmem::tool::replay {

class cache_rows {
 public:
  static constexpr std::uint32_t no_row = 0xffffffff;  // of pages, frees, and kmalloc(0)

  // Needs nothing of the library but its table of size classes.
  explicit cache_rows(const plan& work);

  // Has the library make the reclaimable and DMA size classes that the trace uses. It keeps them for good, so they are
  // no part of what a replay must give back.
  void make_class_caches() const;

  // Makes the caches of the trace. Return: false with the reason; what was made is ended again.
  bool create(std::vector<kmem_cache*>& caches, std::string& problem);
  // Ends them; all their objects must be free.
  static void destroy(std::vector<kmem_cache*>& caches);

  std::size_t size() const { return rows_.size(); }
  std::uint32_t row_of(trace::request_index request) const { return row_of_[request]; }
  const std::string& name(std::size_t row) const { return rows_[row].name; }

  // What the library takes for an object of `bytes` in this row.
  std::uint64_t taken_bytes(std::size_t row, std::uint64_t bytes) const;

  // One entry a row with name and shape, and what the library says now about its objects and slabs. A cache that was
  // merged into another one, and kmallocs made of whole pages, have no slabs of their own.
  std::vector<report::cache_row> snapshot();

 private:
  struct row {
    std::string name;
    std::string library_name;
    std::uint64_t object_bytes = 0;  // from one object to the next; 0: as many pages as are needed
    bool size_class = false;
    gfp_t sort = gfp::none;  // of a size class: gfp::reclaimable or gfp::dma when it is not the ordinary one
  };
  std::uint32_t class_row(const trace::request& request);

  const plan& work_;
  std::vector<row> rows_;
  std::vector<std::uint32_t> row_of_;  // by request
};

}  // namespace kmem::tool::replay
