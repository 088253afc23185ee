// Documents in docs/ that are made from the code: a test compares them, and writes them anew with KMEM_UPDATE_DOCS=1.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace kmem::test {

/// A file of the repository. Return: its text; "" (and a failed test) if it cannot be read.
inline std::string source_text(const std::string& path) {
  std::ifstream file(KMEM_TEST_DATA "/../../" + path);
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_FALSE(text.str().empty()) << path << " cannot be read, or is empty";
  return text.str();
}

/// Compares docs/`name` with what it should say.
inline void expect_document(const std::string& name, const std::string& wanted) {
  const std::string path = "docs/" + name;
  if (std::getenv("KMEM_UPDATE_DOCS") != nullptr) std::ofstream(KMEM_TEST_DATA "/../../" + path) << wanted;
  EXPECT_EQ(source_text(path), wanted) << "run this test with KMEM_UPDATE_DOCS=1 and commit " << path;
}

/// Text for a cell of a table.
inline std::string table_cell(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
  return result;
}

}  // namespace kmem::test
