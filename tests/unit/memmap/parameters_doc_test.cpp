// docs/parameters.md is what the table of parameters says. KMEM_UPDATE_DOCS=1 writes it anew.
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "memmap/memmap.hpp"
#include "support/generated_document.hpp"

namespace kmem {
namespace {

std::string document() {
  std::ostringstream out;
  out << "# Parameters\n\n"
         "Given as `name=value` words in `KMEM_CMDLINE`, or to the tools' option `--param`. `-` and `_` are the same in names, the last\n"
         "of equal names counts, and a word that is not understood is an error: then none of them is applied. Sizes are bytes, with\n"
         "`K`, `M`, `G` or `T` for powers of 1024. Made from the table in `src/memmap/config.cpp`, with which\n"
         "`tests/unit/memmap/parameters_doc_test.cpp` compares it.\n\n"
         "| name | values | default | what for | example |\n|---|---|---|---|---|\n";
  for (const parameter_info& p : parameters())
    out << "| `" << p.name << "` | " << test::table_cell(p.values) << " | `" << p.default_value << "` | " << test::table_cell(p.help)
        << " | `" << p.example << "` |\n";
  return out.str();
}

TEST(ParametersDocTest, FileSaysWhatTheTableSays) { test::expect_document("parameters.md", document()); }

}  // namespace
}  // namespace kmem
