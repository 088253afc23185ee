"""scripts/tidy on a good tree and on each mistake. Words that tidy looks for are put together here, or it would find them."""
import unittest
import tree

HEAD = "// What it is for.\n"


class Tidy(tree.TreeTest):
    script = "tidy"
    good = {
        "src/base/base.hpp": "#pragma once\nstruct s {\n  s(const s&) = delete;\n"
                             "  void free(void* p);  // no call of malloc(), new int, delete\n};\n",
        "src/base/base.cpp": HEAD +
                             'void f(s* x, void* p) {\n  x->free(p);\n  new (p) s;\n  asm volatile("pause");\n  say("new malloc(");\n}\n',
        "src/plat/linux/plat_linux.cpp": HEAD + "void* f() { return ::mmap(nullptr, 1, 0, 0, -1, 0); }\n",
        "src/face_malloc/face.cpp": "void* malloc(size_t n) { return get(n); }\nvoid f(void* p) { free(p); }\n",
        "tools/kmem/main.cpp": "int main() { std::vector<int> v; std::unique_ptr<int> p(new int(1)); }\n",
        "tests/unit/base/base_test.cpp": "TEST(base, works) {}\n",
        "tests/unit/base/values_test.cpp": "TEST_P(values, work) {}\nINSTANTIATE_TEST_SUITE_P(all, values, testing::Values(1));\n",
        "README.md": "# kmem\n\nText.\n\n```sh\n# a comment, no title\n```\n\n## Part\n",
        "tests/data/list.txt": "a\tb \n",
    }

    def core(self, line, *expected):
        self.finds({"src/base/x.cpp": HEAD + line + "\n"}, *expected)

    def test_malloc_in_the_core(self):
        self.core("void* p = malloc(3);", "src/base/x.cpp:2: malloc: the core is malloc")

    def test_free_in_the_core(self):
        self.core("void f(void* p) { ::free(p); std::free(p); }", "std::free: the core is malloc")

    def test_new_in_the_core(self):
        self.core("int* p = new int;", "placement new")

    def test_delete_in_the_core(self):
        self.core("void f(int* p) { delete p; }", "operator delete")

    def test_delete_of_an_array_in_the_core(self):
        self.core("void f(int* p) { delete[] p; }", "operator delete")

    def test_exceptions_in_the_core(self):
        self.core("void f() { throw 1; }", "no exceptions")

    def test_rtti_in_the_core(self):
        self.core("auto* f(b* x) { return dynamic_cast<d*>(x); }", "no RTTI")

    def test_printf_in_the_core(self):
        self.core('void f() { snprintf(b, 3, "x"); }', "use printk")

    def test_assert_in_the_core(self):
        self.core("void f() { assert(x); static_assert(true); }", "KMEM_ASSERT")

    def test_abort_in_the_core(self):
        self.core("void f() { std::abort(); }", "plat::die()")

    def test_mutex_in_the_core(self):
        self.core("std::mutex m;", "ranked locks")

    def test_container_in_the_core(self):
        self.core("std::vector<int> v;", "no library containers")

    def test_std_atomic_in_the_core(self):
        self.core("std::atomic<int> v;", "use kmem::atomic")

    def test_volatile_in_the_core(self):
        self.core("volatile int v;", "use kmem::atomic")

    def test_sleep_in_the_core(self):
        self.core("void f() { usleep(3); }", "plat::relax")

    def test_system_call_in_the_core(self):
        self.core("void f() { madvise(p, n, 4); }", "system calls belong to src/plat;")
        self.core("void f() { ::close(3); file.close(); reader::open(3); }", "::close: system calls belong to src/plat;")

    def test_unbounded_call(self):
        self.finds({"tools/kmem/x.cpp": "void f() { strcpy(a, b); }\n"}, "strcpy: it has no bound")

    def test_call_that_hides_bad_input(self):
        self.finds({"tools/kmem/x.cpp": "int f() { return atoi(b); }\n"}, "atoi: it hides bad input")

    def test_rand(self):
        self.finds({"tests/unit/base/x_test.cpp": "TEST(a, b) { rand(); }\n"}, "not reproducible")

    def test_code_switched_off(self):
        self.finds({"tools/kmem/x.cpp": "#if" " 0\nint x;\n#endif\n"}, "x.cpp:1: #if" " 0: code that never runs")

    def test_branch_switched_off(self):
        self.finds({"tools/kmem/x.cpp": "void f() { if" " (false) g(); }\n"}, "code that never runs")

    def test_skipped_test(self):
        self.finds({"tests/unit/base/x_test.cpp": "TEST(a, b) { GTEST" "_SKIP(); }\n"}, "a skipped test")

    def test_disabled_test(self):
        self.finds({"tests/unit/base/x_test.cpp": "TEST(a, DISABLED" "_b) {}\n"}, "a skipped test")

    def test_long_line(self):
        self.finds({"tools/kmem/x.cpp": "int " + "x" * 140 + ";\n"}, "x.cpp:1: 145 columns")

    def test_long_file(self):
        self.finds({"tools/kmem/x.cpp": "int x;\n" * 701}, "x.cpp: 701 lines")

    def test_tab(self):
        self.finds({"tools/kmem/x.cpp": "\tint x;\n"}, "a tab")

    def test_trailing_blank(self):
        self.finds({"tools/kmem/x.cpp": "int x; \n"}, "blanks at the end of the line")

    def test_no_newline_at_the_end(self):
        self.finds({"tools/kmem/x.cpp": "int x;"}, "no newline at the end")

    def test_empty_lines_at_the_end(self):
        self.finds({"tools/kmem/x.cpp": "int x;\n\n"}, "empty lines at the end")

    def test_left_over_words(self):
        for word in ("TO" "DO", "FIX" "ME", "X" "XX", "not " "implemented"):
            with self.subTest(word=word):
                self.finds({"scripts/x.py": f"# {word}: finish\n"}, f"x.py:1: {word}: unfinished work")

    def test_machine_paths(self):
        for path in ("/wo" "rk/main", "/ro" "ot/x", "/tmp/br" "ief/a"):
            with self.subTest(path=path):
                self.finds({"docs/x.md": f"# X\n\nSee {path}.\n"}, "docs/x.md:3: ", )

    def test_issue_number(self):
        self.finds({"docs/x.md": "# X\n\nSee issue" " 12.\n"}, "an issue's number")

    def test_header_without_pragma_once(self):
        self.finds({"src/base/x.hpp": "int x;\n"}, "without #pragma once")

    def test_core_file_without_head_comment(self):
        self.finds({"src/base/x.cpp": "int x;\n"}, "without its head comment")

    def test_page_without_title(self):
        self.finds({"docs/x.md": "Text.\n"}, "docs/x.md: 0 titles")

    def test_page_with_two_titles(self):
        self.finds({"docs/x.md": "# A\n\n# B\n"}, "docs/x.md: 2 titles")

    def test_text_above_the_title(self):
        self.finds({"docs/x.md": "Text.\n\n# A\n"}, "text above the title")

    def test_test_file_without_a_test(self):
        self.finds({"tests/unit/base/x_test.cpp": "// TEST(a, b) {}\nint x;\n"}, "registers no test")

    def test_parameters_that_are_never_given(self):
        self.finds({"tests/unit/base/x_test.cpp": "TEST_P(a, b) {}\n"}, "it never runs")

    def test_test_file_with_a_name_that_is_not_built(self):
        self.finds({"tests/unit/base/test_x.cpp": "TEST(a, b) {}\n"}, "or they are not built")

    def test_more_opt_outs_than_the_limit(self):
        self.finds({"src/base/x.hpp": "#pragma once\nvoid f() KMEM_NO_ANALYSIS;\n"}, "thread_safety_opt_outs is 1, more than the limit 0")

    def test_fewer_opt_outs_than_the_limit(self):
        self.finds({"tests/golden/tidy-limits.txt": "thread_safety_opt_outs 2  # why\n"}, "lower the limit from 2")

    def test_limit_that_is_none(self):
        self.finds({"tests/golden/tidy-limits.txt": "opt_outs 0\n"}, "expected '<name> <value>'")


if __name__ == "__main__":
    unittest.main()
