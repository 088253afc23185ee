"""kmem from Python, by ctypes: memory outside Python's heap, under a budget, with flags per call.

    KMEM_LIBRARY=build/lib/libkmem.so.0 python3 examples/python/kmem.py

An installed library is found without KMEM_LIBRARY. All of Python's own memory, under a budget, is simpler:

    LD_PRELOAD=libkmem-malloc.so KMEM_CMDLINE=mem=256M PYTHONMALLOC=malloc python3 program.py
"""
import ctypes
import os

GFP_KERNEL, GFP_ATOMIC, GFP_NOWARN_BIT = 0xCC0, 0xA20, 0x2000


def load():
    library = ctypes.CDLL(os.environ.get("KMEM_LIBRARY", "libkmem.so.0"))
    for name, result, arguments in (
            ("kmem_init", ctypes.c_bool, [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]),
            ("kmem_kmalloc", ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_uint32]),
            ("kmem_kzalloc", ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_uint32]),
            ("kmem_kfree", None, [ctypes.c_void_p]),
            ("kmem_ksize", ctypes.c_size_t, [ctypes.c_void_p]),
            ("kmem_remaining_bytes", ctypes.c_uint64, []),
            ("kmem_unregister_reclaim", None, [ctypes.c_int])):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


KMEM = load()


class Buffer:
    """Bytes of kmem's that any object with the buffer interface can share: memoryview(buffer.bytes), numpy.frombuffer ..."""

    def __init__(self, size, gfp=GFP_KERNEL):
        self.address = KMEM.kmem_kzalloc(size, gfp)
        if not self.address:
            raise MemoryError(f"{size} bytes are beyond the budget")
        self.bytes = (ctypes.c_char * size).from_address(self.address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bytes = None
        KMEM.kmem_kfree(self.address)


def main():
    error = ctypes.create_string_buffer(200)
    if not KMEM.kmem_init(b"mem=16M", error, len(error)):
        raise SystemExit(error.value.decode())

    before = KMEM.kmem_remaining_bytes()
    with Buffer(1 << 20) as buffer:
        view = memoryview(buffer.bytes)
        assert bytes(view[:4]) == bytes(4)
        buffer.bytes[:5] = b"hello"
        assert bytes(view[:5]) == b"hello"
        assert KMEM.kmem_ksize(buffer.address) >= 1 << 20
        taken = before - KMEM.kmem_remaining_bytes()
        assert taken >= 1 << 20, taken
        del view

    # Never sleeps, and may use the reserve.
    with Buffer(100, GFP_ATOMIC) as buffer:
        assert len(buffer.bytes) == 100

    # A cache in Python that gives memory back before an allocation fails. It asks for no I/O and no file systems.
    cache = [KMEM.kmem_kmalloc(65536, GFP_KERNEL) for _ in range(100)]
    calls = []

    @ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64)
    def reclaim(_context, _gfp, nr_pages):
        freed = 0
        while cache and freed < nr_pages:
            KMEM.kmem_kfree(cache.pop())
            freed += 16
        calls.append(freed)
        return freed

    KMEM.kmem_register_reclaim.argtypes = [type(reclaim), ctypes.c_void_p, ctypes.c_uint32]
    number = KMEM.kmem_register_reclaim(reclaim, None, 0)
    assert number >= 0
    kept = []
    while (block := KMEM.kmem_kmalloc(65536, GFP_KERNEL | GFP_NOWARN_BIT)) is not None:
        kept.append(block)
    assert not cache and calls, "the cache was not asked"
    KMEM.kmem_unregister_reclaim(number)
    for block in kept:
        KMEM.kmem_kfree(block)
    print(f"Python: served 1 MiB, and {len(kept)} blocks until the budget was used up, 100 of them given up by the cache")


main()
