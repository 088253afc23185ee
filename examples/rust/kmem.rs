//! kmem as the allocator of a Rust program: every Box, Vec and String comes out of the budget, and what is refused can be handled.
//!
//! Build: rustc --edition 2021 -O examples/rust/kmem.rs -L build/lib -l kmem -C link-arg=-Wl,-rpath,build/lib
//! (or -l static=kmem). Run: KMEM_CMDLINE=mem=64M ./kmem
use std::alloc::{GlobalAlloc, Layout};
use std::collections::HashMap;
use std::ffi::c_void;

/// Flags of <kmem/kmem.h>. What is refused is handled here, so nothing is to be reported.
type Gfp = u32;
const GFP_KERNEL: Gfp = 0xcc0;
const GFP_ATOMIC: Gfp = 0xa20;
const GFP_NOWARN_BIT: Gfp = 0x2000;
const GFP: Gfp = GFP_KERNEL | GFP_NOWARN_BIT;

extern "C" {
    fn kmem_kmalloc_aligned(size: usize, align: usize, gfp: Gfp) -> *mut c_void;
    fn kmem_kvmalloc(size: usize, gfp: Gfp) -> *mut c_void;
    fn kmem_kvzalloc(size: usize, gfp: Gfp) -> *mut c_void;
    fn kmem_kvrealloc(old: *const c_void, size: usize, gfp: Gfp) -> *mut c_void;
    fn kmem_kvfree(p: *const c_void);
    fn kmem_kmalloc(size: usize, gfp: Gfp) -> *mut c_void;
    fn kmem_kfree(p: *const c_void);
    fn kmem_ksize(p: *const c_void) -> usize;
    fn kmem_remaining_bytes() -> u64;
}

struct Kmem;

/// What every block is aligned to, and what those are that kmalloc has no room for.
const ALWAYS_ALIGNED: usize = 8;
const KMALLOC_MAX: usize = 4 << 20;
const PAGE: usize = 4096;

unsafe impl GlobalAlloc for Kmem {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        if align <= ALWAYS_ALIGNED || (size > KMALLOC_MAX && align <= PAGE) {
            return kmem_kvmalloc(size, GFP).cast();
        }
        kmem_kmalloc_aligned(size, align, GFP).cast()
    }
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        kmem_kvfree(block.cast())
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALWAYS_ALIGNED {
            return kmem_kvzalloc(layout.size(), GFP).cast();
        }
        let block = self.alloc(layout);
        if !block.is_null() {
            block.write_bytes(0, layout.size());
        }
        block
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= ALWAYS_ALIGNED {
            return kmem_kvrealloc(old.cast(), size, GFP).cast();
        }
        let block = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
        if !block.is_null() {
            block.copy_from_nonoverlapping(old, layout.size().min(size));
            self.dealloc(old, layout);
        }
        block
    }
}

#[global_allocator]
static ALLOCATOR: Kmem = Kmem;

#[repr(align(256))]
struct Aligned([u8; 300]);

fn main() {
    let before = unsafe { kmem_remaining_bytes() };
    let mut words: HashMap<String, Vec<usize>> = HashMap::new();
    for i in 0..100_000usize {
        words.entry(format!("word {}", i % 1000)).or_default().push(i);
    }
    assert_eq!(words["word 7"].len(), 100);
    assert_eq!(words["word 7"][99], 99_007);
    let boxed = Box::new(Aligned([7; 300]));
    assert_eq!(&*boxed as *const Aligned as usize % 256, 0);
    assert_eq!(boxed.0.iter().map(|&b| b as u32).sum::<u32>(), 2100);
    assert!(vec![0u8; 16 << 20].iter().all(|&b| b == 0));
    let sum: usize = (0..4)
        .map(|t| std::thread::spawn(move || (0..10_000).map(|i| Box::new(i * t)).map(|b| *b).sum::<usize>()))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!(sum, 6 * 9_999 * 10_000 / 2);
    let used = before - unsafe { kmem_remaining_bytes() };
    assert!(used > 800_000, "the words are 800 kB of numbers, and {} bytes of the budget are gone", used);

    // More than the budget: an error, and the program goes on.
    let mut large: Vec<u8> = Vec::new();
    let refused = large.try_reserve_exact(1 << 30).is_err();
    assert!(refused && large.is_empty());

    // A mask of one's own: never sleeps, may use the reserve.
    let now = unsafe { kmem_kmalloc(100, GFP_ATOMIC) };
    assert!(!now.is_null() && unsafe { kmem_ksize(now) } >= 100);
    unsafe { kmem_kfree(now) };
    println!("Rust: {} words, and 1 GiB was refused", words.len());
}
