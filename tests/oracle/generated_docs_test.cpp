// docs/gfp.md, docs/lock-order.md and docs/promises.md are made from the code, its comments, the tests and the mutants; and
// docs/memory-model.md speaks of every pair.
// KMEM_UPDATE_DOCS=1 writes them anew.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <kmem/rules.hpp>

#include "reclaim/reclaim.hpp"
#include "support/generated_document.hpp"

namespace kmem {
namespace {

namespace fs = std::filesystem;
using test::source_text;

std::vector<std::smatch> matches_of(const std::string& text, const std::regex& pattern) {
  return {std::sregex_iterator(text.begin(), text.end(), pattern), std::sregex_iterator()};
}

/// Files of a folder (and those below it) with a suffix, sorted, by their path in the repository.
std::vector<std::string> files_of(const std::string& folder, const std::string& suffix) {
  const fs::path root = fs::path(KMEM_TEST_DATA).parent_path().parent_path();
  std::vector<std::string> result;
  for (const auto& entry : fs::recursive_directory_iterator(root / folder))
    if (entry.path().extension() == suffix) result.push_back(fs::relative(entry.path(), root).string());
  std::sort(result.begin(), result.end());
  return result;
}

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string result;
  for (const std::string& part : parts) result += (result.empty() ? "" : between) + part;
  return result;
}

std::string code(const std::string& text) { return "`" + text + "`"; }

std::string hex(gfp_t gfp) {
  std::ostringstream out;
  out << "0x" << std::hex << static_cast<uint32_t>(gfp);
  return out.str();
}

// ---- promises ---------------------------------------------------------------------------------------------------------------------

struct promise {
  std::string text, test;
};

std::vector<promise> promises() {
  std::vector<promise> result;
  for (const std::string& path : files_of("tests/promises", ".cpp")) {
    const std::string text = source_text(path);
    static const std::regex pattern("((?:^|\n)// Promise: [^\n]*(?:\n// [^\n]*)*\n)?TEST\\(Promises, (\\w+)\\)");
    for (const std::smatch& match : matches_of(text, pattern)) {
      EXPECT_TRUE(match[1].matched) << path << ": " << match[2] << " has no '// Promise:' above it";
      std::string said = std::regex_replace(match[1].str(), std::regex("\n// "), " ");
      said = std::regex_replace(said, std::regex("^\\s*(?:// )?Promise: |\\s+$"), "");
      result.push_back({said, match[2]});
    }
  }
  return result;
}

struct mutant {
  std::string name, what, test, program;
};

std::vector<mutant> mutants() {
  std::vector<mutant> result;
  for (const std::string& path : files_of("tests/mutants", ".mutant")) {
    const std::string text = source_text(path), head = text.substr(0, text.find("\n--- old\n") + 1);
    const auto value = [&](const std::string& key) {
      std::smatch match;
      return std::regex_search(head, match, std::regex("\n" + key + ": (\\S+)")) ? match[1].str() : std::string();
    };
    const std::string program = value("program");
    result.push_back({fs::path(path).stem(), head.substr(0, head.find('\n')), value("test"), program.empty() ? "promises" : program});
  }
  return result;
}

TEST(GeneratedDocs, Promises) {
  std::ostringstream out;
  out << "# Promises\n\n"
         "What kmem promises, the test that proves each promise, and the changes of the code that this test is known to notice\n"
         "(`scripts/mutants` makes them, one at a time, and checks that no other test fails but those a mutant lists). Made from\n"
         "`tests/promises` and `tests/mutants` by `tests/oracle/generated_docs_test.cpp`. Tests are of the suite `Promises`.\n\n"
         "| promise | test | mutants |\n|---|---|---|\n";
  const std::vector<mutant> all = mutants();
  for (const promise& p : promises()) {
    std::vector<std::string> names;
    for (const mutant& m : all)
      if (m.test == "Promises." + p.test) names.push_back(code(m.name));
    EXPECT_FALSE(names.empty()) << "no mutant shows that " << p.test << " notices anything";
    out << "| " << test::table_cell(p.text) << " | " << code(p.test) << " | " << join(names, ", ") << " |\n";
  }
  const auto by_simulation = [](const mutant& m) { return m.program == "sim"; };
  if (std::any_of(all.begin(), all.end(), by_simulation)) {
    out << "\nWhat only an unlucky order of events would show is left to the simulation, which tries many:\n\n"
           "| what is broken | test that notices | mutant |\n|---|---|---|\n";
    for (const mutant& m : all)
      if (by_simulation(m)) out << "| " << test::table_cell(m.what) << " | " << code(m.test) << " | " << code(m.name) << " |\n";
  }
  test::expect_document("promises.md", out.str());
}

// ---- GFP flags --------------------------------------------------------------------------------------------------------------------

/// What the header says in words, with the value that the compiler knows and the promise that proves it.
struct flag {
  gfp_t value;
  const char* promise;    // name of its test; "": none of the promises is about it
  const char* note = "";  // what it does besides, or instead of, changing the steps
};

const std::map<std::string, flag> flags{
    {"dma", {gfp::dma, "DmaFlagsChooseTheZone", "zone DMA"}},
    {"highmem_bit", {gfp::highmem_bit, "GfpHighuserComesFromHighMemory", "zone HIGHMEM, or below"}},
    {"dma32", {gfp::dma32, "DmaFlagsChooseTheZone", "zone DMA32, or DMA"}},
    {"movable", {gfp::movable, "GfpHighuserComesFromHighMemory", "with `__GFP_HIGHMEM` zone MOVABLE; else page blocks of that mobility"}},
    {"reclaimable", {gfp::reclaimable, "", "page blocks of that mobility; kmalloc: the caches `kmalloc-rcl-*`"}},
    {"high", {gfp::high, "HighMayUseTheEmergencyReserve"}},
    {"io", {gfp::io, "GfpNoioStartsNoIo", "permits callbacks and shrinkers that need I/O"}},
    {"fs", {gfp::fs, "GfpNofsRunsNoFileSystemReclaim", "permits callbacks and shrinkers that need file systems"}},
    {"zero", {gfp::zero, "KmallocDoesNotClearAndZeroClears", "clears what is not known to be zero"}},
    {"atomic_bit", {gfp::atomic_bit, "", "nothing by itself: the rights of `GFP_ATOMIC` are `__GFP_HIGH` without `__GFP_DIRECT_RECLAIM`"}},
    {"direct_reclaim", {gfp::direct_reclaim, "GfpKernelWaitsUntilAPageIsFree"}},
    {"kswapd_reclaim", {gfp::kswapd_reclaim, "", "a request below the low watermark wakes kswapd, if there is one"}},
    {"write", {gfp::write, "", "nothing: no memory is balanced by who dirties it"}},
    {"nowarn", {gfp::nowarn, "NowarnMeansNoReport", "the record is kept all the same"}},
    {"retry_mayfail", {gfp::retry_mayfail, "RetryMayfailTriesCostlyOrdersHarder"}},
    {"nofail", {gfp::nofail, "NofailNeverFails"}},
    {"noretry", {gfp::noretry, "NoretryMakesOnePass"}},
    {"memalloc", {gfp::memalloc, "MemallocMayUseEveryReserve", "no watermark, no lowmem reserve, and the pool of reclaimers"}},
    {"comp", {gfp::comp, "", "tails name their head; for orders above 0 of alloc_pages"}},
    {"nomemalloc", {gfp::nomemalloc, "HighMayUseTheEmergencyReserve"}},
    {"hardwall", {gfp::hardwall, "", "nothing: there are no cpusets"}},
    {"thisnode", {gfp::thisnode, "", "nothing: there is one node"}},
    {"account", {gfp::account, "", "nothing yet: there are no tenants"}},
    {"zerotags", {gfp::zerotags, "", "nothing: memory has no tags"}},
    {"cold", {gfp::cold, "ColdPagesComeFromTheColdEnd", "the cold end of the per-CPU list"}},
    {"repeat", {gfp::repeat, "NamesWithADoubleUnderscoreAreOneBit"}},
    {"atomic", {gfp::atomic, "GfpAtomicUsesEvenTheLastFreePage"}},
    {"kernel", {gfp::kernel, "GfpKernelWaitsUntilAPageIsFree"}},
    {"kernel_account", {gfp::kernel_account, ""}},
    {"nowait", {gfp::nowait, "OrdinaryAllocationsLeaveAReserve"}},
    {"noio", {gfp::noio, "GfpNoioStartsNoIo"}},
    {"nofs", {gfp::nofs, "GfpNofsRunsNoFileSystemReclaim"}},
    {"user", {gfp::user, "GfpHighuserComesFromHighMemory"}},
    {"highuser", {gfp::highuser, "GfpHighuserComesFromHighMemory"}},
    {"highuser_movable", {gfp::highuser_movable, "GfpHighuserComesFromHighMemory"}},
};

struct flag_row {
  std::string cxx, name, meaning;
  flag what;
};

/// The constants of include/kmem/gfp.hpp that have a name of the kernel's.
std::vector<flag_row> flag_rows() {
  static const std::regex pattern("inline constexpr gfp_t (\\w+)[^;\n]*; +// ((?:__)?GFP_\\w+)(?:[:,] ([^\n]*))?");
  const std::string text = source_text("include/kmem/gfp.hpp");
  std::vector<flag_row> rows;
  for (const std::smatch& match : matches_of(text, pattern)) {
    const auto found = flags.find(match[1]);
    if (found == flags.end()) {
      ADD_FAILURE() << match[1] << " is not in the table of this test";
      continue;
    }
    rows.push_back({match[1], match[2], match[3], found->second});
  }
  EXPECT_EQ(rows.size(), flags.size()) << "a constant of the table was not found in the header";
  return rows;
}

std::vector<chain_step> steps_of(gfp_t gfp, order_t order) {
  std::vector<chain_step> result;
  for (unsigned i = 0; i < nr_chain_steps; ++i)
    if (step_permitted(chain_step(i), gfp, order)) result.push_back(chain_step(i));
  return result;
}

/// The steps of `a` that are not in `b`, by name.
std::string steps_without(const std::vector<chain_step>& a, const std::vector<chain_step>& b) {
  std::vector<std::string> names;
  for (const chain_step step : a)
    if (std::find(b.begin(), b.end(), step) == b.end()) names.push_back(chain_step_name(step));
  return join(names, ", ");
}

/// What one bit changes: added to an empty mask, to GFP_KERNEL and to GFP_ATOMIC.
std::string effect_of(gfp_t bit, const char* besides) {
  std::vector<std::string> parts;
  const auto note = [&](const std::string& what, const std::string& steps) {
    if (!steps.empty()) parts.push_back(what + " " + steps);
  };
  const order_t block(1), costly(costly_order + 1);
  const gfp_t kernel = gfp::kernel & ~bit;
  const auto alone = steps_of(bit, block), none = steps_of(gfp::none, block);
  const auto with = steps_of(kernel | bit, block), without = steps_of(kernel, block);
  note("permits", steps_without(alone, none));
  if (steps_without(alone, none).empty()) note("permits, to who may block,", steps_without(with, without));
  note("takes away", steps_without(without, with));
  if (with == without) note("takes from GFP_ATOMIC", steps_without(steps_of(gfp::atomic, block), steps_of(gfp::atomic | bit, block)));
  for (const order_t order : {order_t(0), costly}) {
    const unsigned before = passes_permitted(kernel, order), after = passes_permitted(kernel | bit, order);
    if (before == after) continue;
    const std::string count = after == ~0u ? "passes without end" : std::to_string(after) + (after == 1 ? " pass" : " passes");
    parts.push_back((order == costly ? "costly orders: " : "") + count + " (GFP_KERNEL: " + std::to_string(before) + ")");
  }
  if (*besides != '\0') parts.push_back(besides);
  EXPECT_FALSE(parts.empty()) << "nothing is said of " << hex(bit);
  return join(parts, "; ");
}

std::string promise_cell(const char* name) { return *name == '\0' ? "" : code(name); }

void write_bits(std::ostringstream& out) {
  out << "| flag | C++ | value | meaning | what it changes | proven by |\n|---|---|---|---|---|---|\n";
  for (const flag_row& row : flag_rows()) {
    if (row.name.compare(0, 2, "__") != 0 || row.cxx == "repeat") continue;
    out << "| " << code(row.name) << " | " << code("gfp::" + row.cxx) << " | " << hex(row.what.value) << " | "
        << test::table_cell(row.meaning) << " | " << effect_of(row.what.value, row.what.note) << " | " << promise_cell(row.what.promise)
        << " |\n";
  }
}

void write_combinations(std::ostringstream& out) {
  const std::vector<flag_row> rows = flag_rows();
  out << "| combination | C++ | value | bits | for whom | proven by |\n|---|---|---|---|---|---|\n";
  for (const flag_row& row : rows) {
    if (row.name.compare(0, 2, "__") == 0) continue;
    std::vector<std::string> bits;
    for (const flag_row& bit : rows)
      if (bit.name.compare(0, 2, "__") == 0 && bit.cxx != "repeat" && has(row.what.value, bit.what.value))
        bits.push_back(bit.name.substr(6));
    out << "| " << code(row.name) << " | " << code("gfp::" + row.cxx) << " | " << hex(row.what.value) << " | " << join(bits, " ") << " | "
        << test::table_cell(row.meaning) << " | " << promise_cell(row.what.promise) << " |\n";
  }
}

void write_steps(std::ostringstream& out) {
  const struct {
    const char* name;
    gfp_t gfp;
  } columns[] = {{"NOWAIT", gfp::nowait},
                 {"ATOMIC", gfp::atomic},
                 {"NOIO", gfp::noio},
                 {"NOFS", gfp::nofs},
                 {"KERNEL, USER, HIGHUSER", gfp::kernel},
                 {"KERNEL, NORETRY", gfp::kernel | gfp::noretry},
                 {"KERNEL, RETRY_MAYFAIL", gfp::kernel | gfp::retry_mayfail},
                 {"KERNEL, NOFAIL", gfp::kernel | gfp::nofail},
                 {"KERNEL, HIGH", gfp::kernel | gfp::high},
                 {"KERNEL, MEMALLOC", gfp::kernel | gfp::memalloc}};
  const auto row = [&](const std::string& name, auto&& cell) {
    out << "| " << name << " |";
    for (const auto& column : columns) out << " " << cell(column.gfp) << " |";
    out << "\n";
  };
  out << "| step | what it does |";
  for (const auto& column : columns) out << " " << column.name << " |";
  out << "\n|---|---|";
  for (size_t i = 0; i < std::size(columns); ++i) out << "---|";
  out << "\n";
  chain_step_rule step;
  for (unsigned i = 0; read_chain_step_rule(i, gfp::none, 1, step); ++i)
    row(code(step.name) + " | " + test::table_cell(step.about),
        [&](gfp_t gfp) { return step_permitted(chain_step(i), gfp, order_t(1)) ? "y" : "-"; });
  const auto passes = [](order_t order) {
    return [order](gfp_t gfp) {
      const unsigned n = step_permitted(chain_step::drain_all, gfp, order) ? passes_permitted(gfp, order) : 0;
      return n == ~0u ? std::string("no end") : std::to_string(n);
    };
  };
  row("passes | over drain_all to reclaim, at most, while they make progress; order <= " + std::to_string(costly_order),
      passes(order_t(0)));
  row("passes | the same for larger, costly orders", passes(order_t(costly_order + 1)));
  for (const gfp_t need : {gfp::io, gfp::fs})
    row(std::string("reclaim | callbacks and shrinkers that need ") + (need == gfp::io ? "I/O" : "file systems"),
        [&](gfp_t gfp) { return step_permitted(chain_step::reclaim, gfp, order_t(0)) && (need & ~gfp) == gfp::none ? "y" : "-"; });
}

TEST(GeneratedDocs, Gfp) {
  const std::vector<promise> all = promises();
  for (const auto& [name, what] : flags) {
    const std::string wanted = what.promise;
    const bool exists = std::any_of(all.begin(), all.end(), [&wanted](const promise& p) { return p.test == wanted; });
    EXPECT_TRUE(wanted.empty() || exists) << name << ": there is no test Promises." << wanted;
  }
  gfp_t known = gfp::none;
  for (const auto& [name, what] : flags) known |= what.value;
  EXPECT_EQ(known, gfp::known_bits);

  std::ostringstream out;
  out << "# GFP flags\n\n"
         "What one allocation may do. A name with a double underscore is one bit; a name without is a combination. Values are those of\n"
         "Linux 6.1. Made from `include/kmem/gfp.hpp` and `src/page_alloc/rights.hpp` by `tests/oracle/generated_docs_test.cpp`; the\n"
         "tests that prove a row are of the suite `Promises` ([promises.md](promises.md)). Where kmem differs from the kernel, or has\n"
         "nothing yet that a bit could speak to: [kernel-differences.md](kernel-differences.md).\n\n"
         "## Combinations: start with one of these\n\n";
  write_combinations(out);
  out << "\n## Bits: add or take away\n\n"
         "`__GFP_REPEAT` is the older name of `__GFP_RETRY_MAYFAIL`; both are accepted.\n\n";
  write_bits(out);
  out << "\n## The chain: which mask permits which step\n\n"
         "No allocation returns NULL before its permitted part of the chain is done, from top to bottom. A step needs the permission of\n"
         "every bit that is set. The table is for orders above 0; `give_back` is for those only, and for vmalloc.\n\n";
  write_steps(out);
  test::expect_document("gfp.md", out.str());
}

// ---- lock order -------------------------------------------------------------------------------------------------------------------

TEST(GeneratedDocs, LockOrder) {
  std::map<std::string, std::vector<std::string>> locks;
  for (const std::string& path : files_of("src", ".hpp")) {
    const std::string text = source_text(path);
    static const std::regex pattern("ranked_lock (\\w+)\\{lock_rank::(\\w+)\\}");
    for (const std::smatch& match : matches_of(text, pattern)) locks[match[2]].push_back(code(match[1]) + " (" + path + ")");
  }
  const std::string header = source_text("src/base/lock.hpp");
  std::ostringstream out;
  out << "# Lock order\n\n"
         "The allocator's own locks have ranks. A thread may take a lock only while it holds none of the same or a higher rank;\n"
         "`try_lock` is exempt, since it waits for nobody. Builds with `KMEM_DEBUG` check it at each `lock()` and end the process with\n"
         "\"lock order: taking a lock of rank ... while holding one of rank ...\". In a signal handler that interrupted the allocator\n"
         "every lock is only tried. No system call is made under a lock, but for `section`, and no callback of the user's runs under\n"
         "one. Made from `src/base/lock.hpp` by `tests/oracle/generated_docs_test.cpp`.\n\n"
         "| rank | name | what it protects | locks | may be taken while holding |\n|---|---|---|---|---|\n";
  std::vector<std::string> lower;
  for (unsigned i = 0; i < nr_lock_ranks; ++i) {
    const std::string name = lock_rank_name(lock_rank(i));
    std::smatch match;
    EXPECT_TRUE(std::regex_search(header, match, std::regex("\n  " + name + ", +// ([^\n]*)"))) << name << " is not described in lock.hpp";
    EXPECT_FALSE(locks[name].empty()) << "no lock of rank " << name;
    out << "| " << i << " | " << code(name) << " | " << match[1] << " | " << join(locks[name], ", ") << " | "
        << (lower.empty() ? "nothing" : join(lower, ", ")) << " |\n";
    lower.push_back(name);
  }
  EXPECT_EQ(locks.size(), nr_lock_ranks) << "a lock of a rank that is none";
  test::expect_document("lock-order.md", out.str());
}

// ---- memory model -----------------------------------------------------------------------------------------------------------------

TEST(GeneratedDocs, MemoryModelArguesForEveryPair) {
  static const std::regex pair("// pairs: ([\\w, ]+)"), name("\\w+"), heading("\n### (\\w+)\n");
  std::set<std::string> in_code, in_document;
  for (const char* suffix : {".hpp", ".cpp"})
    for (const std::string& path : files_of("src", suffix)) {
      std::istringstream lines(source_text(path));
      for (std::string line; std::getline(lines, line);) {
        const size_t tag = line.find("// pairs: ");
        if (tag == std::string::npos || line.find_first_not_of(' ') == tag) continue;  // of an operation on this line
        for (const std::smatch& list : matches_of(line, pair)) {
          const std::string names = list[1];
          for (const std::smatch& one : matches_of(names, name)) in_code.insert(one.str());
        }
      }
    }
  const std::string document = source_text("docs/memory-model.md");
  for (const std::smatch& match : matches_of(document, heading)) in_document.insert(match[1].str());
  EXPECT_EQ(in_code, in_document);
}

}  // namespace
}  // namespace kmem
