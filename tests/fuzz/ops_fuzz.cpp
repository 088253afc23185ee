// Any bytes as operations on a machine; see tests/model/ops.hpp for what they mean.
//
// A machine that breaks a rule ends the process with the rule and the program as text. Failing inputs that were mended are kept in
// tests/fuzz/regressions/ops/.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "model/ops_run.hpp"

namespace {
constexpr std::size_t operations_most = 400;  // longer inputs find little that shorter ones do not, and take their time
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kmem::testing;
  op_program program = decode(data, size);
  if (program.operations.size() > operations_most) program.operations.resize(operations_most);
  const std::string verdict = run_program(program);
  if (verdict.empty()) return 0;
  std::fprintf(stderr, "%s\n%s", verdict.c_str(), to_text(program).c_str());
  std::abort();
}
