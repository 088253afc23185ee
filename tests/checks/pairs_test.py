"""scripts/pairs on a good tree and on each mistake."""
import unittest
import tree

RELEASE = "void f() {\n  a.store_release(1);  // pairs: flag\n}\n"


class Pairs(tree.TreeTest):
    script = "pairs"
    good = {
        "src/base/atomic.hpp": "T load_acquire() { return v.load(std::memory_order_acquire); }\n",
        "src/slab/a.cpp": RELEASE,
        "src/slab/b.cpp": """void g() {
  // The owner published it.
  // pairs: flag, list
  if (a.load_acquire() != 0) {
    // pairs: list
    while (head->try_cmpxchg_release(old,
                                     node)) {
    }
  }
  count.fetch_sub_acq_rel(1);  // pairs: count: the last one sees what all did
  x.load_relaxed();
}
""",
    }

    def test_acquire_without_tag(self):
        self.finds({"src/slab/x.cpp": "void f() {\n  a.load_acquire();\n}\n"}, "src/slab/x.cpp:2: load_acquire has no '// pairs: <name>'")

    def test_a_neighbours_tag_does_not_count(self):
        self.finds({"src/slab/x.cpp": "void f() {\n  // pairs: flag\n  a.load_acquire();\n  b.load_acquire();\n}\n"}, "x.cpp:4: ")

    def test_tag_of_the_line_before_does_not_count(self):
        self.finds({"src/slab/x.cpp": "void f() {\n  a.load_acquire();  // pairs: flag\n  b.load_acquire();\n}\n"}, "x.cpp:3: ")

    def test_a_blank_line_ends_the_comment_block(self):
        self.finds({"src/slab/x.cpp": "void f() {\n  // pairs: flag\n\n  a.load_acquire();\n}\n"}, "x.cpp:4: ")

    def test_only_one_side(self):
        self.finds({"src/slab/x.cpp": "void f() {\n  a.store_release(1);  // pairs: lonely\n}\n"},
                   "pair 'lonely': only the release side exists")

    def test_only_the_acquire_side(self):
        self.finds({"src/slab/a.cpp": None}, "pair 'flag': only the acquire side exists")

    def test_sequential_consistency_needs_a_tag(self):
        self.finds({"src/slab/x.cpp": "void f() { a.store_seq_cst(1); }\n"}, "store_seq_cst has no")

    def test_raw_orders_need_a_tag(self):
        self.finds({"src/plat/x.cpp": "int f() { return __atomic_load_n(&a, __ATOMIC_ACQUIRE); }\n"}, "__ATOMIC_ACQUIRE has no")

    def test_fence_needs_a_tag(self):
        self.finds({"src/slab/x.cpp": "void f() { fence_release(); }\n"}, "fence_release has no")

    def test_operation_in_a_comment_is_none(self):
        self.content_with({"src/slab/x.cpp": "// a.load_acquire() is done by the caller\n"})

    def test_operation_of_another_thing_is_none(self):
        self.content_with({"src/slab/x.cpp": "void f() { plat::release(r); pages.try_release(p); }\n"})


if __name__ == "__main__":
    unittest.main()
