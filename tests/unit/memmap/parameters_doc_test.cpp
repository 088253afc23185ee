// docs/parameters.md is what the table of parameters says. KMEM_UPDATE_DOCS=1 writes it anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "memmap/memmap.hpp"

namespace kmem {
namespace {

std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
  return result;
}

std::string document() {
  std::ostringstream out;
  out << "# Parameters\n\n"
         "Given as `name=value` words in `KMEM_CMDLINE`, or to the tools' option `--param`. `-` and `_` are the same in names, the last\n"
         "of equal names counts, and a word that is not understood is an error: then none of them is applied. Sizes are bytes, with\n"
         "`K`, `M`, `G` or `T` for powers of 1024. Made from the table in `src/memmap/config.cpp`, with which\n"
         "`tests/unit/memmap/parameters_doc_test.cpp` compares it.\n\n"
         "| name | values | default | what for | example |\n|---|---|---|---|---|\n";
  for (const parameter_info& p : parameters())
    out << "| `" << p.name << "` | " << cell(p.values) << " | `" << p.default_value << "` | " << cell(p.help) << " | `" << p.example
        << "` |\n";
  return out.str();
}

TEST(ParametersDocTest, FileSaysWhatTheTableSays) {
  const std::string path = KMEM_TEST_DATA "/../../docs/parameters.md";
  if (std::getenv("KMEM_UPDATE_DOCS") != nullptr) std::ofstream(path) << document();
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), document()) << "run this test with KMEM_UPDATE_DOCS=1 and commit docs/parameters.md";
}

}  // namespace
}  // namespace kmem
